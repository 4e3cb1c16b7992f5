package asic

import (
	"math"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// decodeSummary reads what the SUMMARY record means in every dialect.
func (p *poll) decodeSummary() cgminer.Value {
	s := p.parts[cmdSummary].Record("SUMMARY")
	if s.Kind() != cgminer.Object {
		return cgminer.Value{}
	}
	p.rates.addFields(s, p.r.id.scale, p.r.id.mhs)
	p.setUptime(s.Get("Elapsed"))
	o := &p.obs
	o.Accepted = count(s.Get("Accepted"))
	o.Rejected = count(s.Get("Rejected"))
	o.Stale = count(s.Get("Stale"))
	o.DiffAccepted = count(s.Get("Difficulty Accepted"))
	o.DiffRejected = count(s.Get("Difficulty Rejected"))
	o.DiffStale = count(s.Get("Difficulty Stale"))
	o.HardwareErrors = count(s.Get("Hardware Errors"))
	o.BestShare = count(s.Get("Best Share"))
	return s
}

// maxUptime is beyond what a program ran for; larger numbers are epoch seconds of a firmware that confuses
// the two.
const maxUptime = 20 * 365 * 24 * time.Hour

func (p *poll) setUptime(v cgminer.Value) {
	if n, ok := v.Int(); ok && n >= 0 && n <= int64(maxUptime/time.Second) {
		p.obs.Uptime = unit.Some(time.Duration(n) * time.Second)
	}
}

// hashes takes "Total MH" as the counter of hashes done, in MH. It is one on stock Antminer, Whatsminer,
// Avalon and Braiins OS; on LuxOS the field holds the average rate. So that a firmware nobody has seen is not
// believed, the counter must agree with average rate times uptime within 5 %.
func (p *poll) hashes(s cgminer.Value) {
	const within = 0.05
	id := &p.r.id
	if id.averageTotal || !id.scale.sha256() || id.mhs != labelScale(unit.MegahashPerSecond) {
		return
	}
	total, ok := s.Get("Total MH").Int()
	if !ok || total < 0 {
		return
	}
	avg, known := p.rates.avg.Get()
	up, started := p.obs.Uptime.Get()
	if !known || !started {
		return
	}
	// A program that has just started has too little of either to compare; an average rate would be
	// taken for a counter during its first second only.
	expect := float64(avg) / 1e6 * up.Seconds()
	if math.Abs(float64(total)-expect) > within*expect+float64(avg)/1e6*2 || up < 3*time.Second && total > 0 {
		return
	}
	p.obs.Hashes = unit.Some(total)
}

// decodePools reads the POOLS section, or the sections POOL0, POOL1, … of old Innosilicon firmware.
func (p *poll) decodePools() {
	part := p.parts[cmdPools]
	section := part.Section("POOLS")
	o := &p.obs
	if n := min(section.Len(), telemetry.MaxPools); n > 0 {
		o.Pools = make([]telemetry.Pool, 0, n)
	}
	var stratum [telemetry.MaxPools]stratum
	if section.Exists() {
		for v := range section.All() {
			p.addPool(v, &stratum)
		}
	} else {
		for m := range part.Value.All() {
			if key := m.Key(); strings.HasPrefix(key, "POOL") && m.Kind() == cgminer.Array {
				p.addPool(m.Index(0), &stratum)
			}
		}
	}
	// Several pools can have a live stratum connection; the work comes from the first by priority, in
	// each group where there are groups.
	for i := range o.Pools {
		a := &stratum[i]
		if !a.known {
			continue
		}
		active := a.active && o.Pools[i].Alive.Or(true)
		for j := range o.Pools {
			b := &stratum[j]
			if active && j != i && b.active && o.Pools[j].Alive.Or(true) && b.group == a.group &&
				(b.priority < a.priority || b.priority == a.priority && j < i) {
				active = false
			}
		}
		o.Pools[i].Active = unit.Some(active)
	}
}

type stratum struct {
	known, active   bool
	priority, group int64
}

func (p *poll) addPool(v cgminer.Value, strata *[telemetry.MaxPools]stratum) {
	o := &p.obs
	url := v.Get("URL").Text()
	if url == "" || len(o.Pools) == telemetry.MaxPools {
		return
	}
	s := &strata[len(o.Pools)]
	s.active, s.known = v.Get("Stratum Active").Bool()
	s.priority, _ = v.Get("Priority").Int()
	s.group, _ = v.Get("GROUP").Int()
	pool := telemetry.Pool{
		URL:          p.r.keep(withoutScheme(url)),
		Worker:       p.r.keep(v.Get("User").Text()),
		Priority:     optInt32(v.Get("Priority")),
		Accepted:     count(v.Get("Accepted")),
		Rejected:     count(v.Get("Rejected")),
		Stale:        count(v.Get("Stale")),
		DiffAccepted: count(v.Get("Difficulty Accepted")),
	}
	if v.Get("GROUP").Exists() {
		pool.Group = optInt32(v.Get("GROUP"))
	}
	if status := v.Get("Status").Text(); status != "" {
		pool.Alive = unit.Some(status == "Alive") // "Dead", and "Deed" on the S19
		pool.Enabled = unit.Some(status != "Disabled" && status != "Rejecting")
	}
	if feePool(s.priority, url, pool.Worker) {
		pool.Fee = unit.Some(true)
	}
	o.Pools = append(o.Pools, pool)
}

// feePool reports whether third-party firmware added this pool for its own fee: it puts it behind all pools that
// an operator could add, or calls it so.
func feePool(priority int64, url, worker string) bool {
	const name = "devfee"
	named := func(s string) bool { return len(s) >= len(name) && strings.EqualFold(s[:len(name)], name) }
	return priority == 9998 || priority == 9999 || named(url) || named(worker)
}

// withoutScheme drops "stratum+tcp://" and, should somebody have written one there, a password.
func withoutScheme(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		url = rest
	}
	host, _, _ := strings.Cut(url, "/")
	return url[strings.LastIndexByte(host, '@')+1:]
}

