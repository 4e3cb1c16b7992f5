package e2e

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// cast are the sites, machines and contracts of the month.
type cast struct {
	*month
	north, south                       *plant
	s19, m50, old, fresh, plain, small *machine // old is replaced by fresh; plain has no counter and moves from alpha to beta
	far, away                          *machine // at the site south
	alpha, beta, gamma                 *contract
	forgedHour                         uint32
}

func (c *cast) setUp() {
	c.north = c.plant("north", sim.Config{Miners: 6, Seed: 5, Mix: "antminer-s19=1,whatsminer-m50=1,avalon-1246=2,cgminer=1,braiins-s19=1", Base: netip.MustParseAddr("10.1.0.1")})
	c.south = c.plant("south", sim.Config{Miners: 2, Seed: 6, Mix: "antminer-s21=1,whatsminer-m30s=1", Base: netip.MustParseAddr("10.2.0.1")})
	c.s19, c.m50, c.old = c.machine(c.north, "antminer-s19", 110e6), c.machine(c.north, "whatsminer-m50", 118e6), c.machine(c.north, "avalon-1246", 90e6)
	c.fresh, c.plain, c.small = c.machine(c.north, "avalon-1246", 90e6), c.machine(c.north, "cgminer", 40e6), c.machine(c.north, "braiins-s19", 95e6)
	c.far, c.away = c.machine(c.south, "antminer-s21", 200e6), c.machine(c.south, "whatsminer-m30s", 110e6)
	c.leave(c.fresh)
	c.plain.average = true
	c.plain.does(0, sim.Behaviour{Kind: sim.AverageTotal})
}

