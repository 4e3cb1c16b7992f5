package asic

import (
	"iter"
	"strings"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// askAvalon asks "estats" where "stats" holds no module text.
func askAvalon(p *poll) {
	if !p.has(cmdStats) && !p.has(cmdSummary) {
		return
	}
	for v := range p.parts[cmdStats].Section("STATS").All() {
		if hasModule(v) {
			return
		}
	}
	p.ask(cmdEstats.set())
}

// hasModule reports whether a STATS record carries a module's text block.
func hasModule(record cgminer.Value) bool {
	for m := range record.All() {
		if strings.HasPrefix(m.Key(), "MM ID") && m.Kind() == cgminer.String {
			return true
		}
	}
	return false
}

// decodeAvalon reads Canaan's firmware, 7xx to 15xx and the Home series: ordinary SUMMARY and POOLS, and
// everything else packed into one text per module, as Key[value] blocks.
func decodeAvalon(p *poll) {
	s := p.decodeSummary()
	p.fits = s.Exists()
	a := avalon{poll: p}
	for _, c := range [...]command{cmdStats, cmdEstats} {
		for record := range p.parts[c].Section("STATS").All() {
			if !p.obs.Uptime.Present() && hasModule(record) {
				p.setUptime(record.Get("Elapsed"))
			}
			for m := range record.All() {
				if strings.HasPrefix(m.Key(), "MM ID") && m.Kind() == cgminer.String {
					a.module(m.Text())
				}
			}
			a.chips(record.Get("HBinfo").Text())
		}
	}
	a.finish()
	p.decodePools()
	p.hashes(s)
}

// avalon gathers what the modules of one machine say.
type avalon struct {
	*poll
	ideal  unit.Hashrate
	speeds []unit.Opt[unit.RPM]
	idle   bool // a module says it does not work
	off    bool // a module says it was switched off by software
}

// blocks yields the Key[value] pairs of a module's text. A key may have blanks inside ("Nonce Mask"); the
// Home series writes "'STATS':{" before the first one.
func blocks(s string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for {
			open := strings.IndexByte(s, '[')
			if open < 0 {
				return
			}
			end := strings.IndexByte(s[open:], ']')
			if end < 0 {
				return
			}
			key := s[:open]
			if i := strings.LastIndexByte(key, '{'); i >= 0 {
				key = key[i+1:]
			}
			if !yield(strings.Trim(key, " }',"), s[open+1:open+end]) {
				return
			}
			s = s[open+end+1:]
		}
	}
}

// fields yields the blank-separated values of a block.
func fields(s string) iter.Seq[string] { return strings.FieldsSeq(s) }

// module reads the text of one module. From the 10xx on a module is a machine with boards of its own
// ("MGHS" has one value for each); before, each module of a stack counts as a board.
func (a *avalon) module(text string) {
	o := &a.obs
	base := len(o.Boards)
	var one telemetry.Board // the module as a board
	var boards, inlet = 0, unit.Opt[unit.Celsius]{}
	each := func(value string, put func(b *telemetry.Board, x float64)) {
		i := 0
		for f := range fields(value) {
			x, ok := cgminer.ParseFloat(f)
			if b := a.boardAt(base + i); ok && b != nil {
				put(b, x)
			}
			i++
		}
	}
	var mtAvg, mtMax, power, version string
	for key, value := range blocks(text) {
		x, isNumber := cgminer.ParseFloat(value)
		switch key {
		case "Ver":
			version = value
		case "DNA":
			if a.r.id.info.Serial == "" { // of a stack, the first module's
				set(&a.r.id.info.Serial, value)
			}
		case "MGHS":
			each(value, func(b *telemetry.Board, x float64) {
				b.Hashrate = unit.Some(unit.Hashrate(x) * unit.GigahashPerSecond)
				a.drop(&b.Hashrate)
				boards++
			})
		case "MTmax":
			mtMax = value
		case "MTavg":
			mtAvg = value
		case "GHSmm":
			if isNumber && x > 0 {
				a.ideal += unit.Hashrate(x) * unit.GigahashPerSecond
			}
		case "Freq":
			if isNumber && x > 0 && x < maxMHz {
				one.FrequencyMHz = unit.Some(x)
			}
		case "ITemp":
			if isNumber && plausible(x) {
				inlet = unit.Some(unit.Celsius(x))
			}
		case "Temp":
			// The air at the module's intake; ITemp is the same sensor's name on newer firmware.
			if isNumber && plausible(x) {
				if !inlet.Present() {
					inlet = unit.Some(unit.Celsius(x))
				}
				one.Temps = append(one.Temps, unit.Celsius(x))
			}
		case "TMax":
			if isNumber && plausible(x) {
				hotter(&o.TempChip, unit.Celsius(x))
				one.Temps = append(one.Temps, unit.Celsius(x))
			}
		case "Fan", "Fan1", "Fan2", "Fan3", "Fan4":
			if isNumber && x >= 0 && x <= maxRPM {
				a.speeds = append(a.speeds, unit.Some(unit.RPM(x)))
			}
		case "FanR":
			d, ok := cgminer.ParseFloat(strings.TrimSuffix(value, "%"))
			a.duty(int64(d), ok)
		case "HW":
			if n, ok := cgminer.ParseInt(value); ok && n >= 0 {
				one.HardwareErrors = unit.Some(n)
			}
		case "PS":
			power = value
		case "WALLPOWER":
			if isNumber && x > 0 && x <= maxWatts {
				o.Power = unit.Some(unit.Watts(x))
			}
		case "MPO":
			if isNumber && x > 0 && x <= maxWatts {
				o.PowerLimit = unit.Some(unit.Watts(x))
			}
		case "FanErr":
			if isNumber && x != 0 {
				a.fault = true
				a.addError(a.r.keep("Avalon FanErr[" + value + "]"))
			}
		case "SYSTEMSTATU":
			a.idle = a.idle || strings.Contains(value, "In Idle")
		case "SoftOFF":
			a.off = a.off || isNumber && x != 0
		}
		if n, ok := strings.CutPrefix(key, "PVT_T"); ok && len(n) == 1 && n[0] >= '0' && n[0] <= '9' {
			if b := a.boardAt(base + int(n[0]-'0')); b != nil {
				b.Chips = countFields(value)
			}
		}
	}
	for _, list := range [...]string{mtAvg, mtMax} {
		each(list, func(b *telemetry.Board, x float64) {
			if plausible(x) {
				b.Temps = append(b.Temps, unit.Celsius(x))
				hotter(&o.TempChip, unit.Celsius(x))
			}
		})
	}
	if boards == 0 && len(o.Boards) == base && base < telemetry.MaxBoards {
		one.Index = int32(base)
		o.Boards = append(o.Boards, one)
	}
	if t, ok := inlet.Get(); ok {
		hotter(&o.TempInlet, t)
	}
	a.describeVersion(version)
	a.readPower(power)
}

