package fleet

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// world is a fleet whose clock the test moves.
type world struct {
	t      *testing.T
	pool   *pgxpool.Pool
	now    time.Time
	store  *Store
	latest *Latest
	enc    *wire.Encoder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, pool: pgtest.New(t), now: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return w.now }
	var err error
	if w.store, err = New(Config{Pool: w.pool, Now: clock}); err != nil {
		t.Fatal(err)
	}
	if w.latest, err = NewLatest(LatestConfig{Now: clock}); err != nil {
		t.Fatal(err)
	}
	if w.enc, err = wire.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	return w
}

func newKey(t *testing.T) ed25519.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func (w *world) register(r Registration) error {
	return pg.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) error { return RegisterSite(w.t.Context(), tx, r) })
}

func (w *world) site(name string) ident.SiteID {
	w.t.Helper()
	r := Registration{Site: ident.NewSiteID(), Name: name, Key: newKey(w.t), At: w.now}
	if err := w.register(r); err != nil {
		w.t.Fatal(err)
	}
	return r.Site
}

// report brings samples to the latest table as ingest does.
func (w *world) report(site ident.SiteID, obs []telemetry.Observation, infos ...telemetry.MinerInfo) {
	w.t.Helper()
	payload, _, err := w.enc.Samples(obs, infos)
	if err != nil {
		w.t.Fatal(err)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		w.t.Fatal(err)
	}
	defer dec.Close()
	s, err := dec.Samples(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	u := w.latest.Collect([]SiteSamples{{site, s}}, w.now.Add(24*time.Hour))
	if err := pg.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) error { return u.Write(w.t.Context(), tx) }); err != nil {
		w.t.Fatal(err)
	}
	w.latest.Committed(u)
}

