package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size in bytes, written with a unit: 64MiB, 10GiB, 500MB.
type Bytes int64

var byteUnits = []struct {
	name string
	size Bytes
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// String writes the size with the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, u := range byteUnits[:4] {
		if b >= u.size && b%u.size == 0 {
			return fmt.Sprintf("%d%s", int64(b/u.size), u.name)
		}
	}
	return fmt.Sprintf("%dB", int64(b))
}

func parseBytes(s string) (Bytes, error) {
	for _, u := range byteUnits {
		num, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
		if err != nil || f < 0 || f*float64(u.size) >= math.MaxInt64 {
			return 0, fmt.Errorf("%.40q is not a size such as 64MiB or 10GiB", s)
		}
		return Bytes(f * float64(u.size)), nil
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("%.40q has no unit: write %sMiB or %sGiB", s, s, s)
	}
	return 0, fmt.Errorf("%.40q is not a size such as 64MiB or 10GiB", s)
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil && (d != 0 || strings.HasSuffix(s, "s") || strings.HasSuffix(s, "m") || strings.HasSuffix(s, "h")) {
		return d, nil
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("%.40q has no unit: write %ss for seconds, %sm for minutes", s, s, s)
	}
	return 0, fmt.Errorf("%.40q is not a duration such as 10s, 500ms or 24h", s)
}

// parseInto sets v, a leaf, from text; the same for YAML, environment and flags.
func parseInto(v reflect.Value, s string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = s
	case *int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%.40q is not a whole number", s)
		}
		*p = n
	case *time.Duration:
		d, err := parseDuration(s)
		if err != nil {
			return err
		}
		*p = d
	case *Bytes:
		b, err := parseBytes(s)
		if err != nil {
			return err
		}
		*p = b
	case *[]string:
		*p = splitList(s)
	case *[]Target:
		*p = []Target{newTarget()}
		(*p)[0].Addresses = splitList(s)
	default:
		panic(fmt.Sprintf("config: no parser for %s", v.Type()))
	}
	return nil
}

func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// inBounds checks a numeric leaf against the min and max of its tags. Zero is "not set" where there is no default.
func (f field) inBounds(v reflect.Value) error {
	if f.min == "" || (v.IsZero() && f.def == "") {
		return nil
	}
	lo, hi := reflect.New(v.Type()).Elem(), reflect.New(v.Type()).Elem()
	if err := parseInto(lo, f.min); err != nil {
		panic(fmt.Sprintf("config: min of %s: %v", f.path, err))
	}
	if err := parseInto(hi, f.max); err != nil {
		panic(fmt.Sprintf("config: max of %s: %v", f.path, err))
	}
	if v.Int() < lo.Int() || v.Int() > hi.Int() {
		return fmt.Errorf("%v is outside %s to %s", v.Interface(), f.min, f.max)
	}
	return nil
}
