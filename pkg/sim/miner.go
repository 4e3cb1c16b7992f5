package sim

import (
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashinsight/hashinsight/pkg/unit"
)

// pool is one configured mining pool.
type pool struct{ url, host, user string }

// miner is one simulated or recorded machine.
type miner struct {
	index   int
	address string // host:port
	spec    *spec  // nil for a recording
	record  *recording
	seed    uint64

	// Identity and constants of the machine, fixed when the fleet is made.
	mac        string
	dna        string // 32 hex digits
	pools      []pool
	boardShare [maxBoards]float64 // share of the rate of each board; they add up to 1
	frequency  int64              // MHz
	ideal      float64            // nominal rate, H/s
	shareDiff  float64
	rhythm     rhythm

	turn  chan struct{} // holds one token while a connection is served
	slots chan struct{} // connections served or waiting, in memory
	wake  chan struct{} // the plan changed

	mu          sync.Mutex
	plan        plan
	serial      uint64 // last one given to a summary
	form        Form   // damage of the reply being written
	description string // STATUS Description in place of the firmware's own
	listener    *net.TCPListener
	active      net.Conn // being served
	silent      bool     // active is being left without an answer
	requests    uint64
}

// markupUser is the pool user of the fleet's first miner: whoever shows it as markup runs it.
const markupUser = "<script>alert(1)</script>"

// backlog is how many connections wait behind the one being served, as in cgminer.
const backlog = 100

// newMiner makes machine number index of a fleet; boot is when its program started.
func newMiner(index int, address string, s *spec, fleetSeed uint64, boot time.Time) *miner {
	m := &miner{
		index: index, address: address, spec: s, seed: mix64(fleetSeed ^ mix64(uint64(index))),
		turn: make(chan struct{}, 1), slots: make(chan struct{}, backlog+1), wake: make(chan struct{}, 1),
	}
	m.rhythm = newRhythm(s.nominal, m.seed)
	m.plan.steps = []step{{at: boot, boot: boot, factor: 1}}
	m.dna = hex16(mix64(m.seed^1)) + hex16(mix64(m.seed^2))
	m.mac = macOf(s.family, m.seed)
	m.frequency = 480 + int64(40*unitOf(m.seed, 6))
	m.ideal = s.nominal
	m.boards()
	// About five shares a minute: the power of two nearest to a twelfth of a minute's work.
	m.shareDiff = 1
	for m.shareDiff*diff1*5 < s.nominal*60 {
		m.shareDiff *= 2
	}
	user := "site1.m" + strconv.Itoa(index+1)
	if index == 0 {
		user = markupUser
	}
	m.pools = []pool{
		{"stratum+tcp://pool-a.example.com:3333", "pool-a.example.com", user},
		{"stratum+tcp://pool-b.example.com:443", "pool-b.example.com", user},
	}
	return m
}

// boards splits the rate over the boards, a percent or two apart.
func (m *miner) boards() {
	var sum float64
	for i := range m.spec.boards {
		m.boardShare[i] = 1 + 0.04*(unitOf(m.seed, 40+uint64(i))-0.5)
		sum += m.boardShare[i]
	}
	for i := range m.spec.boards {
		m.boardShare[i] /= sum
	}
}

func hex16(x uint64) string {
	s := strconv.FormatUint(x, 16)
	return "0000000000000000"[len(s):] + s
}

// macOf is a MAC address in upper case; families that never tell theirs have one all the same. The first octet marks
// it as locally administered, so that no real machine can carry it.
func macOf(family string, seed uint64) string {
	prefix := map[string]string{"whatsminer": "C6:11:04", "avalon": "B6:2D:EF", "avalon-home": "E2:E1:A9"}[family]
	if prefix == "" {
		prefix = "02:55:97"
	}
	h := []byte(hex16(seed))
	for i, c := range h {
		if c >= 'a' {
			h[i] = c - 'a' + 'A'
		}
	}
	return prefix + ":" + string(h[0:2]) + ":" + string(h[2:4]) + ":" + string(h[4:6])
}

// effectAt is what is in force at t.
func (m *miner) effectAt(t time.Time) effect {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plan.effect(t)
}

// poke makes whatever waits on the plan look at it again.
func (m *miner) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	past := time.Unix(1, 0)
	if m.listener != nil {
		m.listener.SetDeadline(past)
	}
	if m.active != nil && m.silent {
		m.active.SetReadDeadline(past)
	}
}

// delay is how long the next answer takes.
func (m *miner) delay(e effect, usual Latency) time.Duration {
	l := usual
	if e.latency != nil {
		l = *e.latency
	}
	m.requests++
	return l.at(unitOf(m.seed, 1000+2*m.requests), unitOf(m.seed, 1001+2*m.requests))
}

// expectation is what the miner would report at t.
func (m *miner) expectation(t time.Time) Expectation {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record != nil {
		return Expectation{Healthy: m.plan.effect(t).healthy}
	}
	e := m.plan.effect(t)
	since, ok := m.plan.healthySince(t, m.spec.window)
	s := m.plan.stepAt(t)
	return Expectation{
		Hashrate: unit.Hashrate(m.plan.mean(&m.rhythm, t, m.spec.window)), Window: m.spec.window,
		TotalMH: m.plan.hashes(&m.rhythm, t) / mega, Boot: s.boot, Factor: s.factor,
		Healthy: ok, HealthySince: since, Fault: e.fault, Serial: m.serial,
	}
}
