package asic

import (
	"strconv"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// maxChains is how many chains an Antminer-like STATS record numbers; the S9 uses 6 to 8.
const maxChains = 16

// chainKeys are the names of one chain's fields.
type chainKeys struct {
	acn, acs, hw, rate, ideal, freq, freqAvg, frequency string
	tempPCB, tempChip, temp, temp2, temp3, xtime, sn    string
	power                                               string
}

var (
	chains       = makeChainKeys()
	fanKeys      = makeFanKeys("fan")
	fanKeysUpper = makeFanKeys("Fan")
)

func makeChainKeys() (keys [maxChains + 1]chainKeys) {
	for i := 1; i <= maxChains; i++ {
		n := strconv.Itoa(i)
		keys[i] = chainKeys{
			acn: "chain_acn" + n, acs: "chain_acs" + n, hw: "chain_hw" + n, rate: "chain_rate" + n,
			ideal: "chain_rateideal" + n, freq: "freq" + n, freqAvg: "freq_avg" + n, frequency: "frequency" + n,
			tempPCB: "temp_pcb" + n, tempChip: "temp_chip" + n, temp: "temp" + n, temp2: "temp2_" + n,
			temp3: "temp3_" + n, xtime: "chain_xtime" + n, sn: "chain_SN" + n,
			power: "chain_power" + n,
		}
	}
	return keys
}

func makeFanKeys(prefix string) (keys [telemetry.MaxFans]string) {
	for i := range keys {
		keys[i] = prefix + strconv.Itoa(i+1)
	}
	return keys
}

// decodeAntminer reads stock Bitmain firmware, S9 to S21, which allows anybody summary, stats and pools.
func decodeAntminer(p *poll) {
	s := p.decodeSummary()
	p.fits = p.decodeAntminerStats() || !p.has(cmdStats)
	p.decodePools()
	// Recorded replies agree with average rate times Elapsed within 0.1 %.
	p.hashes(s)
}

// decodeAntminerStats reads the two STATS records of Bitmain's shape, which third-party firmware on the
// same machines keeps: the first names the machine, the second holds all numbers.
func (p *poll) decodeAntminerStats() bool {
	v := p.antminerRecord()
	if !v.Exists() {
		return false
	}
	p.readAntminerRates(v)
	if !p.obs.Uptime.Present() {
		p.setUptime(v.Get("Elapsed"))
	}
	p.readChains(v)
	p.readFans(v, &fanKeys, v.Get("fan_num"))
	if !p.obs.HardwareErrors.Present() {
		p.obs.HardwareErrors = count(v.Get("no_matching_work"))
	}
	return true
}

// antminerRecord returns the record with the numbers and takes the machine's type from the one before it.
func (p *poll) antminerRecord() cgminer.Value {
	for record := range p.parts[cmdStats].Section("STATS").All() {
		if t := record.Get("Type").Text(); t != "" {
			p.r.id.typed(t)
		}
		if record.Get("miner_count").Exists() || record.Get("chain_acn1").Exists() {
			return record
		}
	}
	return cgminer.Value{}
}

// chainScale is the unit of the record's rates: by the model, or as "rate_unit" says on a model whose labels
// are not known to mean SHA-256.
func (id *identity) chainScale(v cgminer.Value) (labels, nominal labelScale) {
	labels = id.scale
	nominal = labels
	if u, ok := unitOf(v.Get("rate_unit").Text()); ok {
		nominal = labelScale(u)
		if !labels.sha256() {
			labels = nominal
		}
	}
	return labels, nominal
}

func (p *poll) readAntminerRates(v cgminer.Value) {
	labels, nominal := p.r.id.chainScale(v)
	if labels == 0 {
		p.rates = rates{}
		p.addError("hashrate left out: the unit of this model's rates is not known")
		return
	}
	var r rates
	r.addFields(v, labels, p.r.id.mhs)
	if x, ok := v.Get("rate_30m").Float(); ok {
		r.add(unit.Hashrate(x*float64(labels)), 30*time.Minute)
	}
	if x, ok := v.Get("total_rateideal").Float(); ok && x > 0 {
		r.ideal = unit.Some(unit.Hashrate(x * float64(nominal)))
	}
	// The summary's labels lie in the same way as these; where both are given they are the same numbers.
	if r.short.Present() || r.avg.Present() {
		if !r.avg.Present() {
			r.avg = p.rates.avg
		}
		p.rates = r
	} else {
		p.rates.ideal = r.ideal
	}
}

// readChains reads the boards. A chain counts as a board when chips were found on it; when none were found
// anywhere (asleep), those for which the firmware keeps bookkeeping fields, else miner_count of them.
func (p *poll) readChains(v cgminer.Value) {
	var present [maxChains]int
	n := 0
	for i := 1; i <= maxChains; i++ {
		if found, ok := v.Get(chains[i].acn).Int(); ok && found > 0 {
			present[n] = i
			n++
		}
	}
	if n == 0 {
		for i := 1; i <= maxChains; i++ {
			if v.Get(chains[i].xtime).Exists() || v.Get(chains[i].sn).Exists() {
				present[n] = i
				n++
			}
		}
	}
	if n == 0 {
		boards, _ := v.Get("miner_count").Int()
		for ; n < int(min(max(boards, 0), maxChains)); n++ {
			present[n] = n + 1
		}
	}
	if n == 0 {
		return
	}
	labels, nominal := p.r.id.chainScale(v)
	p.obs.Boards = make([]telemetry.Board, 0, n)
	temps := make([]unit.Celsius, 0, n*telemetry.MaxBoardTemps)
	for _, i := range present[:n] {
		k := &chains[i]
		b := telemetry.Board{Index: int32(i), Chips: chips(v.Get(k.acn)), HardwareErrors: count(v.Get(k.hw))}
		if acs := v.Get(k.acs).Text(); acs != "" {
			b.ChipsWorking = unit.Some(workingChips(acs))
		}
		if x, ok := v.Get(k.rate).Float(); ok && labels != 0 {
			b.Hashrate = unit.Some(unit.Hashrate(x * float64(labels)))
			p.drop(&b.Hashrate)
		}
		if x, ok := v.Get(k.ideal).Float(); ok && x > 0 && !p.rates.ideal.Present() && nominal != 0 {
			p.chainIdeal += unit.Hashrate(x * float64(nominal))
		}
		for _, key := range [...]string{k.freqAvg, k.freq, k.frequency, "frequency"} {
			if x, ok := v.Get(key).Float(); ok && x > 0 && x < maxMHz {
				b.FrequencyMHz = unit.Some(x)
				break
			}
		}
		from := len(temps)
		temps = p.chainTemps(v, k, temps)
		b.Temps = temps[from:len(temps):len(temps)]
		p.obs.Boards = append(p.obs.Boards, b)
	}
	if p.chainIdeal > 0 {
		p.rates.ideal = unit.Some(p.chainIdeal)
	}
}

// workingChips counts the "o" of a chain_acs text; "x" is a chip that is dead or does not hash.
func workingChips(acs string) (n int32) {
	for i := range len(acs) {
		if acs[i] == 'o' {
			n++
		}
	}
	return n
}

// chainTemps appends a chain's sensors, those of the board first: the four-sensor texts of newer firmware,
// else the single fields of older.
func (p *poll) chainTemps(v cgminer.Value, k *chainKeys, temps []unit.Celsius) []unit.Celsius {
	o := &p.obs
	from := len(temps)
	pcb, chip := v.Get(k.tempPCB).Text(), v.Get(k.tempChip).Text()
	if pcb == "" && chip == "" {
		if t, ok := celsius(v.Get(k.temp)); ok {
			temps = append(temps, t)
			hotter(&o.TempBoard, t)
		}
		for _, key := range [...]string{k.temp2, k.temp3} {
			if t, ok := celsius(v.Get(key)); ok {
				temps = append(temps, t)
				hotter(&o.TempChip, t)
			}
		}
		return temps
	}
	temps = appendSensors(temps, pcb, &o.TempBoard)
	temps = appendSensors(temps, chip, &o.TempChip)
	return temps[:min(len(temps), from+telemetry.MaxBoardTemps)]
}

// appendSensors reads "22-53-21-50", in which a sensor below zero brings a sign of its own ("2--1-20-22").
func appendSensors(temps []unit.Celsius, s string, hottest *unit.Opt[unit.Celsius]) []unit.Celsius {
	for len(s) > 0 {
		end := 1
		for end < len(s) && s[end] != '-' {
			end++
		}
		if x, ok := cgminer.ParseFloat(s[:end]); ok && plausible(x) {
			temps = append(temps, unit.Celsius(x))
			hotter(hottest, unit.Celsius(x))
		}
		s = s[min(end+1, len(s)):]
	}
	return temps
}

// readFans reads numbered fans. The firmware's own number of fans is not reliable either way; it only
// decides whether a fan that stands still is one.
func (p *poll) readFans(v cgminer.Value, keys *[telemetry.MaxFans]string, number cgminer.Value) {
	var speeds [telemetry.MaxFans]unit.Opt[unit.RPM]
	for i, key := range keys {
		if s, ok := rpm(v.Get(key)); ok {
			speeds[i] = unit.Some(s)
		}
	}
	n, _ := number.Int()
	p.setFans(speeds[:], int(min(max(n, 0), telemetry.MaxFans)))
}
