package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// MinerLatest is what the latest poll of a miner said. After a failed poll the readings are absent.
type MinerLatest struct {
	ID              string   `json:"id" format:"uuid"`
	SiteID          string   `json:"site_id" format:"uuid"`
	SiteName        string   `json:"site_name"`
	Address         string   `json:"address" doc:"As the agent reaches it"`
	MAC             string   `json:"mac,omitempty"`
	Serial          string   `json:"serial,omitempty"`
	Maker           string   `json:"maker,omitempty"`
	Model           string   `json:"model,omitempty"`
	Firmware        string   `json:"firmware,omitempty" doc:"Family"`
	FirmwareVersion string   `json:"firmware_version,omitempty"`
	Hostname        string   `json:"hostname,omitempty"`
	State           string   `json:"state" enum:"hashing,degraded,sleeping,overheated,faulty,no_pool,starting,unknown"`
	Outcome         string   `json:"outcome" doc:"How the latest poll went" enum:"ok,partial,refused,timeout,denied,garbage,api_error,reset,unreachable,too_large"`
	At              Time     `json:"at" doc:"When the latest poll ended, by the agent's clock"`
	ReadingsAt      *Time    `json:"readings_at,omitempty" doc:"When the readings shown were taken; absent when there are none"`
	LastAnswerAt    *Time    `json:"last_answer_at,omitempty" doc:"When the miner last answered"`
	PollIntervalS   float64  `json:"poll_interval_s"`
	HashrateHS      *float64 `json:"hashrate_hs,omitempty" doc:"Over the shortest window the firmware reports, hashes per second"`
	HashrateWindowS *float64 `json:"hashrate_window_s,omitempty" doc:"Length of that window"`
	HashrateAvgHS   *float64 `json:"hashrate_avg_hs,omitempty" doc:"Since the mining program started"`
	IdealHashrateHS *float64 `json:"ideal_hashrate_hs,omitempty" doc:"Nominal rate"`
	TempBoardC      *float64 `json:"temp_board_c,omitempty" doc:"Hottest board sensor"`
	TempChipC       *float64 `json:"temp_chip_c,omitempty" doc:"Hottest chip sensor"`
	TempInletC      *float64 `json:"temp_inlet_c,omitempty"`
	FansRPM         []*int32 `json:"fans_rpm,omitempty" doc:"By position; null where a fan did not report"`
	FanPercent      *int32   `json:"fan_percent,omitempty"`
	PowerW          *float64 `json:"power_w,omitempty"`
	UptimeS         *float64 `json:"uptime_s,omitempty" doc:"Since the mining program started"`
	Accepted        *int64   `json:"accepted,omitempty" doc:"Shares since the mining program started"`
	Rejected        *int64   `json:"rejected,omitempty"`
	StaleShares     *int64   `json:"stale_shares,omitempty"`
	HardwareErrors  *int64   `json:"hardware_errors,omitempty"`
	BestShare       *int64   `json:"best_share,omitempty" doc:"Difficulty"`
	Worker          string   `json:"worker,omitempty" doc:"Of the active pool. Text from the miner: never markup"`
}

// Miner is a miner with the age of what is shown.
type Miner struct {
	MinerLatest
	AgeS  float64 `json:"age_s" doc:"Age of at when this answer was made, whole seconds"`
	Stale bool    `json:"stale" doc:"Whether that is more than two poll intervals, or the site's clock is more than two minutes ahead, so that the age is not known"`
}

// MinerDetail adds what only the miner's own page shows.
type MinerDetail struct {
	Miner
	DetailAt Time     `json:"detail_at" doc:"When boards, pools and errors were read, by the agent's clock: up to a minute before at, unless there are others or one is in another state"`
	Boards   []Board  `json:"boards" nullable:"false"`
	Pools    []Pool   `json:"pools" nullable:"false"`
	Errors   []string `json:"errors" nullable:"false" doc:"What the miner or the poll reported"`
	Repairs  []string `json:"repairs" nullable:"false" doc:"What had to be mended in its replies"`
}

// Board is one hash board.
type Board struct {
	Index          int32     `json:"index"`
	Chips          *int32    `json:"chips,omitempty"`
	ChipsWorking   *int32    `json:"chips_working,omitempty"`
	HashrateHS     *float64  `json:"hashrate_hs,omitempty"`
	FrequencyMHz   *float64  `json:"frequency_mhz,omitempty"`
	HardwareErrors *int64    `json:"hardware_errors,omitempty"`
	TempsC         []float64 `json:"temps_c,omitempty"`
}

// Pool is one mining pool as the miner sees it.
type Pool struct {
	URL      string `json:"url"`
	Worker   string `json:"worker"`
	Priority *int32 `json:"priority,omitempty"`
	Alive    *bool  `json:"alive,omitempty"`
	Active   *bool  `json:"active,omitempty"`
	Accepted *int64 `json:"accepted,omitempty"`
	Rejected *int64 `json:"rejected,omitempty"`
	Stale    *int64 `json:"stale,omitempty"`
}

