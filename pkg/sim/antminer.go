package sim

import (
	"strconv"
	"time"
)

// Replies of stock Antminers: the S9 form with rates as strings, sixteen chains and a missing comma in stats, and the
// form from the S19 on.

func antminerVersion(p *page, m *miner, _ *reading, _ string) {
	f := firmwareOf(m.spec)
	p.status('S', 22, "CGMiner versions")
	p.section("VERSION")
	p.record("VERSION", 0, false)
	p.str("BMMiner", f.program)
	p.str("API", "3.1")
	p.str("Miner", f.miner)
	p.str("CompileTime", f.compiled)
	p.str("Type", m.spec.model)
	p.done()
	p.end()
}

// firmware is what stock firmware says of itself.
type firmware struct{ program, miner, compiled string }

func firmwareOf(s *spec) firmware {
	switch s.name {
	case "antminer-s9":
		return firmware{"2.0.0", "16.8.1.3", "Fri Nov 17 17:37:49 CST 2017"}
	case "antminer-s21":
		return firmware{"1.0.0", "uart_trans.1.3", "Mon Jun 24 10:12:07 CST 2024"}
	default:
		return firmware{"1.0.0", "49.0.1.3", "Thu Mar 18 11:02:33 CST 2021"}
	}
}

func antminerSummary(p *page, m *miner, v *reading, _ string) {
	p.status('S', 11, "Summary")
	p.section("SUMMARY")
	p.record("SUMMARY", 0, false)
	p.num("Elapsed", v.elapsed)
	p.fix("GHS 5s", v.short/giga, 2)
	p.fix("GHS av", v.avg/giga, 2)
	p.fix("GHS 30m", v.m30/giga, 2)
	p.tally(v, "Getwork")
	p.done()
	p.end()
}

func s9Summary(p *page, m *miner, v *reading, _ string) {
	p.status('S', 11, "Summary")
	p.section("SUMMARY")
	p.record("SUMMARY", 0, false)
	p.num("Elapsed", v.elapsed)
	p.quoted("GHS 5s", v.short/giga, 2)
	p.fix("GHS av", v.avg/giga, 2)
	p.tally(v, "Getworks")
	p.done()
	p.end()
}

// antminerPools fills three slots, as the firmware does; unused ones have an empty URL and are "Dead".
func antminerPools(p *page, m *miner, v *reading, _ string) {
	p.status('S', 7, "3 Pool(s)")
	p.section("POOLS")
	for i := range 3 {
		pool, status := poolOf(m, i), poolStatus(v)
		a, r, s := v.ofPool(i)
		works := v.getworks
		if pool.url == "" {
			status, works = "Dead", 0
		}
		p.record("POOL", i, true)
		p.str("URL", pool.url)
		p.str("Status", status)
		p.num("Priority", int64(i))
		p.num("Quota", 1)
		p.str("Long Poll", "N")
		p.num("Getworks", works)
		p.num("Accepted", a)
		p.num("Rejected", r)
		p.num("Discarded", works*71)
		p.num("Stale", s)
		p.num("Get Failures", 0)
		p.num("Remote Failures", 0)
		p.str("User", pool.user)
		p.str("Last Share Time", sinceShare(v, i))
		p.str("Diff", shortDiff(v.shareDiff, pool.url))
		p.num("Diff1 Shares", 0)
		p.str("Proxy Type", "")
		p.str("Proxy", "")
		p.poolDifficulty(v, a, r, s)
		p.yes("Has Stratum", pool.url != "")
		p.yes("Stratum Active", i == 0 && status == "Alive")
		p.str("Stratum URL", pool.host)
		p.yes("Has GBT", false)
		p.num("Best Share", onFirst(i, int64(v.shareDiff)*977))
		p.fix("Pool Rejected%", float64(onFirst(i, 1))*percent(v.rejected, v), 4)
		p.fix("Pool Stale%", float64(onFirst(i, 1))*percent(v.stale, v), 4)
		p.done()
	}
	p.end()
}

func poolOf(m *miner, i int) pool {
	if i < len(m.pools) {
		return m.pools[i]
	}
	return pool{}
}

// sinceShare is the time since the last share as "H:MM:SS", "0" for never.
func sinceShare(v *reading, i int) string {
	if i > 0 || v.lastShare.IsZero() {
		return "0"
	}
	s := int64(v.now.Sub(v.lastShare) / time.Second)
	b := strconv.AppendInt(make([]byte, 0, 12), s/3600, 10)
	b = append(b, ':', byte('0'+s/600%6), byte('0'+s/60%10), ':', byte('0'+s%60/10), byte('0'+s%10))
	return string(b)
}

