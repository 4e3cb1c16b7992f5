package asic

import (
	"strings"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// decodeSealMiner reads Bitdeer's bdminer: an ordinary SUMMARY, and one flat STATS record in which boards and fans are
// numbered in front: "0 Temp 2", "1 Freq", "3 Speed".
func decodeSealMiner(p *poll) {
	s := p.decodeSummary()
	p.fits = s.Exists()
	if v := p.parts[cmdStats].Record("STATS"); v.Exists() {
		p.readSealMiner(v)
	}
	p.decodePools()
	p.hashes(s)
}

func (p *poll) readSealMiner(v cgminer.Value) {
	o, info := &p.obs, &p.r.id.info
	set(&info.Model, v.Get("Model").Text())
	set(&info.Serial, v.Get("Ctrl Board SN").Text())
	set(&info.FirmwareVersion, first(v, "Firmware", "Software Version"))
	setMAC(&info.MAC, v.Get("MAC").Text())
	if !p.obs.Uptime.Present() {
		p.setUptime(v.Get("Elapsed"))
	}

	boards := listed(v.Get("Board Count"), telemetry.MaxBoards)
	fans := listed(v.Get("Fan Count"), telemetry.MaxFans)
	o.Boards = make([]telemetry.Board, boards)
	for i := range o.Boards {
		o.Boards[i].Index = int32(i)
	}
	var speeds [telemetry.MaxFans]unit.Opt[unit.RPM]
	var bad [telemetry.MaxBoards]int32
	var ideal unit.Hashrate
	for m := range v.All() {
		number, key, flat := strings.Cut(m.Key(), " ")
		n, ok := cgminer.ParseInt(number)
		if !flat || !ok || n < 0 {
			continue
		}
		if n < int64(fans) {
			switch key {
			case "Speed":
				if s, ok := rpm(m); ok {
					speeds[n] = unit.Some(s)
				}
			case "PWM": // of 255
				d, ok := m.Int()
				p.duty((d*100+127)/255, ok && d >= 0 && d <= 255)
			}
		}
		if n >= int64(boards) {
			continue
		}
		b := &o.Boards[n]
		switch key {
		case "Freq":
			if x, ok := m.Float(); ok && x > 0 && x < maxMHz {
				b.FrequencyMHz = unit.Some(x)
			}
		case "Chip Count":
			b.Chips = chips(m)
		case "Bad Chip Count":
			bad[n] = chips(m).Or(0)
		case "HW":
			b.HardwareErrors = count(m)
		case "MHS(1m)":
			if x, ok := m.Float(); ok {
				b.Hashrate = unit.Some(unit.Hashrate(x) * unit.MegahashPerSecond)
			}
		case "MHS(Ideal)":
			if x, ok := m.Float(); ok && x > 0 {
				ideal += unit.Hashrate(x) * unit.MegahashPerSecond
			}
		case "Online":
			if on, ok := m.Bool(); ok && !on {
				p.deadBoards++
			}
		default:
			// "Temp 0" to "Temp 3" are sensors in chips.
			if strings.HasPrefix(key, "Temp ") && len(b.Temps) < telemetry.MaxBoardTemps {
				if t, ok := celsius(m); ok {
					b.Temps = append(b.Temps, t)
					hotter(&o.TempChip, t)
				}
			}
		}
	}
	if ideal > 0 {
		p.rates.ideal = unit.Some(ideal)
	}
	for i := range o.Boards {
		b := &o.Boards[i]
		p.drop(&b.Hashrate)
		if found, ok := b.Chips.Get(); ok && bad[i] <= found {
			b.ChipsWorking = unit.Some(found - bad[i])
		}
	}
	if t, ok := celsius(v.Get("PSU Temp AMB")); ok {
		o.TempInlet = unit.Some(t)
	}
	p.setFans(speeds[:], fans)
}

// listed reads how many boards or fans a record lists.
func listed(v cgminer.Value, most int) int {
	n, _ := v.Int()
	return int(min(max(n, 0), int64(most)))
}
