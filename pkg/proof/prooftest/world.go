// Package prooftest makes proof files for tests: valid ones of every kind with a small log, sites, a hub and a recorded chain of their own, and wrong ones. It knows no SLA:
// statements that it makes up have the right form and arbitrary figures, and whoever has better ones hands them over. Tests call it, also those of the hub and of the verifier in the browser.
package prooftest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// World is a log with what is in it. Everything follows from its seed.
type World struct {
	*rand.Rand
	Log            [16]byte
	LogKey, HubKey ed25519.PrivateKey
	Chain          Chain

	sites   map[ident.SiteID]*site
	entries []proof.Entry
}

type site struct {
	key    ed25519.PrivateKey
	logged uint64 // index of the key's entry
	seq    map[ident.SpoolID]uint64
}

// New returns a world with an empty log.
func New(seed uint64) *World {
	w := &World{Rand: rand.New(rand.NewPCG(seed, 6962)), sites: map[ident.SiteID]*site{}} //nolint:gosec // nothing here is secret
	w.Fill(w.Log[:])
	w.LogKey, w.HubKey = w.Key(), w.Key()
	w.Chain = Chain{ChainID: 8453, Events: map[uint64]proof.Event{}}
	w.Fill(w.Chain.Contract[:])
	return w
}

// Fill fills b with what the seed gives.
func (w *World) Fill(b []byte) {
	for i := range b {
		b[i] = byte(w.Uint32())
	}
}

// Hash returns an arbitrary hash.
func (w *World) Hash() (h evidence.Hash) { w.Fill(h[:]); return h }

// ID returns an arbitrary id.
func (w *World) ID() (id [16]byte) { w.Fill(id[:]); return id }

// Key returns an arbitrary key.
func (w *World) Key() ed25519.PrivateKey {
	var seed [ed25519.SeedSize]byte
	w.Fill(seed[:])
	return ed25519.NewKeyFromSeed(seed[:])
}

// Public returns a key's public part.
func Public(key ed25519.PrivateKey) (pub [ed25519.PublicKeySize]byte) {
	copy(pub[:], key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
	return pub
}

// Add appends an entry to the log and returns its index.
func (w *World) Add(e proof.Entry) uint64 {
	w.entries = append(w.entries, e)
	return uint64(len(w.entries) - 1)
}

// Noise appends n entries that no proof here needs.
func (w *World) Noise(n int, atMS int64) {
	for range n {
		w.Add((&proof.AuditHeadBody{Seq: w.Uint64(), Hash: w.Hash()}).Entry(atMS))
	}
}

// Placed returns an entry with its place in the log as it is now.
func (w *World) Placed(index uint64) proof.PlacedEntry {
	return proof.PlacedEntry{Entry: w.entries[index], Placed: proof.Placed{Index: index, Path: path(w.leaves(), int(index))}}
}

// PlacedAll returns places of entries in the log as it is now; it is quicker than Placed for each.
func (w *World) PlacedAll(indexes []uint64) []proof.PlacedEntry {
	leaves := w.leaves()
	levels := [][]evidence.Hash{leaves}
	for level := leaves; len(level) > 1; {
		var above []evidence.Hash
		for i := 0; i+1 < len(level); i += 2 {
			above = append(above, evidence.HashNode(&level[i], &level[i+1]))
		}
		if len(level)%2 == 1 {
			above = append(above, level[len(level)-1])
		}
		level = above
		levels = append(levels, level)
	}
	out := make([]proof.PlacedEntry, len(indexes))
	for i, index := range indexes {
		p := proof.Placed{Index: index}
		for at, k := index, 0; k < len(levels)-1; at, k = at/2, k+1 {
			if sibling := at ^ 1; sibling < uint64(len(levels[k])) {
				p.Path = append(p.Path, levels[k][sibling])
			}
		}
		out[i] = proof.PlacedEntry{Entry: w.entries[index], Placed: p}
	}
	return out
}

func (w *World) leaves() []evidence.Hash {
	out := make([]evidence.Hash, len(w.entries))
	for i := range w.entries {
		out[i] = w.entries[i].LeafHash()
	}
	return out
}

// root and path follow RFC 6962 section 2.1 as it is written there.
func root(leaves []evidence.Hash) evidence.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(len(leaves))
	a, b := root(leaves[:k]), root(leaves[k:])
	return evidence.HashNode(&a, &b)
}

func path(leaves []evidence.Hash, index int) []evidence.Hash {
	if len(leaves) == 1 {
		return nil
	}
	k := split(len(leaves))
	if index < k {
		return append(path(leaves[:k], index), root(leaves[k:]))
	}
	return append(path(leaves[k:], index-k), root(leaves[:k]))
}

