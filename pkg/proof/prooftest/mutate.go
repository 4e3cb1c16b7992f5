package prooftest

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// mutator changes a valid file, its chain or what the checker brings. Some change nothing where a file has not what they need.
type mutator struct {
	name    string
	kinds   []proof.Kind
	ofBytes bool
	change  func(m *made)
}

var (
	all      = []proof.Kind{proof.KindHour, proof.KindStatement, proof.KindBundle, proof.KindEntry}
	ofHub    = []proof.Kind{proof.KindStatement, proof.KindBundle}
	ofHour   = []proof.Kind{proof.KindHour}
	ofBundle = []proof.Kind{proof.KindBundle}
)

// mutators is constant; a function could not be looked through by name.
var mutators = []mutator{
	{"bit flipped", all, true, func(m *made) {
		b := m.bytes()
		b[m.w.IntN(len(b))] ^= 1 << m.w.IntN(8)
	}},
	{"bytes changed", all, true, func(m *made) {
		b := m.bytes()
		at := m.w.IntN(len(b))
		m.w.Fill(b[at:min(len(b), at+1+m.w.IntN(8))])
	}},
	{"cut short", all, true, func(m *made) { b := m.bytes(); m.file = b[:m.w.IntN(len(b))] }},
	{"bytes after the end", all, true, func(m *made) { m.file = append(m.bytes(), make([]byte, 1+m.w.IntN(8))...) }},
	{"bytes removed", all, true, func(m *made) {
		b := m.bytes()
		at := m.w.IntN(len(b))
		m.file = slices.Delete(b, at, min(len(b), at+1+m.w.IntN(40)))
	}},
	{"bytes put in", all, true, func(m *made) {
		b := m.bytes()
		m.file = slices.Insert(b, m.w.IntN(len(b)), make([]byte, 1+m.w.IntN(40))...)
	}},
	{"bytes zeroed", all, true, func(m *made) {
		b := m.bytes()
		at := m.w.IntN(len(b))
		clear(b[at:min(len(b), at+1+m.w.IntN(64))])
	}},

	// The chain says something else, or nothing.
	{"event of another root", all, true, func(m *made) { m.event(func(e *proof.Event) { e.Root[m.w.IntN(32)] ^= 1 }) }},
	{"event of another size", all, true, func(m *made) { m.event(func(e *proof.Event) { e.Size++ }) }},
	{"event in another block", all, true, func(m *made) { m.event(func(e *proof.Event) { e.BlockNumber++ }) }},
	{"event of another transaction", all, true, func(m *made) { m.event(func(e *proof.Event) { e.TxHash[0] ^= 1 }) }},
	{"event not final", all, true, func(m *made) { m.event(func(e *proof.Event) { e.Finalized = false }) }},
	{"event before the end", all, true, func(m *made) { m.event(func(e *proof.Event) { e.BlockTime = firstMS/1000 - 86_400 }) }},
	{"no event", all, true, func(m *made) { clear(m.w.Chain.Events) }},
	{"chain down", all, true, func(m *made) { m.w.Chain.Down = true }},
	{"another chain", all, true, func(m *made) { m.w.Chain.ChainID++ }},
	{"no contract there", all, true, func(m *made) { m.w.Chain.Contract[0] ^= 1 }},
	{"no contract given", all, true, func(m *made) { m.contract = nil }},
	{"another contract given", all, true, func(m *made) { c := m.w.Chain.Contract; c[5] ^= 1; m.contract = &c }},

	// The head says something else.
	{"not anchored yet", all, false, func(m *made) { m.parts.Head().State = proof.AnchorNone }},
	{"never anchored", all, false, func(m *made) { m.parts.Head().State = proof.AnchorNever }},
	{"checkpoint signed by another key", all, false, func(m *made) {
		c, _, err := proof.ParseCheckpoint(m.parts.Head().Checkpoint)
		must(err)
		m.parts.Head().Checkpoint = c.Sign(m.w.Key())
	}},
	{"checkpoint of another log", all, false, func(m *made) {
		o := random(m.parts.Kind(), m.w.Uint64()>>8)
		*m.parts.Head() = *o.parts.Head()
	}},
	{"head of another log, with its chain", all, false, func(m *made) {
		o := random(m.parts.Kind(), m.w.Uint64()>>8)
		*m.parts.Head() = *o.parts.Head()
		m.w.Chain, m.contract = o.w.Chain, o.contract
	}},
	{"checkpoint of a larger log", all, false, func(m *made) {
		m.w.Noise(3, firstMS)
		c := m.w.Checkpoint()
		m.parts.Head().Checkpoint = c.Sign(m.w.LogKey)
	}},
	{"checkpoint of a larger log, anchored", all, false, func(m *made) {
		m.w.Noise(3, firstMS)
		*m.parts.Head() = m.w.Anchor(3_000_000_000_000)
	}},

	// Miner-hours.
	{"leaf of another miner-hour", ofHour, false, func(m *made) { m.parts.Miner.Leaf = random(proof.KindHour, m.w.Uint64()>>8).parts.Miner.Leaf }},
	{"leaf improved", ofHour, false, func(m *made) {
		s := &m.parts.Miner.Leaf.Slots[m.w.IntN(12)]
		s.Source, s.Hashes = evidence.SourceCounter, s.Hashes+1
	}},
	{"another index of the leaf", ofHour, false, func(m *made) { m.parts.Miner.LeafIndex += uint32(1 + m.w.IntN(3)) }},
	{"a hash too many", ofHour, false, func(m *made) { m.parts.Miner.LeafPath = append(m.parts.Miner.LeafPath, m.w.Hash()) }},
	{"hour of another log", ofHour, false, func(m *made) { m.parts.Miner.Hour = random(proof.KindHour, m.w.Uint64()>>8).parts.Miner.Hour }},
	{"key of another site", ofHour, false, func(m *made) {
		site := m.w.Site(firstMS)
		_, at := m.w.SiteKey(site)
		m.parts.Miner.SiteKey = m.w.Placed(at)
	}},
	{"hour signed by the hub", ofHour, false, func(m *made) {
		p := m.parts.Miner
		b := bodyOf(&p.Hour)
		pub := Public(m.w.HubKey)
		b.Header.Key = ident.KeyIDOf(pub[:])
		b.RawHeader = b.Header.Bytes()
		b.Signature = evidence.SignHeader(m.w.HubKey, b.RawHeader)
		m.replace(&p.Hour, b.Entry(p.Hour.AtMS))
	}},
	{"hour signed anew after a change", ofHour, false, func(m *made) { // the site says something else, and the log has the new one: everything holds
		p := m.parts.Miner
		b := bodyOf(&p.Hour)
		p.Leaf.Slots[0] = evidence.Slot{Polls: 9}
		tree, err := evidence.NewTree([]evidence.Leaf{p.Leaf})
		must(err)
		b.Hour.Root, b.Hour.Leaves = tree.Root(), 1
		b.Payload = b.Hour.Bytes()
		b.Header.Payload, b.Header.Miners = sha256.Sum256(b.Payload), 1
		b.RawHeader = b.Header.Bytes()
		key, at := m.w.SiteKey(b.Hour.Site)
		b.Signature = evidence.SignHeader(key, b.RawHeader)
		p.LeafIndex, p.LeafPath = 0, nil
		index := m.w.Add(b.Entry(p.Hour.AtMS))
		p.Head = m.w.Anchor(p.Hour.AtMS + 3_600_000)
		p.Hour, p.SiteKey = m.w.Placed(index), m.w.Placed(at)
	}},
	{"key's entry retired", ofHour, false, func(m *made) {
		p := m.parts.Miner
		k, err := proof.ParseSiteKeyBody(p.SiteKey.Body)
		must(err)
		k.Event = proof.KeyRetired
		at := m.w.Add(k.Entry(firstMS))
		h := m.w.Add(p.Hour.Entry)
		p.Head = m.w.Anchor(p.Hour.AtMS + 3_600_000)
		p.Hour, p.SiteKey = m.w.Placed(h), m.w.Placed(at)
	}},
	{"another index in the log", all, false, func(m *made) {
		p := m.entry()
		p.Index += uint64(1 + m.w.IntN(3))
	}},
	{"a hash too few", all, false, func(m *made) {
		if p := m.entry(); len(p.Path) > 0 {
			p.Path = p.Path[1:]
		}
	}},
	{"another time of an entry", all, false, func(m *made) { m.entry().AtMS++ }},

	// Statements.
	{"a digit of the statement", ofHub, false, func(m *made) { m.parts.Statement.Statement = m.changedStatement() }},
	{"another statement, signed by the hub", ofHub, false, func(m *made) { // the stronger lie: the hub's real keys, but not what is anchored
		p := m.parts.Statement
		p.Statement = m.changedStatement()
		s, err := proof.ParseStatement(p.Statement)
		if err != nil {
			return
		}
		b, err := proof.ParseStatementBody(p.Entry.Body)
		must(err)
		b.Hash = sha256.Sum256(p.Statement)
		b.Month = s.Month
		copy(b.Signature[:], evidence.SignStatement(m.w.HubKey, p.Statement))
		m.replace(&p.Entry, b.Entry(p.Entry.AtMS))
	}},
	{"another statement, signed and logged by the hub", ofHub, false, func(m *made) { // in a log written anew, which is not the anchored one
		p := m.parts.Statement
		p.Statement = m.changedStatement()
		s, err := proof.ParseStatement(p.Statement)
		if err != nil {
			return
		}
		seq := uint32(1)
		if s.Supersedes != (evidence.Hash{}) {
			seq = 2
		}
		chain := m.w.Chain.Events
		m.w.Chain.Events = map[uint64]proof.Event{}
		at := m.w.Issue(p.Statement, seq, s.IssuedMS)
		p.Head = m.w.Anchor(s.IssuedMS)
		m.w.Chain.Events = chain
		p.Entry, p.HubKey = m.w.Placed(at), m.w.Placed(p.HubKey.Index)
	}},
	{"statement of another contract", ofHub, false, func(m *made) {
		o := random(proof.KindStatement, m.w.Uint64()>>8).parts.Statement
		m.parts.Statement.Statement = o.Statement
	}},
	{"statement not canonical", ofHub, false, func(m *made) {
		p := m.parts.Statement
		m.resign([][2]string{{`":`, `": `}, {`"engine":1`, `"engine":01`}, {`"engine":1`, `"engine":1,"engine":1`}, {`"form"`, `"Form"`}, {`{`, "{\n"}, {`"engine":1`, `"engine":1.0`}, {`"met":`, `"met":"",`}}[m.w.IntN(7)], p)
	}},
	{"key of another role", ofHub, false, func(m *made) {
		k := proof.HubKeyBody{Role: proof.HubKeyCheckpoint, Event: proof.KeyAdded, Public: Public(m.w.HubKey)}
		m.replace(&m.parts.Statement.HubKey, k.Entry(firstMS))
	}},
	{"signed by a key that is not the hub's", ofHub, false, func(m *made) {
		p := m.parts.Statement
		b, err := proof.ParseStatementBody(p.Entry.Body)
		must(err)
		key := m.w.Key()
		b.Public = Public(key)
		copy(b.Signature[:], evidence.SignStatement(key, p.Statement))
		m.replace(&p.Entry, b.Entry(p.Entry.AtMS))
	}},

	// Bundles.
	{"terms changed", ofBundle, false, func(m *made) { d := &m.parts.Inputs.Terms[0]; d.Bytes = digit(d.Bytes, m.w.IntN(len(d.Bytes))) }},
	{"terms' time changed", ofBundle, false, func(m *made) { m.parts.Inputs.Terms[0].AtMS-- }},
	{"terms in the wrong order", ofBundle, false, func(m *made) { slices.Reverse(m.parts.Inputs.Terms) }},
	{"an assignment changed", ofBundle, false, func(m *made) {
		if l := m.parts.Inputs.Assignments; len(l) > 0 {
			d := &l[m.w.IntN(len(l))]
			d.Bytes = digit(d.Bytes, m.w.IntN(len(d.Bytes)))
		}
	}},
	{"an assignment left out", ofBundle, false, func(m *made) {
		if l := m.parts.Inputs.Assignments; len(l) > 0 {
			m.parts.Inputs.Assignments = l[1:]
		}
	}},
	{"an excuse changed", ofBundle, false, func(m *made) {
		if l := m.parts.Inputs.Excuses; len(l) > 0 {
			d := &l[m.w.IntN(len(l))]
			d.Bytes = digit(d.Bytes, m.w.IntN(len(d.Bytes)))
		}
	}},
	{"an excuse logged in hindsight", ofBundle, false, func(m *made) { // everything holds but the order of the log
		s, err := proof.ParseStatement(m.parts.Statement.Statement)
		must(err)
		for i := range m.parts.Inputs.Excuses {
			x := &m.parts.Inputs.Excuses[i]
			if s.Excuses[i].Counted == 0 || len(s.Hours) == 0 {
				continue
			}
			e := proof.ExcuseBody{ID: s.Excuses[i].ID, Hash: s.Excuses[i].Hash}
			x.Index = m.w.Add(e.Entry(x.AtMS))
			m.anchorAgain()
			return
		}
	}},
	{"an excuse logged in hindsight by a hub that dates hours back", ofBundle, false, func(m *made) {
		s, err := proof.ParseStatement(m.parts.Statement.Statement)
		must(err)
		for i := range m.parts.Inputs.Excuses {
			x := &m.parts.Inputs.Excuses[i]
			if s.Excuses[i].Counted == 0 || len(s.Hours) == 0 || s.Hours[0].Skewed != 0 {
				continue
			}
			h := &m.parts.Hours[0].Entry
			h.AtMS = x.AtMS
			h.Index = m.w.Add(h.Entry)
			e := proof.ExcuseBody{ID: s.Excuses[i].ID, Hash: s.Excuses[i].Hash}
			x.Index = m.w.Add(e.Entry(x.AtMS))
			m.anchorAgain()
			return
		}
	}},
	{"an excuse twice", ofBundle, false, func(m *made) {
		if l := m.parts.Inputs.Excuses; len(l) > 0 {
			m.parts.Inputs.Excuses = append(l, l[0])
		}
	}},
	{"a key left out", ofBundle, false, func(m *made) {
		if l := m.parts.Inputs.SiteKeys; len(l) > 0 {
			m.parts.Inputs.SiteKeys = l[1:]
		}
	}},
	{"a key nobody needs", ofBundle, false, func(m *made) {
		in := m.parts.Inputs
		_, at := m.w.SiteKey(m.w.Site(firstMS))
		in.SiteKeys = append(in.SiteKeys, m.w.Placed(at))
		slices.SortFunc(in.SiteKeys, func(a, b proof.PlacedEntry) int { return bytes.Compare(a.Body[:16], b.Body[:16]) })
	}},
	{"hours in another order", ofBundle, false, func(m *made) { slices.Reverse(m.parts.Hours) }},
	{"an hour left out", ofBundle, false, func(m *made) {
		if len(m.parts.Hours) > 0 {
			m.parts.Hours = m.parts.Hours[1:]
		}
	}},
	{"an hour called agreed", ofBundle, false, func(m *made) {
		for i := range m.parts.Hours {
			if h := &m.parts.Hours[i]; h.State == proof.HourDisputed {
				h.State = proof.HourAgreed
				break
			}
		}
	}},
	{"an hour called disputed", ofBundle, false, func(m *made) {
		if h := m.hour(); h != nil {
			h.State = proof.HourDisputed
		}
	}},
	{"a leaf improved", ofBundle, false, func(m *made) {
		if t := m.tree(false); t != nil {
			t.Leaf.Slots[3].Energy++
		}
	}},
	{"a leaf held back", ofBundle, false, func(m *made) {
		if t := m.tree(false); t != nil {
			t.Bare = true
			t.Miner, t.LeafHash = sha256.Sum256(t.Leaf.Miner[:]), t.Leaf.Hash()
		}
	}},
	{"a neighbour changed", ofBundle, false, func(m *made) {
		if t := m.tree(true); t != nil {
			t.Miner[31] ^= 1
		}
	}},
	{"an entry left out", ofBundle, false, func(m *made) {
		if h := m.hour(); h != nil && len(h.Entries) > 0 {
			h.Entries = slices.Delete(h.Entries, 0, 1)
		}
	}},
	{"an entry moved", ofBundle, false, func(m *made) {
		if h := m.hour(); h != nil && len(h.Entries) > 0 {
			h.Entries[len(h.Entries)-1].Index++
		}
	}},
	{"a hash of the multiproof too many", ofBundle, false, func(m *made) {
		if h := m.hour(); h != nil {
			h.Hashes = append(h.Hashes, m.w.Hash())
		}
	}},
	{"a hash of the multiproof changed", ofBundle, false, func(m *made) {
		if h := m.hour(); h != nil && len(h.Hashes) > 0 {
			h.Hashes[0][7] ^= 1
		}
	}},
	{"a miner of a disputed hour changed", ofBundle, false, func(m *made) {
		if h := m.hour(); h != nil {
			h.State, h.Miners = proof.HourDisputed, append(h.Miners, ident.MinerID(m.w.ID()))
		}
	}},
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func bodyOf(p *proof.PlacedEntry) proof.HourBody {
	b, err := proof.ParseHourBody(p.Body)
	must(err)
	return b
}

// event changes what the chain has, in a copy: other files of the world keep theirs.
func (m *made) event(change func(e *proof.Event)) {
	events := map[uint64]proof.Event{}
	for seq, e := range m.w.Chain.Events {
		change(&e)
		events[seq] = e
	}
	m.w.Chain.Events = events
}

// replace puts another entry where one stood, without the log knowing it.
func (m *made) replace(p *proof.PlacedEntry, e proof.Entry) { p.Entry = e }

// anchorAgain anchors the log as it is now, and gives a bundle's entries their places in it.
func (m *made) anchorAgain() {
	p := m.parts
	p.Statement.Head = m.w.Anchor(p.Statement.Entry.AtMS)
	places := []*proof.Placed{&p.Statement.Entry.Placed, &p.Statement.HubKey.Placed}
	for i := range p.Inputs.Terms {
		places = append(places, &p.Inputs.Terms[i].Placed)
	}
	for i := range p.Inputs.Excuses {
		places = append(places, &p.Inputs.Excuses[i].Placed)
	}
	for i := range p.Inputs.SiteKeys {
		places = append(places, &p.Inputs.SiteKeys[i].Placed)
	}
	for i := range p.Hours {
		places = append(places, &p.Hours[i].Entry.Placed)
	}
	indexes := make([]uint64, len(places))
	for i := range places {
		indexes[i] = places[i].Index
	}
	for i, placed := range m.w.PlacedAll(indexes) {
		*places[i] = placed.Placed
	}
}

// entry picks one of the file's entries.
func (m *made) entry() *proof.PlacedEntry {
	p := m.parts
	var list []*proof.PlacedEntry
	switch p.Kind() {
	case proof.KindEntry:
		list = append(list, &p.Entry.Entry)
	case proof.KindHour:
		list = append(list, &p.Miner.Hour, &p.Miner.SiteKey)
	default:
		list = append(list, &p.Statement.Entry, &p.Statement.HubKey)
		for i := range p.Hours {
			list = append(list, &p.Hours[i].Entry)
		}
	}
	return list[m.w.IntN(len(list))]
}

func (m *made) hour() *proof.BundleHour {
	if len(m.parts.Hours) == 0 {
		return nil
	}
	return &m.parts.Hours[m.w.IntN(len(m.parts.Hours))]
}

// tree picks an entry of an hour's tree.
func (m *made) tree(bare bool) *proof.TreeEntry {
	var list []*proof.TreeEntry
	for i := range m.parts.Hours {
		for j := range m.parts.Hours[i].Entries {
			if t := &m.parts.Hours[i].Entries[j]; t.Bare == bare {
				list = append(list, t)
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[m.w.IntN(len(list))]
}

// digit changes the first decimal digit from a place on.
func digit(b []byte, at int) []byte {
	b = bytes.Clone(b)
	for i := range b {
		if c := &b[(at+i)%len(b)]; *c >= '0' && *c <= '8' {
			*c++
			break
		}
	}
	return b
}

func (m *made) changedStatement() []byte {
	b := m.parts.Statement.Statement
	return digit(b, m.w.IntN(len(b)))
}

// resign replaces a piece of the statement's text and has the hub sign what that gives, wherever the log stands.
func (m *made) resign(change [2]string, p *proof.StatementProof) {
	p.Statement = bytes.Replace(p.Statement, []byte(change[0]), []byte(change[1]), 1)
	b, err := proof.ParseStatementBody(p.Entry.Body)
	must(err)
	b.Hash = sha256.Sum256(p.Statement)
	copy(b.Signature[:], evidence.SignStatement(m.w.HubKey, p.Statement))
	at := m.w.Add(b.Entry(p.Entry.AtMS))
	p.Head = m.w.Anchor(p.Entry.AtMS)
	p.Entry, p.HubKey = m.w.Placed(at), m.w.Placed(p.HubKey.Index)
}
