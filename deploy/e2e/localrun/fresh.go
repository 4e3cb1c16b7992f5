package localrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"
)

// freshness is one look at the API beside the simulator's own state.
type freshness struct {
	Miners  int           // simulated ones
	Healthy int           // served without fault now
	Fresh   int           // of the healthy: latest value young enough and within 1 % of the model
	Oldest  time.Duration // age of the oldest latest value of a healthy miner
	Example string        // what is wrong with one that is not fresh
}

const rateTolerance = 0.01

// freshAge is how old the latest value of a healthy miner may be: two poll intervals, and with short ones what batch,
// commit and way may add.
func (c Config) freshAge() time.Duration { return max(2*c.Interval, c.Interval+5*time.Second) }

// simMiner is what the simulator says of one miner.
type simMiner struct {
	Address    string  `json:"address"`
	Healthy    bool    `json:"healthy"`
	Recorded   bool    `json:"recorded"` // served from a folder of recorded replies
	HashrateHS float64 `json:"hashrate_hs"`
	Window     float64 `json:"window_s"`
}

// apiMiner is what the hub says of one miner.
type apiMiner struct {
	ID         string    `json:"id"`
	SiteID     string    `json:"site_id"`
	Address    string    `json:"address"`
	At         time.Time `json:"at"`
	State      string    `json:"state"`
	Outcome    string    `json:"outcome"`
	HashrateHS *float64  `json:"hashrate_hs"`
}

// waitFresh looks once a second until every healthy miner is fresh, and returns the last look.
func (s *stack) waitFresh(ctx context.Context) (freshness, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last freshness
	var why error
	for {
		f, err := s.look(ctx)
		switch {
		case err == nil && f.Fresh == f.Healthy && f.Healthy > 0:
			return f, nil
		case err == nil:
			last, why = f, fmt.Errorf("%d of %d healthy miners are fresh (%s)", f.Fresh, f.Healthy, f.Example)
		case why == nil || ctx.Err() == nil: // a look that the deadline cut off tells less than the one before
			why = err
		}
		select {
		case <-tick.C:
		case <-s.broken:
			return last, s.failed()
		case <-ctx.Done():
			return last, why
		}
	}
}

// look compares the API's latest values with the simulator's model.
func (s *stack) look(ctx context.Context) (freshness, error) {
	miners, err := s.miners(ctx)
	if err != nil {
		return freshness{}, err
	}
	fleet, err := s.fleet(ctx, time.Time{})
	if err != nil {
		return freshness{}, err
	}
	now := time.Now()
	model := s.modelAt(ctx)
	byAddress := make(map[string]apiMiner, len(miners))
	for _, m := range miners {
		byAddress[m.Address] = m
	}
	var f freshness
	for _, want := range fleet {
		f.Miners++
		if !want.Healthy || want.Recorded {
			continue
		}
		f.Healthy++
		got, ok := byAddress[want.Address]
		age := now.Sub(got.At)
		if ok {
			f.Oldest = max(f.Oldest, age)
		}
		switch {
		case !ok:
			f.Example = want.Address + " is not in the API"
		case age > s.c.freshAge():
			f.Example = fmt.Sprintf("%s is %.1f s old", want.Address, age.Seconds())
		case got.HashrateHS == nil:
			f.Example = fmt.Sprintf("%s has no hashrate: %s, %s", want.Address, got.State, got.Outcome)
		default:
			want, err := model(got.At, got.Address)
			switch {
			case err != nil:
				return freshness{}, err
			case math.Abs(*got.HashrateHS-want) > rateTolerance*want:
				f.Example = fmt.Sprintf("%s shows %.5g H/s, the model had %.5g", got.Address, *got.HashrateHS, want)
			default:
				f.Fresh++
			}
		}
	}
	return f, nil
}

// modelAt returns a function that asks the simulator's model for a miner's reported rate at a time, once for each second
// that occurs.
func (s *stack) modelAt(ctx context.Context) func(at time.Time, address string) (float64, error) {
	rates := map[int64]map[string]float64{}
	return func(at time.Time, address string) (float64, error) {
		second := at.Unix()
		if rates[second] == nil {
			fleet, err := s.fleet(ctx, at)
			if err != nil {
				return 0, err
			}
			rates[second] = map[string]float64{}
			for _, m := range fleet {
				rates[second][m.Address] = m.HashrateHS
			}
		}
		return rates[second][address], nil
	}
}

// fleet asks the simulator what its model expects at a time (zero: now).
func (s *stack) fleet(ctx context.Context, at time.Time) ([]simMiner, error) {
	address := "http://" + s.ports.Control + "/fleet"
	if !at.IsZero() {
		address += fmt.Sprintf("?at=%d", at.UnixMilli())
	}
	var out struct {
		Miners []simMiner `json:"miners"`
	}
	err := getJSON(ctx, s.inside, address, "", &out)
	return out.Miners, err
}

// miners asks the hub, page by page.
func (s *stack) miners(ctx context.Context) ([]apiMiner, error) {
	var all []apiMiner
	cursor := ""
	for {
		var page struct {
			Items []apiMiner `json:"items"`
			Next  string     `json:"next"`
		}
		if err := s.get(ctx, "/api/miners?limit=500&cursor="+url.QueryEscape(cursor), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

// get asks the hub with the owner's key.
func (s *stack) get(ctx context.Context, path string, into any) error {
	return getJSON(ctx, http.DefaultClient, "http://"+s.ports.Web+path, s.key, into)
}

func getJSON(ctx context.Context, client *http.Client, address, key string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end or given up
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s", address, res.Status)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return errors.Join(fmt.Errorf("answer of %s", address), err)
	}
	return nil
}