func split(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

// Checkpoint returns the head of the log as it is now.
func (w *World) Checkpoint() proof.Checkpoint {
	return proof.Checkpoint{Origin: proof.OriginOf(w.Log), Size: uint64(len(w.entries)), Root: root(w.leaves())}
}

// Anchor puts the log's head on the chain, in a block of a time, and returns the head of a file.
func (w *World) Anchor(atMS int64) proof.Head {
	c := w.Checkpoint()
	h := proof.Head{Checkpoint: c.Sign(w.LogKey), Key: Public(w.LogKey), State: proof.AnchorMade}
	seq := uint64(len(w.Chain.Events) + 1)
	e := proof.Event{
		Seq: seq, Hour: uint64(atMS / evidence.HourMS), Root: c.Root, Size: c.Size, BlockTime: atMS / 1000, BlockNumber: uint64(w.Uint32()), TxHash: w.Hash(), Finalized: true,
	}
	w.Chain.Events[seq] = e
	h.Anchor = proof.Anchor{ChainID: w.Chain.ChainID, Contract: w.Chain.Contract, Seq: seq, Block: e.BlockNumber, Tx: e.TxHash}
	return h
}

// Site makes a site and puts its key into the log.
func (w *World) Site(atMS int64) ident.SiteID {
	id := ident.SiteID(w.ID())
	s := &site{key: w.Key(), seq: map[ident.SpoolID]uint64{}}
	k := proof.SiteKeyBody{Site: id, Event: proof.KeyAdded, Public: Public(s.key)}
	s.logged = w.Add(k.Entry(atMS))
	w.sites[id] = s
	return id
}

// SiteKey returns the key of a site and the index of its entry.
func (w *World) SiteKey(id ident.SiteID) (ed25519.PrivateKey, uint64) {
	return w.sites[id].key, w.sites[id].logged
}

// Borrow makes a site sign with another one's key from now on, and the log name that key as the site's own: what a hub can do that has got hold of one site.
func (w *World) Borrow(site, from ident.SiteID, atMS int64) {
	s := w.sites[site]
	s.key = w.sites[from].key
	k := proof.SiteKeyBody{Site: site, Event: proof.KeyAdded, Public: Public(s.key)}
	s.logged = w.Add(k.Entry(atMS))
}

// Leaf makes up what a site says of a miner and hour.
func (w *World) Leaf(site ident.SiteID, miner ident.MinerID, hour uint32, spool ident.SpoolID) evidence.Leaf {
	l := evidence.Leaf{Site: site, Miner: miner, Hour: hour, Spool: spool, FirstSeq: 1, LastSeq: 9}
	w.Fill(l.Salt[:])
	for i := range l.Slots {
		s := &l.Slots[i]
		s.Polls = uint16(w.IntN(31))
		s.Answered = uint16(w.IntN(int(s.Polls) + 1))
		if s.Answered > 0 {
			s.Source, s.Flags = evidence.SourceCounter, evidence.SlotReachable|evidence.SlotHashing
			s.Hashes, s.ShareDiff, s.Energy = uint64(w.IntN(40_000_000_000)), uint64(w.IntN(1_000_000)), uint64(w.IntN(1_000_000))
		}
	}
	return l
}

// SignedHour is an hour as a site has signed it.
type SignedHour struct {
	proof.HourBody
	Leaves []evidence.Leaf
	Index  uint64 // in the log
}

// Hour signs leaves of one site, hour and chain and puts the hour into the log.
func (w *World) Hour(leaves []evidence.Leaf, atMS int64) SignedHour {
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		panic(err) // a test's mistake
	}
	l := &leaves[0]
	s := w.sites[l.Site]
	h := evidence.Hour{Site: l.Site, Hour: l.Hour, Spool: l.Spool, FirstSeq: 1, LastSeq: 9, Leaves: uint32(len(leaves)), Root: tree.Root()}
	s.seq[l.Spool] = max(s.seq[l.Spool], 9) + 1
	payload := h.Bytes()
	pub := Public(s.key)
	header := evidence.Header{
		Kind: evidence.KindHour, Schema: evidence.SchemaFirst, Site: l.Site, Key: ident.KeyIDOf(pub[:]), Spool: l.Spool, Seq: s.seq[l.Spool], Prev: w.Hash(),
		Payload: sha256.Sum256(payload), PayloadLen: uint32(len(payload)), Miners: h.Leaves, FirstMS: int64(h.Hour) * evidence.HourMS, LastMS: (int64(h.Hour)+1)*evidence.HourMS - 1,
	}
	raw := header.Bytes()
	body := proof.HourBody{RawHeader: raw, Signature: evidence.SignHeader(s.key, raw), Payload: payload, Header: header, Hour: h}
	return SignedHour{body, leaves, w.Add(body.Entry(atMS))}
}

