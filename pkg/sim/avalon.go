package sim

import "strconv"

// Replies of Avalon machines: everything of interest packed in one string of Key[value] groups, as one block per
// machine (10xx, 12xx) or in the Home series' own two strings.

// avalonNames is what a model says of itself in version.
type avalonNames struct{ prod, hwtype, swtype, version string }

func avalonOf(s *spec) avalonNames {
	switch s.name {
	case "avalon-1066":
		return avalonNames{"AvalonMiner 1066-50", "MM3v2_X3", "MM313", "20011301_4ec6bb0_91c1c5b"}
	case "avalon-q":
		return avalonNames{"Avalon Q", "Q_MM1v1_X1", "MM319", "25052801_14a19a2"}
	default:
		return avalonNames{"AvalonMiner 1246-90", "MM4v1_X3", "MM317", "21042001_4ec6bb0_61407fa"}
	}
}

func avalonVersion(p *page, m *miner, _ *reading, _ string) {
	n := avalonOf(m.spec)
	p.status('S', 22, "CGMiner versions")
	p.section("VERSION")
	p.record("VERSION", 0, false)
	p.str("CGMiner", "4.11.1")
	p.str("API", "3.7")
	p.str("PROD", n.prod)
	p.str("MODEL", m.spec.model)
	p.str("HWTYPE", n.hwtype)
	p.str("SWTYPE", n.swtype)
	if m.spec.family == "avalon-home" {
		p.str("LVERSION", n.version)
		p.str("BVERSION", n.version)
		p.str("CGVERSION", n.version)
	} else {
		p.str("VERSION", n.version)
		p.str("LOADER", "d0d779de.00")
	}
	p.str("DNA", m.dna[:16])
	p.str("MAC", m.mac)
	p.str("UPAPI", "2")
	p.done()
	p.end()
}

func avalonSummary(p *page, m *miner, v *reading, _ string) {
	p.status('S', 11, "Summary")
	p.section("SUMMARY")
	p.record("SUMMARY", 0, false)
	p.num("Elapsed", v.elapsed)
	p.rates("MHS 30s", v)
	p.tally(v, "Getworks")
	p.done()
	p.end()
}

// group writes one Key[value] with a blank before it.
func (p *page) group(key, val string) {
	p.groupOpen(key)
	p.chars(val)
	p.b = append(p.b, ']')
}

func (p *page) groupOpen(key string) {
	p.b = append(p.b, ' ')
	p.b = append(p.b, key...)
	p.b = append(p.b, '[')
}

func (p *page) groupInt(key string, v ...int64) {
	p.groupOpen(key)
	for i, n := range v {
		if i > 0 {
			p.b = append(p.b, ' ')
		}
		p.b = strconv.AppendInt(p.b, n, 10)
	}
	p.b = append(p.b, ']')
}

func (p *page) groupFix(key string, v ...float64) {
	p.groupOpen(key)
	for i, n := range v {
		if i > 0 {
			p.b = append(p.b, ' ')
		}
		p.b = strconv.AppendFloat(p.b, n, 'f', 2, 64)
	}
	p.b = append(p.b, ']')
}

// groupChips writes one number per chip, around mid.
func (p *page) groupChips(key string, n int, mid int64) {
	p.groupOpen(key)
	for i := range n {
		p.b = append(p.b, ' ')
		p.b = strconv.AppendInt(p.b, mid-int64(mix64(uint64(i))%4), 10)
	}
	p.b = append(p.b, ']')
}