// live plays the month. Disturbances begin and end at bounds of slots unless the story is another.
func (c *cast) live() {
	c.setUp()
	c.begin()
	c.north.run()
	until(feb(27, 23, 50, 0))
	c.identify(c.north, c.s19, c.m50, c.old, c.plain, c.small)
	c.alpha = c.contract("alpha", feb(28, 0, 2, 0), map[string]any{"metric": "time"})
	c.beta = c.contract("beta", feb(28, 0, 2, 0), map[string]any{"metric": "hashrate", "unknown": "excused"})
	// The slot that began at 0:00 is nobody's.
	c.lease(c.alpha, feb(28, 0, 2, 0), c.s19, c.m50, c.old, c.plain)
	c.lease(c.beta, feb(28, 0, 2, 0), c.small)
	c.excuse(c.north, "maintenance", span{feb(29, 6, 0, 0), feb(29, 7, 0, 0)}, true, c.s19, c.m50)

	// A link that is cut for six hours, the miners hashing.
	until(feb(28, 2, 0, 0))
	c.north.link.set(true)
	until(feb(28, 8, 0, 0))
	c.north.link.set(false)

	// The same, the miners off for three of them.
	until(feb(28, 9, 0, 0))
	c.north.link.set(true)
	until(feb(28, 10, 0, 0))
	for _, m := range []*machine{c.s19, c.m50, c.old, c.plain, c.small} {
		m.does(3*time.Hour, sim.Behaviour{Kind: sim.Off})
	}
	until(feb(28, 12, 0, 0)) // the hub can be reached from its page, not from the site
	c.excuse(c.north, "maintenance", span{feb(29, 7, 0, 0), feb(29, 8, 0, 0)}, false, c.s19, c.m50)
	until(feb(28, 15, 0, 0))
	c.north.link.set(false)

	// A curtailment that is recorded a minute after its start, and one that is recorded twenty minutes after.
	until(feb(28, 15, 30, 0))
	for _, m := range []*machine{c.s19, c.m50, c.old, c.plain, c.small} {
		m.does(time.Hour, sim.Behaviour{Kind: sim.Sleeping})
	}
	until(feb(28, 15, 31, 0))
	c.excuse(c.north, "curtailment", span{feb(28, 15, 30, 0), feb(28, 16, 30, 0)}, true)
	until(feb(28, 17, 0, 0))
	for _, m := range []*machine{c.s19, c.m50} {
		m.does(time.Hour, sim.Behaviour{Kind: sim.Sleeping})
	}
	until(feb(28, 17, 20, 0))
	c.excuse(c.north, "curtailment", span{feb(28, 17, 0, 0), feb(28, 18, 0, 0)}, false)

	// Three tenths of the usual rate.
	until(feb(28, 18, 0, 0))
	c.s19.does(30*time.Minute, sim.Behaviour{Kind: sim.Droop, Factor: 0.3})

	// Five starts of the agent in one hour, twice after a minute's pause.
	for i, pause := range []time.Duration{0, time.Minute, 0, 0, time.Minute} {
		until(feb(28, 19, 5+10*i, 17*i))
		c.north.stopAgent()
		time.Sleep(pause)
		c.north.plugIn()
	}

	// A miner that goes from one customer to another inside an hour and inside a slot.
	until(feb(28, 20, 30, 0))
	c.end(c.plain, feb(28, 20, 32, 10))
	c.lease(c.beta, feb(28, 20, 32, 10), c.plain)

	// Acknowledgements do not arrive for 25 s, again and again, at every phase of the minute in which a batch is made: batches come twice.
	until(feb(28, 21, 5, 0))
	for range 20 {
		c.north.link.gate(&c.north.link.down, true)
		time.Sleep(25 * time.Second)
		c.north.link.gate(&c.north.link.down, false)
		time.Sleep(40 * time.Second)
	}
	until(feb(28, 21, 50, 0))
	if n := c.counter("hashinsight_ingest_batches_total", "duplicate"); n == 0 {
		c.t.Error("no batch came twice")
	}

	// The agent is unplugged. Somebody who has the site's key sends another word for an hour that it had signed.
	until(feb(28, 22, 0, 0))
	c.north.stopAgent()
	c.forgedHour = uint32(feb(28, 16, 0, 0).Unix() / 3600)
	until(feb(28, 22, 30, 0))
	c.north.forgeHour(c.forgedHour)
	until(feb(28, 23, 0, 0))
	c.wantOpen()
	c.wantDispute()
	until(feb(28, 23, 30, 0))
	c.north.plugIn()
	c.north.blind = append(c.north.blind, span{feb(28, 16, 0, 0), feb(28, 17, 0, 0)}, span{feb(28, 22, 0, 0), feb(28, 23, 30, 0)})

	// The site's clock is an hour ahead for two hours: an hour without polls, two hours whose polls nobody can place.
	until(feb(29, 1, 0, 0))
	c.north.ahead.Store(int64(time.Hour))
	until(feb(29, 3, 0, 0))
	c.north.ahead.Store(0)
	c.north.blind = append(c.north.blind, span{feb(29, 1, 0, 0), feb(29, 4, 0, 0)})

	// A program that hangs while the boards hash on: the counter tells afterwards. And one that restarts.
	until(feb(29, 5, 0, 0))
	c.old.does(40*time.Minute, sim.Behaviour{Kind: sim.Hang})
	until(feb(29, 5, 10, 0))
	c.s19.does(10*time.Second, sim.Behaviour{Kind: sim.Rebooting})

	// Maintenance, announced in time for its first hour only.
	until(feb(29, 6, 0, 0))
	for _, m := range []*machine{c.s19, c.m50} {
		m.does(2*time.Hour, sim.Behaviour{Kind: sim.Off})
	}

	// A miner is replaced by another at the same address.
	until(feb(29, 8, 30, 0))
	c.south.run()
	until(feb(29, 9, 0, 0))
	c.identify(c.south, c.far, c.away)
	c.gamma = c.contract("gamma", feb(29, 9, 0, 0), map[string]any{"metric": "time"})
	c.lease(c.gamma, feb(29, 9, 0, 0), c.far, c.away)
	c.old.does(0, sim.Behaviour{Kind: sim.Off})
	until(feb(29, 9, 30, 0))
	c.north.replace(c.old.address, c.fresh.address)
	c.end(c.old, feb(29, 9, 30, 0))
	until(feb(29, 9, 50, 0))
	c.fresh.id = c.north.minerAt(c.old.address)
	c.lease(c.alpha, feb(29, 9, 30, 0), c.fresh)

	// The south is cut off, when it has signed the hour before, and is without power from noon until the month has closed.
	until(feb(29, 10, 5, 0))
	c.south.link.set(true)
	until(feb(29, 12, 0, 0))
	c.south.stopAgent()
	for _, m := range []*machine{c.s19, c.m50, c.fresh, c.plain, c.small} {
		c.end(m, feb(29, 12, 0, 0))
	}
	c.south.late = append(c.south.late, span{feb(29, 10, 0, 0), feb(29, 12, 0, 0)})
	c.south.blind = append(c.south.blind, span{feb(29, 12, 0, 0), monthEnd})
	until(feb(29, 12, 10, 0))
	c.north.stopAgent()
	until(feb(29, 12, 20, 0))
}