// HourProof returns the file of one miner of a signed hour, for the log as it is now.
func (w *World) HourProof(h *SignedHour, miner ident.MinerID, head proof.Head) *proof.HourProof {
	tree, err := evidence.NewTree(h.Leaves)
	if err != nil {
		panic(err)
	}
	index, path, err := tree.Inclusion(miner)
	if err != nil {
		panic(err)
	}
	i := slices.IndexFunc(h.Leaves, func(l evidence.Leaf) bool { return l.Miner == miner })
	return &proof.HourProof{
		Head: head, Leaf: h.Leaves[i], LeafIndex: uint32(index), LeafPath: path, Hour: w.Placed(h.Index), SiteKey: w.Placed(w.sites[h.Hour.Site].logged),
	}
}

// Issue signs a statement and puts it into the log; it returns the entry's index.
func (w *World) Issue(statement []byte, seq uint32, atMS int64) uint64 {
	s, err := proof.ParseStatement(statement)
	if err != nil {
		panic(err)
	}
	b := proof.StatementBody{
		Contract: s.Contract, Month: s.Month, Seq: seq, Hash: sha256.Sum256(statement), Supersedes: s.Supersedes, Public: Public(w.HubKey),
		Signature: [ed25519.SignatureSize]byte(evidence.SignStatement(w.HubKey, statement)),
	}
	return w.Add(b.Entry(atMS))
}

// HubKeyEntry puts the hub's key into the log.
func (w *World) HubKeyEntry(atMS int64) uint64 {
	k := proof.HubKeyBody{Role: proof.HubKeyEvidence, Event: proof.KeyAdded, Public: Public(w.HubKey)}
	return w.Add(k.Entry(atMS))
}

// Chain answers as a chain that was asked once. It is what a corpus records beside a file.
type Chain struct {
	ChainID  uint64
	Contract [20]byte // where code of a log's contract is
	Events   map[uint64]proof.Event
	Down     bool
}

// Event implements proof.Chain.
func (c *Chain) Event(_ context.Context, a proof.Anchor) (proof.Event, error) {
	e, ok := c.Events[a.Seq]
	switch {
	case c.Down:
		return proof.Event{}, errors.New("no endpoint answers")
	case a.ChainID != c.ChainID:
		return proof.Event{}, proof.ErrWrongChain
	case a.Contract != c.Contract:
		return proof.Event{}, proof.ErrWrongCode
	case !ok:
		return proof.Event{}, proof.ErrNoEvent
	}
	return e, nil
}

// Parts is a proof file taken apart: Entry, or Miner, or Statement, or Statement with Inputs and Hours.
type Parts struct {
	Entry     *proof.EntryProof
	Miner     *proof.HourProof
	Statement *proof.StatementProof
	Inputs    *proof.Inputs
	Hours     []proof.BundleHour
}

// Kind tells what the file is.
func (p *Parts) Kind() proof.Kind {
	switch {
	case p.Entry != nil:
		return proof.KindEntry
	case p.Miner != nil:
		return proof.KindHour
	case p.Inputs == nil:
		return proof.KindStatement
	default:
		return proof.KindBundle
	}
}

// Head returns the file's head.
func (p *Parts) Head() *proof.Head {
	switch {
	case p.Entry != nil:
		return &p.Entry.Head
	case p.Miner != nil:
		return &p.Miner.Head
	default:
		return &p.Statement.Head
	}
}

// Bytes returns the file.
func (p *Parts) Bytes() ([]byte, error) {
	switch p.Kind() {
	case proof.KindEntry:
		return p.Entry.AppendBinary(nil)
	case proof.KindHour:
		return p.Miner.AppendBinary(nil)
	case proof.KindStatement:
		return p.Statement.AppendBinary(nil)
	}
	var b bytes.Buffer
	p.Inputs.Hours = uint32(len(p.Hours))
	w, err := proof.NewBundleWriter(&b, p.Statement, p.Inputs)
	if err != nil {
		return nil, err
	}
	for i := range p.Hours {
		if err := w.Hour(&p.Hours[i]); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return b.Bytes(), err
}

// Take takes a file apart.
func Take(file []byte) (*Parts, error) {
	d, err := proof.Open(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	switch d.Kind {
	case proof.KindEntry:
		p, err := d.EntryProof()
		return &Parts{Entry: &p}, err
	case proof.KindHour:
		p, err := d.HourProof()
		return &Parts{Miner: &p}, err
	}
	st, err := d.StatementProof()
	p := &Parts{Statement: &st}
	if err != nil || d.Kind == proof.KindStatement {
		return p, err
	}
	s, err := proof.ParseStatement(st.Statement)
	if err != nil {
		return nil, err
	}
	in, err := d.Inputs(s)
	if err != nil {
		return nil, err
	}
	p.Inputs = &in
	for {
		var h proof.BundleHour
		if err := d.NextHour(&h, len(s.Assignments)); err != nil {
			if errors.Is(err, io.EOF) {
				return p, nil
			}
			return nil, err
		}
		p.Hours = append(p.Hours, h)
	}
}
