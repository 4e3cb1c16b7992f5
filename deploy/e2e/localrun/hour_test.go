package localrun

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

// The end of an hour in real processes: an agent that is unplugged, a link that is cut with miners hashing and with miners off, a curtailment that is
// recorded in time and one that is not. It takes until some minutes past an hour, half an hour at least, which make soak takes.
func TestAnHourOfContracts(t *testing.T) {
	if os.Getenv("HSI_TEST_HOUR") == "" {
		t.Skip("takes half an hour or more: HSI_TEST_HOUR=1 runs it, as make soak does")
	}
	r := newRelays(t)
	s := newStack(t, Config{Fleet: 20, Seed: 5}, r.where())
	r.aim(s.ports)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFresh(t, s, startTimeout, "at the start")
	c, err := s.contract(t.Context(), "An hour's customer", "An hour's contract", map[string]any{"curtail_late_s": 60})
	if err != nil {
		t.Fatal(err)
	}
	miners := s.healthyMiners(t)
	off, curtailed, late := miners[0:3], miners[3:6], miners[6:9]

	end := time.Now().UTC().Truncate(time.Hour).Add(time.Hour)
	if time.Until(end) < 26*time.Minute {
		end = end.Add(time.Hour)
	}
	at := func(before time.Duration) time.Time { return end.Add(-before) }
	first := at(25 * time.Minute)
	s.waitUntil(t.Context(), first.Add(-2*time.Second)) // polls in flight end
	if err := s.agent.stop(); err != nil {
		t.Fatal(err)
	}
	s.waitUntil(t.Context(), at(20*time.Minute))
	s.agent = s.newChild("agent", nil, s.agent.argv...)
	if err := s.agent.run(); err != nil {
		t.Fatal(err)
	}
	s.waitUntil(t.Context(), at(19*time.Minute))
	r.cut()
	s.waitUntil(t.Context(), at(15*time.Minute))
	s.fault(t, off, sim.Off)
	s.waitUntil(t.Context(), at(10*time.Minute))
	s.fault(t, append(slices.Clone(curtailed), late...), sim.Sleeping)
	s.curtail(t, curtailed, at(10*time.Minute))
	s.waitUntil(t.Context(), at(8*time.Minute))
	s.curtail(t, late, at(10*time.Minute))
	s.waitUntil(t.Context(), at(4*time.Minute))
	r.mend()
	s.waitUntil(t.Context(), end.Add(signing))

	// The site signs the hour after a minute, the hub compares it within the next, and judges its slots within another.
	day := first.Truncate(24 * time.Hour)
	slot := int(first.Sub(day) / slotLength)
	rows := map[string]string{}
	if !s.eventually(t, settled-signing, func() (err error, done bool) {
		letters, err := s.slotsOf(t.Context(), c, day)
		done = true
		for _, l := range letters {
			rows[l.MinerID] = l.States
			done = done && len(l.States) >= slot+5 && !strings.Contains(l.States[slot+1:slot+5], "?")
		}
		return err, done
	}) {
		t.Errorf("slots are still open %s after the hour", settled)
	}
	t.Logf("judged %.0f s after the hour", time.Since(end).Seconds())
	for i, m := range miners {
		want := "?UUUU" // unplugged, cut, cut, cut, back
		switch {
		case i < 3:
			want = "?UDUU"
		case i < 6:
			want = "?UUcU"
		case i < 9:
			want = "?UUDU"
		}
		if row := rows[m.ID]; len(row) < slot+5 || row[slot:slot+5] != want {
			t.Errorf("%s: %q, want %q from %s", m.Address, row[min(slot, len(row)):min(slot+5, len(row))], want, first.Format(time.TimeOnly))
		}
	}
	t.Logf("%d slots of %d miners are what the simulator did", 5*len(miners), len(miners))
	if err := s.judge(); err != nil {
		t.Error(err)
	}
}

// healthyMiners are those that the simulator serves without fault, as the hub knows them.
func (s *stack) healthyMiners(t *testing.T) (healthy []apiMiner) {
	t.Helper()
	all, err := s.miners(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := s.fleet(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if slices.ContainsFunc(fleet, func(f simMiner) bool { return f.Address == m.Address && f.Healthy && !f.Recorded }) {
			healthy = append(healthy, m)
		}
	}
	slices.SortFunc(healthy, func(a, b apiMiner) int { return cmp.Compare(a.Address, b.Address) })
	if len(healthy) < 10 {
		t.Fatalf("%d healthy miners", len(healthy))
	}
	return healthy
}

// fault lets miners do something for a slot.
func (s *stack) fault(t *testing.T, miners []apiMiner, k sim.Kind) {
	t.Helper()
	var addresses []string
	for _, m := range miners {
		addresses = append(addresses, m.Address)
	}
	raw, err := json.Marshal([]map[string]any{{"addresses": addresses, "behaviour": k, "for": slotLength.String()}})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.ports.Control+"/faults", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.inside.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close() // nothing is read from it
	if res.StatusCode != http.StatusOK {
		t.Fatalf("the simulator: %s", res.Status)
	}
}

// curtail records an order for miners and a slot.
func (s *stack) curtail(t *testing.T, miners []apiMiner, from time.Time) {
	t.Helper()
	var ids []string
	for _, m := range miners {
		ids = append(ids, m.ID)
	}
	err := s.post(t.Context(), "/api/excuses", map[string]any{
		"kind": "curtailment", "site_id": miners[0].SiteID, "miner_ids": ids, "from": from, "to": from.Add(slotLength), "note": "the grid asked for it",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}
