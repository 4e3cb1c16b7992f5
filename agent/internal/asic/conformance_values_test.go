package asic

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// leastEqual is the share of the asserted values that we must give as the recording projects do, explained differences
// counting as unequal.
const leastEqual = 0.95

// table counts values. One value is a number, a text, or one element of a list: a pool has eight of them.
type table struct {
	used         map[int]bool // rows of differences
	equal, total int
}

func newTable(*testing.T) *table { return &table{used: map[int]bool{}} }

func (c *table) report(t *testing.T) {
	t.Helper()
	for i, d := range differences {
		if !c.used[i] {
			t.Errorf("%s %s: the table explains a difference that does not exist", d.folder, d.field)
		}
	}
	share := float64(c.equal) / float64(c.total)
	t.Logf("%d of %d asserted values are equal: %.1f %%; the others are explained in %d rows", c.equal/2, c.total/2, 100*share, len(differences))
	if share < leastEqual {
		t.Errorf("%.1f %% of the asserted values are equal, at least %.0f %% shall be", 100*share, 100*leastEqual)
	}
}

// comparison is one reading beside what is expected of it.
type comparison struct {
	*table
	t      *testing.T
	folder string
	want   map[string]any
	obs    telemetry.Observation
	faulty telemetry.Observation
	info   telemetry.MinerInfo
	n      Normalised
}

// value notes the result of a field of several values. count is false for what was not asserted but read from the files.
func (c *comparison) value(field string, ours, theirs any, equal, total int, count bool) {
	c.t.Helper()
	if count {
		c.equal += equal
		c.total += total
	}
	if equal == total {
		return
	}
	o, th := fmt.Sprint(ours), fmt.Sprint(theirs)
	for i, d := range differences {
		if d.folder == c.folder && d.field == field && d.ours == o && d.theirs == th {
			c.used[i] = true
			return
		}
	}
	c.t.Errorf("{%q, %q, %q, %q, \"\"},", c.folder, field, o, th)
}

func (c *comparison) one(field string, ours, theirs any, equal bool) {
	c.t.Helper()
	n := 0
	if equal {
		n = 1
	}
	c.value(field, ours, theirs, n, 1, true)
}

// compare checks every field that the recording project asserts, and what was read plainly from the files.
func (c *table) compare(t *testing.T, path string, obs telemetry.Observation, info telemetry.MinerInfo, faulty telemetry.Observation) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	x := &comparison{table: c, t: t, folder: filepath.Base(filepath.Dir(path)), want: want, obs: obs, faulty: faulty, info: info, n: Normalise(obs, info)}
	for _, field := range want["basis"].(map[string]any)["asserted_by_source_tests"].([]any) {
		x.field(field.(string))
	}
	if !obs.Outcome.Answered() {
		return
	}
	x.plain()
	rate := x.n.HashrateHS != nil && *x.n.HashrateHS > 0
	switch {
	case rate && x.n.State != "hashing" && x.n.State != "degraded":
		t.Errorf("state %s of a miner that hashes", x.n.State)
	case !rate && (x.n.State == "hashing" || x.n.State == "degraded"):
		t.Errorf("state %s of a miner that does not hash", x.n.State)
	}
}