// stories are the stretches of the month, each for what it shows.
var stories = []struct {
	name string
	span
}{
	{"a contract that starts inside a slot begins with the next", span{feb(28, 0, 0, 0), feb(28, 2, 0, 0)}},
	{"a link cut for six hours with its miners hashing is no downtime", span{feb(28, 2, 0, 0), feb(28, 9, 0, 0)}},
	{"the same cut with the miners off is exactly that downtime", span{feb(28, 9, 0, 0), feb(28, 15, 25, 0)}},
	{"a curtailment recorded in time is excused", span{feb(28, 15, 30, 0), feb(28, 16, 30, 0)}},
	{"an hour of which the site signed two roots is unknown", span{feb(28, 16, 0, 0), feb(28, 17, 0, 0)}},
	{"a curtailment recorded late is not excused", span{feb(28, 17, 0, 0), feb(28, 18, 0, 0)}},
	{"three tenths of the contracted rate are degraded", span{feb(28, 18, 0, 0), feb(28, 19, 0, 0)}},
	{"an agent that starts five times in an hour loses none", span{feb(28, 19, 0, 0), feb(28, 20, 0, 0)}},
	{"a miner belongs to the customer that it has at a slot's start", span{feb(28, 20, 0, 0), feb(28, 21, 0, 0)}},
	{"batches that come twice count once", span{feb(28, 21, 0, 0), feb(28, 22, 0, 0)}},
	{"an unplugged agent is unknown, then what the contract says", span{feb(28, 22, 0, 0), feb(29, 1, 0, 0)}},
	{"a clock an hour off makes slots unknown", span{feb(29, 1, 0, 0), feb(29, 5, 0, 0)}},
	{"a hung program and one that restarts are no downtime", span{feb(29, 5, 0, 0), feb(29, 6, 0, 0)}},
	{"maintenance is excused where it was announced in time", span{feb(29, 6, 0, 0), feb(29, 9, 0, 0)}},
	{"a miner is replaced by another", span{feb(29, 9, 0, 0), feb(29, 10, 0, 0)}},
	{"what does not come before closing is unknown", span{feb(29, 10, 0, 0), feb(30, 0, 0, 0)}},
	{"the whole month", span{feb(1, 0, 0, 0), monthEnd}},
}

func TestAMonthOfContracts(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	keep := hubd.Evidence{URL: "file://" + t.TempDir()}
	whole := span{feb(1, 0, 0, 0), monthEnd}
	var closed, restated []row
	synctest.Test(t, func(t *testing.T) {
		c := &cast{month: &month{world: newHubWorld(t, url)}}
		c.keep = keep
		until(feb(27, 23, 30, 0))
		c.live()

		// Nothing happens for three days, and nobody needs the hub.
		c.stopHub()
		until(closing.Add(-time.Hour))
		c.startHub()
		until(closing.Add(15 * time.Minute))
		closed = c.read(whole, false)
		for _, k := range []*contract{c.alpha, c.beta, c.gamma} {
			c.wantClosed(k, closed)
		}
		c.wantReasons()

		// The south has power and its link again, and hands in what it knew.
		c.south.link.set(false)
		c.south.plugIn()
		time.Sleep(30 * time.Minute)
		c.wantRestated(c.gamma, closed)
		restated = c.read(whole, true)
		c.south.stopAgent()
		c.stopHub()
		c.north.stopFleet()
		c.south.stopFleet()
	})
	if t.Failed() {
		return
	}
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			t.Logf("%d contracted slots compared", wantRows(t, closed, whole.from, s.span))
		})
	}
	t.Run("a restatement counts what came after closing", func(t *testing.T) {
		t.Logf("%d contracted slots compared", wantRows(t, restated, whole.from, whole))
	})
}