// MinerList is one page of miners.
type MinerList struct {
	Count int     `json:"count" doc:"Miners that pass the filters, on all pages"`
	Items []Miner `json:"items" nullable:"false"`
	Next  string  `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

type minersInput struct {
	Site   string `query:"site" format:"uuid" doc:"Only this site's"`
	State  string `query:"state" enum:"hashing,degraded,sleeping,overheated,faulty,no_pool,starting,unknown"`
	Query  string `query:"q" maxLength:"100" doc:"Only those with this text in name, address, MAC, serial, model, firmware, worker or id; case does not matter"`
	Family string `query:"family" maxLength:"100" doc:"Only this firmware family"`
	Stale  string `query:"stale" enum:"true,false" doc:"Only miners whose stale has this value"`
	Sort   string `query:"sort" default:"name" enum:"name,-name,address,-address,model,-model,firmware,-firmware,worker,-worker,state,-state,at,-at,hashrate,-hashrate,temp_board,-temp_board,temp_chip,-temp_chip,power,-power" doc:"A minus sign turns the order round; unknown values come last either way. A walk through all pages sees each miner once by a key that does not change, such as name"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor" maxLength:"2048" doc:"next of the page before"`
}

type minerInput struct {
	ID string `path:"id" format:"uuid" doc:"The miner's id"`
}

type minerOutput struct{ Body MinerDetail }

// jsonOutput is an answer that is encoded already.
type jsonOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// encoded describes an answer of type T that the handler encodes itself.
func encoded[T any](s *Server, description string) map[string]*huma.Response {
	schema := huma.SchemaFromType(s.api.OpenAPI().Components.Schemas, typeFor[T]())
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}}
}

func (s *Server) minerRoutes() {
	register(s, audience(access.MinersRead), huma.Operation{
		OperationID: "list-miners", Method: http.MethodGet, Path: "/api/miners", Tags: []string{"miners"},
		Summary: "Miners with their latest values", Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity},
		Responses: encoded[MinerList](s, "One page"),
	}, s.listMiners)

	register(s, audience(access.MinersRead), huma.Operation{
		OperationID: "get-miner", Method: http.MethodGet, Path: "/api/miners/{id}", Tags: []string{"miners"},
		Summary: "One miner with boards and pools", Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound},
	}, func(ctx context.Context, in *minerInput) (*minerOutput, error) {
		id, err := ident.ParseMinerID(in.ID)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
		}
		m, err := s.fleet.Miner(ctx, id)
		if err != nil {
			return nil, notFound(err, "miner", in.ID)
		}
		return &minerOutput{Body: detailBody(&m, s.now())}, nil
	})
}

func (s *Server) listMiners(ctx context.Context, in *minersInput) (*jsonOutput, error) {
	kind, err := sortKindOf(in.Sort)
	if err != nil {
		return nil, err
	}
	img, err := s.miners.get(ctx, fresh)
	if err != nil {
		return nil, err
	}
	now := s.now()
	keep, err := in.filter(now)
	if err != nil {
		return nil, err
	}
	o := img.sorted(in.Sort, kind)
	start := 0
	if in.Cursor != "" {
		c, err := parseCursor(in.Cursor, in.Sort)
		if err != nil {
			return nil, err
		}
		var found bool
		if start, found = slices.BinarySearchFunc(o.keys, c.After, kind.compare); found {
			start++
		}
	}
	count := 0
	page := make([]*row, 0, in.Limit)
	last, more := -1, false
	for i, r := range o.rows {
		if keep != nil && !keep(r) {
			continue
		}
		count++
		switch {
		case i < start:
		case len(page) < in.Limit:
			page, last = append(page, r), i
		default:
			more = true
			if keep == nil {
				count = len(o.rows)
			}
		}
		if more && keep == nil {
			break
		}
	}
	next := ""
	if more {
		if next, err = (cursor{Sort: in.Sort, After: o.keys[last]}).encode(); err != nil {
			return nil, err
		}
	}
	return &jsonOutput{ContentType: "application/json", Body: appendPage(page, count, next, now)}, nil
}

// filter returns what decides whether a row is in the list; nil when every row is.
func (in *minersInput) filter(now time.Time) (func(*row) bool, error) {
	var tests []func(*row) bool
	if in.Site != "" {
		id, err := ident.ParseSiteID(in.Site)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
		}
		tests = append(tests, func(r *row) bool { return r.Site == id })
	}
	if in.State != "" {
		state, err := telemetry.ParseState(in.State)
		if err != nil {
			return nil, apperr.E(apperr.Invalid, "VALID_001", "%w", err)
		}
		tests = append(tests, func(r *row) bool { return r.State == state })
	}
	if in.Family != "" {
		tests = append(tests, func(r *row) bool { return strings.EqualFold(r.Info.Firmware, in.Family) })
	}
	if in.Stale != "" {
		want := in.Stale == "true"
		tests = append(tests, func(r *row) bool { return r.stale(now) == want })
	}
	if q := strings.ToLower(strings.TrimSpace(in.Query)); q != "" {
		tests = append(tests, func(r *row) bool { return strings.Contains(r.search, q) })
	}
	if len(tests) == 0 {
		return nil, nil
	}
	return func(r *row) bool {
		for _, test := range tests {
			if !test(r) {
				return false
			}
		}
		return true
	}, nil
}

