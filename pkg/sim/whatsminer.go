package sim

import "strconv"

// Replies of Whatsminers (btminer, API 1 and 2 on port 4028). A sleeping one answers only status.

func whatsminerVersion(p *page, m *miner, _ *reading, _ string) {
	p.flat('S', 131)
	if p.text {
		p.str("Msg", whatsminerFirmware(m.spec))
		p.done()
		return
	}
	p.key("Msg")
	p.open("")
	p.str("api_ver", "2.0.5")
	p.str("fw_ver", whatsminerFirmware(m.spec))
	p.str("platform", "H6OS")
	p.str("chip", "CHIP_HP3D04")
	p.done()
	p.done()
}

func whatsminerFirmware(s *spec) string {
	if s.name == "whatsminer-m50" {
		return "20230911.12.REL"
	}
	return "20210322.22.REL"
}

func whatsminerStatus(p *page, m *miner, v *reading, _ string) {
	off := "false"
	if v.machine == Sleeping {
		off = "true"
	}
	p.flat('S', 131)
	if p.text {
		p.str("Msg", "btmineroff "+off)
		p.done()
		return
	}
	p.key("Msg")
	p.open("")
	p.str("btmineroff", off)
	p.str("Firmware Version", "'"+whatsminerFirmware(m.spec)+"'")
	p.str("power_mode", "Normal")
	p.done()
	p.done()
}

func whatsminerPSU(p *page, m *miner, _ *reading, _ string) {
	p.flat('S', 131)
	if p.text {
		p.str("Msg", "P221B")
		p.done()
		return
	}
	p.key("Msg")
	p.open("")
	p.str("name", "P221B")
	p.str("hw_version", "V01.00")
	p.str("sw_version", "V01.00.V01.03")
	p.str("model", "P221B")
	p.str("serial_no", "G"+m.dna[:12])
	p.done()
	p.done()
}

func whatsminerSummary(p *page, m *miner, v *reading, _ string) {
	p.status('S', 11, "Summary")
	p.section("SUMMARY")
	p.record("SUMMARY", 0, false)
	p.num("Elapsed", v.elapsed)
	p.rates("MHS 5s", v)
	p.fix("HS RT", v.m1/mega, 2)
	p.tally(v, "Getworks")
	p.fix("Temperature", max(v.boardTemp[0], v.boardTemp[1], v.boardTemp[2]), 2)
	p.num("freq_avg", m.frequency)
	p.num("Fan Speed In", v.fan[0])
	p.num("Fan Speed Out", v.fan[1])
	p.num("Voltage", 1300)
	p.num("Power", int64(v.watts))
	p.num("Power_RT", int64(v.watts)-6)
	p.fix("Power Rate", perTera(v.watts, v.m1), 2)
	p.num("Uptime", v.elapsed+487)
	p.num("Power Current", int64(v.watts/13.5))
	p.num("Power Fanspeed", 8784)
	if v.machine == Overheated {
		p.num("Error Code 0", 600)
		p.num("Error Code Count", 1)
	} else {
		p.num("Error Code Count", 0)
	}
	p.num("Factory Error Code Count", 0)
	p.num("Security Mode", 0)
	p.yes("Liquid Cooling", false)
	p.yes("Hash Stable", v.hashing())
	p.num("Hash Stable Cost Seconds", 1498)
	p.fix("Hash Deviation%", 0, 4)
	p.num("Target Freq", m.frequency)
	p.num("Target MHS", int64(m.ideal/mega))
	p.fix("Env Temp", v.inlet, 2)
	p.str("Power Mode", "Normal")
	p.str("Firmware Version", "'"+whatsminerFirmware(m.spec)+"'")
	p.str("CB Platform", "ALLWINNER_H6")
	p.str("CB Version", "V10")
	p.str("MAC", m.mac)
	p.num("Factory GHS", int64(m.ideal/giga))
	p.num("Power Limit", int64(m.spec.watts)+200)
	p.fix("Chip Temp Min", v.chipTemp[0]-12, 2)
	p.fix("Chip Temp Max", max(v.chipTemp[0], v.chipTemp[1], v.chipTemp[2]), 2)
	p.fix("Chip Temp Avg", v.chipTemp[1]-5, 2)
	p.done()
	p.end()
}

// perTera is W per TH/s, which is J per TH.
func perTera(watts, rate float64) float64 {
	if rate <= 0 {
		return 0
	}
	return watts / (rate / tera)
}

