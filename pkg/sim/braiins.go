package sim

import "strconv"

// Replies of Braiins OS (bosminer, boser): cgminer's subset with keys in alphabetical order and all decimals, boards
// numbered from 6 on an S9 and from 1 on later machines, temperatures and fans in commands of their own.

func (m *miner) firstBoard() int64 {
	if m.spec.name == "braiins-s9" {
		return 6
	}
	return 1
}

func braiinsVersion(p *page, m *miner, _ *reading, _ string) {
	program, version := "BOSer", "boser-openwrt 0.1.0-26ba61b9"
	if m.spec.name == "braiins-s9" {
		program, version = "BOSminer+", "0.2.0-36c56a9363"
	}
	p.status('S', 22, program+" versions")
	p.section("VERSION")
	p.record("VERSION", 0, false)
	p.str("API", "3.7")
	p.str(program, version)
	p.done()
	p.end()
}

func braiinsSummary(p *page, m *miner, v *reading, _ string) {
	p.status('S', 11, "Summary")
	p.section("SUMMARY")
	p.record("SUMMARY", 0, false)
	p.num("Accepted", v.accepted)
	p.key("Best Share")
	p.b = strconv.AppendUint(p.b, v.serial, 10)
	p.float("Device Hardware%", 0.005)
	p.float("Device Rejected%", 0)
	p.float("Difficulty Accepted", float64(v.accepted)*v.shareDiff)
	p.float("Difficulty Rejected", float64(v.rejected)*v.shareDiff)
	p.float("Difficulty Stale", float64(v.stale)*v.shareDiff)
	p.num("Discarded", 0)
	p.num("Elapsed", v.elapsed)
	p.num("Found Blocks", 0)
	p.num("Get Failures", 0)
	p.num("Getworks", v.getworks)
	p.num("Hardware Errors", v.hardware)
	p.num("Last getwork", p.when)
	p.num("Local Work", v.getworks*940)
	p.float("MHS 15m", v.m15/mega)
	p.float("MHS 1m", v.m1/mega)
	p.float("MHS 24h", v.h24/mega)
	p.float("MHS 5m", v.m5/mega)
	p.float("MHS 5s", v.short/mega)
	p.float("MHS av", v.avg/mega)
	p.num("Network Blocks", 0)
	p.float("Pool Rejected%", percent(v.rejected, v))
	p.float("Pool Stale%", percent(v.stale, v))
	p.num("Rejected", v.rejected)
	p.num("Remote Failures", 0)
	p.num("Stale", v.stale)
	p.float("Total MH", v.shownTotal())
	p.float("Utility", perMinute(float64(v.accepted), v.elapsed))
	p.float("Work Utility", perMinute(v.totalMH*mega/diff1, v.elapsed))
	p.done()
	p.end()
}

func braiinsPools(p *page, m *miner, v *reading, _ string) {
	p.status('S', 7, strconv.Itoa(len(m.pools))+" Pool(s)")
	p.section("POOLS")
	for i, pool := range m.pools {
		a, r, s := v.ofPool(i)
		p.record("POOL", i, false)
		p.num("Accepted", a)
		p.yes("AsicBoost", true)
		p.num("Bad Work", 0)
		p.num("Best Share", onFirst(i, int64(v.shareDiff)*977))
		p.num("Current Block Height", 0)
		p.num("Current Block Version", 536870912)
		p.num("Diff1 Shares", a*int64(v.shareDiff))
		p.float("Difficulty Accepted", float64(a)*v.shareDiff)
		p.float("Difficulty Rejected", float64(r)*v.shareDiff)
		p.float("Difficulty Stale", float64(s)*v.shareDiff)
		p.num("Discarded", 0)
		p.num("Get Failures", 0)
		p.num("Getworks", v.getworks)
		p.yes("Has GBT", false)
		p.yes("Has Stratum", true)
		p.yes("Has Vmask", true)
		p.float("Last Share Difficulty", v.shareDiff)
		p.num("Last Share Time", onFirst(i, v.epoch()))
		p.str("Long Poll", "N")
		p.num("POOL", int64(i))
		p.float("Pool Rejected%", float64(onFirst(i, 1))*percent(v.rejected, v))
		p.float("Pool Stale%", float64(onFirst(i, 1))*percent(v.stale, v))
		p.num("Priority", int64(i))
		p.str("Proxy", "")
		p.str("Proxy Type", "")
		p.num("Quota", 1)
		p.num("Rejected", r)
		p.num("Remote Failures", 0)
		p.num("Stale", s)
		p.str("Status", poolStatus(v))
		p.yes("Stratum Active", i == 0 && v.machine != NoPool)
		p.float("Stratum Difficulty", v.shareDiff)
		p.str("Stratum URL", pool.host)
		p.str("URL", pool.url)
		p.str("User", pool.user)
		p.float("Work Difficulty", v.shareDiff)
		p.num("Works", v.getworks*40)
		p.done()
	}
	p.end()
}

