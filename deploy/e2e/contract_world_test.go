package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/sim"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// The month that contracts are tried in: a February with a leap day.
const monthName = "2028-02"

// feb is a moment of that month, or after it.
func feb(day, hour, minute, second int) time.Time {
	return time.Date(2028, time.February, day, hour, minute, second, 0, time.UTC)
}

var (
	monthEnd = feb(30, 0, 0, 0)
	closing  = monthEnd.Add(72 * time.Hour)
)

func until(at time.Time) { time.Sleep(time.Until(at)) }

// span is a stretch of time, the end not in it.
type span struct{ from, to time.Time }

func (s span) has(at time.Time) bool { return !at.Before(s.from) && at.Before(s.to) }

// plant is a site of a month: its miners, its link, its agent, and what the model needs to know beside what the simulator knows.
type plant struct {
	name string
	*month
	fleet *sim.Fleet
	link  *link
	agent agentd.Config
	site  ident.SiteID
	ahead atomic.Int64 // of the site's clock, ns

	mu    sync.Mutex
	stood map[string]string // address → the miner that stands there instead

	stopAgent, stopFleet func()
	blind                []span // when nothing can be known of its miners, whatever they did
	late                 []span // what was known of them then has not come before the month closed
}

// machine is one miner under contract.
type machine struct {
	*plant
	name    string
	address string // in the simulator
	id      ident.MinerID
	nominal int64    // MH/s
	average bool     // it has no counter of hashes
	leases  []*lease // in order of time
}

// lease is a time in which a machine belongs to a contract.
type lease struct {
	span
	contract *contract
	rate     int64  // contracted, MH/s
	id       string // of the assignment
}

// contract is one customer's, with what the model needs of its terms.
type contract struct {
	name           string
	id, customer   string
	metric         string
	unknownExcused bool
}

// excuse is a window in which miners may stand still.
type excuse struct {
	span
	letter byte
	counts bool
	who    []*machine // none: all of the site
	plant  *plant
}

// month is a hub with several sites, customers and contracts in virtual time.
type month struct {
	*world
	key      string // the operator's
	client   *http.Client
	machines []*machine
	excuses  []excuse
}

func (m *month) plant(name string, c sim.Config) *plant {
	m.t.Helper()
	p := &plant{month: m, name: name, link: &link{}, stood: map[string]string{}}
	var err error
	if p.fleet, err = sim.New(c); err != nil {
		m.t.Fatal(err)
	}
	p.agent = m.site(name, p.fleet, p.link)
	p.site = p.agent.Site
	p.agent.Now = func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }
	p.agent.MinerDial = func(ctx context.Context, network, address string) (net.Conn, error) {
		p.mu.Lock()
		other, replaced := p.stood[address]
		p.mu.Unlock()
		if replaced {
			address = other
		}
		return p.fleet.DialContext(ctx, network, address)
	}
	p.agent.Log, p.agent.BatchInterval = slog.New(slog.DiscardHandler), time.Minute // links are cut for hours here
	for i := range p.agent.Miners {
		p.agent.Miners[i].Interval = time.Minute
	}
	return p
}

// run starts the miners and the agent.
func (p *plant) run() {
	p.stopFleet = p.start("fleet", p.fleet.Run)
	p.plugIn()
}

func (p *plant) plugIn() {
	p.t.Helper()
	a, err := agentd.New(p.agent)
	if err != nil {
		p.t.Fatal(err)
	}
	p.stopAgent = p.start("agent", a.Run)
}

// replace puts another miner behind an address.
func (p *plant) replace(address, by string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stood[address] = by
}

// does schedules what a machine does from now on for a time.
func (m *machine) does(d time.Duration, b sim.Behaviour) {
	m.t.Helper()
	if _, err := m.fleet.Schedule(sim.Fault{Select: sim.Selection{Addresses: []string{m.address}}, For: d, Behaviour: b}); err != nil {
		m.t.Fatal(err)
	}
}