func avalonStats(p *page, m *miner, v *reading, _ string) {
	s, n := m.spec, m.spec.boards
	newer := s.name == "avalon-1246"
	p.status('S', 70, "CGMiner stats")
	p.section("STATS")
	p.record("STATS", 0, true)
	p.str("ID", "AVA"+s.model[:2]+"0")
	p.spent(v)
	p.key("MM ID0")
	p.quote()
	p.b = append(p.b, "Ver["...)
	p.b = append(p.b, s.model...)
	p.b = append(p.b, '-')
	p.b = append(p.b, avalonOf(s).version...)
	p.b = append(p.b, ']')
	p.group("DNA", m.dna[:16])
	p.group("MEMFREE", "1413136.0")
	p.groupInt("NETFAIL", 0, 0, 0, 0, 0, 0, 0, 0)
	p.group("SYSTEMSTATU", avalonState(v)+", Hash Board: "+strconv.Itoa(n)+" ")
	p.groupInt("Elapsed", v.elapsed+2)
	p.group("BOOTBY", "0x0C.00000001")
	p.groupInt("LW", v.getworks*940)
	p.groupInt("MH", 0, 0, 0)
	p.groupInt("HW", v.hardware)
	p.group("DH", "1.118%")
	p.groupInt("Temp", int64(v.inlet))
	p.groupInt("TMax", int64(max(v.chipTemp[0], v.chipTemp[1], v.chipTemp[2])))
	p.groupInt("TAvg", int64(v.chipTemp[1])-6)
	for i := range s.fans {
		p.groupInt("Fan"+strconv.Itoa(i+1), v.fan[i])
	}
	p.group("FanR", strconv.FormatInt(v.fanPercent(), 10)+"%")
	p.groupInt("Vo", 0)
	if newer {
		w := int64(v.watts)
		p.groupInt("PS", 0, 1215, 1290, w/13, w-w/14, 1290, w)
	} else {
		p.groupInt("PS", 0, 0, 0, 0, 0, 0)
	}
	if newer {
		p.groupFix("GHSspd", v.short/giga)
	}
	p.groupFix("GHSmm", m.ideal/giga)
	p.groupFix("GHSavg", v.avg/giga)
	p.groupFix("WU", perMinute(v.totalMH*mega/diff1, v.elapsed))
	p.groupFix("Freq", float64(m.frequency))
	p.groupInt("Led", 0)
	p.groupFix("MGHS", perBoard(m, v.avg/giga)...)
	p.groupInt("MTmax", ints(v.chipTemp[:n])...)
	p.groupInt("MTavg", ints(v.boardTemp[:n])...)
	p.groupInt("TA", int64(n*s.chips))
	p.groupInt("PING", 17)
	p.groupInt("ECHU", 0, 0, 0)
	p.groupInt("ECMM", 0)
	for i := range n {
		p.groupChips("PVT_T"+strconv.Itoa(i), s.chips, int64(v.chipTemp[i]))
	}
	for i := range n {
		p.groupChips("MW"+strconv.Itoa(i), s.chips, 4+v.accepted%90)
	}
	p.groupInt("CRC", 0, 0, 0)
	p.group("POW_I2C", "OK")
	p.groupInt("ADJ", 1)
	p.groupInt("MPO", int64(s.watts)+100)
	p.groupInt("WORKMODE", 1)
	p.quote()
	p.num("MM Count", 1)
	p.num("Smart Speed", 1)
	p.num("Voltage Level Offset", 0)
	p.num("Nonce Mask", 25)
	p.done()
	p.poolStats(m, v, 1)
	p.end()
}

// avalonState is what the block says the machine is doing.
func avalonState(v *reading) string {
	if v.hashing() {
		return "Work: In Work"
	}
	return "Work: In Idle"
}

func perBoard(m *miner, total float64) []float64 {
	out := make([]float64, m.spec.boards)
	for i := range out {
		out[i] = m.boardShare[i] * total
	}
	return out
}

func ints(t []float64) []int64 {
	out := make([]int64, len(t))
	for i, v := range t {
		out[i] = int64(v)
	}
	return out
}

