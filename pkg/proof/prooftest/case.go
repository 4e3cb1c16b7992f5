package prooftest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// Case is a file, what its checker is given beside it, and what was done to it.
type Case struct {
	What     string    // "valid", or the name of the mutator
	File     []byte    // the file
	Contract *[20]byte // that the checker brings, nil for none
	Chain    Chain
}

// Check returns what package proof says.
func (c *Case) Check() proof.Report {
	return proof.Check(context.Background(), bytes.NewReader(c.File), proof.Trust{Contract: c.Contract, Chain: &c.Chain}, nil)
}

// made is a valid file with all that a mutator may want.
type made struct {
	w        *World
	parts    *Parts
	contract *[20]byte
	file     []byte // instead of parts, by mutators of bytes
}

func (m *made) bytes() []byte {
	if m.file == nil {
		var err error
		if m.file, err = m.parts.Bytes(); err != nil {
			panic(err)
		}
	}
	return m.file
}

// Random returns case n of a kind from a seed: every second one is valid, the others went through one mutator or two.
func Random(kind proof.Kind, seed uint64) Case {
	m := random(kind, seed)
	what := "valid"
	if m.w.IntN(2) > 0 {
		what = m.mutate(false)
		if m.w.IntN(4) == 0 {
			what += ", " + m.mutate(true)
		}
	}
	return Case{what, m.bytes(), m.contract, m.w.Chain}
}

// Valid returns a valid file of a kind, taken apart too.
func Valid(kind proof.Kind, seed uint64) (Case, *Parts, *World) {
	m := random(kind, seed)
	return Case{"valid", m.bytes(), m.contract, m.w.Chain}, m.parts, m.w
}

// Mutators returns the names of what can be done to a file of a kind.
func Mutators(kind proof.Kind) []string {
	var names []string
	for _, u := range mutators {
		if slices.Contains(u.kinds, kind) {
			names = append(names, u.name)
		}
	}
	return names
}

// Mutated returns a file that went through the mutator of a name.
func Mutated(kind proof.Kind, seed uint64, name string) Case {
	m := random(kind, seed)
	for _, u := range mutators {
		if u.name == name {
			u.change(m)
		}
	}
	return Case{name, m.bytes(), m.contract, m.w.Chain}
}

// mutate applies one of the mutators; after another one only those that need no sense in the parts.
func (m *made) mutate(again bool) string {
	kind := m.parts.Kind()
	for {
		u := mutators[m.w.IntN(len(mutators))]
		if slices.Contains(u.kinds, kind) && (!again || u.ofBytes) {
			u.change(m)
			return u.name
		}
	}
}

const firstMS = 1_700_000_000_000 // 2023-11-14

func random(kind proof.Kind, seed uint64) *made {
	w := New(seed*8 + uint64(kind))
	m := &made{w: w}
	contract := w.Chain.Contract
	m.contract = &contract
	w.Noise(w.IntN(20), firstMS)
	switch kind {
	case proof.KindHour:
		m.parts = w.minerHour()
		return m
	case proof.KindEntry:
		m.parts = w.anyEntry()
		return m
	}
	m.parts = w.scene(kind)
	return m
}

