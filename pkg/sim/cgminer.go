package sim

import "strconv"

// Replies of plain cgminer, and the pieces that its descendants share.

// program splits a Description such as "cgminer 4.11.1" for version.
func cgminerVersion(p *page, _ *miner, _ *reading, _ string) {
	p.status('S', 22, "CGMiner versions")
	p.section("VERSION")
	p.record("VERSION", 0, false)
	p.str("CGMiner", "4.11.1")
	p.str("API", "3.7")
	p.done()
	p.end()
}

func cgminerSummary(p *page, m *miner, v *reading, _ string) {
	p.status('S', 11, "Summary")
	p.section("SUMMARY")
	p.record("SUMMARY", 0, false)
	p.num("Elapsed", v.elapsed)
	p.rates("MHS 5s", v)
	p.tally(v, "Getworks")
	p.done()
	p.end()
}

// rates writes the hash rates in MH/s; the shortest is called after the log interval.
func (p *page) rates(short string, v *reading) {
	p.fix("MHS av", v.avg/mega, 2)
	p.fix(short, v.short/mega, 2)
	p.fix("MHS 1m", v.m1/mega, 2)
	p.fix("MHS 5m", v.m5/mega, 2)
	p.fix("MHS 15m", v.m15/mega, 2)
}

// tally writes cgminer's counters of a summary, the serial number among them as Best Share.
func (p *page) tally(v *reading, getworks string) {
	p.num("Found Blocks", 0)
	p.num(getworks, v.getworks)
	p.num("Accepted", v.accepted)
	p.num("Rejected", v.rejected)
	p.num("Hardware Errors", v.hardware)
	p.fix("Utility", perMinute(float64(v.accepted), v.elapsed), 2)
	p.num("Discarded", v.getworks*71)
	p.num("Stale", v.stale)
	p.num("Get Failures", 0)
	p.num("Local Work", v.getworks*940)
	p.num("Remote Failures", 0)
	p.num("Network Blocks", v.elapsed/600)
	p.fix("Total MH", v.shownTotal(), 4)
	p.fix("Work Utility", perMinute(v.totalMH*mega/diff1, v.elapsed), 2)
	p.fix("Difficulty Accepted", float64(v.accepted)*v.shareDiff, 8)
	p.fix("Difficulty Rejected", float64(v.rejected)*v.shareDiff, 8)
	p.fix("Difficulty Stale", float64(v.stale)*v.shareDiff, 8)
	p.key("Best Share")
	p.b = strconv.AppendUint(p.b, v.serial, 10)
	p.fix("Device Hardware%", 0.005, 4)
	p.fix("Device Rejected%", 0.3333, 4)
	p.fix("Pool Rejected%", percent(v.rejected, v), 4)
	p.fix("Pool Stale%", percent(v.stale, v), 4)
	p.num("Last getwork", p.when)
}

func perMinute(n float64, elapsed int64) float64 {
	if elapsed <= 0 {
		return 0
	}
	return n * 60 / float64(elapsed)
}

func percent(part int64, v *reading) float64 {
	all := v.accepted + v.rejected + v.stale
	if all == 0 {
		return 0
	}
	return 100 * float64(part) / float64(all)
}

// poolStatus is what the firmware says of a pool that works, or of every pool when none does.
func poolStatus(v *reading) string {
	if v.machine == NoPool {
		return "Dead"
	}
	return "Alive"
}

// epoch is the time of the last share in epoch seconds, 0 for never.
func (v *reading) epoch() int64 {
	if v.lastShare.IsZero() {
		return 0
	}
	return v.lastShare.Unix()
}

