package cgminer

import (
	"math"
	"strconv"
)

// Float returns the number that v holds: a JSON number, or a string that is one between blanks. Empty
// strings, nan, inf, null and anything else are not there. Trailing unit letters are not accepted.
func (v Value) Float() (float64, bool) {
	switch v.Kind() {
	case Number, String:
		return ParseFloat(v.Text())
	}
	return 0, false
}

// Int returns v as a whole number, the fraction cut off. What does not fit is held at the nearest int64:
// firmware reports unsigned minus one.
func (v Value) Int() (int64, bool) {
	switch v.Kind() {
	case Number, String:
		return ParseInt(v.Text())
	}
	return 0, false
}

// Bool returns what v says as yes or no: a JSON bool, or the texts true, false, Y, N, Yes, No, 1 and 0 in
// any case.
func (v Value) Bool() (value, ok bool) {
	switch v.Kind() {
	case Bool, String, Number:
	default:
		return false, false
	}
	switch s := trim(v.Text()); len(s) {
	case 1:
		switch s[0] {
		case '1', 'Y', 'y':
			return true, true
		case '0', 'N', 'n':
			return false, true
		}
	case 2, 3, 4, 5:
		switch s {
		case "true", "True", "TRUE", "yes", "Yes", "YES":
			return true, true
		case "false", "False", "FALSE", "no", "No", "NO":
			return false, true
		}
	}
	return false, false
}

func trim(s string) string {
	for len(s) > 0 && s[0] <= ' ' {
		s = s[1:]
	}
	for len(s) > 0 && s[len(s)-1] <= ' ' {
		s = s[:len(s)-1]
	}
	return s
}

var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// ParseFloat reads a decimal number with blanks around it. It gives the same number as
// strconv.ParseFloat; hexadecimal numbers, underscores, nan and inf are not numbers here.
func ParseFloat(s string) (float64, bool) {
	s = trim(s)
	if s == "" {
		return 0, false
	}
	// A mantissa below 2^53 and a power of ten up to 22 are both exact, so one division rounds
	// correctly (Clinger's fast path). Numbers of miners nearly always fit.
	i, neg := 0, false
	if s[0] == '-' || s[0] == '+' {
		neg = s[0] == '-'
		i++
	}
	var mantissa uint64
	frac, seen, point := 0, 0, false
	for ; i < len(s); i++ {
		c := s[i]
		switch {
		case c-'0' <= 9:
			if mantissa >= 1<<53/10 {
				return parseFloatSlow(s)
			}
			mantissa = mantissa*10 + uint64(c-'0')
			seen++
			if point {
				frac++
			}
		case c == '.' && !point:
			point = true
		default:
			return parseFloatSlow(s)
		}
	}
	if seen == 0 || frac >= len(pow10) {
		return parseFloatSlow(s)
	}
	f := float64(mantissa) / pow10[frac]
	if neg {
		f = -f
	}
	return f, true
}

func parseFloatSlow(s string) (float64, bool) {
	for i := range len(s) {
		switch c := s[i]; {
		case c-'0' <= 9, c == '.', c == '-', c == '+', c == 'e', c == 'E':
		default:
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if math.IsInf(f, 0) || err != nil {
		return 0, false
	}
	return f, true
}

// ParseInt reads a decimal number with blanks around it and cuts its fraction off, exactly also above
// 2^53, and holds it within int64.
func ParseInt(s string) (int64, bool) {
	s = trim(s)
	i, neg := 0, false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		neg = s[0] == '-'
		i++
	}
	start := i
	var n uint64
	for ; i < len(s) && s[i]-'0' <= 9; i++ {
		if n > (math.MaxUint64-9)/10 {
			n = math.MaxUint64
			continue
		}
		n = n*10 + uint64(s[i]-'0')
	}
	if i == start || i < len(s) {
		f, ok := ParseFloat(s) // checks the rest, and reads exponents
		if !ok {
			return 0, false
		}
		if i == start || s[i] != '.' || hasExponent(s[i:]) {
			return clampFloat(f), true
		}
	}
	switch {
	case neg && n >= 1<<63:
		return math.MinInt64, true
	case neg:
		return -int64(n), true
	case n > math.MaxInt64:
		return math.MaxInt64, true
	}
	return int64(n), true
}

func hasExponent(s string) bool {
	for i := range len(s) {
		if s[i]|0x20 == 'e' {
			return true
		}
	}
	return false
}

func clampFloat(f float64) int64 {
	switch {
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}