func homeStats(p *page, m *miner, v *reading, _ string) {
	p.status('S', 70, "CGMiner stats")
	p.section("STATS")
	p.record("STATS", 0, true)
	p.str("ID", "AVALON0")
	p.spent(v)
	p.homeBlock(m, v)
	p.key("HBinfo")
	p.quote()
	p.b = append(p.b, "'HB0':{"...)
	mark := len(p.b)
	p.groupChips("PVT_T0", m.spec.chips, int64(v.chipTemp[0]))
	p.groupChips("PVT_V0", m.spec.chips, 278)
	p.groupChips("MW0", m.spec.chips, 600)
	p.b = append(p.b[:mark], p.b[mark+1:]...) // no blank after the brace
	p.b = append(p.b, '}')
	p.quote()
	p.done()
	p.poolStats(m, v, 1)
	p.end()
}

func homeLiteStats(p *page, m *miner, v *reading, _ string) {
	p.status('S', 70, "CGMiner stats")
	p.section("STATS")
	p.record("STATS", 0, false)
	p.homeBlock(m, v)
	p.done()
	p.end()
}

func (p *page) homeBlock(m *miner, v *reading) {
	ver := avalonOf(m.spec).version
	p.key("MM ID0:Summary")
	p.quote()
	p.b = append(p.b, "'STATS':{Ver[Q-"...)
	p.b = append(p.b, ver...)
	p.b = append(p.b, ']')
	p.group("LVer", ver)
	p.group("BVer", ver)
	p.group("HashMcu0Ver", "Q_hb_v1.1")
	p.group("FanMcuVer", "Q_fb_v1.2")
	p.group("CPU", "K230")
	p.group("FW", "Release")
	p.group("DNA", m.dna)
	state, off := int64(1), int64(0)
	if v.machine == Sleeping {
		state, off = 2, 4
	}
	p.groupInt("STATE", state)
	p.groupInt("MEMFREE", 67896)
	p.groupInt("NETFAIL", 0, 0, 0, 0, 0, 0, 0, 0)
	p.group("SYSTEMSTATU", avalonState(v)+", Hash Board: 1")
	p.groupInt("Elapsed", v.elapsed+106)
	p.group("BOOTBY", "0x01.00000000")
	p.groupInt("LW", v.getworks*940)
	p.groupInt("MH", 0)
	p.groupInt("DHW", 0)
	p.groupInt("HW", v.hardware)
	p.group("DH", "2.449%")
	p.groupInt("ITemp", int64(v.inlet))
	p.groupInt("HBITemp", int64(v.boardTemp[0])-6)
	p.groupInt("HBOTemp", int64(v.boardTemp[0]))
	p.groupInt("TMax", int64(v.chipTemp[0]))
	p.groupInt("TAvg", int64(v.chipTemp[0])-4)
	p.groupInt("TarT", 65)
	for i := range m.spec.fans {
		p.groupInt("Fan"+strconv.Itoa(i+1), v.fan[i])
	}
	p.group("FanR", strconv.FormatInt(v.fanPercent(), 10)+"%")
	p.groupInt("FanErr", 0)
	p.groupInt("SoloAllowed", 1)
	w := int64(v.watts)
	p.groupInt("PS", 0, 1221, 2234, w/22, w, 2245, w+146)
	p.groupFix("GHSspd", v.short/giga)
	p.group("DHspd", "0.000%")
	p.groupFix("GHSmm", m.ideal/giga)
	p.groupFix("GHSavg", v.avg/giga)
	p.groupFix("WU", perMinute(v.totalMH*mega/diff1, v.elapsed))
	p.groupFix("Freq", float64(m.frequency))
	p.groupFix("MGHS", v.avg/giga)
	p.groupInt("TA", int64(m.spec.chips))
	p.group("Core", "A3197S")
	p.groupInt("BIN", 36)
	p.groupInt("PING", 17)
	p.groupInt("SoftOFF", off)
	p.groupInt("ECHU", 0)
	p.groupInt("ECMM", 0)
	p.groupInt("CRC", 0)
	p.groupInt("WORKMODE", 0)
	p.groupInt("WORKLEVEL", 0)
	p.groupInt("MPO", int64(m.spec.watts))
	p.groupInt("ADJ", 1)
	p.b = append(p.b, '}')
	p.quote()
}