// minerAt is the id of the miner that the hub saw last at an address of a site.
func (p *plant) minerAt(address string) (id ident.MinerID) {
	p.t.Helper()
	conn, err := pgx.Connect(context.Background(), p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	const q = `SELECT m.id FROM miner m JOIN miner_latest l ON l.site_id = m.site_id AND l.miner_id = m.id WHERE m.site_id = $1 AND m.address = $2 ORDER BY l.at DESC LIMIT 1`
	if err := conn.QueryRow(context.Background(), q, p.site, address).Scan((*[16]byte)(&id)); err != nil {
		p.t.Fatalf("the miner at %s: %v", address, err)
	}
	return id
}

// begin starts the hub and takes the operator's key.
func (m *month) begin() {
	m.t.Helper()
	m.startHub()
	var err error
	if m.key, err = hubd.BootstrapKey(m.t.Context(), m.db, "dev", false); err != nil {
		m.t.Fatal(err)
	}
	m.client = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // the hub is stopped and started in between
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return m.web.DialContext(ctx) },
	}}
}

// call makes one request as the operator to the hub's API and returns status and body.
func (m *month) call(method, path string, body any) (int, []byte) {
	m.t.Helper()
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			m.t.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, "http://hub"+path, in)
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+m.key)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := m.client.Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // read to its end
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.StatusCode, raw
}

// get reads a resource as the operator.
func get[T any](m *month, path string) (out T) {
	m.t.Helper()
	return want[T](m, http.MethodGet, path, nil)
}

// post changes something as the operator.
func post[T any](m *month, path string, body any) (out T) {
	m.t.Helper()
	return want[T](m, http.MethodPost, path, body)
}

func want[T any](m *month, method, path string, body any) (out T) {
	m.t.Helper()
	status, raw := m.call(method, path, body)
	if status/100 != 2 {
		m.t.Fatalf("%s %s: %d %s", method, path, status, raw)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		m.t.Fatalf("%s %s: %v in %.300s", method, path, err, raw)
	}
	return out
}

// forgeHour signs, with the site's own key and in a chain of its own, another root for an hour that the site has signed already, and hands it to the hub as
// an agent would: what a thief of the key can do, or a site that wants to change its word.
func (p *plant) forgeHour(hour uint32) {
	t := p.t
	t.Helper()
	start := time.Unix(int64(hour)*3600, 0).UTC()
	hours := get[list[struct {
		Spool    string `json:"spool_id"`
		State    string `json:"state"`
		Root     string `json:"root"`
		Leaves   uint32 `json:"leaves"`
		FirstSeq uint64 `json:"first_seq"`
		LastSeq  uint64 `json:"last_seq"`
	}]](p.month, fmt.Sprintf("/api/sites/%s/hours?from=%s&to=%s", p.site, start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339))).Items
	if len(hours) != 1 || hours[0].State != "agreed" {
		t.Fatalf("the site has not signed %s: %+v", start, hours)
	}
	signed := evidence.Hour{Site: p.site, Hour: hour, FirstSeq: hours[0].FirstSeq, LastSeq: hours[0].LastSeq, Leaves: hours[0].Leaves}
	var err error
	if signed.Spool, err = ident.ParseSpoolID(hours[0].Spool); err != nil {
		t.Fatal(err)
	}
	if _, err := hex.Decode(signed.Root[:], []byte(hours[0].Root)); err != nil {
		t.Fatal(err)
	}
	signed.Root[0] ^= 1
	forged := signed.Bytes()
	h := evidence.Header{
		Kind: evidence.KindHour, Schema: evidence.SchemaFirst, Codec: evidence.CodecNone, Site: p.site, Key: ident.KeyIDOf(p.agent.EvidenceKey.Public().(ed25519.PublicKey)), Spool: ident.NewSpoolID(),
		Seq: 1, Payload: sha256.Sum256(forged), PayloadLen: uint32(len(forged)), Miners: signed.Leaves, FirstMS: start.UnixMilli(), LastMS: start.UnixMilli() + evidence.HourMS - 1,
	}
	conn, err := grpc.NewClient("passthrough:hub:5443", grpc.WithTransportCredentials(credentials.NewTLS(p.agent.HubTLS)), grpc.WithContextDialer(p.link.dial))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream, err := telemetryv1.NewTelemetryServiceClient(conn).Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*telemetryv1.StreamRequest{
		{Message: &telemetryv1.StreamRequest_Hello{Hello: &telemetryv1.Hello{Protocol: 1, SpoolId: h.Spool[:], AgentVersion: "forger", AgentTimeMs: time.Now().UnixMilli(), PollIntervalMs: 60_000}}},
		{Message: &telemetryv1.StreamRequest_Batches{Batches: &telemetryv1.BatchGroup{Batches: []*telemetryv1.Batch{
			{Header: h.Bytes(), Signature: evidence.SignHeader(p.agent.EvidenceKey, h.Bytes()), Payload: forged}}}}},
	} {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			t.Fatalf("the forged hour: %v", err)
		}
		if f := r.GetRefusal(); f != nil {
			t.Fatalf("the forged hour was refused, not kept: %v", f)
		}
		if r.GetAck().GetSeq() == 1 {
			return
		}
	}
}