// wantOpen checks that slots of which nothing is known yet are open while data may still come: nobody is told of downtime.
func (c *cast) wantOpen() {
	t := c.t
	t.Helper()
	now := time.Now()
	row := c.slots(c.s19, c.alpha, span{feb(28, 0, 0, 0), feb(29, 0, 0, 0)})
	unplugged := row[22*12 : 23*12]
	if unplugged != strings.Repeat("?", 12) || strings.Trim(row[23*12:], " ?") != "" {
		t.Errorf("at %s, an hour after the agent was unplugged: %q and then %q", now.Format(time.TimeOnly), unplugged, row[23*12:])
	}
}

// wantReasons asks why slots are what they are.
func (c *cast) wantReasons() {
	t := c.t
	t.Helper()
	for _, q := range []struct {
		what    string
		machine *machine
		at      time.Time
		letter  string
		fine    func(why) bool
	}{
		{"off", c.s19, feb(28, 11, 0, 0), "D", func(w why) bool {
			return w.PollsMade >= 4 && w.PollsAnswered == 0 && w.Hashes == "0" && len(w.Polls) == w.PollsMade && w.Polls[0].Outcome == "unreachable" && w.Polls[0].HeaderHash != ""
		}},
		{"curtailed in time", c.s19, feb(28, 15, 40, 0), "c", func(w why) bool { return len(w.Excuses) == 1 && w.Excuses[0].Counts }},
		{"curtailed and recorded late", c.s19, feb(28, 17, 40, 0), "D", func(w why) bool {
			return len(w.Excuses) == 1 && w.Excuses[0].Kind == "curtailment" && !w.Excuses[0].Counts && w.PollsAnswered >= 4
		}},
		{"two roots", c.m50, feb(28, 16, 40, 0), "X", func(w why) bool {
			return w.Hour.State == "disputed" && strings.Contains(w.Hour.Reason, "two roots")
		}},
		{"unplugged", c.s19, feb(28, 22, 40, 0), "X", func(w why) bool { return w.PollsMade == 0 && len(w.Polls) == 0 && w.Hour.State == "none" }},
		{"unplugged", c.small, feb(28, 22, 40, 0), "x", func(w why) bool { return w.PollsMade == 0 }},
		{"clock ahead", c.old, feb(29, 2, 40, 0), "X", func(w why) bool { return slices.Contains(w.Flags, "skewed") && w.PollsMade > 0 }},
		{"hung", c.old, feb(29, 5, 20, 0), "U", func(w why) bool {
			return w.PollsMade >= 4 && w.PollsAnswered == 0 && slices.Contains(w.Flags, "bridged") && w.Source == "counter"
		}},
		{"announced too shortly before", c.m50, feb(29, 7, 30, 0), "D", func(w why) bool {
			return len(w.Excuses) == 1 && w.Excuses[0].Kind == "maintenance" && !w.Excuses[0].Counts
		}},
		{"no counter", c.plain, feb(28, 4, 0, 0), "U", func(w why) bool { return w.Source == "rate" }},
	} {
		k := q.machine.leases[0].contract
		if w := c.why(q.machine, k, q.at); w.Letter != q.letter || !q.fine(w) {
			t.Errorf("%s, %s at %s: %+v", q.what, q.machine.name, q.at, w)
		}
	}
	for _, m := range []*machine{c.s19, c.m50, c.old, c.small} {
		for at := feb(28, 3, 0, 0); at.Before(feb(28, 7, 0, 0)); at = at.Add(7 * slot) {
			c.wantWork(m, m.leases[0].contract, at)
		}
	}
}

