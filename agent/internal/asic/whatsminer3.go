package asic

import (
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Whatsminer firmware from 2024-11 on speaks API 3, on a port of its own and framed in another way; with the old interface
// switched off, port 4028 refuses.
const (
	cgminerPort = "4028"
	api3Port    = "4433"

	getDeviceInfo = `{"cmd":"get.device.info"}`
	getSummary    = `{"cmd":"get.miner.status","param":"summary"}`
	getBoards     = `{"cmd":"get.miner.status","param":"edevs"}`
	getPools      = `{"cmd":"get.miner.status","param":"pools"}`
)

// identifyWhatsminer3 tries the port of API 3 when the usual one refused.
func (p *poll) identifyWhatsminer3() {
	if !p.over || cgminer.OutcomeOf(p.failed) != telemetry.OutcomeRefused {
		return
	}
	if _, port, err := net.SplitHostPort(p.r.c.Address); err != nil || port != cgminerPort {
		return // somebody mapped the ports: nobody knows to where the other one goes
	}
	refused := p.failed
	p.over, p.failed = false, nil
	if p.api3(cmdSummary, "get.miner.status summary", getSummary); p.has(cmdSummary) {
		p.r.id.be(familyWhatsminer3, "MicroBT", "stock")
		return
	}
	p.over, p.failed = true, refused
}

// askWhatsminer3 asks everything, one request after another.
func askWhatsminer3(p *poll) {
	p.api3(cmdSummary, "get.miner.status summary", getSummary)
	p.api3(cmdEdevs, "get.miner.status edevs", getBoards)
	p.api3(cmdPools, "get.miner.status pools", getPools)
	p.api3(cmdVersion, "get.device.info", getDeviceInfo)
}

// api3 sends one request of API 3 and keeps the answer in the place of the command that it corresponds to.
func (p *poll) api3(c command, name, request string) {
	if p.over || p.has(c) {
		return
	}
	host, _, err := net.SplitHostPort(p.r.c.Address)
	if err != nil {
		p.over = true
		p.fail(err)
		return
	}
	reply, err := p.r.c.Client.DoFramed(p.ctx, net.JoinHostPort(host, api3Port), name, request)
	if err != nil {
		p.fail(err)
		switch cgminer.OutcomeOf(err) {
		case telemetry.OutcomeRefused, telemetry.OutcomeTimeout, telemetry.OutcomeUnreachable, telemetry.OutcomeDenied:
			p.over = true
		}
		return
	}
	p.replies = append(p.replies, reply)
	if code, ok := reply.Root().Get("code").Int(); !ok || code != 0 {
		p.fail(&cgminer.APIError{Command: name, Code: code, Msg: strings.Clone(reply.Root().Get("msg").Text())})
		return
	}
	p.parts[c] = cgminer.Part{Command: name, Value: reply.Root().Get("msg")}
	p.answered |= c.set()
}

// decodeWhatsminer3 reads the replies of API 3. Its rates are TH/s, and it counts no shares.
func decodeWhatsminer3(p *poll) {
	s := p.parts[cmdSummary].Value.Get("summary")
	p.fits = s.Exists()
	o := &p.obs
	p.setUptime(s.Get("elapsed"))
	tera := func(key string) unit.Opt[unit.Hashrate] {
		if x, ok := s.Get(key).Float(); ok && x >= 0 {
			return unit.Some(unit.Hashrate(x) * unit.TerahashPerSecond)
		}
		return unit.Opt[unit.Hashrate]{}
	}
	if h, ok := tera("hash-15min").Get(); ok {
		p.rates.add(h, 15*time.Minute)
	}
	if h, ok := tera("hash-1min").Get(); ok {
		p.rates.add(h, time.Minute)
	}
	if h := tera("hash-realtime"); h.Present() {
		p.rates.short, p.rates.shortOver = h, 0 // a window that MicroBT does not document
	}
	p.rates.avg, p.rates.ideal = tera("hash-average"), tera("factory-hash")
	if x, ok := s.Get("power-realtime").Float(); ok && x >= 0 && x <= maxWatts {
		o.Power = unit.Some(unit.Watts(x))
	}
	if x, ok := s.Get("power-limit").Float(); ok && x > 0 && x <= maxWatts {
		o.PowerLimit = unit.Some(unit.Watts(x))
	}
	if t, ok := celsius(s.Get("environment-temperature")); ok {
		o.TempInlet = unit.Some(t)
	}
	p.api3Boards(s)
	for v := range p.parts[cmdPools].Value.Get("pools").All() {
		p.api3Pool(v)
	}
	p.api3Device(s)
}

func (p *poll) api3Boards(s cgminer.Value) {
	o := &p.obs
	for v := range p.parts[cmdEdevs].Value.Get("edevs").All() {
		n, ok := v.Get("id").Int()
		if !ok || n < 0 || n > 1<<16 || len(o.Boards) == telemetry.MaxBoards {
			continue
		}
		b := telemetry.Board{Index: int32(n), Chips: chips(v.Get("effective-chips"))}
		if x, ok := v.Get("hash-realtime").Float(); ok {
			b.Hashrate = unit.Some(unit.Hashrate(x) * unit.TerahashPerSecond)
			p.drop(&b.Hashrate)
		}
		if x, ok := v.Get("freq").Float(); ok && x > 0 && x < maxMHz {
			b.FrequencyMHz = unit.Some(x)
		}
		if t, ok := celsius(s.Get("board-temperature").Index(len(o.Boards))); ok {
			b.Temps = append(b.Temps, t)
			hotter(&o.TempBoard, t)
		}
		for _, key := range [...]string{"chip-temp-avg", "chip-temp-max"} {
			if t, ok := celsius(v.Get(key)); ok {
				b.Temps = append(b.Temps, t)
				hotter(&o.TempChip, t)
			}
		}
		if status := v.Get("status").Text(); status != "" && status != "alive" {
			p.deadBoards++
		}
		o.Boards = append(o.Boards, b)
	}
}

func (p *poll) api3Pool(v cgminer.Value) {
	url := v.Get("url").Text()
	if url == "" || len(p.obs.Pools) == telemetry.MaxPools {
		return
	}
	pool := telemetry.Pool{URL: p.r.keep(withoutScheme(url)), Worker: p.r.keep(v.Get("account").Text()), Priority: optInt32(v.Get("pool-priority"))}
	if status := v.Get("status").Text(); status != "" {
		pool.Alive = unit.Some(status == "alive")
		pool.Enabled = unit.Some(status != "disabled")
	}
	if active, ok := v.Get("stratum-active").Bool(); ok {
		pool.Active = unit.Some(active)
	}
	p.obs.Pools = append(p.obs.Pools, pool)
}

// api3Device reads what the machine is, its third fan, that of the power supply, and its errors.
func (p *poll) api3Device(s cgminer.Value) {
	d, info := p.parts[cmdVersion].Value, &p.r.id.info
	set(&info.Model, d.Get("miner").Get("type").Text())
	set(&info.Serial, d.Get("miner").Get("miner-sn").Text())
	setMAC(&info.MAC, d.Get("network").Get("mac").Text())
	set(&info.Hostname, d.Get("network").Get("hostname").Text())
	system := d.Get("system")
	set(&info.FirmwareVersion, system.Get("fwversion").Text())
	set(&info.APIVersion, system.Get("api").Text())
	set(&info.ControlBoard, system.Get("platform").Text())
	var speeds [3]unit.Opt[unit.RPM]
	for i, v := range [...]cgminer.Value{s.Get("fan-speed-in"), s.Get("fan-speed-out"), d.Get("power").Get("fanspeed")} {
		if x, ok := rpm(v); ok {
			speeds[i] = unit.Some(x)
		}
	}
	p.setFans(speeds[:], 0)
	for e := range d.Get("error-code").All() {
		for m := range e.All() {
			if code, err := strconv.ParseInt(m.Key(), 10, 64); err == nil {
				p.fault = true
				p.addError(p.r.keep("Whatsminer error code " + strconv.FormatInt(code, 10) + ": " + e.Get("reason").Text()))
			}
		}
	}
	rate, ok := p.rates.short.Get()
	if working, known := d.Get("miner").Get("working").Bool(); known && !working && (!ok || rate == 0) {
		p.obs.State = telemetry.StateSleeping
	}
}