// letters is what the model says of a machine's slots under a contract: what really happened, and what could be known of it. late: what came after the
// month had closed counts too.
func (m *month) letters(mc *machine, c *contract, of span, late bool) string {
	var b strings.Builder
	for at := of.from; at.Before(of.to); at = at.Add(slot) {
		b.WriteByte(m.letter(mc, c, at, late))
	}
	return b.String()
}

func (m *month) letter(mc *machine, c *contract, at time.Time, late bool) byte {
	has := func(s span) bool { return s.has(at) }
	i := slices.IndexFunc(mc.leases, func(l *lease) bool { return l.contract == c && l.has(at) })
	if i < 0 {
		return '.'
	}
	for _, letter := range []byte{'c', 'm'} {
		for _, e := range m.excuses {
			if e.letter == letter && e.counts && e.has(at) && e.plant == mc.plant && (len(e.who) == 0 || slices.Contains(e.who, mc)) {
				return letter
			}
		}
	}
	switch unknown := slices.ContainsFunc(mc.blind, has) || !late && slices.ContainsFunc(mc.late, has); {
	case unknown && c.unknownExcused:
		return 'x'
	case unknown:
		return 'X'
	}
	truth, ok := mc.fleet.Truth(mc.address, at, at.Add(slot))
	if !ok {
		m.t.Fatalf("%s: the simulator does not remember %s", mc.name, at)
	}
	return m.verdict(mc, mc.leases[i].rate, at, truth)
}

// verdict judges the work of a slot by the default terms. What a miner did between its last answer and the end of its program nobody can know, and where it
// began or stopped between two polls the work is spread over both sides; where that could decide, the story must be told at another time.
func (m *month) verdict(mc *machine, rate int64, at time.Time, truth sim.Truth) byte {
	judge := func(mh int64) byte {
		switch full := rate * 300; {
		case mh*10 >= full*8:
			return 'U'
		case mh*10 >= full:
			return 'd'
		default:
			return 'D'
		}
	}
	const poll = 61 // s, the wait for answers included
	mh := int64(truth.Hashes)
	least, most := mh-mc.nominal*poll, mh+mc.nominal*poll/4 // a share a of a poll smeared over the rest is a(1-a)
	if mc.average && truth.Answers > 0 {
		most = mh + mc.nominal*poll/2 // half of the rate before
	}
	letter := judge(mh)
	if judge(max(least, 0)) != letter || judge(most) != letter {
		m.t.Fatalf("%s at %s: the model alone does not decide between %c and %c", mc.name, at, judge(least), judge(most))
	}
	return letter
}