// appendPage encodes a MinerList from rows that are encoded already, but for their age.
func appendPage(page []*row, count int, next string, now time.Time) []byte {
	size := 64 + len(next)
	for _, r := range page {
		size += len(r.list) + 40
	}
	b := make([]byte, 0, size)
	b = append(b, `{"count":`...)
	b = strconv.AppendInt(b, int64(count), 10)
	b = append(b, `,"items":[`...)
	for i, r := range page {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, r.list...)
		b = append(b, `,"age_s":`...)
		b = strconv.AppendInt(b, age(now, r.At), 10)
		b = append(b, `,"stale":`...)
		b = strconv.AppendBool(b, r.stale(now))
		b = append(b, '}')
	}
	b = append(b, ']')
	if next != "" { // base64url: nothing to escape
		b = append(b, `,"next":"`...)
		b = append(b, next...)
		b = append(b, '"')
	}
	return append(b, '}')
}

// age is whole seconds; a value from a clock ahead of the hub's has age 0.
func age(now, at time.Time) int64 { return max(0, int64(now.Sub(at)/time.Second)) }

func minerBody(m *fleet.Miner) *MinerLatest {
	out := &MinerLatest{
		ID: m.Info.Miner.String(), SiteID: m.Site.String(), SiteName: m.SiteName, Address: m.Info.Address, MAC: m.Info.MAC, Serial: m.Info.Serial,
		Maker: m.Info.Maker, Model: m.Info.Model, Firmware: m.Info.Firmware, FirmwareVersion: m.Info.FirmwareVersion, Hostname: m.Info.Hostname,
		State: m.State.String(), Outcome: m.Outcome.String(), At: Time{m.At}, LastAnswerAt: timeOf(m.AnsweredAt), PollIntervalS: m.PollInterval.Seconds(),
		HashrateHS: number(m.Hashrate), HashrateAvgHS: number(m.HashrateAvg), IdealHashrateHS: number(m.IdealHashrate),
		TempBoardC: number(m.TempBoard), TempChipC: number(m.TempChip), TempInletC: number(m.TempInlet), FanPercent: pointer(m.FanPercent),
		PowerW: number(m.Power), Accepted: pointer(m.Accepted), Rejected: pointer(m.Rejected), StaleShares: pointer(m.StaleShares),
		HardwareErrors: pointer(m.HardwareErrors), BestShare: pointer(m.BestShare), Worker: m.Worker,
	}
	if m.Outcome.Answered() {
		out.ReadingsAt = timeOf(m.At)
	}
	if d, ok := m.HashrateWindow.Get(); ok {
		out.HashrateWindowS = secondsOf(d)
	}
	if d, ok := m.Uptime.Get(); ok {
		out.UptimeS = secondsOf(d)
	}
	for _, f := range m.Fans {
		var rpm *int32
		if v, ok := f.Get(); ok {
			n := int32(v)
			rpm = &n
		}
		out.FansRPM = append(out.FansRPM, rpm)
	}
	return out
}

func detailBody(m *fleet.MinerDetail, now time.Time) MinerDetail {
	out := MinerDetail{
		Miner: Miner{
			MinerLatest: *minerBody(&m.Miner), AgeS: float64(age(now, m.At)), Stale: fleet.Stale(now, m.At, m.PollInterval),
		},
		DetailAt: Time{m.DetailAt}, Boards: []Board{}, Pools: []Pool{}, Errors: append([]string{}, m.Errors...), Repairs: append([]string{}, m.Repairs.Names()...),
	}
	for _, b := range m.Boards {
		board := Board{
			Index: b.Index, Chips: pointer(b.Chips), ChipsWorking: pointer(b.ChipsWorking), HashrateHS: number(b.Hashrate),
			FrequencyMHz: pointer(b.FrequencyMHz), HardwareErrors: pointer(b.HardwareErrors),
		}
		for _, c := range b.Temps {
			board.TempsC = append(board.TempsC, float64(c))
		}
		out.Boards = append(out.Boards, board)
	}
	for _, p := range m.Pools {
		out.Pools = append(out.Pools, Pool{
			URL: p.URL, Worker: p.Worker, Priority: pointer(p.Priority), Alive: pointer(p.Alive), Active: pointer(p.Active),
			Accepted: pointer(p.Accepted), Rejected: pointer(p.Rejected), Stale: pointer(p.Stale),
		})
	}
	return out
}

// appendString appends s as a JSON string, or null when it is empty.
func appendString(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	quoted, err := json.Marshal(s)
	if err != nil { // strings always encode
		panic(fmt.Sprintf("encode a string: %v", err))
	}
	return append(b, quoted...)
}
