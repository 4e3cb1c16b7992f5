package asic

import (
	"strconv"
	"strings"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// askWhatsminer asks what the common request did not bring: boards by the older commands, and, of a miner
// that does not hash, "status": one that was put to sleep drops everything else.
func askWhatsminer(p *poll) {
	for range 2 {
		if p.has(cmdSummary) {
			p.ask(p.r.asks() &^ p.answered)
		}
	}
	if rate, ok := p.parts[cmdSummary].Record("SUMMARY").Get("MHS 5s").Float(); ok && rate > 0 {
		return
	}
	if p.failed != nil && p.answered == 0 && !p.mayBeAsleep() {
		return
	}
	p.over = false
	p.r.denied &^= cmdStatus.set() // it may have been refused by an earlier, busy program
	p.ask(cmdStatus.set())
	if off, ok := p.parts[cmdStatus].Value.Get("Msg").Get("btmineroff").Bool(); ok && off {
		p.obs.State = telemetry.StateSleeping
		p.failed = nil // what a sleeping miner does not answer is no fault
	}
}

// mayBeAsleep reports whether the request failed the way a sleeping Whatsminer drops it: connected, and
// closed without an answer.
func (p *poll) mayBeAsleep() bool {
	o := cgminer.OutcomeOf(p.failed)
	return o == telemetry.OutcomeDenied || o == telemetry.OutcomeReset
}

// decodeWhatsminer reads MicroBT's btminer and the cgminer that came before it.
func decodeWhatsminer(p *poll) {
	s := p.decodeSummary()
	p.fits = s.Exists() || p.obs.State == telemetry.StateSleeping
	info := &p.r.id.info
	if s.Exists() {
		setMAC(&info.MAC, s.Get("MAC").Text())
		set(&info.FirmwareVersion, trimQuotes(s.Get("Firmware Version").Text()))
		set(&info.ControlBoard, strings.TrimPrefix(s.Get("CB Platform").Text(), "ALLWINNER_"))
		p.readWhatsminer(s)
	}
	switch {
	case p.decodeDevs(cmdEdevs), p.decodeDevs(cmdDevs):
	default:
		p.readSMStats()
	}
	p.decodePools()
	p.hashes(s)
	p.whatsminerErrors(s)
}

func (p *poll) readWhatsminer(s cgminer.Value) {
	o := &p.obs
	if x, ok := s.Get("Factory GHS").Float(); ok && x > 0 {
		p.rates.ideal = unit.Some(unit.Hashrate(x) * unit.GigahashPerSecond)
	} else if x, ok := s.Get("Target MHS").Float(); ok && x > 0 {
		p.rates.ideal = unit.Some(unit.Hashrate(x) * unit.MegahashPerSecond)
	}
	if x, ok := s.Get("Power").Float(); ok && x >= 0 && x <= maxWatts {
		o.Power = unit.Some(unit.Watts(x))
	}
	if x, ok := s.Get("Power Limit").Float(); ok && x > 0 && x <= maxWatts {
		o.PowerLimit = unit.Some(unit.Watts(x))
	}
	if t, ok := celsius(s.Get("Env Temp")); ok {
		o.TempInlet = unit.Some(t)
	}
	if t, ok := celsius(s.Get("Temperature")); ok {
		hotter(&o.TempBoard, t)
	}
	if t, ok := celsius(s.Get("Chip Temp Max")); ok {
		hotter(&o.TempChip, t)
	}
	// In and out by position, then the fan of the power supply, where the firmware names it.
	var speeds [3]unit.Opt[unit.RPM]
	for i, key := range [...]string{"Fan Speed In", "Fan Speed Out", "Power Fanspeed"} {
		if v, ok := rpm(s.Get(key)); ok {
			speeds[i] = unit.Some(v)
		}
	}
	p.setFans(speeds[:], 0)
}

// readSMStats finds the boards in the STATS records SM0, SM1, … of cgminer-era firmware.
func (p *poll) readSMStats() {
	for v := range p.parts[cmdStats].Section("STATS").All() {
		id := v.Get("ID").Text()
		if !strings.HasPrefix(id, "SM") || len(p.obs.Boards) == telemetry.MaxBoards {
			continue
		}
		n, err := strconv.Atoi(id[2:])
		if err != nil {
			continue
		}
		b := telemetry.Board{Index: int32(n), Chips: chips(v.Get("chip_num")), ChipsWorking: chips(v.Get("chip_model_effective_count"))}
		if bad := chips(v.Get("err_chips")).Or(0); bad > 0 {
			if found, ok := b.Chips.Get(); ok && bad <= found {
				b.ChipsWorking = unit.Some(found - bad)
			}
		}
		if x, ok := v.Get("freqs_avg").Float(); ok && x > 0 && x < maxMHz {
			b.FrequencyMHz = unit.Some(x)
		}
		if t, ok := celsius(v.Get("temp_now_max")); ok {
			b.Temps = []unit.Celsius{t}
			hotter(&p.obs.TempBoard, t)
		}
		p.obs.Boards = append(p.obs.Boards, b)
	}
}

var errorCodeKeys = func() (keys [telemetry.MaxErrors]string) {
	for i := range keys {
		keys[i] = "Error Code " + strconv.Itoa(i)
	}
	return keys
}()

// whatsminerError is a code with its meaning, for those that send somebody to the machine, from MicroBT's own table.
func whatsminerError(code int64) string {
	text := "Whatsminer error code " + strconv.FormatInt(code, 10)
	switch code {
	case 110:
		return text + ": intake fan speed error"
	case 111:
		return text + ": exhaust fan speed error"
	case 140:
		return text + ": fan speed is too high"
	case 600:
		return text + ": environment temperature is too high"
	case 2010:
		return text + ": all pools are disabled"
	case 2310:
		return text + ": hash rate is too low"
	}
	return text
}

// whatsminerErrors keeps the codes of a miner and judges by them when it does not hash: MicroBT's tables
// name heat in 233 to 235 (power supply), 350 to 352 and 360 (boards), 600 and 610 (surroundings).
func (p *poll) whatsminerErrors(s cgminer.Value) {
	hot := false
	for _, key := range errorCodeKeys {
		code, ok := s.Get(key).Int()
		if !ok {
			break
		}
		switch {
		case code >= 233 && code <= 235, code >= 350 && code <= 352, code == 360, code == 600, code == 610:
			hot = true
		}
		p.fault = true
		p.addError(p.r.keep(whatsminerError(code)))
	}
	if rate, ok := p.rates.short.Get(); hot && ok && rate == 0 && p.obs.State == telemetry.StateUnknown {
		p.obs.State = telemetry.StateOverheated
	}
}