// machine is the first miner of a kind at a site that has no part yet.
func (m *month) machine(p *plant, kind string, nominal int64) *machine {
	m.t.Helper()
	for _, d := range p.fleet.Miners() {
		if d.Machine == kind && !slices.ContainsFunc(m.machines, func(o *machine) bool { return o.plant == p && o.address == d.Address }) {
			mc := &machine{plant: p, name: p.name + " " + kind, address: d.Address, nominal: nominal}
			m.machines = append(m.machines, mc)
			return mc
		}
	}
	m.t.Fatalf("%s has no miner %s left", p.name, kind)
	return nil
}

// leave keeps a machine off the list that the agent polls.
func (m *month) leave(mc *machine) {
	mc.agent.Miners = slices.DeleteFunc(mc.agent.Miners, func(a agentd.Miner) bool { return a.Address == mc.address })
}

// identify learns the ids that the agent has given to miners.
func (m *month) identify(p *plant, machines ...*machine) {
	m.t.Helper()
	for _, mc := range machines {
		mc.id = p.minerAt(mc.address)
	}
}

// contract makes a customer and a contract with the default terms but for those that differ.
func (m *month) contract(name string, from time.Time, differ map[string]any) *contract {
	m.t.Helper()
	c := &contract{name: name, metric: differ["metric"].(string), unknownExcused: differ["unknown"] == "excused"}
	terms := map[string]any{
		"from": from, "rate_mhs": 1_000_000, "target_ppm": 990_000, "fee_minor": 100_000, "currency": "EUR", "credit_cap_bp": 5_000,
		"tiers": []map[string]any{{"below_ppm": 990_000, "credit_bp": 500}, {"below_ppm": 980_000, "credit_bp": 1_000}, {"below_ppm": 950_000, "credit_bp": 2_500}},
	}
	maps.Copy(terms, differ)
	c.customer = post[named](m, "/api/customers", map[string]any{"name": name}).ID
	c.id = post[named](m, "/api/contracts", map[string]any{"customer_id": c.customer, "name": name + "'s miners", "terms": terms}).ID
	return c
}

type named struct {
	ID string `json:"id"`
}

type list[T any] struct {
	Items []T `json:"items"`
}

// lease gives machines to a contract, each for eight tenths of its nominal rate.
func (m *month) lease(c *contract, from time.Time, machines ...*machine) {
	m.t.Helper()
	for _, mc := range machines {
		l := &lease{span: span{from, monthEnd}, contract: c, rate: mc.nominal * 8 / 10}
		mc.leases = append(mc.leases, l)
		got := post[list[named]](m, "/api/contracts/"+c.id+"/miners", map[string]any{"miners": []map[string]any{
			{"site_id": mc.site.String(), "miner_id": mc.id.String(), "from": from, "rate_mhs": l.rate}}})
		l.id = got.Items[0].ID
	}
}

// end takes a machine out of its contract.
func (m *month) end(mc *machine, at time.Time) {
	m.t.Helper()
	l := mc.leases[len(mc.leases)-1]
	l.to = at
	post[any](m, "/api/contracts/"+l.contract.id+"/miners/end", map[string]any{"assignment_ids": []string{l.id}, "at": at})
}

// excuse records a window for all miners of a site, or some. counts is what the model says of it.
func (m *month) excuse(p *plant, kind string, s span, counts bool, who ...*machine) {
	m.t.Helper()
	m.excuses = append(m.excuses, excuse{span: s, letter: kind[0], counts: counts, who: who, plant: p})
	order := map[string]any{"kind": kind, "site_id": p.site.String(), "from": s.from, "to": s.to, "note": "told by the world"}
	if len(who) > 0 {
		ids := make([]string, len(who))
		for i, mc := range who {
			ids[i] = mc.id.String()
		}
		order["miner_ids"] = ids
	}
	got := post[struct {
		Contracts []struct {
			Name     string `json:"name"`
			Honoured bool   `json:"honoured"`
		} `json:"contracts"`
	}](m, "/api/excuses", order)
	if len(got.Contracts) == 0 {
		m.t.Errorf("%s from %s concerns no contract", kind, s.from)
	}
	for _, c := range got.Contracts {
		if c.Honoured != counts {
			m.t.Errorf("%s from %s, recorded at %s: honoured %v by %s", kind, s.from, time.Now().UTC(), c.Honoured, c.Name)
		}
	}
}