// anyEntry makes the file of an entry of any kind.
func (w *World) anyEntry() *Parts {
	at := int64(firstMS + w.IntN(1<<30))
	var e proof.Entry
	switch w.IntN(7) {
	case 0:
		e = (&proof.SiteKeyBody{Site: w.ID(), Event: proof.KeyRetired, Public: w.Hash(), Replaces: w.Hash()}).Entry(at)
	case 1:
		e = (&proof.HubKeyBody{Role: proof.HubKeyCheckpoint, Event: proof.KeyAdded, Public: w.Hash()}).Entry(at)
	case 2:
		e = (&proof.TermsBody{Contract: w.ID(), Version: w.Uint32(), Hash: w.Hash()}).Entry(at)
	case 3:
		e = (&proof.ExcuseBody{ID: w.ID(), Hash: w.Hash()}).Entry(at)
	case 4:
		s := proof.StatementBody{Contract: w.ID(), Month: w.Uint32(), Seq: 2, Hash: w.Hash(), Public: w.Hash()}
		if w.IntN(2) == 0 {
			s.Supersedes = w.Hash()
		}
		w.Fill(s.Signature[:])
		e = s.Entry(at)
	case 5:
		hour, site, spool := uint32(at/evidence.HourMS)-1, w.Site(firstMS), ident.SpoolID(w.ID())
		h := w.Hour([]evidence.Leaf{w.Leaf(site, ident.MinerID(w.ID()), hour, spool)}, at)
		e = h.Entry(at)
	default:
		e = (&proof.AuditHeadBody{Seq: w.Uint64(), Hash: w.Hash()}).Entry(at)
	}
	index := w.Add(e)
	w.Noise(w.IntN(20), at)
	head := w.Anchor(at + 1000 + int64(w.IntN(3_600_000)))
	return &Parts{Entry: &proof.EntryProof{Head: head, Entry: w.Placed(index)}}
}

// miners makes up ids.
func (w *World) miners(n int) []ident.MinerID {
	out := make([]ident.MinerID, n)
	for i := range out {
		out[i] = ident.MinerID(w.ID())
	}
	return out
}

func (w *World) minerHour() *Parts {
	site := w.Site(firstMS)
	spool := ident.SpoolID(w.ID())
	hour := uint32(firstMS/evidence.HourMS) + uint32(w.IntN(1000))
	end := (int64(hour) + 1) * evidence.HourMS
	miners := w.miners(1 + w.IntN(12))
	leaves := make([]evidence.Leaf, len(miners))
	for i, id := range miners {
		leaves[i] = w.Leaf(site, id, hour, spool)
	}
	w.Noise(w.IntN(20), end)
	h := w.Hour(leaves, end+90_000)
	w.Noise(w.IntN(20), end)
	head := w.Anchor(end + 90_000 + int64(w.IntN(3_600_000)))
	return &Parts{Miner: w.HourProof(&h, miners[w.IntN(len(miners))], head)}
}

// Doc is an input of a statement as JSON, and where its entry stands.
type Doc struct {
	Bytes []byte
	ID    [16]byte
	Index uint64
}

