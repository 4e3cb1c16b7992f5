package asic

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Bounds beyond which a reading is a broken sensor or a wrong unit, not a fact.
const (
	minCelsius  = -40 // below what any site runs at; a broken S9 sensor says -83
	maxCelsius  = 150 // silicon is dead by then
	maxRPM      = 30_000
	maxMHz      = 10_000
	maxWatts    = 100_000
	maxHashrate = 5e15 // H/s; the largest machine sold makes a fifth of it
	// A wrong unit is off by 1000; no machine exceeds its nominal rate twenty times.
	maxOverIdeal = 20
)

// labelScale is what "GHS" stands for on a model, in H/s. Only on SHA-256 machines is it a gigahash.
// 0 means that it is not known, and rates are left out unless the reply itself names their unit.
type labelScale float64

// scaleOfModel tells by the model. The labels of the others were checked against recorded replies: an L3+
// says "GHS" and means MH/s, a Z11 means thousands of solutions per second.
func scaleOfModel(model string) labelScale {
	m := strings.TrimSpace(strings.TrimPrefix(strings.ToLower(model), "antminer"))
	switch {
	case m == "":
		return labelScale(unit.GigahashPerSecond)
	case strings.HasPrefix(m, "l3"), strings.HasPrefix(m, "d3"), strings.HasPrefix(m, "e3"):
		return labelScale(unit.MegahashPerSecond)
	case strings.HasPrefix(m, "z"):
		return 1e3
	case m[0] == 's', m[0] == 't', strings.HasPrefix(m, "r4"), strings.HasPrefix(m, "v9"):
		return labelScale(unit.GigahashPerSecond)
	case !strings.Contains(strings.ToLower(model), "antminer"):
		return labelScale(unit.GigahashPerSecond)
	}
	return 0
}

// sha256 reports whether the labels mean what they say.
func (s labelScale) sha256() bool { return s == labelScale(unit.GigahashPerSecond) }

// unitOf reads a "rate_unit" such as GH, TH or MH.
func unitOf(s string) (unit.Hashrate, bool) {
	if len(s) < 1 || len(s) > 8 {
		return 0, false
	}
	switch s[0] | 0x20 {
	case 'k':
		return 1e3, true
	case 'm':
		return unit.MegahashPerSecond, true
	case 'g':
		return unit.GigahashPerSecond, true
	case 't':
		return unit.TerahashPerSecond, true
	case 'p':
		return 1e15, true
	case 'h', 's':
		return 1, true
	}
	return 0, false
}

// rates gathers the rates of one poll with their windows.
type rates struct {
	short, steady, avg    unit.Opt[unit.Hashrate] // steady: over the window nearest to 5 minutes
	shortOver, steadyOver time.Duration
	ideal                 unit.Opt[unit.Hashrate]
}

const steadyWindow = 5 * time.Minute

func (r *rates) add(h unit.Hashrate, over time.Duration) {
	if !r.short.Present() || over < r.shortOver {
		r.short, r.shortOver = unit.Some(h), over
	}
	if !r.steady.Present() || distance(over) < distance(r.steadyOver) {
		r.steady, r.steadyOver = unit.Some(h), over
	}
}

func distance(d time.Duration) time.Duration { return (d - steadyWindow).Abs() }

// addFields takes every field of a record whose name says rate, unit and window: "MHS 5s", "GHS 30m",
// "MHS av". Fields that are blank or nan are not there.
func (r *rates) addFields(record cgminer.Value, ghs, mhs labelScale) {
	for f := range record.All() {
		key := f.Key()
		if len(key) < 6 || key[1:4] != "HS " {
			continue
		}
		var scale float64
		switch key[0] {
		case 'K':
			scale = 1e3
		case 'M':
			scale = float64(mhs)
		case 'G':
			scale = float64(ghs)
		case 'T':
			scale = 1e12
		}
		x, ok := f.Float()
		if scale == 0 || !ok {
			continue
		}
		if key[4:] == "av" {
			r.avg = unit.Some(unit.Hashrate(x * scale))
		} else if over, ok := window(key[4:]); ok {
			r.add(unit.Hashrate(x*scale), over)
		}
	}
}

