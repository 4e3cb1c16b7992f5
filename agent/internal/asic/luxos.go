package asic

import (
	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// askLuxOS asks for the profiles when another one than before is in use: only they tell what power the miner is set to.
func askLuxOS(p *poll) {
	id := &p.r.id
	profile := p.parts[cmdConfig].Record("CONFIG").Get("Profile").Text()
	if profile == "" || profile == id.profile {
		return
	}
	failed := p.failed
	p.ask(cmdProfiles.set())
	p.failed = failed // a reading lacks nothing that was asked every time
	for v := range p.parts[cmdProfiles].Section("PROFILES").All() {
		if v.Get("Profile Name").Text() != profile {
			continue
		}
		set(&id.profile, profile)
		id.limit = unit.Opt[unit.Watts]{}
		if x, ok := v.Get("Watts").Float(); ok && x > 0 && x <= maxWatts {
			id.limit = unit.Some(unit.Watts(x))
		}
	}
}

// decodeLuxOS reads luxminer: cgminer's records in GHS, Antminer-like "stats" for chips, and commands of its own for
// temperatures, fans, power and events.
func decodeLuxOS(p *poll) {
	s := p.decodeSummary()
	p.decodeAntminerStats()
	p.readLuxBoards()
	p.readLuxTemps()
	p.readFanSection()
	p.readLuxConfig()
	o := &p.obs
	if x, ok := p.parts[cmdPower].Record("POWER").Get("Watts").Float(); ok && x >= 0 && x <= maxWatts {
		o.Power = unit.Some(unit.Watts(x))
	}
	for e := range p.parts[cmdEvents].Section("EVENTS").All() {
		where := e.Get("Target").Text()
		if n := e.Get("ID").Text(); n != "" {
			where += " " + n
		}
		if what := e.Get("Description").Text(); what != "" {
			p.addError(p.r.keep("[" + where + "] " + what))
		}
	}
	p.decodePools()
	// "Total MH" of this firmware is the average rate: identity.averageTotal keeps it from being taken for a counter.
	p.hashes(s)
	p.fits = s.Exists()
}

// readLuxBoards adds what "devs" knows to the chains of "stats": chain_acn1 belongs to ASC 0. The rates of "stats" are
// averages since the start, those of "devs" have windows.
func (p *poll) readLuxBoards() {
	o := &p.obs
	if len(o.Boards) == 0 {
		p.decodeDevs(cmdDevs)
		return
	}
	for v := range p.parts[cmdDevs].Section("DEVS").All() {
		n, ok := v.Get("ASC").Int()
		if !ok {
			continue
		}
		for i := range o.Boards {
			if b := &o.Boards[i]; int64(b.Index) == n+1 {
				p.readLuxBoard(v, b)
			}
		}
	}
}

func (p *poll) readLuxBoard(v cgminer.Value, b *telemetry.Board) {
	var r rates
	r.addFields(v, p.r.id.scale, p.r.id.mhs)
	if r.short.Present() {
		b.Hashrate = r.short
		p.drop(&b.Hashrate)
	}
	switch v.Get("Status").Text() {
	case "Dead", "Sick", "NoStart":
		p.deadBoards++
	}
}

// readLuxTemps reads "temps": four corners of each board, or one board and one chip sensor on older releases. The three
// temperature texts of "stats" only repeat the corners.
func (p *poll) readLuxTemps() {
	section := p.parts[cmdTemps].Section("TEMPS")
	if section.Len() == 0 {
		return
	}
	o := &p.obs
	o.TempBoard, o.TempChip = unit.Opt[unit.Celsius]{}, unit.Opt[unit.Celsius]{}
	for i := range o.Boards {
		o.Boards[i].Temps = nil
	}
	for v := range section.All() {
		temps := make([]unit.Celsius, 0, 4)
		for _, key := range [...]string{"Board", "TopLeft", "TopRight", "BottomLeft", "BottomRight"} {
			if t, ok := celsius(v.Get(key)); ok {
				temps = append(temps, t)
				hotter(&o.TempBoard, t)
			}
		}
		if t, ok := celsius(v.Get("Chip")); ok {
			temps = append(temps, t)
			hotter(&o.TempChip, t)
		}
		n, ok := v.Get("ID").Int()
		if !ok {
			continue
		}
		for i := range o.Boards {
			if int64(o.Boards[i].Index) == n+1 {
				o.Boards[i].Temps = temps
			}
		}
	}
}

// readLuxConfig takes what only LuxOS tells about a machine, and whether it was curtailed.
func (p *poll) readLuxConfig() {
	c := p.parts[cmdConfig].Record("CONFIG")
	if !c.Exists() {
		return
	}
	id, o := &p.r.id, &p.obs
	setMAC(&id.info.MAC, c.Get("MACAddr").Text())
	set(&id.info.Serial, c.Get("SerialNumber").Text())
	set(&id.info.Hostname, c.Get("Hostname").Text())
	set(&id.info.Model, c.Get("Model").Text())
	set(&id.info.ControlBoard, c.Get("ControlBoardType").Text())
	if profile := c.Get("Profile").Text(); profile != "" && profile == id.profile {
		o.PowerLimit = id.limit
	}
	if x, ok := c.Get("NameplateTHS").Float(); ok && x > 0 && !p.rates.ideal.Present() {
		p.rates.ideal = unit.Some(unit.Hashrate(x) * unit.TerahashPerSecond)
	}
	rate, ok := p.rates.short.Get()
	if mode := c.Get("CurtailMode").Text(); mode != "" && mode != "None" && (!ok || rate == 0) {
		o.State = telemetry.StateSleeping
	}
}