// whatsminerPools numbers its pools from 1.
func whatsminerPools(p *page, m *miner, v *reading, _ string) {
	p.status('S', 7, strconv.Itoa(len(m.pools))+" Pool(s)")
	p.section("POOLS")
	for i, pool := range m.pools {
		a, r, s := v.ofPool(i)
		p.record("POOL", i+1, true)
		p.str("URL", pool.url)
		p.str("Status", poolStatus(v))
		p.num("Priority", int64(i))
		p.num("Quota", 1)
		p.str("Long Poll", "N")
		p.num("Getworks", v.getworks)
		p.num("Accepted", a)
		p.num("Rejected", r)
		p.num("Works", v.getworks*40)
		p.num("Discarded", 0)
		p.num("Stale", s)
		p.num("Get Failures", 0)
		p.num("Remote Failures", 0)
		p.str("User", pool.user)
		p.num("Last Share Time", onFirst(i, v.epoch()))
		p.num("Diff1 Shares", 0)
		p.str("Proxy Type", "")
		p.str("Proxy", "")
		p.poolDifficulty(v, a, r, s)
		p.num("Work Difficulty", 0)
		p.yes("Has Stratum", true)
		p.yes("Stratum Active", i == 0 && v.machine != NoPool)
		p.str("Stratum URL", pool.host)
		p.fix("Stratum Difficulty", v.shareDiff, 4)
		p.yes("Has GBT", false)
		p.num("Best Share", onFirst(i, int64(v.shareDiff)*977))
		p.fix("Pool Rejected%", float64(onFirst(i, 1))*percent(v.rejected, v), 4)
		p.fix("Pool Stale%", float64(onFirst(i, 1))*percent(v.stale, v), 4)
		p.num("Bad Work", 0)
		p.num("Current Block Height", 924000)
		p.num("Current Block Version", 536870912)
		p.done()
	}
	p.end()
}

func whatsminerDevs(p *page, m *miner, v *reading, _ string) {
	n := m.spec.boards
	p.status('S', 9, strconv.Itoa(n)+" ASC(s)")
	p.section("DEVS")
	for i := range n {
		share := m.boardShare[i]
		p.record("ASC", i, true)
		p.str("Name", "SM")
		p.num("ID", int64(i))
		p.num("Slot", int64(i))
		p.str("Enabled", "Y")
		p.str("Status", "Alive")
		p.fix("Temperature", v.boardTemp[i], 2)
		p.num("Chip Frequency", m.frequency)
		p.num("Fan Speed In", v.fan[0])
		p.num("Fan Speed Out", v.fan[1])
		p.fix("MHS av", share*v.avg/mega, 2)
		p.fix("MHS 5s", share*v.short/mega, 2)
		p.fix("MHS 1m", share*v.m1/mega, 2)
		p.fix("MHS 5m", share*v.m5/mega, 2)
		p.fix("MHS 15m", share*v.m15/mega, 2)
		p.fix("HS RT", share*v.m1/mega, 2)
		p.num("Accepted", v.accepted/int64(n))
		p.num("Rejected", v.rejected/int64(n))
		p.num("Hardware Errors", v.hardware/int64(n))
		p.num("Last Share Pool", 0)
		p.num("Last Share Time", v.epoch())
		p.fix("Total MH", share*v.shownTotal(), 4)
		p.num("Last Valid Work", v.epoch())
		p.num("Device Elapsed", v.elapsed)
		p.num("Upfreq Complete", 1)
		p.num("Effective Chips", int64(m.spec.chips))
		p.key("PCB SN")
		p.quote()
		p.b = append(p.b, "SIM"...)
		p.b = append(p.b, m.dna[:14]...)
		p.b = append(p.b, byte('A'+i))
		p.quote()
		p.fix("Chip Temp Min", v.chipTemp[i]-12, 2)
		p.fix("Chip Temp Max", v.chipTemp[i], 2)
		p.fix("Chip Temp Avg", v.chipTemp[i]-5, 2)
		p.done()
	}
	p.end()
}

func whatsminerDetails(p *page, m *miner, _ *reading, _ string) {
	p.status('S', 69, "Device Details")
	p.section("DEVDETAILS")
	for i := range m.spec.boards {
		p.record("DEVDETAILS", i, true)
		p.str("Name", "SM")
		p.num("ID", int64(i))
		p.str("Driver", "bitmicro")
		p.str("Kernel", "")
		p.str("Model", m.spec.model)
		p.done()
	}
	p.end()
}