func cgminerPools(p *page, m *miner, v *reading, _ string) {
	p.status('S', 7, strconv.Itoa(len(m.pools))+" Pool(s)")
	p.section("POOLS")
	for i, pool := range m.pools {
		a, r, s := v.ofPool(i)
		p.record("POOL", i, true)
		p.str("URL", pool.url)
		p.str("Status", poolStatus(v))
		p.num("Priority", int64(i))
		p.num("Quota", 1)
		p.str("Long Poll", "N")
		p.num("Getworks", v.getworks)
		p.num("Accepted", a)
		p.num("Rejected", r)
		p.num("Works", v.getworks*40)
		p.num("Discarded", v.getworks*71)
		p.num("Stale", s)
		p.num("Get Failures", 0)
		p.num("Remote Failures", 0)
		p.str("User", pool.user)
		p.num("Last Share Time", onFirst(i, v.epoch()))
		p.num("Diff1 Shares", a*int64(v.shareDiff))
		p.str("Proxy Type", "")
		p.str("Proxy", "")
		p.poolDifficulty(v, a, r, s)
		p.yes("Has Stratum", true)
		p.yes("Stratum Active", i == 0 && v.machine != NoPool)
		p.str("Stratum URL", pool.host)
		p.fix("Stratum Difficulty", v.shareDiff, 8)
		p.yes("Has GBT", false)
		p.num("Best Share", onFirst(i, int64(v.shareDiff)*977))
		p.fix("Pool Rejected%", float64(onFirst(i, 1))*percent(v.rejected, v), 4)
		p.fix("Pool Stale%", float64(onFirst(i, 1))*percent(v.stale, v), 4)
		p.done()
	}
	p.end()
}

func (p *page) poolDifficulty(v *reading, a, r, s int64) {
	p.fix("Difficulty Accepted", float64(a)*v.shareDiff, 8)
	p.fix("Difficulty Rejected", float64(r)*v.shareDiff, 8)
	p.fix("Difficulty Stale", float64(s)*v.shareDiff, 8)
	p.fix("Last Share Difficulty", v.shareDiff, 8)
}

// ofPool is the share counts of pool i: all work goes to the first.
func (v *reading) ofPool(i int) (accepted, rejected, stale int64) {
	if i > 0 {
		return 0, 0, 0
	}
	return v.accepted, v.rejected, v.stale
}

func onFirst(i int, v int64) int64 {
	if i > 0 {
		return 0
	}
	return v
}

// cgminerDevs lists the boards as devices.
func cgminerDevs(p *page, m *miner, v *reading, _ string) {
	n := m.spec.boards
	p.status('S', 9, strconv.Itoa(n)+" ASC(s)")
	p.section("DEVS")
	for i := range n {
		share := m.boardShare[i]
		p.record("ASC", i, true)
		p.str("Name", m.deviceName())
		p.num("ID", int64(i))
		p.str("Enabled", "Y")
		p.str("Status", "Alive")
		p.fix("Temperature", v.boardTemp[i], 2)
		p.fix("MHS av", share*v.avg/mega, 2)
		p.fix("MHS 5s", share*v.short/mega, 2)
		p.fix("MHS 1m", share*v.m1/mega, 2)
		p.fix("MHS 5m", share*v.m5/mega, 2)
		p.fix("MHS 15m", share*v.m15/mega, 2)
		p.num("Accepted", v.accepted/int64(n))
		p.num("Rejected", v.rejected/int64(n))
		p.num("Hardware Errors", v.hardware/int64(n))
		p.fix("Utility", perMinute(float64(v.accepted/int64(n)), v.elapsed), 2)
		p.num("Last Share Pool", 0)
		p.num("Last Share Time", v.epoch())
		p.fix("Total MH", share*v.shownTotal(), 4)
		p.fix("Diff1 Work", share*v.totalMH*mega/diff1, 8)
		p.fix("Difficulty Accepted", float64(v.accepted/int64(n))*v.shareDiff, 8)
		p.fix("Difficulty Rejected", float64(v.rejected/int64(n))*v.shareDiff, 8)
		p.fix("Last Share Difficulty", v.shareDiff, 8)
		p.num("Last Valid Work", v.epoch())
		p.fix("Device Hardware%", 0.005, 4)
		p.fix("Device Rejected%", 0.3333, 4)
		p.num("Device Elapsed", v.elapsed)
		p.done()
	}
	p.end()
}