// slots are a machine's letters under a contract, as the hub tells them. Days without a contracted slot are left out there.
func (m *month) slots(mc *machine, c *contract, of span) string {
	m.t.Helper()
	days := get[list[struct {
		Day    string `json:"day"`
		States string `json:"states"`
	}]](m, fmt.Sprintf("/api/contracts/%s/slots?site_id=%s&miner_id=%s&from_day=%s&to_day=%s",
		c.id, mc.site, mc.id, of.from.Format(time.DateOnly), of.to.Add(-1).Format(time.DateOnly))).Items
	var b strings.Builder
	for day := of.from; day.Before(of.to); day = day.Add(24 * time.Hour) {
		if len(days) > 0 && days[0].Day == day.Format(time.DateOnly) {
			b.WriteString(days[0].States)
			days = days[1:]
		} else {
			b.WriteString(strings.Repeat(".", int(24*time.Hour/slot)))
		}
	}
	if len(days) > 0 {
		m.t.Errorf("%s under %s: a day that was not asked for, or out of order: %+v", mc.name, c.name, days)
	}
	return b.String()
}

// row is the letters of one machine under one contract, as the hub tells them and as the model does.
type row struct {
	machine   *machine
	contract  *contract
	got, want string
}

// read reads every machine under every contract that it was ever in.
func (m *month) read(of span, late bool) (rows []row) {
	m.t.Helper()
	for _, mc := range m.machines {
		for _, c := range mc.contracts() {
			rows = append(rows, row{mc, c, m.slots(mc, c, of), m.letters(mc, c, of, late)})
		}
	}
	return rows
}

// wantRows compares a part of rows that begin at a time, and returns how many contracted slots were in it.
func wantRows(t *testing.T, rows []row, begin time.Time, part span) (contracted int) {
	t.Helper()
	i, j := int(part.from.Sub(begin)/slot), int(part.to.Sub(begin)/slot)
	for _, r := range rows {
		if len(r.got) < j || len(r.want) < j {
			t.Fatalf("%s under %s: %d slots, %d of the model, want %d at least", r.machine.name, r.contract.name, len(r.got), len(r.want), j)
		}
		if got, want := r.got[i:j], r.want[i:j]; got != want {
			t.Errorf("%s under %s: %s", r.machine.name, r.contract.name, difference(got, want, part.from))
		}
		contracted += j - i - strings.Count(r.want[i:j], ".")
	}
	return contracted
}

func (mc *machine) contracts() (all []*contract) {
	for _, l := range mc.leases {
		if !slices.Contains(all, l.contract) {
			all = append(all, l.contract)
		}
	}
	return all
}

// difference tells where two rows of letters differ, stretch by stretch.
func difference(got, want string, from time.Time) string {
	var out []string
	for i := 0; i < len(got); {
		j := i + 1
		for j < len(got) && got[j] == got[i] && want[j] == want[i] {
			j++
		}
		if got[i] != want[i] {
			at := func(k int) string { return from.Add(time.Duration(k) * slot).Format("2 Jan 15:04") }
			out = append(out, fmt.Sprintf("%d slots from %s to %s are %q, want %q", j-i, at(i), at(j), got[i], want[i]))
		}
		i = j
	}
	return strings.Join(out, "; ")
}

// why is what the hub answers when it is asked for a slot's reason.
type why struct {
	Letter        string   `json:"letter"`
	Rule          string   `json:"rule"`
	Hashes        string   `json:"hashes"`
	PollsMade     int      `json:"polls_made"`
	PollsAnswered int      `json:"polls_answered"`
	Source        string   `json:"source"`
	Flags         []string `json:"flags"`
	Hour          struct {
		State      string `json:"state"`
		Reason     string `json:"reason"`
		HeaderHash string `json:"header_hash"`
	} `json:"hour"`
	Polls []struct {
		Outcome    string `json:"outcome"`
		HeaderHash string `json:"header_hash"`
	} `json:"polls"`
	Excuses []struct {
		Kind   string `json:"kind"`
		Counts bool   `json:"counts"`
		Why    string `json:"why"`
	} `json:"excuses"`
}