// scene makes a contract's month: up to two sites with up to eight miners each, of which some are the contract's, up to 40 hours of it signed, a few of them disputed.
func (w *World) scene(kind proof.Kind) *Parts {
	month := uint32(2024*12 + w.IntN(24))
	begin := time.Date(int(month/12), time.Month(month%12+1), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	end := time.Date(int(month/12), time.Month(month%12+2), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	contract, customer := w.ID(), w.ID()
	hubKey := w.HubKeyEntry(firstMS)
	w.Noise(w.IntN(5), firstMS)

	var terms, assignments, excuses []Doc
	for v := range 1 + w.IntN(2) {
		b := fmt.Appendf(nil, `{"form":"hsi/terms/v1","contract":"%s","customer":"%s","version":%d,"from_ms":%d}`, id(contract), id(customer), v+1, begin-86_400_000+int64(v)*10*86_400_000)
		t := proof.TermsBody{Contract: contract, Version: uint32(v + 1), Hash: sha256.Sum256(b)}
		terms = append(terms, Doc{Bytes: b, Index: w.Add(t.Entry(begin - 86_400_000))})
	}
	type place struct {
		site   ident.SiteID
		spools []ident.SpoolID
		miners []ident.MinerID
	}
	var places []place
	var contracted []proof.Assignment
	for range 1 + w.IntN(2) {
		p := place{w.Site(firstMS), []ident.SpoolID{ident.SpoolID(w.ID())}, w.miners(1 + w.IntN(8))}
		if w.IntN(3) == 0 {
			p.spools = append(p.spools, ident.SpoolID(w.ID()))
		}
		for _, miner := range append(slices.Clone(p.miners), w.miners(w.IntN(3))...) { // the last ones never answer
			if w.IntN(3) == 0 {
				continue // another contract's
			}
			a := proof.Assignment{ID: w.ID(), Contract: contract, Site: p.site, Miner: miner, FromMS: begin, ToMS: end}
			if w.IntN(3) == 0 {
				a.FromMS += int64(w.IntN(40 * 3_600_000))
			}
			if w.IntN(3) == 0 {
				a.ToMS = a.FromMS + int64(w.IntN(40*3_600_000))
			}
			contracted = append(contracted, a)
		}
		for range w.IntN(3) {
			x := w.ID()
			at := begin + int64(w.IntN(10))*3_600_000
			b := fmt.Appendf(nil, `{"form":"hsi/excuse/v1","id":"%s","kind":"maintenance","site":"%s","miners":[],"from_ms":%d,"to_ms":%d,"recorded_ms":%d,"ends":"%s"}`, id(x), p.site,
				at, at+7_200_000, begin-100_000_000, id([16]byte{}))
			excuses = append(excuses, Doc{b, x, w.Add((&proof.ExcuseBody{ID: x, Hash: sha256.Sum256(b)}).Entry(begin - 100_000_000))})
		}
		places = append(places, p)
	}
	for i := range contracted {
		a := &contracted[i]
		b := fmt.Appendf(nil, `{"form":"hsi/assignment/v1","id":"%s","contract":"%s","site":"%s","miner":"%s","from_ms":%d,"to_ms":%d,"rate_mhs":0}`, id(a.ID), id(contract), a.Site, a.Miner, a.FromMS, a.ToMS)
		assignments = append(assignments, Doc{Bytes: b, ID: a.ID})
	}
	var hours []SignedHour
	for _, p := range places {
		from := uint32(begin / evidence.HourMS)
		for hour := from; hour < from+uint32(w.IntN(21)); hour++ {
			if w.IntN(10) == 0 {
				continue // none was signed
			}
			for _, spool := range p.spools[:1+w.IntN(len(p.spools))] {
				var leaves []evidence.Leaf
				for _, miner := range p.miners {
					if w.IntN(4) > 0 || len(leaves) == 0 {
						leaves = append(leaves, w.Leaf(p.site, miner, hour, spool))
					}
				}
				hours = append(hours, w.Hour(leaves, (int64(hour)+1)*evidence.HourMS+90_000))
			}
		}
	}
	disputed := map[uint64]bool{}
	for i := range hours {
		if w.IntN(10) == 0 {
			disputed[hours[i].Index] = true
		}
	}
	issue := Month{
		Contract: contract, Customer: customer, Month: month, IssuedMS: end + 73*3_600_000, Terms: terms, Assignments: assignments, Excuses: excuses, Hours: hours, Disputed: disputed,
	}
	statement := issue.Statement(w)
	at := w.Issue(statement, issue.Seq(), issue.IssuedMS)
	w.Noise(w.IntN(20), end)
	head := w.Anchor(issue.IssuedMS + int64(w.IntN(3_600_000)))
	if kind == proof.KindStatement {
		return &Parts{Statement: &proof.StatementProof{Head: head, Statement: statement, Entry: w.Placed(at), HubKey: w.Placed(hubKey)}}
	}
	parts, err := w.Bundle(&BundleOf{Head: head, Statement: statement, Entry: at, HubKey: hubKey, Terms: terms, Assignments: assignments, Excuses: excuses, Hours: hours})
	if err != nil {
		panic(err)
	}
	return parts
}

// id returns the text form of an id.
func id(b [16]byte) string { return ident.SiteID(b).String() }

// Month is what a statement with arbitrary figures is made of.
type Month struct {
	Contract, Customer          [16]byte
	Month                       uint32
	IssuedMS                    int64
	Terms, Assignments, Excuses []Doc // sorted by Statement
	Hours                       []SignedHour
	Disputed                    map[uint64]bool // by index in the log
	supersedes                  evidence.Hash
}

// Seq returns the statement's number in its month.
func (m *Month) Seq() uint32 {
	if m.supersedes != (evidence.Hash{}) {
		return 2
	}
	return 1
}

// Statement returns canonical JSON. It sorts the month's lists as statements have them.
func (m *Month) Statement(w *World) []byte {
	byID := func(a, b Doc) int { return bytes.Compare(a.ID[:], b.ID[:]) }
	slices.SortFunc(m.Assignments, byID)
	slices.SortFunc(m.Excuses, byID)
	slices.SortFunc(m.Hours, func(a, b SignedHour) int {
		ah, bh := sha256.Sum256(a.RawHeader), sha256.Sum256(b.RawHeader)
		return cmp.Or(bytes.Compare(a.Hour.Site[:], b.Hour.Site[:]), cmp.Compare(a.Hour.Hour, b.Hour.Hour), bytes.Compare(a.Hour.Spool[:], b.Hour.Spool[:]), bytes.Compare(ah[:], bh[:]))
	})
	reason := ""
	if w.IntN(3) == 0 {
		m.supersedes = w.Hash()
		reason = []string{"meter read again", `\u00e9t\u00e9 \"x\" \\ \ud83d\ude00`}[w.IntN(2)]
	}
	hash := ""
	if m.Seq() > 1 {
		hash = hex.EncodeToString(m.supersedes[:])
	}
	var b strings.Builder
	fmt.Fprintf(&b, `{"form":"hsi/statement/v1","engine":1,"contract":"%s","customer":"%s","month":"%s","issued_ms":%d,"accept_until_ms":0,"supersedes":"%s","reason":"%s"`,
		id(m.Contract), id(m.Customer), proof.MonthName(m.Month), m.IssuedMS, hash, reason)
	list := func(key string, n int, item func(i int)) {
		fmt.Fprintf(&b, `,"%s":[`, key)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			item(i)
		}
		b.WriteByte(']')
	}
	list("terms", len(m.Terms), func(i int) { fmt.Fprintf(&b, `{"version":%d,"hash":"%x"}`, i+1, sha256.Sum256(m.Terms[i].Bytes)) })
	list("assignments", len(m.Assignments), func(i int) {
		fmt.Fprintf(&b, `{"id":"%s","hash":"%x"}`, id(m.Assignments[i].ID), sha256.Sum256(m.Assignments[i].Bytes))
	})
	list("excuses", len(m.Excuses), func(i int) {
		fmt.Fprintf(&b, `{"id":"%s","hash":"%x","counted":%d}`, id(m.Excuses[i].ID), sha256.Sum256(m.Excuses[i].Bytes), w.IntN(3))
	})
	list("hours", len(m.Hours), func(i int) {
		h := &m.Hours[i]
		state := "agreed"
		if m.Disputed[h.Index] {
			state = "disputed"
		}
		fmt.Fprintf(&b, `{"site":"%s","hour":%d,"spool":"%s","root":"%x","header_hash":"%x","state":"%s","skewed":%d,"received_ms":%d}`, h.Hour.Site, h.Hour.Hour, h.Hour.Spool, h.Hour.Root,
			sha256.Sum256(h.RawHeader), state, w.IntN(4096)*w.IntN(2), (int64(h.Hour.Hour)+1)*evidence.HourMS+120_000)
	})
	totals := func() string {
		return fmt.Sprintf(`"slots":{"not_contracted":%d,"curtailment":0,"maintenance":0,"up":%d,"degraded":0,"down":0,"unknown_down":0,"unknown_excused":0},"hashes":"%d","needed":"0"`,
			w.IntN(9), w.IntN(9000), w.Uint64())
	}
	fmt.Fprintf(&b, `,"result":{"metric":"time","target_ppm":990000,"num":"%d","den":"9000","ppm":%d,"met":%v},"credit":{"bp":%d,"minor":0,"fee_minor":0,"currency":""},"totals":{%s}`,
		w.IntN(9000), w.IntN(1_000_001), w.IntN(2) == 0, w.IntN(10_001), totals())
	list("miners", w.IntN(3), func(int) {
		fmt.Fprintf(&b, `{"site":"%s","miner":"%s",%s,"num":"0","den":"0","ppm":0}`, id(w.ID()), id(w.ID()), totals())
	})
	b.WriteByte('}')
	return []byte(b.String())
}

// BundleOf is what a bundle is made of, in the order of its statement. Of terms and excuses Index is the place of their entries.
type BundleOf struct {
	Head                        proof.Head
	Statement                   []byte
	Entry, HubKey               uint64 // indexes
	Terms, Assignments, Excuses []Doc
	Hours                       []SignedHour
}

// Bundle makes a bundle for the log as it is now.
func (w *World) Bundle(b *BundleOf) (*Parts, error) {
	s, err := proof.ParseStatement(b.Statement)
	if err != nil {
		return nil, err
	}
	indexes := []uint64{b.Entry, b.HubKey}
	for _, list := range [][]Doc{b.Terms, b.Excuses} {
		for i := range list {
			indexes = append(indexes, list[i].Index)
		}
	}
	type signer struct {
		site ident.SiteID
		key  ident.KeyID
	}
	var signers []signer
	for i := range b.Hours {
		signers = append(signers, signer{b.Hours[i].Hour.Site, b.Hours[i].Header.Key})
	}
	slices.SortFunc(signers, func(a, b signer) int {
		return cmp.Or(bytes.Compare(a.site[:], b.site[:]), bytes.Compare(a.key[:], b.key[:]))
	})
	signers = slices.Compact(signers)
	for _, k := range signers {
		indexes = append(indexes, w.sites[k.site].logged)
	}
	for i := range b.Hours {
		indexes = append(indexes, b.Hours[i].Index)
	}
	placed := w.PlacedAll(indexes)
	next := func() (p proof.PlacedEntry) { p, placed = placed[0], placed[1:]; return p }
	parts := &Parts{Statement: &proof.StatementProof{Head: b.Head, Statement: b.Statement, Entry: next(), HubKey: next()}, Inputs: &proof.Inputs{}}
	in := parts.Inputs
	for i := range b.Terms {
		p := next()
		in.Terms = append(in.Terms, proof.Document{Bytes: b.Terms[i].Bytes, AtMS: p.AtMS, Placed: p.Placed})
	}
	var assigned []proof.Assignment
	for i := range b.Assignments {
		in.Assignments = append(in.Assignments, proof.Document{Bytes: b.Assignments[i].Bytes})
		a, err := proof.ParseAssignment(b.Assignments[i].Bytes)
		if err != nil {
			return nil, err
		}
		assigned = append(assigned, a)
	}
	for i := range b.Excuses {
		p := next()
		in.Excuses = append(in.Excuses, proof.Document{Bytes: b.Excuses[i].Bytes, AtMS: p.AtMS, Placed: p.Placed})
	}
	for range signers {
		in.SiteKeys = append(in.SiteKeys, next())
	}
	for i := range b.Hours {
		h := &b.Hours[i]
		var miners []ident.MinerID
		for j := range assigned {
			if assigned[j].Site == h.Hour.Site && assigned[j].In(h.Hour.Hour) {
				miners = append(miners, assigned[j].Miner)
			}
		}
		entry := next()
		if s.Hours[i].State == proof.HourDisputed {
			parts.Hours = append(parts.Hours, proof.DisputedHour(entry, h.Leaves, miners))
			continue
		}
		agreed, err := proof.AgreedHour(entry, h.Leaves, miners)
		if err != nil {
			return nil, err
		}
		parts.Hours = append(parts.Hours, agreed)
	}
	in.Hours = uint32(len(parts.Hours))
	return parts, nil
}
