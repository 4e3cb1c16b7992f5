package localrun

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// A hub without contracts is given one, so that whoever sees it for the first time sees one that lives.
const (
	demoCustomer = "Demo customer"
	demoContract = "Demo contract"
	demoShare    = 0.9                // of what a miner does: contracted
	demoRateMHs  = int64(100_000_000) // for a miner that does not tell what it does
	demoPage     = 500                // miners that are assigned by one request
)

// contract is one that the stack has made, or an earlier run.
type contract struct {
	id   string
	from time.Time // when its miners came under it; zero: in an earlier run
}

// ensureDemo makes customer and contract unless an earlier run has.
func (s *stack) ensureDemo(ctx context.Context) error {
	id, err := s.named(ctx, "/api/contracts", demoContract)
	if err != nil || id != "" {
		s.demo.id = id
		return err
	}
	s.demo, err = s.contract(ctx, demoCustomer, demoContract, map[string]any{"fee_minor": 250_000, "currency": "EUR"})
	return err
}

// contract makes one over the miners that there are, through the API, as an operator would.
func (s *stack) contract(ctx context.Context, customer, name string, terms map[string]any) (c contract, err error) {
	owner, err := s.named(ctx, "/api/customers", customer)
	if err != nil {
		return c, err
	}
	var made created
	if owner == "" {
		if err := s.post(ctx, "/api/customers", map[string]any{"name": customer}, &made); err != nil {
			return c, err
		}
		owner = made.ID
	}
	c.from = time.Now().UTC().Truncate(time.Second)
	terms["from"], terms["rate_mhs"] = c.from, demoRateMHs
	if err := s.post(ctx, "/api/contracts", map[string]any{"customer_id": owner, "name": name, "terms": terms}, &made); err != nil {
		return c, err
	}
	c.id = made.ID
	miners, err := s.miners(ctx)
	if err != nil {
		return c, err
	}
	for page := range slices.Chunk(miners, demoPage) {
		var list []map[string]any
		for _, m := range page {
			one := map[string]any{"site_id": m.SiteID, "miner_id": m.ID, "from": c.from}
			if m.HashrateHS != nil && *m.HashrateHS >= 1e7 {
				one["rate_mhs"] = int64(math.Round(demoShare * *m.HashrateHS / 1e6))
			}
			list = append(list, one)
		}
		if err := s.post(ctx, "/api/contracts/"+c.id+"/miners", map[string]any{"miners": list}, nil); err != nil {
			return c, err
		}
	}
	return c, nil
}

type created struct {
	ID string `json:"id"`
}

// named looks for a customer or a contract by its name; "" means that there is none.
func (s *stack) named(ctx context.Context, path, name string) (id string, err error) {
	err = pages(ctx, s, path+"?limit=500", func(item struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}) {
		if item.Name == name {
			id = item.ID
		}
	})
	return id, err
}