// shortDiff writes a difficulty as "65.5K", as the firmware shows it.
func shortDiff(d float64, url string) string {
	if url == "" {
		return ""
	}
	for _, unit := range []string{"", "K", "M"} {
		if d < 1000 || unit == "M" {
			return strconv.FormatFloat(d, 'g', 3, 64) + unit
		}
		d /= 1000
	}
	return ""
}

// antminerStats is the form from the S19 on: four chain positions, three boards, four-sensor strings.
func antminerStats(p *page, m *miner, v *reading, _ string) {
	f, n := firmwareOf(m.spec), m.spec.boards
	p.status('S', 70, "CGMiner stats")
	p.section("STATS")
	p.record("VERSION", 0, false)
	p.str("BMMiner", f.program)
	p.str("Miner", f.miner)
	p.str("CompileTime", f.compiled)
	p.str("Type", m.spec.model)
	p.done()
	p.record("STATS", 0, true)
	p.str("ID", "BTM_SOC0")
	p.num("Elapsed", v.elapsed)
	p.num("Calls", 0)
	p.num("Wait", 0)
	p.num("Max", 0)
	p.num("Min", 99999999)
	p.fix("GHS 5s", v.short/giga, 2)
	p.fix("GHS av", v.avg/giga, 2)
	p.fix("rate_30m", v.m30/giga, 2)
	p.num("Mode", 2)
	p.num("miner_count", int64(n))
	p.num("frequency", m.frequency)
	p.num("fan_num", 4)
	for i, rpm := range v.fan {
		p.numN("fan", i+1, rpm)
	}
	p.num("temp_num", int64(n))
	for i := range n {
		p.fixN("temp", i+1, v.boardTemp[i], 0)
		p.fixN("temp2_", i+1, v.chipTemp[i], 0)
	}
	for i := range 4 {
		p.sensors("temp_pcb", i, n, v.boardTemp)
	}
	for i := range 4 {
		p.sensors("temp_chip", i, n, v.chipTemp)
	}
	for i := range 4 {
		p.sensors("temp_pic", i, n, [maxBoards]float64{v.boardTemp[0] - 10, v.boardTemp[1] - 10, v.boardTemp[2] - 10})
	}
	p.fix("total_rateideal", m.ideal/giga, 2)
	p.str("rate_unit", "GH")
	p.num("total_freqavg", m.frequency)
	p.num("total_acn", int64(n*m.spec.chips))
	p.fix("total rate", v.avg/giga, 2)
	p.num("temp_max", 0)
	p.num("no_matching_work", v.hardware)
	for i := range 4 {
		p.numN("chain_acn", i+1, onBoard(i, n, int64(m.spec.chips)))
	}
	for i := range 4 {
		p.chips(i+1, onBoard(i, n, int64(m.spec.chips)), 3, v.hashing())
	}
	for i := range 4 {
		p.numN("chain_hw", i+1, onBoard(i, n, v.hardware/int64(n)))
	}
	for i := range 4 {
		p.chainRate(m, v, i+1, i, n)
	}
	for i := range 4 {
		p.numN("freq", i+1, onBoard(i, n, m.frequency))
	}
	p.str("miner_version", f.miner)
	p.str("miner_id", m.dna[:16])
	p.done()
	p.end()
}

func onBoard(i, boards int, v int64) int64 {
	if i < 0 || i >= boards {
		return 0
	}
	return v
}

// sensors writes four sensors of one chain as "a-b-c-d".
func (p *page) sensors(name string, i, boards int, hottest [maxBoards]float64) {
	p.keyN(name, i+1)
	p.quote()
	for s := range 4 {
		if s > 0 {
			p.b = append(p.b, '-')
		}
		t := int64(0)
		if i < boards {
			t = int64(hottest[i]) - []int64{2, 14, 0, 3}[s]
		}
		p.b = strconv.AppendInt(p.b, t, 10)
	}
	p.quote()
}

// chips writes one letter per chip of a chain, in groups.
func (p *page) chips(chain int, n int64, group int, alive bool) {
	p.keyN("chain_acs", chain)
	p.quote()
	mark := byte('x')
	if alive {
		mark = 'o'
	}
	for i := range int(n) {
		if i%group == 0 {
			p.b = append(p.b, ' ')
		}
		p.b = append(p.b, mark)
	}
	p.quote()
}