func (c *comparison) field(field string) {
	c.t.Helper()
	n, want := &c.n, c.want[field]
	switch field {
	case "hashrate_ths", "ideal_hashrate_ths":
		hs := strings.TrimSuffix(field, "_ths") + "_hs"
		if _, both := c.want[hs]; both {
			return // the same value in another unit
		}
		c.rate(hs, want.(float64)*1e12)
	case "hashrate_hs", "ideal_hashrate_hs":
		c.rate(field, want.(float64))
	case "boards":
		c.integer(field, len(n.Boards))
	case "fan_count":
		c.integer(field, len(n.FansRPM))
	case "pool_count":
		c.integer(field, len(n.Pools))
	case "fan_rpm":
		c.multiset(field, toFloats(n.FansRPM), 0)
	case "fan_percent":
		ours := []float64{}
		for _, d := range c.obs.FanDuty {
			ours = append(ours, float64(d.Or(-1)))
		}
		c.multiset(field, ours, 0)
	case "temps_c":
		ours, within := c.temps()
		c.multiset(field, ours, within)
	case "power_w":
		c.optional(field, n.PowerW)
	case "power_limit_w":
		c.optional(field, n.PowerLimitW)
	case "uptime_s":
		c.optional(field, float(n.UptimeS))
	case "mac":
		c.one(field, n.MAC, want, strings.EqualFold(n.MAC, want.(string)))
	case "serial_number":
		c.one(field, n.Serial, want, n.Serial == want)
	case "hostname":
		c.one(field, n.Hostname, want, n.Hostname == want)
	case "firmware_version":
		c.one(field, n.FirmwareVersion, want, n.FirmwareVersion == want)
	case "compile_time":
		c.one(field, c.info.FirmwareBuilt, want, c.info.FirmwareBuilt == want)
	case "api_version":
		c.one(field, c.info.APIVersion, want, c.info.APIVersion == want)
	case "control_board":
		c.one(field, c.info.ControlBoard, want, strings.EqualFold(c.info.ControlBoard, want.(string)))
	case "miner_type":
		// The firmware writes its name or version behind the model; we keep them apart.
		whole := []string{n.Model, n.Model + " " + n.Firmware, n.Model + " (" + n.FirmwareVersion + ")", n.Model + "\n" + n.FirmwareVersion}
		c.one(field, n.Model, want, slices.Contains(whole, want.(string)))
	case "total_chips", "expected_chips":
		total := 0
		for _, b := range n.Boards {
			if b.Chips != nil {
				total += int(*b.Chips)
			}
		}
		c.integer(field, total)
	case "chips_per_board":
		var ours []float64
		for _, b := range n.Boards {
			if b.Chips != nil {
				ours = append(ours, float64(*b.Chips))
			}
		}
		c.multiset(field, ours, 0)
	case "pool_groups":
		c.integer(field, len(c.groups()))
	case "pools_per_group":
		c.multiset(field, c.groups(), 0)
	case "errors_in_device_info_with_errors_count":
		c.integer(field, len(c.faulty.Errors))
	case "first_errors":
		for i, e := range want.([]any) {
			e := e.(map[string]any)
			c.errorText(fmt.Sprintf("first_errors[%d]", i), e)
			c.one(fmt.Sprintf("first_errors[%d].timestamp", i), "", e["timestamp"], false)
		}
	case "is_mining":
		c.one(field, n.State, want, (n.State == "hashing" || n.State == "degraded") == want)
	case "has_errors":
		c.one(field, c.hasErrors(), want, c.hasErrors() == want)
	case "chips_board0":
		var ours *int32
		if len(n.Boards) > 0 {
			ours = n.Boards[0].Chips
		}
		c.optional(field, float(ours))
	case "events":
		var missing []string
		for _, e := range want.([]any) {
			if !slices.Contains(n.Errors, e.(string)) {
				missing = append(missing, e.(string))
			}
		}
		total := len(want.([]any))
		c.value(field, n.Errors, want, total-len(missing), total, true)
	case "errors_in_summary_with_errors":
		for i, e := range want.([]any) {
			c.errorText(fmt.Sprintf("errors[%d]", i), e.(map[string]any))
		}
	case "pools":
		c.pools(want.([]any))
	default:
		total := leaves(want)
		c.value(field, "", want, 0, total, true) // no place in an observation: explained by its row
	}
}

// errorText looks for an error's code, and for its message among ours of that code.
func (c *comparison) errorText(field string, want map[string]any) {
	c.t.Helper()
	code := fmt.Sprintf("Whatsminer error code %v", want["code"])
	i := slices.IndexFunc(c.faulty.Errors, func(s string) bool { return s == code || strings.HasPrefix(s, code+": ") })
	ours := ""
	if i >= 0 {
		ours = strings.TrimPrefix(strings.TrimPrefix(c.faulty.Errors[i], code), ": ")
	}
	c.one(field+".code", i, code, i >= 0)
	c.one(field+".message", ours, want["message"], strings.EqualFold(ours, strings.TrimSuffix(want["message"].(string), ".")))
}

// groups counts the pools of each group.
func (c *comparison) groups() []float64 {
	var n []float64
	for _, p := range c.obs.Pools {
		g := int(p.Group.Or(0))
		for g < 16 && len(n) <= g {
			n = append(n, 0)
		}
		if g < 16 {
			n[g]++
		}
	}
	return n
}

// rate compares with the average where the project took that.
func (c *comparison) rate(field string, want float64) {
	c.t.Helper()
	ours := c.n.IdealHashrateHS
	if field == "hashrate_hs" {
		ours = c.n.HashrateHS
		if s, _ := c.want["hashrate_field"].(string); strings.Contains(s, " av") {
			ours = c.n.HashrateAvgHS
		}
	}
	c.one(field, show(ours), show(&want), near(ours, &want))
}

func (c *comparison) integer(field string, ours int) {
	c.t.Helper()
	c.one(field, ours, c.want[field], float64(ours) == c.want[field])
}

func (c *comparison) optional(field string, ours *float64) {
	c.t.Helper()
	want := c.want[field].(float64)
	c.one(field, show(ours), show(&want), near(ours, &want))
}