// post changes something at the hub with the owner's key.
func (s *stack) post(ctx context.Context, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("order for %s: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.ports.Web+path, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("order at %s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end or given up
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch {
	case err != nil:
		return fmt.Errorf("answer of %s: %w", path, err)
	case res.StatusCode/100 != 2:
		return fmt.Errorf("order at %s: %s: %.500s", path, res.Status, answer)
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("answer of %s: %w", path, err)
	}
	return nil
}

const (
	slotLength = 5 * time.Minute
	settled    = 10 * time.Minute // after an hour's end, when it must have been judged whatever was killed
	signing    = 2 * time.Minute  // after an hour's end, until the site has signed it and the hub has judged it
)

// minerKey names a miner at the hub.
type minerKey struct {
	SiteID  string `json:"site_id"`
	MinerID string `json:"miner_id"`
}

// slotsVerdict compares what the hub makes of the demo contract's slots with what the simulator knows, for the hours that have ended since a time. Only
// slots count of which the simulator is sure: a miner that answered and did its work all the time, and one that did none.
type slotsVerdict struct {
	Hours, Slots int
	Wrong        int
	Example      string
}

func (s *stack) compareSlots(ctx context.Context, since time.Time) (v slotsVerdict, err error) {
	from := later(since, s.demo.from).UTC().Add(slotLength - 1).Truncate(slotLength)
	to := time.Now().UTC().Add(-signing).Truncate(time.Hour)
	if s.demo.id == "" || !from.Before(to) {
		return v, nil
	}
	v.Hours = int(to.Sub(from.Truncate(time.Hour)) / time.Hour)
	rates, err := s.ratesOf(ctx, s.demo)
	if err != nil {
		return v, err
	}
	for day := from.Truncate(24 * time.Hour); day.Before(to); day = day.Add(24 * time.Hour) {
		letters, err := s.slotsOf(ctx, s.demo, day)
		if err != nil {
			return v, err
		}
		for at := later(from, day); at.Before(to) && at.Before(day.Add(24*time.Hour)); at = at.Add(slotLength) {
			truth, err := s.truth(ctx, at, at.Add(slotLength))
			if err != nil {
				return v, err
			}
			for _, m := range letters {
				v.compare(m, int(at.Sub(day)/slotLength), at, truth[m.Name], rates[m.minerKey])
			}
		}
	}
	return v, nil
}

func (v *slotsVerdict) compare(m dayMiner, slot int, at time.Time, truth minerTruth, rate int64) {
	var want byte
	switch sure := rate * 300 / 10 * 9; { // well over the 80 % from which on a slot is up
	case !truth.known:
		return
	case truth.Hashes == 0:
		want = 'D'
	case truth.Answers == slotLength.Seconds() && int64(truth.Hashes) >= sure:
		want = 'U'
	default:
		return
	}
	if slot < len(m.States) {
		switch m.States[slot] {
		case 'c', 'm':
			return // whoever tries the page or the commands may excuse what he likes
		case '?':
			if time.Since(at.Truncate(time.Hour).Add(time.Hour)) < settled {
				return // a hub or an agent that was killed a moment ago signs and judges a little later
			}
		}
	}
	v.Slots++
	if slot >= len(m.States) || m.States[slot] != want {
		v.Wrong++
		v.Example = fmt.Sprintf("%s at %s is %q, want %c", m.Name, at.Format(time.RFC3339), m.States[min(slot, len(m.States)):min(slot+1, len(m.States))], want)
	}
}

// dayMiner is a miner's slots of a day, as the hub tells them.
type dayMiner struct {
	minerKey
	Name   string `json:"name"`
	States string `json:"states"`
}

func (s *stack) slotsOf(ctx context.Context, c contract, day time.Time) (all []dayMiner, err error) {
	path := "/api/contracts/" + c.id + "/slots/day?limit=1000&day=" + day.Format(time.DateOnly)
	err = pages(ctx, s, path, func(m dayMiner) { all = append(all, m) })
	return all, err
}

func (s *stack) ratesOf(ctx context.Context, c contract) (map[minerKey]int64, error) {
	rates := map[minerKey]int64{}
	err := pages(ctx, s, "/api/contracts/"+c.id+"/miners?limit=1000", func(m struct {
		minerKey
		RateMHs int64 `json:"rate_mhs"`
	}) {
		rates[m.minerKey] = cmp.Or(m.RateMHs, demoRateMHs)
	})
	return rates, err
}

// pages reads a list to its end.
func pages[T any](ctx context.Context, s *stack, path string, each func(T)) error {
	for cursor := ""; ; {
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next"`
		}
		if err := s.get(ctx, path+"&cursor="+url.QueryEscape(cursor), &page); err != nil {
			return err
		}
		for _, item := range page.Items {
			each(item)
		}
		if cursor = page.Next; cursor == "" {
			return nil
		}
	}
}

// minerTruth is what the simulator knows of a miner in a stretch of time.
type minerTruth struct {
	Address string  `json:"address"`
	Hashes  uint64  `json:"hashes_mh"`
	Powered float64 `json:"powered_s"`
	Answers float64 `json:"answers_s"`
	known   bool
}

func (s *stack) truth(ctx context.Context, from, to time.Time) (map[string]minerTruth, error) {
	var out struct {
		Miners []minerTruth `json:"miners"`
	}
	err := getJSON(ctx, s.inside, fmt.Sprintf("http://%s/truth?from=%d&to=%d", s.ports.Control, from.UnixMilli(), to.UnixMilli()), "", &out)
	all := make(map[string]minerTruth, len(out.Miners))
	for _, m := range out.Miners {
		m.known = true
		all[m.Address] = m
	}
	return all, err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