// deviceName is the short driver name under DEVS.
func (m *miner) deviceName() string {
	switch m.spec.family {
	case "antminer":
		return "BTM"
	case "avalon":
		return "AV" + m.spec.model[:2]
	case "avalon-home":
		return "AVALON"
	default:
		return "SIM"
	}
}

func cgminerStats(p *page, m *miner, v *reading, _ string) {
	p.status('S', 70, "CGMiner stats")
	p.section("STATS")
	for i := range m.spec.boards {
		p.record("STATS", i, true)
		p.str("ID", "SIM"+strconv.Itoa(i))
		p.spent(v)
		p.done()
	}
	p.poolStats(m, v, m.spec.boards)
	p.end()
}

// spent writes the members that every STATS record begins with.
func (p *page) spent(v *reading) {
	p.num("Elapsed", v.elapsed)
	p.num("Calls", 0)
	p.fix("Wait", 0, 6)
	p.fix("Max", 0, 6)
	p.fix("Min", 99999999, 6)
}

// poolStats writes the POOLn records at the end of cgminer's stats.
func (p *page) poolStats(m *miner, v *reading, first int) {
	for i := range m.pools {
		p.record("STATS", first+i, true)
		p.str("ID", "POOL"+strconv.Itoa(i))
		p.spent(v)
		p.num("Pool Calls", 0)
		p.fix("Work Diff", v.shareDiff, 8)
		p.num("Times Sent", onFirst(i, v.accepted))
		p.num("Bytes Sent", onFirst(i, v.accepted*160))
		p.num("Times Recv", onFirst(i, v.accepted+v.getworks))
		p.num("Bytes Recv", onFirst(i, v.accepted*60+v.getworks*900))
		p.done()
	}
}

func cgminerDetails(p *page, m *miner, _ *reading, _ string) {
	p.status('S', 69, "Device Details")
	p.section("DEVDETAILS")
	for i := range m.spec.boards {
		p.record("DEVDETAILS", i, true)
		p.str("Name", m.deviceName())
		p.num("ID", int64(i))
		p.str("Driver", "icarus")
		p.str("Kernel", "")
		p.str("Model", "")
		p.str("Device Path", "")
		p.done()
	}
	p.end()
}

func cgminerConfig(p *page, m *miner, _ *reading, _ string) {
	p.status('S', 33, "CGMiner config")
	p.section("CONFIG")
	p.record("CONFIG", 0, false)
	p.num("ASC Count", int64(m.spec.boards))
	p.num("PGA Count", 0)
	p.num("Pool Count", int64(len(m.pools)))
	p.str("Strategy", "Failover")
	p.num("Log Interval", 5)
	p.str("Device Code", m.deviceName())
	p.str("OS", "Linux")
	p.str("Hotplug", "None")
	p.done()
	p.end()
}

func cgminerCoin(p *page, _ *miner, v *reading, _ string) {
	p.status('S', 78, "CGMiner coin")
	p.section("COIN")
	p.record("COIN", 0, false)
	p.str("Hash Method", "sha256")
	p.fix("Current Block Time", float64(v.elapsed/600*600), 6)
	p.str("Current Block Hash", "")
	p.yes("LP", true)
	p.fix("Network Difficulty", 126271255279306.98, 8)
	p.done()
	p.end()
}

func cgminerCount(p *page, m *miner, _ *reading, _ string) {
	p.status('S', 104, "ASC count")
	p.section("ASCS")
	p.record("ASCS", 0, false)
	p.num("Count", int64(m.spec.boards))
	p.done()
	p.end()
}

func cgminerCheck(p *page, m *miner, _ *reading, param string) {
	if param == "" {
		p.status('E', 71, "Missing check cmd")
		p.bare()
		return
	}
	yn := func(b bool) string {
		if b {
			return "Y"
		}
		return "N"
	}
	known := m.spec.commands[param] != nil
	p.status('S', 72, "Check command")
	p.section("CHECK")
	p.record("COMMAND", 0, false)
	p.str("Exists", yn(known || m.spec.denied[param]))
	p.str("Access", yn(known))
	p.done()
	p.end()
}