func (a *avalon) boardAt(i int) *telemetry.Board {
	o := &a.obs
	if i < 0 || i >= telemetry.MaxBoards {
		return nil
	}
	for len(o.Boards) <= i {
		o.Boards = append(o.Boards, telemetry.Board{Index: int32(len(o.Boards))})
	}
	return &o.Boards[i]
}

// describeVersion takes model and firmware from "1047-20051101_…", "7411706-3162860" (a 741) or
// "Q-25052801_…", where "version" did not tell.
func (a *avalon) describeVersion(v string) {
	info := &a.r.id.info
	if v == "" {
		return
	}
	set(&info.FirmwareVersion, v)
	if info.Model != "" {
		return
	}
	model, _, _ := strings.Cut(v, "-")
	if len(model) == 7 && model[0] >= '7' {
		model = model[:3]
	}
	set(&info.Model, "AvalonMiner "+model)
}

// readPower reads "PS[..]": seven numbers, the last of which is the power at the wall, on the A12 and A15. The
// Home series (its version begins with a letter) orders them in another way, older ones fill them with 0.
func (a *avalon) readPower(ps string) {
	if a.obs.Power.Present() || ps == "" {
		return
	}
	if v := a.r.id.info.FirmwareVersion; v != "" && (v[0] < '0' || v[0] > '9') {
		return
	}
	n, last := 0, 0.0
	for f := range fields(ps) {
		x, ok := cgminer.ParseFloat(f)
		if !ok {
			return
		}
		n, last = n+1, x
	}
	if n == 7 && last > 0 && last <= maxWatts {
		a.obs.Power = unit.Some(unit.Watts(last))
	}
}

// chips reads "HBinfo" of the Home series: "'HB0':{PVT_T0[...] ...} 'HB1':{...}", the chips of each board.
func (a *avalon) chips(text string) {
	for key, value := range blocks(text) {
		n, ok := strings.CutPrefix(key, "PVT_T")
		if !ok || len(n) != 1 || n[0] < '0' || n[0] > '9' {
			continue
		}
		if b := a.boardAt(int(n[0] - '0')); b != nil {
			b.Chips = countFields(value)
		}
	}
}

func countFields(s string) unit.Opt[int32] {
	n := int32(0)
	for range fields(s) {
		n++
	}
	if n == 0 {
		return unit.Opt[int32]{}
	}
	return unit.Some(n)
}

func (a *avalon) finish() {
	if a.ideal > 0 {
		a.rates.ideal = unit.Some(a.ideal)
	}
	// A Home Q that was switched off lists its fans with 0 rpm, and has them all.
	want := 0
	if a.idle {
		want = len(a.speeds)
	}
	a.setFans(a.speeds, want)
	if rate, ok := a.rates.short.Get(); a.idle && a.off && (!ok || rate == 0) {
		a.obs.State = telemetry.StateSleeping
	}
	if len(a.obs.Boards) > telemetry.MaxBoards {
		a.obs.Boards = a.obs.Boards[:telemetry.MaxBoards]
	}
	for i := range a.obs.Boards {
		b := &a.obs.Boards[i]
		if len(b.Temps) > telemetry.MaxBoardTemps {
			b.Temps = b.Temps[:telemetry.MaxBoardTemps]
		}
	}
}