// decodeDevs reads boards from a DEVS section, as most dialects but stock Antminer fill it. Whatsminer's
// own fields are read where they stand.
func (p *poll) decodeDevs(c command) bool {
	section := p.parts[c].Section("DEVS")
	n := min(section.Len(), telemetry.MaxBoards)
	if n == 0 {
		return false
	}
	o := &p.obs
	o.Boards = make([]telemetry.Board, 0, n)
	temps := make([]unit.Celsius, 0, 4*n)
	var ideal unit.Hashrate
	for v := range section.All() {
		if len(o.Boards) == n {
			break
		}
		b := telemetry.Board{Index: int32(len(o.Boards))}
		for _, key := range [...]string{"ID", "Slot", "ASC", "PGA", "DEV"} {
			if i, ok := v.Get(key).Int(); ok && i >= 0 && i < 1<<16 {
				b.Index = int32(i)
				break
			}
		}
		var r rates
		r.addFields(v, p.r.id.scale, p.r.id.mhs)
		if b.Hashrate = r.short; !b.Hashrate.Present() {
			b.Hashrate = r.avg
		}
		p.drop(&b.Hashrate)
		if x, ok := v.Get("Nominal MHS").Float(); ok && x > 0 {
			ideal += unit.Hashrate(x) * unit.MegahashPerSecond
		}
		b.HardwareErrors = count(v.Get("Hardware Errors"))
		for _, key := range [...]string{"Chip Frequency", "Frequency"} {
			if x, ok := v.Get(key).Float(); ok && x > 0 && x < maxMHz {
				b.FrequencyMHz = unit.Some(x)
				break
			}
		}
		for _, key := range [...]string{"Effective Chips", "ChipNum"} {
			if b.Chips = chips(v.Get(key)); b.Chips.Present() {
				break
			}
		}
		from := len(temps)
		if t, ok := celsius(v.Get("Temperature")); ok {
			temps = append(temps, t)
			hotter(&o.TempBoard, t)
		}
		for _, key := range [...]string{"Chip Temp Avg", "Chip Temp Max"} {
			if t, ok := celsius(v.Get(key)); ok {
				temps = append(temps, t)
				hotter(&o.TempChip, t)
			}
		}
		b.Temps = temps[from:len(temps):len(temps)]
		switch v.Get("Status").Text() {
		case "Dead", "Sick", "NoStart":
			p.deadBoards++
		}
		o.Boards = append(o.Boards, b)
	}
	if ideal > 0 && !p.rates.ideal.Present() {
		p.rates.ideal = unit.Some(ideal)
	}
	return true
}