func (p *page) chainRate(m *miner, v *reading, chain, board, boards int) {
	if board < 0 || board >= boards {
		p.strN("chain_rate", chain, "")
		return
	}
	p.quotedN("chain_rate", chain, m.boardShare[board]*v.short/giga, 2)
}

// s9Stats has sixteen chain positions with boards at 6, 7 and 8, and no comma between its two records.
func s9Stats(p *page, m *miner, v *reading, _ string) {
	const chains, first = 16, 6
	f, n := firmwareOf(m.spec), m.spec.boards
	board := func(chain int) int { return chain - first }
	at := func(chain int, val int64) int64 { return onBoard(board(chain), n, val) }
	p.status('S', 70, "CGMiner stats")
	p.section("STATS")
	p.record("VERSION", 0, false)
	p.str("BMMiner", f.program)
	p.str("Miner", f.miner)
	p.str("CompileTime", f.compiled)
	p.str("Type", m.spec.model)
	p.done()
	p.glue = true
	p.record("STATS", 0, true)
	p.glue = false
	p.str("ID", "BC50")
	p.spent(v)
	p.quoted("GHS 5s", v.short/giga, 2)
	p.fix("GHS av", v.avg/giga, 2)
	p.num("miner_count", int64(n))
	p.str("frequency", strconv.FormatInt(m.frequency, 10))
	p.num("fan_num", 2)
	for i := 1; i <= 8; i++ {
		rpm := int64(0)
		if i == 5 || i == 6 {
			rpm = v.fan[i-5]
		}
		p.numN("fan", i, rpm)
	}
	p.num("temp_num", int64(n))
	for i := 1; i <= chains; i++ {
		p.numN("temp", i, at(i, tempAt(v.boardTemp, board(i))))
	}
	for i := 1; i <= chains; i++ {
		p.numN("temp2_", i, at(i, tempAt(v.chipTemp, board(i))))
	}
	for i := 1; i <= chains; i++ {
		p.fixN("freq_avg", i, float64(at(i, m.frequency)), 2)
	}
	p.fix("total_rateideal", m.ideal/giga, 2)
	p.fix("total_freqavg", float64(m.frequency), 2)
	p.num("total_acn", int64(n*m.spec.chips))
	p.fix("total_rate", v.short/giga, 2)
	p.num("temp_max", tempAt(v.chipTemp, 0))
	p.fix("Device Hardware%", 0.005, 4)
	p.num("no_matching_work", v.hardware)
	for i := 1; i <= chains; i++ {
		p.numN("chain_acn", i, at(i, int64(m.spec.chips)))
	}
	for i := 1; i <= chains; i++ {
		p.chips(i, at(i, int64(m.spec.chips)), 8, v.hashing())
	}
	for i := 1; i <= chains; i++ {
		p.numN("chain_hw", i, at(i, v.hardware/int64(n)))
	}
	for i := 1; i <= chains; i++ {
		p.chainRate(m, v, i, board(i), n)
	}
	p.str("miner_version", f.miner)
	p.done()
	p.end()
}

func tempAt(t [maxBoards]float64, i int) int64 {
	if i < 0 || i >= maxBoards {
		return 0
	}
	return int64(t[i])
}

// antminerDevs names one controller and no rates, as stock firmware from the S19 on does.
func antminerDevs(p *page, m *miner, v *reading, _ string) {
	p.status('S', 9, "1 ASC(s)")
	p.section("DEVS")
	p.record("ASC", 0, true)
	p.str("Name", "BTM_SOC")
	p.num("ID", 0)
	p.str("Enabled", "Y")
	p.str("Status", "Alive")
	p.fix("Tenperature", 0, 2)
	p.fix("MHS av", 0, 2)
	p.fix("MHS 5s", 0, 2)
	p.num("Accepted", v.accepted)
	p.num("Rejected", v.rejected)
	p.num("Hardware Errors", 0)
	p.fix("Utility", 0, 2)
	p.num("Last Share Pool", 0)
	p.num("Last Share Time", v.epoch())
	p.fix("Total MH", 0, 4)
	p.num("Diff1 Work", 0)
	p.fix("Difficulty Accepted", float64(v.accepted)*v.shareDiff, 8)
	p.fix("Difficulty Rejected", float64(v.rejected)*v.shareDiff, 8)
	p.num("Device Elapsed", v.elapsed)
	p.done()
	p.end()
}
