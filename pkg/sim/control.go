package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ParseShare reads a share such as "10%" or "0.1".
func ParseShare(s string) (float64, error) {
	num, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	v, err := strconv.ParseFloat(num, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("share %q is neither a percentage such as 10%% nor a number from 0 to 1", s)
	}
	return v, nil
}

// faultJSON is a Fault as files and the control endpoint write it.
type faultJSON struct {
	All       bool     `json:"all"`
	Addresses []string `json:"addresses"`
	Family    string   `json:"family"`
	Machine   string   `json:"machine"`
	Share     string   `json:"share"`
	Count     int      `json:"count"`
	Behaviour Kind     `json:"behaviour"`
	Form      Form     `json:"form"`
	Factor    *float64 `json:"factor"`
	Latency   string   `json:"latency"`
	After     string   `json:"after"`
	For       string   `json:"for"`
}

func (j faultJSON) fault() (Fault, error) {
	ft := Fault{
		Select:    Selection{All: j.All, Addresses: j.Addresses, Family: j.Family, Machine: j.Machine, Count: j.Count},
		Behaviour: Behaviour{Kind: j.Behaviour, Form: j.Form},
	}
	var errs []error
	if j.Share != "" {
		var err error
		ft.Select.Share, err = ParseShare(j.Share)
		errs = append(errs, err)
	}
	for _, d := range []struct {
		text string
		to   *time.Duration
	}{{j.After, &ft.After}, {j.For, &ft.For}} {
		if d.text != "" {
			var err error
			*d.to, err = time.ParseDuration(d.text)
			errs = append(errs, err)
		}
	}
	switch {
	case j.Factor != nil:
		ft.Factor = *j.Factor
	case j.Behaviour == Droop:
		errs = append(errs, errors.New("droop needs a factor, the share of the usual rate"))
	}
	if j.Latency != "" {
		var err error
		ft.Latency, err = ParseLatency(j.Latency)
		errs = append(errs, err)
	}
	return ft, errors.Join(errs...)
}

// ParseFaults reads a JSON list of faults. Each has a selection (all, addresses, family, machine, and of those share or
// count), a behaviour with its form, factor or latency, and after and for as durations. Unknown keys are errors.
func ParseFaults(raw []byte) ([]Fault, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var list []faultJSON
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("list of faults: %w", err)
	}
	if dec.More() {
		return nil, errors.New("list of faults: there is something behind the list")
	}
	out := make([]Fault, 0, len(list))
	for i, j := range list {
		ft, err := j.fault()
		if err != nil {
			return nil, fmt.Errorf("fault %d: %w", i+1, err)
		}
		out = append(out, ft)
	}
	return out, nil
}

// minerJSON is a miner in GET /fleet.
type minerJSON struct {
	Address      string   `json:"address"`
	Family       string   `json:"family"`
	Machine      string   `json:"machine"`
	Model        string   `json:"model,omitempty"`
	MAC          string   `json:"mac,omitempty"`
	Recorded     bool     `json:"recorded,omitempty"`
	Healthy      bool     `json:"healthy"`
	HealthySince string   `json:"healthy_since,omitempty"` // absent: from the beginning
	Fault        string   `json:"fault,omitempty"`
	Hashrate     *float64 `json:"hashrate_hs,omitempty"`
	Window       float64  `json:"window_s,omitempty"`
	Uptime       int64    `json:"uptime_s,omitempty"`
	TotalMH      float64  `json:"total_mh,omitempty"`
	Serial       uint64   `json:"serial,omitempty"`
}

// maxFaultBody bounds the body of POST /faults.
const maxFaultBody = 1 << 20

// Handler is the control endpoint. It knows no user and must be bound to a loopback address.
//
//	GET  /health  counts since the start
//	GET  /fleet   every miner with what the model expects of it now, or at ?at= (Unix time in ms)
//	GET  /truth   every miner with what was so ?from= one moment until before ?to= another (Unix time in ms)
//	POST /faults  a JSON list as ParseFaults reads it, counted from now
func (f *Fleet) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, struct {
			Miners int `json:"miners"`
			Stats
		}{len(f.miners), f.Stats()})
	})
	mux.HandleFunc("GET /fleet", f.serveFleet)
	mux.HandleFunc("GET /truth", f.serveTruth)
	mux.HandleFunc("POST /faults", f.serveFaults)
	return mux
}

func (f *Fleet) serveFleet(w http.ResponseWriter, r *http.Request) {
	at := f.now()
	if r.URL.Query().Get("at") != "" {
		var err error
		if at, err = moment(r, "at"); err != nil {
			refuse(w, err)
			return
		}
	}
	list := make([]minerJSON, len(f.miners))
	for i, m := range f.miners {
		d, e := m.describe(), m.expectation(at)
		list[i] = minerJSON{
			Address: d.Address, Family: d.Family, Machine: d.Machine, Model: d.Model, MAC: d.MAC, Recorded: d.Recorded,
			Healthy: e.Healthy, Fault: e.Fault, Window: e.Window.Seconds(), Serial: e.Serial,
		}
		if !e.HealthySince.IsZero() {
			list[i].HealthySince = e.HealthySince.UTC().Format(time.RFC3339Nano)
		}
		if !d.Recorded {
			rate := float64(e.Hashrate)
			list[i].Hashrate, list[i].Uptime, list[i].TotalMH = &rate, int64(at.Sub(e.Boot).Seconds()), math.Floor(e.TotalMH)
		}
	}
	writeJSON(w, http.StatusOK, struct {
		At     int64       `json:"at_ms"`
		Miners []minerJSON `json:"miners"`
	}{at.UnixMilli(), list})
}

// moment reads a Unix time in ms from the query.
func moment(r *http.Request, name string) (time.Time, error) {
	q := r.URL.Query().Get(name)
	ms, err := strconv.ParseInt(q, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s=%q is not a Unix time in milliseconds", name, q)
	}
	return time.UnixMilli(ms), nil
}

// truthJSON is a miner in GET /truth. Miners of which nothing is known there are left out.
type truthJSON struct {
	Address string  `json:"address"`
	Hashes  uint64  `json:"hashes_mh"`
	Powered float64 `json:"powered_s"`
	Answers float64 `json:"answers_s"`
}

func (f *Fleet) serveTruth(w http.ResponseWriter, r *http.Request) {
	from, err := moment(r, "from")
	to, errTo := moment(r, "to")
	if err = errors.Join(err, errTo); err != nil {
		refuse(w, err)
		return
	}
	list := make([]truthJSON, 0, len(f.miners))
	for _, m := range f.miners {
		if tr, ok := f.Truth(m.address, from, to); ok {
			list = append(list, truthJSON{Address: m.address, Hashes: tr.Hashes, Powered: tr.Powered.Seconds(), Answers: tr.Answers.Seconds()})
		}
	}
	writeJSON(w, http.StatusOK, map[string][]truthJSON{"miners": list})
}

func (f *Fleet) serveFaults(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFaultBody))
	if err != nil {
		refuse(w, err)
		return
	}
	faults, err := ParseFaults(raw)
	if err != nil {
		refuse(w, err)
		return
	}
	n, err := f.Schedule(faults...)
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]int{"miners": n})
}

func refuse(w http.ResponseWriter, err error) {
	writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the client left if this fails; there is nobody to tell
}
