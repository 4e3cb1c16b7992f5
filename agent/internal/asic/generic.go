package asic

import "github.com/hashinsight/hashinsight/agent/internal/cgminer"

// decodeGeneric reads what every cgminer dialect has in common, and the shapes that third-party firmware
// borrowed from stock Antminer: rates, uptime, counters, pools, boards and temperatures.
func decodeGeneric(p *poll) {
	s := p.decodeSummary()
	antminer := p.decodeAntminerStats()
	devs := !antminer && p.decodeDevs(cmdDevs)
	p.decodePools()
	p.decodeNumberedFans(s)
	p.hashes(s, 0.05)
	p.fits = s.Exists() || antminer || devs
}

// decodeNumberedFans reads "Fan1", "Fan2", … of the SUMMARY record, as StrongU writes them.
func (p *poll) decodeNumberedFans(s cgminer.Value) {
	if !s.Exists() || len(p.obs.Fans) > 0 {
		return
	}
	p.readFans(s, &fanKeysUpper, s.Get("Fan Num"))
}