func braiinsDevs(p *page, m *miner, v *reading, _ string) {
	n := m.spec.boards
	p.status('S', 9, strconv.Itoa(n)+" ASC(s)")
	p.section("DEVS")
	for i := range n {
		share := m.boardShare[i]
		p.record("ASC", i, true)
		p.num("Accepted", v.accepted/int64(n))
		p.num("Device Elapsed", v.elapsed)
		p.float("Device Hardware%", 0.005)
		p.float("Device Rejected%", 0)
		p.num("Diff1 Work", int64(share*v.totalMH*mega/diff1))
		p.float("Difficulty Accepted", float64(v.accepted/int64(n))*v.shareDiff)
		p.float("Difficulty Rejected", 0)
		p.str("Enabled", "Y")
		p.float("Hardware Error MHS 15m", 0)
		p.num("Hardware Errors", v.hardware/int64(n))
		p.num("ID", m.firstBoard()+int64(i))
		p.float("Last Share Difficulty", v.shareDiff)
		p.num("Last Share Pool", -1)
		p.num("Last Share Time", v.epoch())
		p.num("Last Valid Work", v.epoch())
		p.float("MHS 15m", share*v.m15/mega)
		p.float("MHS 1m", share*v.m1/mega)
		p.float("MHS 5m", share*v.m5/mega)
		p.float("MHS 5s", share*v.short/mega)
		p.float("MHS av", share*v.avg/mega)
		p.str("Name", "")
		p.float("Nominal MHS", m.ideal/float64(n)/mega)
		p.num("Rejected", v.rejected/int64(n))
		p.str("Status", "Alive")
		p.float("Temperature", 0)
		p.float("Total MH", share*v.shownTotal())
		p.float("Utility", 0)
		p.done()
	}
	p.end()
}

func braiinsTemps(p *page, m *miner, v *reading, _ string) {
	p.status('S', 201, strconv.Itoa(m.spec.boards)+" Temp(s)")
	p.section("TEMPS")
	for i := range m.spec.boards {
		p.record("TEMP", i, false)
		p.float("Board", v.boardTemp[i])
		p.float("Chip", v.chipTemp[i])
		p.num("ID", m.firstBoard()+int64(i))
		p.num("TEMP", int64(i))
		p.done()
	}
	p.end()
}

func braiinsFans(p *page, m *miner, v *reading, _ string) {
	p.status('S', 202, "4 Fan(s)")
	p.section("FANS")
	for i := range 4 {
		p.record("FAN", i, true)
		p.num("ID", int64(i))
		p.num("RPM", onBoard(i, m.spec.fans, v.fan[i]))
		p.num("Speed", v.fanPercent())
		p.done()
	}
	p.end()
}

func braiinsDetails(p *page, m *miner, _ *reading, _ string) {
	p.status('S', 69, "Device Details")
	p.section("DEVDETAILS")
	for i := range m.spec.boards {
		p.record("DEVDETAILS", i, true)
		p.num("Chips", int64(m.spec.chips))
		p.num("Cores", int64(m.spec.chips*114))
		p.str("Driver", "")
		p.num("Frequency", m.frequency)
		p.num("ID", m.firstBoard()+int64(i))
		p.str("Kernel", "")
		p.str("Model", m.spec.model)
		p.str("Name", "")
		p.float("Voltage", 12.8)
		p.done()
	}
	p.end()
}

func braiinsTuner(p *page, m *miner, v *reading, _ string) {
	p.status('S', 315, "Tuner Status")
	p.section("TUNERSTATUS")
	p.record("TUNERSTATUS", 0, false)
	p.num("ApproximateChainPowerConsumption", int64(v.watts)-80)
	p.num("ApproximateMinerPowerConsumption", int64(v.watts))
	p.num("DynamicPowerScaling", 0)
	p.num("PowerLimit", int64(m.spec.watts))
	p.done()
	p.end()
}
