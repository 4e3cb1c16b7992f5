package asic

import (
	"strings"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// leastJoulesPerTerahash is below what any SHA-256 machine sold or announced needs. An uncalibrated Hiveon on an S9 reports
// a hundredth of it.
const leastJoulesPerTerahash = 5

// decodeThirdParty reads VNish, Hiveon and MSKMiner: replacements of Bitmain's firmware on Bitmain's machines, with its
// records, and the power of each board. They add pools of their own for the fee, behind the operator's.
func decodeThirdParty(p *poll) {
	s := p.decodeSummary()
	p.fits = p.decodeAntminerStats() || !p.has(cmdStats)
	if v := p.antminerRecord(); v.Exists() {
		p.readChainPower(v)
	}
	p.decodePools()
	p.hashes(s)
}

// readChainPower reads chain_power1, chain_power2, … and their sum, "chain_power". The sum comes as a number or with a mark behind
// it ("456.78 (AB)"), is missing on some releases, and everything is 0.00 on machines without a meter.
func (p *poll) readChainPower(v cgminer.Value) {
	o := &p.obs
	sum := 0.0
	for i := range o.Boards {
		b := &o.Boards[i]
		if b.Index < 1 || b.Index > maxChains {
			continue
		}
		if x, ok := v.Get(chains[b.Index].power).Float(); ok && x > 0 && x <= maxWatts {
			b.Power = unit.Some(unit.Watts(x))
			sum += x
		}
	}
	text, _, _ := strings.Cut(v.Get("chain_power").Text(), " ")
	if total, ok := cgminer.ParseFloat(text); ok && total > 0 && total <= maxWatts {
		sum = total
	}
	rate, _ := p.rates.short.Get()
	if p.r.id.scale.sha256() && sum < leastJoulesPerTerahash*float64(rate)/1e12 {
		sum = 0
		for i := range o.Boards {
			o.Boards[i].Power = unit.Opt[unit.Watts]{}
		}
	}
	if sum > 0 {
		o.Power = unit.Some(unit.Watts(sum))
	}
}
