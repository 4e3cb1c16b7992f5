package asic

import (
	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// decodeBraiins reads bosminer: a cgminer subset in MHS with many decimals, and the extra commands "temps"
// and "fans".
func decodeBraiins(p *poll) {
	s := p.decodeSummary()
	p.fits = s.Exists()
	p.decodeDevs(cmdDevs)
	p.readTemps()
	p.readFanSection()
	p.decodePools()
	p.hashes(s)
}

// readTemps reads the TEMPS section and gives its sensors to the boards of the same id.
func (p *poll) readTemps() {
	section := p.parts[cmdTemps].Section("TEMPS")
	o := &p.obs
	for v := range section.All() {
		var temps []unit.Celsius
		if t, ok := celsius(v.Get("Board")); ok {
			temps = append(temps, t)
			hotter(&o.TempBoard, t)
		}
		if t, ok := celsius(v.Get("Chip")); ok {
			temps = append(temps, t)
			hotter(&o.TempChip, t)
		}
		if b := p.board(v.Get("ID")); b != nil && len(temps) > 0 {
			b.Temps = temps
		}
	}
}

// board returns the board with the firmware's id, a new one when "devs" did not name it; nil without an id
// or beyond the bound.
func (p *poll) board(id cgminer.Value) *telemetry.Board {
	n, ok := id.Int()
	if !ok || n < 0 || n > 1<<16 {
		return nil
	}
	o := &p.obs
	for i := range o.Boards {
		if o.Boards[i].Index == int32(n) {
			return &o.Boards[i]
		}
	}
	if len(o.Boards) == telemetry.MaxBoards {
		return nil
	}
	o.Boards = append(o.Boards, telemetry.Board{Index: int32(n)})
	return &o.Boards[len(o.Boards)-1]
}

// readFanSection reads the FANS section: RPM by position, and "Speed", which is a duty in percent. Sockets
// without a fan are listed with 0 RPM.
func (p *poll) readFanSection() {
	var speeds [telemetry.MaxFans]unit.Opt[unit.RPM]
	i := 0
	for v := range p.parts[cmdFans].Section("FANS").All() {
		if i == len(speeds) {
			break
		}
		if s, ok := rpm(v.Get("RPM")); ok {
			speeds[i] = unit.Some(s)
		}
		p.duty(v.Get("Speed").Int())
		i++
	}
	p.setFans(speeds[:], 0)
}