// window reads "5s", "30m", "24h".
func window(s string) (time.Duration, bool) {
	n := 0
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' && i < 4 {
			n = n*10 + int(c-'0')
			continue
		}
		if n == 0 || i != len(s)-1 {
			return 0, false
		}
		switch c {
		case 's':
			return time.Duration(n) * time.Second, true
		case 'm':
			return time.Duration(n) * time.Minute, true
		case 'h':
			return time.Duration(n) * time.Hour, true
		}
	}
	return 0, false
}

// report puts the rates into the observation, unless they cannot be true.
func (p *poll) report() {
	r, o := &p.rates, &p.obs
	if ideal, ok := r.ideal.Get(); ok && (ideal <= 0 || ideal > maxHashrate) {
		r.ideal = unit.Opt[unit.Hashrate]{}
	}
	p.drop(&r.short)
	p.drop(&r.steady)
	p.drop(&r.avg)
	o.IdealHashrate, o.HashrateAvg = r.ideal, r.avg
	switch up, known := o.Uptime.Get(); {
	case r.short.Present():
		o.Hashrate = r.short
		if r.shortOver > 0 { // else the firmware does not tell
			o.HashrateWindow = unit.Some(r.shortOver)
		}
	case r.avg.Present() && known && up > 0:
		// The only window this firmware reports is the program's whole life.
		o.Hashrate, o.HashrateWindow = r.avg, unit.Some(up)
	}
}

// drop removes a rate that no machine makes, and says so: its unit is not what its label says.
func (p *poll) drop(rate *unit.Opt[unit.Hashrate]) {
	h, ok := rate.Get()
	if !ok {
		return
	}
	ideal, known := p.rates.ideal.Get()
	if h >= 0 && h <= maxHashrate && (!known || h <= maxOverIdeal*ideal) && !math.IsNaN(float64(h)) {
		return
	}
	*rate = unit.Opt[unit.Hashrate]{}
	p.addError(fmt.Sprintf("hashrate of %.4g H/s left out: no such machine exists, so its unit is not known", float64(h)))
}

// celsius reads a temperature; 0 stands for "no sensor" in every dialect.
func celsius(v cgminer.Value) (unit.Celsius, bool) {
	x, ok := v.Float()
	return unit.Celsius(x), ok && plausible(x)
}

func plausible(x float64) bool { return x != 0 && x >= minCelsius && x <= maxCelsius }

// hotter raises t to c.
func hotter(t *unit.Opt[unit.Celsius], c unit.Celsius) {
	if old, ok := t.Get(); !ok || c > old {
		*t = unit.Some(c)
	}
}

// duty takes the next fan's duty in percent. FanPercent is the highest of them.
func (p *poll) duty(percent int64, ok bool) {
	d := unit.Opt[int32]{}
	if ok && percent >= 0 && percent <= 100 {
		d = unit.Some(int32(percent))
		p.obs.FanPercent = unit.Some(max(int32(percent), p.obs.FanPercent.Or(0)))
	}
	if len(p.obs.FanDuty) < telemetry.MaxFans {
		p.obs.FanDuty = append(p.obs.FanDuty, d)
	}
}

// rpm reads a fan's speed.
func rpm(v cgminer.Value) (unit.RPM, bool) {
	n, ok := v.Int()
	return unit.RPM(n), ok && n >= 0 && n <= maxRPM
}

// setFans takes the speeds by position. A position that stands still is an empty socket, unless it turned
// earlier, or fewer turn than the firmware says there are (want): then it is a stopped fan.
func (p *poll) setFans(speeds []unit.Opt[unit.RPM], want int) {
	if len(speeds) > telemetry.MaxFans {
		speeds = speeds[:telemetry.MaxFans]
	}
	turning, last := 0, -1
	for i, s := range speeds {
		if v, ok := s.Get(); ok && v > 0 {
			p.r.fans |= 1 << i
			turning++
		}
	}
	for i, s := range speeds {
		v, ok := s.Get()
		if ok && v == 0 && p.r.fans&(1<<i) == 0 && turning >= want {
			speeds[i] = unit.Opt[unit.RPM]{}
			continue
		}
		if ok && v == 0 {
			turning++
		}
		if ok {
			last = i
		}
	}
	if last >= 0 {
		p.obs.Fans = append([]unit.Opt[unit.RPM](nil), speeds[:last+1]...)
	}
}
