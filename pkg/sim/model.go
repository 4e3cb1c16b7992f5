package sim

import (
	"math"
	"time"
)

// rhythm is the hash rate of one miner as a function of the time since its program started: a base rate with two
// slow waves on it, whose integral is exact. The waves together stay within 0.3 % of the base rate, so two readings of
// an undisturbed miner never differ by more than 0.6 %.
type rhythm struct {
	base  float64 // H/s
	waves [2]wave
}

type wave struct {
	share float64 // of the base rate
	omega float64 // rad/s
	phase float64 // rad
}

func newRhythm(nominal float64, seed uint64) rhythm {
	return rhythm{
		base: nominal * (0.975 + 0.04*unitOf(seed, 1)),
		waves: [2]wave{
			{0.0018, 2 * math.Pi / (90 + 120*unitOf(seed, 2)), 2 * math.Pi * unitOf(seed, 3)},
			{0.0012, 2 * math.Pi / (1800 + 3600*unitOf(seed, 4)), 2 * math.Pi * unitOf(seed, 5)},
		},
	}
}

// rate is the rate s seconds after the start, in H/s.
func (r *rhythm) rate(s float64) float64 {
	v := 1.0
	for _, w := range r.waves {
		v += w.share * math.Sin(w.omega*s+w.phase)
	}
	return r.base * v
}

// integral is the number of hashes done in the first s seconds, at the undisturbed rate.
func (r *rhythm) integral(s float64) float64 {
	v := s
	for _, w := range r.waves {
		v += w.share / w.omega * (math.Cos(w.phase) - math.Cos(w.omega*s+w.phase))
	}
	return r.base * v
}

// mix64 is the finaliser of splitmix64: every input bit changes about half of the output bits.
func mix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unitOf is a number in [0,1) that seed and salt decide.
func unitOf(seed, salt uint64) float64 {
	return float64(mix64(seed^mix64(salt))>>11) / (1 << 53)
}

// maxBoards is the largest number of hash boards of any simulated machine.
const maxBoards = 3

// reading is everything a miner may be asked about, at one moment. It is a pure function of the miner's seed, its
// plan and the moment; only the serial number and what rises with it is state.
type reading struct {
	now     time.Time
	elapsed int64 // s since the program started, whole
	machine Kind  // Sleeping, Overheated, NoPool or ""

	short, m1, m5, m15, m30, h24, avg float64 // mean H/s over the shortest window, 1, 5, 15, 30 min, 24 h, since start
	totalMH                           float64 // whole MH since the start
	average                           bool    // the firmware shows the average rate in its place

	shareDiff                 float64 // difficulty of each share
	accepted, rejected, stale int64   // shares
	hardware                  int64   // errors
	getworks                  int64
	lastShare                 time.Time // zero: none yet

	boardTemp, chipTemp [maxBoards]float64 // degrees C
	inlet               float64            // degrees C
	fan                 [4]int64           // rpm
	watts               float64
	serial              uint64
}

// read works out the reading at t. The caller holds the miner's lock.
func (m *miner) read(t time.Time, e effect) reading {
	p, r := &m.plan, &m.rhythm
	s := p.stepAt(t)
	up := t.Sub(s.boot).Seconds()
	if up < 0 {
		up = 0
	}
	hashes := p.hashes(r, t)
	v := reading{
		now: t, elapsed: int64(up), machine: e.machine, average: e.average, serial: m.serial,
		short: p.mean(r, t, m.spec.window), m1: p.mean(r, t, time.Minute), m5: p.mean(r, t, 5*time.Minute),
		m15: p.mean(r, t, 15*time.Minute), m30: p.mean(r, t, 30*time.Minute), h24: p.mean(r, t, 24*time.Hour),
		totalMH: math.Floor(hashes / 1e6), shareDiff: m.shareDiff,
	}
	if up > 0 {
		v.avg = hashes / up
	}
	v.shares(hashes, s, r.base)
	v.climate(m, up, s.factor)
	return v
}

// shownTotal is what the firmware calls "Total MH".
func (v *reading) shownTotal() float64 {
	if v.average {
		return v.avg / mega
	}
	return v.totalMH
}

// diff1 is the expected number of hashes of one share of difficulty 1.
const diff1 = 1 << 32

// shares derives every share counter from the hash counter, so that none can disagree with it or fall.
func (v *reading) shares(hashes float64, s *step, base float64) {
	per := v.shareDiff * diff1
	n := int64(hashes / per)
	v.rejected = n / 300
	v.stale = (n - v.rejected) / 1500
	v.accepted = n - v.rejected - v.stale
	v.hardware = int64(hashes / diff1 / 20000)
	v.getworks = v.elapsed/30 + 1
	switch {
	case n == 0:
	case s.factor == 0:
		v.lastShare = s.at
	default:
		v.lastShare = v.now.Add(-time.Duration(math.Mod(hashes, per) / (base * s.factor) * float64(time.Second)))
	}
}

// climate sets temperatures, fans and power: warm boards when hashing, near the air's temperature when not.
func (v *reading) climate(m *miner, up, factor float64) {
	sway := math.Sin(2*math.Pi*up/2700 + 6*unitOf(m.seed, 11))
	v.inlet = 22 + 6*unitOf(m.seed, 10) + sway
	for i := range v.boardTemp {
		own := 4 * unitOf(m.seed, 20+uint64(i))
		warm := (30 + own + 2*sway) * (0.15 + 0.85*factor)
		v.boardTemp[i] = math.Round(v.inlet + warm)
		v.chipTemp[i] = v.boardTemp[i] + math.Round(4+12*factor+own)
		if v.machine == Overheated {
			v.boardTemp[i] = math.Round(86 + own + sway)
			v.chipTemp[i] = v.boardTemp[i] + 7
		}
	}
	for i := range v.fan {
		speed := 1500 + 3300*factor + 240*unitOf(m.seed, 30+uint64(i)) + 120*sway
		if v.machine == Overheated {
			speed = 6100 + 60*float64(i)
		}
		v.fan[i] = int64(math.Round(speed/30) * 30)
	}
	v.watts = math.Round(m.spec.watts * (0.04 + 0.96*factor*m.rhythm.rate(up)/m.spec.nominal))
}

// hashing reports whether the boards hash in this reading.
func (v *reading) hashing() bool { return v.short > 0 }

// fanPercent is the duty that belongs to the first fan's speed.
func (v *reading) fanPercent() int64 { return min(100, v.fan[0]*100/6300) }