func (w *world) miner(id ident.MinerID) MinerDetail {
	w.t.Helper()
	m, err := w.store.Miner(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func hashing(id ident.MinerID, at time.Time, rate float64) telemetry.Observation {
	return telemetry.Observation{Miner: id, At: at, Outcome: telemetry.OutcomeOK, State: telemetry.StateHashing, Hashrate: unit.Some(unit.Hashrate(rate)), Power: unit.Some(unit.Watts(3000))}
}

func TestRegistrationIsRepeatableAndNamesAreUnique(t *testing.T) {
	w := newWorld(t)
	r := Registration{Site: ident.NewSiteID(), Name: "north", Key: newKey(t), At: w.now}
	for range 2 {
		if err := w.register(r); err != nil {
			t.Fatal(err)
		}
	}
	second := r
	second.Key = newKey(t)
	if err := w.register(second); err != nil {
		t.Fatalf("a second key: %v", err)
	}
	if err := w.register(Registration{Site: ident.NewSiteID(), Name: "north", Key: newKey(t), At: w.now}); !errors.Is(err, ErrNameTaken) {
		t.Errorf("another site with the name: %v, want ErrNameTaken", err)
	}
	for name, bad := range map[string]Registration{
		"no name": {Site: ident.NewSiteID(), Name: " ", Key: newKey(t), At: w.now}, "no key": {Site: ident.NewSiteID(), Name: "x", At: w.now},
	} {
		if err := w.register(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	id := ident.KeyIDOf(r.Key)
	if err := pg.InTx(t.Context(), w.pool, func(tx pgx.Tx) error {
		_, err := RevokeKey(t.Context(), tx, r.Site, id, w.now, nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if k, err := w.store.Key(t.Context(), r.Site, id); err != nil || k.RevokedAt.IsZero() {
		t.Errorf("revoked key: %+v, %v", k, err)
	}
	if err := w.register(r); err == nil {
		t.Error("a revoked key was registered again")
	}
	if _, err := w.store.Key(t.Context(), ident.NewSiteID(), id); !errors.Is(err, ErrNotFound) {
		t.Errorf("the key under another site: %v, want ErrNotFound", err)
	}
}

func TestLeaseKeepsASecondAgentOutUntilItRunsOut(t *testing.T) {
	w := newWorld(t)
	site := w.site("north")
	ctx := t.Context()
	open := func(id byte, spool ident.SpoolID) error {
		return w.store.OpenStream(ctx, Stream{ID: [16]byte{id}, Site: site, Spool: spool, PollInterval: 10 * time.Second, Version: "1"})
	}
	a, b := ident.NewSpoolID(), ident.NewSpoolID()
	if err := open(1, a); err != nil {
		t.Fatal(err)
	}
	if err := open(2, b); !errors.Is(err, ErrCloned) {
		t.Fatalf("another spool: %v, want ErrCloned", err)
	}
	if err := open(3, a); err != nil {
		t.Fatalf("the same spool again: %v", err)
	}
	one, three := StreamKey{site, [16]byte{1}}, StreamKey{site, [16]byte{3}}
	if lost, err := w.store.Renew(ctx, []StreamKey{one}); err != nil || len(lost) != 1 {
		t.Errorf("the replaced stream renewed: lost %v, %v", lost, err)
	}
	if err := w.store.CloseStream(ctx, one); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(Lease - time.Second)
	if lost, err := w.store.Renew(ctx, []StreamKey{three}); err != nil || len(lost) != 0 {
		t.Errorf("the stream in force was not renewed: lost %v, %v", lost, err)
	}
	w.now = w.now.Add(Lease - time.Second)
	if agents, err := w.store.Agents(ctx); err != nil || len(agents) != 1 || !agents[0].Connected {
		t.Errorf("agents within the lease: %+v, %v", agents, err)
	}
	w.now = w.now.Add(2 * time.Second) // the hub process that held it is dead
	if agents, err := w.store.Agents(ctx); err != nil || agents[0].Connected {
		t.Errorf("agents after the lease: %+v, %v", agents, err)
	}
	if err := open(4, b); err != nil {
		t.Errorf("another spool after the lease: %v", err)
	}
	site = ident.NewSiteID()
	if err := open(5, a); !errors.Is(err, ErrNotFound) {
		t.Errorf("a site that is not registered: %v, want ErrNotFound", err)
	}
}

func TestLatestIsWrittenAtMostEveryFiveSecondsUnlessItTellsNews(t *testing.T) {
	w := newWorld(t)
	site, id := w.site("north"), ident.NewMinerID()
	start := w.now
	w.report(site, []telemetry.Observation{hashing(id, start, 100e12)})
	w.now = w.now.Add(2 * time.Second)
	w.report(site, []telemetry.Observation{hashing(id, w.now, 101e12)})
	if m := w.miner(id); !m.At.Equal(start) {
		t.Errorf("written again after 2 s: %s", m.At)
	}
	failed := telemetry.Observation{Miner: id, At: w.now.Add(time.Second), Outcome: telemetry.OutcomeReset}
	w.report(site, []telemetry.Observation{failed})
	if m := w.miner(id); m.Outcome != telemetry.OutcomeReset || !m.AnsweredAt.Equal(start) {
		t.Errorf("a failure waits: %+v", m)
	}
	w.now = w.now.Add(8 * time.Second)
	w.report(site, []telemetry.Observation{hashing(id, w.now, 102e12), hashing(id, w.now.Add(-time.Second), 1)})
	if rate, _ := w.miner(id).Hashrate.Get(); rate != 102e12 {
		t.Errorf("rate %v, want the newest sample's", rate)
	}
	w.now = w.now.Add(8 * time.Second)
	w.report(site, []telemetry.Observation{hashing(id, start.Add(time.Second), 1)})
	if rate, _ := w.miner(id).Hashrate.Get(); rate != 102e12 {
		t.Errorf("rate %v: an old sample has replaced a newer one", rate)
	}
}

func TestBoardsAndPoolsAreWrittenAtOnceWhenTheyAreOthersAndElseEveryMinute(t *testing.T) {
	w := newWorld(t)
	site, id := w.site("north"), ident.NewMinerID()
	chips, pool := int32(126), "pool.example:3333"
	poll := func(temp unit.Celsius) {
		o := hashing(id, w.now, 100e12)
		o.Boards = []telemetry.Board{{Index: 0, ChipsWorking: unit.Some(chips), Temps: []unit.Celsius{temp}}}
		o.Pools = []telemetry.Pool{{URL: pool, Worker: "farm.1", Accepted: unit.Some(w.now.Unix())}}
		w.report(site, []telemetry.Observation{o})
	}
	want := func(what string, temp unit.Celsius, read time.Time) {
		t.Helper()
		m := w.miner(id)
		if m.Boards[0].Temps[0] != temp || !m.At.Equal(w.now) || !m.DetailAt.Equal(read) {
			t.Errorf("%s: boards of %s show %v °C, want %v of %s; row of %s", what, m.DetailAt, m.Boards[0].Temps[0], temp, read, m.At)
		}
	}
	start := w.now
	poll(60)
	want("first poll", 60, w.now)
	w.now = start.Add(10 * time.Second)
	poll(61)
	want("another temperature", 60, start)
	w.now = start.Add(20 * time.Second)
	chips = 125
	poll(62)
	want("a chip has failed", 62, w.now)
	w.now = start.Add(30 * time.Second)
	pool = "other.example:3333"
	poll(63)
	want("another pool", 63, w.now)
	w.now = start.Add(80 * time.Second)
	poll(64)
	want("after 50 s", 63, start.Add(30*time.Second))
	w.now = start.Add(90 * time.Second)
	poll(65)
	want("after a minute", 65, w.now)
	w.now = start.Add(100 * time.Second)
	w.report(site, []telemetry.Observation{{Miner: id, At: w.now, Outcome: telemetry.OutcomeTimeout}})
	if m := w.miner(id); len(m.Boards)+len(m.Pools) != 0 || !m.DetailAt.Equal(w.now) {
		t.Errorf("a miner that does not answer shows boards %v and pools %v of %s", m.Boards, m.Pools, m.DetailAt)
	}
}

func TestWrongClockIsForgottenWhenItIsRight(t *testing.T) {
	w := newWorld(t)
	site, id := w.site("north"), ident.NewMinerID()
	w.report(site, []telemetry.Observation{hashing(id, w.now.Add(20*time.Hour), 1)})
	if m := w.miner(id); !m.Stale || !Stale(w.now, m.At, m.PollInterval) {
		t.Error("a poll from 20 hours ahead is shown as live")
	}
	if s, err := w.store.Site(t.Context(), site); err != nil || s.Miners.Stale != 1 || s.Hashrate.Present() {
		t.Errorf("the site counts its rate: %+v, %v", s, err)
	}
	w.now = w.now.Add(10 * time.Second)
	w.report(site, []telemetry.Observation{hashing(id, w.now, 100e12)})
	if m := w.miner(id); !m.At.Equal(w.now) || m.Stale {
		t.Errorf("latest poll of %s, want the one after the clock was set right", m.At)
	}
}

func TestAnotherSitesMinerCannotBeClaimed(t *testing.T) {
	w := newWorld(t)
	thief, owner := w.site("thief"), w.site("owner")
	id, own := ident.NewMinerID(), ident.NewMinerID()
	w.report(owner, []telemetry.Observation{hashing(id, w.now, 100e12)}, telemetry.MinerInfo{Miner: id, Address: "10.0.0.1:4028"})
	for range 2 {
		w.now = w.now.Add(10 * time.Second)
		w.report(thief, []telemetry.Observation{hashing(id, w.now, 1), hashing(own, w.now, 90e12)}, telemetry.MinerInfo{Miner: id, Address: "10.9.9.9:4028"})
	}
	if m := w.miner(id); m.Site != owner || m.Info.Address != "10.0.0.1:4028" {
		t.Errorf("the miner is at site %s (%s), want %s", m.SiteName, m.Info.Address, "owner")
	}
	snap, err := w.store.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(snap.Miners) != 2 {
		t.Errorf("%d miners are shown, want the owner's and the thief's own", len(snap.Miners))
	}
	if s, err := w.store.Site(t.Context(), thief); err != nil || s.Miners.Total != 1 {
		t.Errorf("the thief has %d miners, %v", s.Miners.Total, err)
	}
}

func TestMinersOfASiteAndOfTheFleetAreBounded(t *testing.T) {
	w := newWorld(t)
	var err error
	if w.latest, err = NewLatest(LatestConfig{Now: func() time.Time { return w.now }, MaxSite: 3, MaxFleet: 5}); err != nil {
		t.Fatal(err)
	}
	first, second := w.site("first"), w.site("second")
	several := func(n int) (obs []telemetry.Observation) {
		for range n {
			obs = append(obs, hashing(ident.NewMinerID(), w.now, 100e12))
		}
		return obs
	}
	w.report(first, several(2))
	known := several(1)
	w.report(first, known)
	w.report(first, several(2)) // beyond the site's bound
	w.report(second, several(3))
	w.now = w.now.Add(time.Minute)
	known[0].At = w.now
	w.report(first, known) // who has a row keeps it up to date
	if m := w.miner(known[0].Miner); !m.At.Equal(w.now) {
		t.Errorf("a known miner's row is of %s, want %s", m.At, w.now)
	}
	for site, want := range map[ident.SiteID]int64{first: 3, second: 2} {
		if s, err := w.store.Site(t.Context(), site); err != nil || s.Miners.Total != want {
			t.Errorf("site %s has %d miners, want %d, %v", s.Name, s.Miners.Total, want, err)
		}
	}
}

func TestDescriptionsWithoutPollsTakeLittleRoom(t *testing.T) {
	w := newWorld(t)
	var err error
	if w.latest, err = NewLatest(LatestConfig{Now: func() time.Time { return w.now }, MaxUnpolled: 3}); err != nil {
		t.Fatal(err)
	}
	site := w.site("north")
	describe := func(n int) (infos []telemetry.MinerInfo) {
		for range n {
			infos = append(infos, telemetry.MinerInfo{Miner: ident.NewMinerID(), Address: "10.0.0.1:4028"})
		}
		return infos
	}
	polled := ident.NewMinerID()
	first := describe(2)
	w.report(site, []telemetry.Observation{hashing(polled, w.now, 100e12)}, first...)
	w.now = w.now.Add(10 * time.Second)
	w.report(site, []telemetry.Observation{hashing(polled, w.now, 100e12)}, describe(20)...)
	rows := func() (n int) {
		if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM miner`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := rows(); n != 1+3 {
		t.Errorf("%d miners have a row, want the polled one and 3 described ones", n)
	}
	w.now = w.now.Add(10 * time.Second)
	w.report(site, []telemetry.Observation{hashing(first[0].Miner, w.now, 100e12), hashing(ident.NewMinerID(), w.now, 100e12)})
	w.report(site, []telemetry.Observation{hashing(polled, w.now.Add(time.Second), 100e12)}, describe(20)...)
	if n := rows(); n != 1+3+1+1 { // the polled one's place is free again
		t.Errorf("%d miners have a row, want 6", n)
	}
	if m := w.miner(first[0].Miner); m.Info.Address != "10.0.0.1:4028" {
		t.Errorf("the description that came before the first poll is lost: %+v", m.Info)
	}
}

func TestChangesHoldWhatWasWrittenSinceAndNothingElse(t *testing.T) {
	w := newWorld(t)
	site := w.site("north")
	var ids []ident.MinerID
	var obs []telemetry.Observation
	for range 10 {
		ids = append(ids, ident.NewMinerID())
		obs = append(obs, hashing(ids[len(ids)-1], w.now, 100e12))
	}
	w.report(site, obs, telemetry.MinerInfo{Miner: ids[0], Address: "10.0.0.1:4028", Hostname: "a\x00b"})
	snap, err := w.store.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(snap.Miners) != 10 {
		t.Fatalf("snapshot of %d miners, want 10", len(snap.Miners))
	}

	// A transaction that began before the snapshot commits after it.
	w.now = w.now.Add(10 * time.Second)
	slow, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Exec(t.Context(), `UPDATE miner_latest SET version = pg_current_xact_id() WHERE miner_id = $1`, ids[3][:]); err != nil {
		t.Fatal(err)
	}
	w.report(site, []telemetry.Observation{hashing(ids[5], w.now, 90e12)})
	during, err := w.store.Changes(t.Context(), snap.Version)
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := w.store.Changes(t.Context(), during.Version)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[ident.MinerID]bool{}
	for _, m := range append(during.Miners, after.Miners...) {
		seen[m.Info.Miner] = true
	}
	if len(seen) != 2 || !seen[ids[3]] || !seen[ids[5]] {
		t.Errorf("%d miners changed, want the two that were written", len(seen))
	}
	if done, err := w.store.Changes(t.Context(), after.Version); err != nil || len(done.Miners) != 0 {
		t.Errorf("%d changes when nothing changed, %v", len(done.Miners), err)
	}
	if m := w.miner(ids[0]); m.Info.Hostname != "a\uFFFDb" || m.Info.Address != "10.0.0.1:4028" {
		t.Errorf("description %+v", m.Info)
	}
}

func TestSitesAddUpStatesAndLeaveStaleRatesOut(t *testing.T) {
	w := newWorld(t)
	site, other := w.site("north"), w.site("south")
	if err := w.store.OpenStream(t.Context(), Stream{ID: [16]byte{1}, Site: site, Spool: ident.NewSpoolID(), PollInterval: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	old, live, dead := ident.NewMinerID(), ident.NewMinerID(), ident.NewMinerID()
	w.report(site, []telemetry.Observation{
		hashing(old, w.now.Add(-21*time.Second), 50e12), hashing(live, w.now.Add(-5*time.Second), 100e12), {Miner: dead, At: w.now, Outcome: telemetry.OutcomeTimeout},
	})
	sites, err := w.store.Sites(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(sites) != 2 || sites[1].ID != other || sites[1].Miners.Total != 0 || sites[1].Hashrate.Present() {
		t.Errorf("sites %+v", sites)
	}
	s := sites[0]
	rate, _ := s.Hashrate.Get()
	power, _ := s.Power.Get()
	if s.Miners.Total != 3 || s.Miners.Stale != 1 || s.Miners.In(telemetry.StateHashing) != 2 || s.Miners.In(telemetry.StateUnknown) != 1 || rate != 100e12 || power != 3000 || !s.Connected {
		t.Errorf("site %+v", s)
	}
	if !w.miner(old).Stale || w.miner(live).Stale {
		t.Error("stale is not told from live")
	}
	if _, err := w.store.Site(t.Context(), ident.NewSiteID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown site: %v, want ErrNotFound", err)
	}
	if _, err := w.store.Miner(t.Context(), ident.NewMinerID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown miner: %v, want ErrNotFound", err)
	}
	counts, err := w.store.Counts(t.Context())
	if err != nil || counts != (Counts{Known: 2, Connected: 1, Miners: 3}) {
		t.Errorf("counts %+v, %v", counts, err)
	}
}
