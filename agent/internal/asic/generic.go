package asic

import (
	"strings"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// decodeGeneric reads what every cgminer dialect has in common, and the shapes that third-party firmware
// borrowed from stock Antminer: rates, uptime, counters, pools, boards and temperatures.
func decodeGeneric(p *poll) {
	s := p.decodeSummary()
	boards := p.decodeAntminerStats() || p.decodeDevs(cmdDevs) || p.decodeNumberedStats() || p.decodeNestedStats()
	p.readAsicCount()
	p.decodePools()
	if s.Exists() && len(p.obs.Fans) == 0 {
		p.readFans(s, &fanKeysUpper, s.Get("Fan Num")) // StrongU
	}
	p.hashes(s)
	p.fits = s.Exists() || boards
}

// readAsicCount reads Auradine's "asccount", which tells the chips of all boards together.
func (p *poll) readAsicCount() {
	v := p.parts[cmdAsccount].Record("ASCCount")
	all, ok := v.Get("AsicCount").Int()
	n, known := v.Get("BoardCount").Int()
	if !ok || !known || n <= 0 || n != int64(len(p.obs.Boards)) || all%n != 0 || all/n > 10_000 {
		return // boards of different sizes: nobody tells which has how many
	}
	for i := range p.obs.Boards {
		p.obs.Boards[i].Chips = unit.Some(int32(all / n))
	}
}

// decodeNumberedStats reads old Innosilicon firmware, which gives each board a section: STATS0, STATS1, ….
func (p *poll) decodeNumberedStats() bool {
	o := &p.obs
	for m := range p.parts[cmdStats].Value.All() {
		n, numbered := strings.CutPrefix(m.Key(), "STATS")
		v := m.Index(0)
		i, ok := cgminer.ParseInt(n)
		if !numbered || !ok || !v.Get("Num chips").Exists() || len(o.Boards) == telemetry.MaxBoards {
			continue
		}
		b := telemetry.Board{
			Index: int32(min(max(i, 0), 1<<16)), Chips: chips(v.Get("Num chips")), ChipsWorking: chips(v.Get("Num active chips")),
		}
		if x, ok := v.Get("MHS av").Float(); ok {
			b.Hashrate = unit.Some(unit.Hashrate(x * float64(p.r.id.mhs)))
			p.drop(&b.Hashrate)
		}
		if t, ok := celsius(v.Get("Temp")); ok {
			b.Temps = []unit.Celsius{t}
			hotter(&o.TempBoard, t)
		}
		p.duty(v.Get("Fan duty").Int())
		o.Boards = append(o.Boards, b)
	}
	return len(o.Boards) > 0
}

// decodeNestedStats reads Spondoolies, which puts a JSON document into a string of the STATS record.
func (p *poll) decodeNestedStats() bool {
	text := p.parts[cmdStats].Record("STATS").Get("json-stats").Text()
	if text == "" {
		return false
	}
	var doc cgminer.Doc
	if err := doc.Parse([]byte(text)); err != nil {
		p.fail(err)
		return false
	}
	p.obs.Repairs |= doc.Repairs()
	o := &p.obs
	watts := 0.0
	for m := range doc.Root().All() {
		if !strings.HasSuffix(m.Key(), "-board") || len(o.Boards) == telemetry.MaxBoards {
			continue
		}
		b := telemetry.Board{Index: int32(len(o.Boards)), Chips: chips(m.Get("working-asics"))}
		if x, ok := m.Get("reported-hashrate").Float(); ok {
			b.Hashrate = unit.Some(unit.Hashrate(x) * unit.MegahashPerSecond)
			p.drop(&b.Hashrate)
		}
		for _, key := range [...]string{"front-temp", "rear-temp"} {
			if t, ok := celsius(m.Get(key)); ok {
				b.Temps = append(b.Temps, t)
				hotter(&o.TempBoard, t)
			}
		}
		if t, ok := celsius(m.Get("max-temp")); ok {
			b.Temps = append(b.Temps, t)
			hotter(&o.TempChip, t)
		}
		if x, ok := m.Get("power").Float(); ok && x > 0 {
			watts += x
		}
		o.Boards = append(o.Boards, b)
	}
	if watts > 0 && watts <= maxWatts {
		o.Power = unit.Some(unit.Watts(watts))
	}
	var speeds [telemetry.MaxFans]unit.Opt[unit.RPM]
	n := 0
	for f := range doc.Root().Get("fan-speeds").All() {
		if s, ok := rpm(f); ok && n < len(speeds) {
			speeds[n] = unit.Some(s)
			n++
		}
	}
	p.setFans(speeds[:], n)
	return len(o.Boards) > 0
}