// multiset counts the expected numbers that we have too, each once, when they are not further apart than within.
func (c *comparison) multiset(field string, ours []float64, within float64) {
	c.t.Helper()
	theirs := toFloats(c.want[field].([]any))
	slices.Sort(ours)
	slices.Sort(theirs)
	rest, equal := slices.Clone(ours), 0
	for _, w := range theirs {
		if i := slices.IndexFunc(rest, func(x float64) bool { return math.Abs(x-w) <= within }); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
			equal++
		}
	}
	c.value(field, ours, theirs, equal, len(theirs), true)
}

// temps are all readings; the projects cut the decimals off where the firmware gives some.
func (c *comparison) temps() (all []float64, within float64) {
	for _, b := range c.n.Boards {
		all = append(all, b.TempsC...)
	}
	if c.n.TempInletC != nil {
		all = append(all, *c.n.TempInletC)
	}
	if len(all) == 0 && c.n.TempBoardC != nil {
		all = append(all, *c.n.TempBoardC)
	}
	return all, 0.99
}

// hasErrors is what the projects call so: a chip, a board or the machine is out of order. That a machine sleeps is none.
func (c *comparison) hasErrors() bool {
	for _, b := range c.n.Boards {
		if b.Chips != nil && b.ChipsWorking != nil && *b.ChipsWorking < *b.Chips {
			return true
		}
	}
	return c.n.State == "degraded" || c.n.State == "faulty" || c.n.State == "overheated"
}

func (c *comparison) pools(want []any) {
	c.t.Helper()
	for i, p := range want {
		p := p.(map[string]any)
		var ours map[string]any
		if i < len(c.n.Pools) {
			q := c.n.Pools[i]
			ours = map[string]any{"url": q.URL, "worker": q.Worker, "enabled": deref(q.Enabled), "alive": deref(q.Alive), "priority": toFloat(q.Priority),
				"accepted": toFloat(q.Accepted), "rejected": toFloat(q.Rejected), "stale": toFloat(q.Stale)}
		}
		for _, key := range slices.Sorted(maps.Keys(p)) {
			c.one(fmt.Sprintf("pools[%d].%s", i, key), ours[key], p[key], ours[key] == p[key])
		}
	}
	if len(c.n.Pools) > len(want) {
		c.t.Errorf("%d pools, want %d", len(c.n.Pools), len(want))
	}
}

// plain compares what the folder's maker read from the files. It is no part of the share.
func (c *comparison) plain() {
	c.t.Helper()
	if maker, ok := c.want["maker"].(string); ok && c.n.Maker != maker {
		c.value("maker", c.n.Maker, maker, 0, 1, false)
	}
	raw, _ := c.want["from_raw"].(map[string]any)
	for field, ours := range map[string]*float64{
		"elapsed_s": float(c.n.UptimeS), "accepted": float(c.n.Accepted), "rejected": float(c.n.Rejected),
		"hardware_errors": float(c.n.HardwareErrors), "power_w": c.n.PowerW,
	} {
		if want, ok := raw[field].(float64); ok && !near(ours, &want) {
			c.value("from_raw."+field, show(ours), show(&want), 0, 1, false)
		}
	}
	chips, _ := raw["chips_per_chain"].(map[string]any)
	for chain, want := range chips {
		found := 0.0
		for _, b := range c.n.Boards {
			if strconv.Itoa(int(b.Index)) == chain && b.Chips != nil {
				found = float64(*b.Chips)
			}
		}
		if found != want {
			c.value("from_raw.chips_per_chain."+chain, found, want, 0, 1, false)
		}
	}
}

// leaves counts the values in a nested one.
func leaves(v any) (n int) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			n += leaves(x)
		}
		return n
	case map[string]any:
		for _, x := range v {
			n += leaves(x)
		}
		return n
	}
	return 1
}

func toFloats[T any](list []T) []float64 {
	out := []float64{}
	for _, x := range list {
		switch x := any(x).(type) {
		case float64:
			out = append(out, x)
		case int32:
			out = append(out, float64(x))
		}
	}
	return out
}

func float[T int32 | int64](i *T) *float64 {
	if i == nil {
		return nil
	}
	f := float64(*i)
	return &f
}

func toFloat[T int32 | int64](i *T) any {
	if i == nil {
		return nil
	}
	return float64(*i)
}

func deref(b *bool) any {
	if b == nil {
		return nil
	}
	return *b
}

func near(a, b *float64) bool {
	return a != nil && b != nil && math.Abs(*a-*b) <= 1e-9*math.Abs(*b)
}

func show(f *float64) string {
	if f == nil {
		return "absent"
	}
	return fmt.Sprintf("%.6g", *f)
}