// wantDispute checks that the forged word is kept and alarmed.
func (c *cast) wantDispute() {
	t := c.t
	t.Helper()
	all := get[list[struct {
		SiteID string    `json:"site_id"`
		Hour   time.Time `json:"hour"`
		Kind   string    `json:"kind"`
		Reason string    `json:"reason"`
	}]](c.month, "/api/disputes").Items
	if len(all) != 1 || all[0].SiteID != c.north.site.String() || !all[0].Hour.Equal(feb(28, 16, 0, 0)) || all[0].Kind != "two_roots" {
		t.Errorf("disputes: %+v", all)
	}
	if n := c.counter("hashinsight_facts_disputes_total", "two_roots"); n != 1 {
		t.Errorf("%v disputes counted for the alarm, want one", n)
	}
	if n := c.count(`SELECT count(*) FROM batch WHERE kind = 3 AND site_id = '` + c.north.site.String() + `' AND first_at = '2028-02-28 16:00Z'`); n != 2 {
		t.Errorf("%d signed words for the hour are kept, want both", n)
	}
}

// wantClosed checks the only statement of a month against the model.
func (c *cast) wantClosed(k *contract, rows []row) {
	t := c.t
	t.Helper()
	all := c.statements(k)
	if len(all) != 1 {
		t.Fatalf("%s: %d statements of the month, want one", k.name, len(all))
	}
	c.wantStatement(k, &all[0], rows)
	if s := &all[0]; s.Seq != 1 || s.Supersedes != "" {
		t.Errorf("%s: statement %d supersedes %q", k.name, s.Seq, s.Supersedes)
	}
}

func (c *cast) wantStatement(k *contract, s *statement, rows []row) {
	t := c.t
	t.Helper()
	c.wantSigned(s)
	c.wantRecomputed(s)
	n := tally(rows, k)
	due := n['U'] + n['d'] + n['D'] + n['X']
	want := n['U'] * 1_000_000 / due
	if k.metric == "hashrate" {
		want = 1_000_000 // a quarter more than contracted, whenever they hashed
	}
	if s.Month != monthName || s.AvailabilityPPM == nil || *s.AvailabilityPPM != want || s.Met != (want >= 990_000) {
		t.Errorf("%s: %s, %v ppm, met %v; the model has %d", k.name, s.Month, s.AvailabilityPPM, s.Met, want)
	}
	credit := int64(0)
	switch {
	case want < 950_000:
		credit = 2_500
	case want < 980_000:
		credit = 1_000
	case want < 990_000:
		credit = 500
	}
	if s.Credit.BP != credit || s.Credit.Minor != credit*100_000/10_000 {
		t.Errorf("%s: a credit of %d bp, %d in 1/100 EUR at %d ppm, want %d bp", k.name, s.Credit.BP, s.Credit.Minor, want, credit)
	}
	t.Logf("%s: %d ppm, credit %d bp, %v", k.name, want, credit, s.Hash[:12])
}

// wantRestated orders a restatement of a month that has closed, and checks that it takes what came late, names what it supersedes, and leaves that as it was.
func (c *cast) wantRestated(k *contract, closed []row) {
	t := c.t
	t.Helper()
	before := c.statements(k)[0]
	made := post[statement](c.month, "/api/contracts/"+k.id+"/statements", map[string]any{
		"month": monthName, "reason": "the site had no power when the month closed", "accept_until": time.Now().UTC(),
	})
	all := c.statements(k)
	if len(all) != 2 || all[0].Hash != made.Hash || all[0].Supersedes != before.Hash || all[0].Seq != 2 || all[1].Hash != before.Hash || !bytes.Equal(all[1].bytes, before.bytes) {
		t.Fatalf("%s: after a restatement %+v", k.name, all)
	}
	c.wantStatement(k, &all[0], c.read(span{feb(1, 0, 0, 0), monthEnd}, true))
	c.wantStatement(k, &all[1], closed)
}