func (m *month) why(mc *machine, c *contract, at time.Time) why {
	m.t.Helper()
	return get[why](m, fmt.Sprintf("/api/contracts/%s/why?site_id=%s&miner_id=%s&at=%s", c.id, mc.site, mc.id, at.Format(time.RFC3339)))
}

// wantWork compares the work that facts say of an undisturbed slot with what was done: how long polls take at its
// bounds, and the waves of the rate within them, may lie between.
func (m *month) wantWork(mc *machine, c *contract, at time.Time) {
	m.t.Helper()
	w := m.why(mc, c, at)
	got, err := strconv.ParseInt(w.Hashes, 10, 64)
	truth, _ := mc.fleet.Truth(mc.address, at, at.Add(slot))
	if done := int64(truth.Hashes); err != nil || got < done-done/200 || got > done+done/200 {
		m.t.Errorf("%s at %s: %s MH in the facts, %d were done: %+v", mc.name, at, w.Hashes, done, w)
	}
}

// tally counts letters.
func tally(rows []row, c *contract) (n map[byte]int64) {
	n = map[byte]int64{}
	for _, r := range rows {
		if r.contract == c {
			for i := range r.want {
				n[r.want[i]]++
			}
		}
	}
	return n
}

// statement is what the API tells of one, and the signed bytes.
type statement struct {
	Hash            string `json:"hash"`
	Month           string `json:"month"`
	Seq             int    `json:"seq"`
	Supersedes      string `json:"supersedes"`
	Reason          string `json:"reason"`
	AvailabilityPPM *int64 `json:"availability_ppm"`
	Met             bool   `json:"met"`
	Credit          struct {
		BP    int64 `json:"bp"`
		Minor int64 `json:"minor"`
	} `json:"credit"`
	PublicKey string          `json:"public_key"`
	Signature string          `json:"signature"`
	Content   json.RawMessage `json:"statement"`
	bytes     []byte
}

// statements are a contract's, the newest first.
func (m *month) statements(c *contract) (all []statement) {
	m.t.Helper()
	for _, s := range get[list[statement]](m, "/api/statements?contract_id="+c.id).Items {
		one := get[statement](m, "/api/statements/"+s.Hash)
		var status int
		if status, one.bytes = m.call(http.MethodGet, "/api/statements/"+s.Hash+"/download", nil); status != http.StatusOK {
			m.t.Fatalf("download: %d %s", status, one.bytes)
		}
		all = append(all, one)
	}
	return all
}

// wantSigned checks a statement as whoever was given it can: its name is the hash of its bytes, and the hub's key has signed them.
func (m *month) wantSigned(s *statement) {
	t := m.t
	t.Helper()
	if sum := sha256.Sum256(s.bytes); hex.EncodeToString(sum[:]) != s.Hash {
		t.Errorf("statement %s: its bytes have the hash %x", s.Hash, sum)
	}
	key, err1 := hex.DecodeString(s.PublicKey)
	signature, err2 := hex.DecodeString(s.Signature)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := evidence.VerifyStatement(key, s.bytes, signature); err != nil {
		t.Errorf("statement %s: %v", s.Hash, err)
	}
}

// wantRecomputed computes a statement again from the evidence that the hub has moved away.
func (m *month) wantRecomputed(s *statement) {
	t := m.t
	t.Helper()
	var hash hubd.StatementHash
	if _, err := hex.Decode(hash[:], []byte(s.Hash)); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	v, err := hubd.RecomputeStatement(context.Background(), m.db, m.keep, hash, &said)
	if err != nil || !v.Same {
		t.Errorf("recomputing statement %s: %v %q\n%s", s.Hash, err, v.Differences, said.String())
	}
}
