package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/hashinsight/hashinsight/hub/internal/statement/export"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// facts goes over the leaves of all hours, of which one is in memory at a time, and hands them to the SLA while that has nothing against them.
func (e *exported) facts(slaErr error) (error, error) {
	leaves, err := peekOf[export.Leaf](e, export.Leaves)
	if err != nil {
		return nil, err
	}
	defer leaves.close()
	absent := &peek[export.Neighbours]{} // nothing
	if !e.noAbsent {
		if absent, err = peekOf[export.Neighbours](e, export.Absent); err != nil {
			return nil, err
		}
		defer absent.close()
	}
	var h proof.BundleHour
	for i := range e.st.Hours {
		if err := e.ctx.Err(); err != nil {
			return nil, err
		}
		ref := &e.st.Hours[i]
		h = proof.BundleHour{State: ref.State, Entry: e.hours[i].entry, Entries: h.Entries[:0]}
		if err := e.hour(ref, &e.hours[i].Hour, &h, leaves, absent); err != nil {
			return nil, err
		}
		if slaErr == nil && !e.failed(proof.StepLeaf) && !e.failed(proof.StepStatement) {
			slaErr = e.sla.Hour(ref, &h)
		}
	}
	if leaves.have || absent.have {
		return nil, bad("%s or %s has more lines than belong to hours that the statement names, in its order", export.Leaves, export.Absent)
	}
	return slaErr, nil
}

// hour reads what there is of an hour: a leaf of each assigned miner, or that it has none.
func (e *exported) hour(ref *proof.HourRef, signed *evidence.Hour, h *proof.BundleHour, leaves *peek[export.Leaf], absent *peek[export.Neighbours]) error {
	site, hour, chain := ref.Site.String(), export.HourName(ref.Hour), ref.Spool.String()
	wrong := func(format string, args ...any) {
		e.wrong(proof.StepLeaf, "hour %s of site %s, chain %s: %s", hour, ref.Site, ref.Spool, fmt.Sprintf(format, args...))
	}
	if ref.State == proof.HourDisputed {
		e.disputed++
	}
	told := map[ident.MinerID]bool{}
	for leaves.have && leaves.v.Site == site && leaves.v.Hour == hour && leaves.v.Chain == chain {
		l, err := e.leaf(ref, signed, &leaves.v)
		if err != nil {
			wrong("%v", err)
		} else if told[l.Miner] {
			wrong("two leaves of miner %s", l.Miner)
		} else {
			told[l.Miner] = true
			if ref.State == proof.HourDisputed {
				h.Miners = append(h.Miners, l.Miner)
			} else {
				h.Entries = append(h.Entries, proof.TreeEntry{Index: uint32(leaves.v.Index), Leaf: l})
				e.leaves++
			}
		}
		if err := leaves.next(); err != nil {
			return err
		}
	}
	for absent.have && absent.v.Site == site && absent.v.Hour == hour && absent.v.Chain == chain {
		if m, err := e.absent(ref, signed, &absent.v); err != nil {
			wrong("%v", err)
		} else if told[m] {
			wrong("miner %s has a leaf and has none, or is told twice", m)
		} else {
			told[m] = true
			e.gone++
		}
		if err := absent.next(); err != nil {
			return err
		}
	}
	if ref.State == proof.HourDisputed {
		return nil
	}
	var missing *ident.MinerID // the first one by its id, so that the report says the same each time
	for m, periods := range e.who[ref.Site] {
		if told[m] || !in(periods, ref.Hour) {
			continue
		}
		if e.noAbsent {
			e.unshown++
		} else if missing == nil || bytes.Compare(m[:], missing[:]) < 0 {
			missing = &m
		}
	}
	if missing != nil {
		wrong("neither a leaf of miner %s is there, nor that it has none", *missing)
	}
	return nil
}

func in(periods []proof.Assignment, hour uint32) bool {
	for i := range periods {
		if periods[i].In(hour) {
			return true
		}
	}
	return false
}

// leaf checks that one belongs to the signed hour. In a disputed hour it does not, by what the statement says.
func (e *exported) leaf(ref *proof.HourRef, signed *evidence.Hour, line *export.Leaf) (l evidence.Leaf, err error) {
	if l, err = evidence.ParseLeaf(line.Leaf); err != nil {
		return l, err
	}
	if l.Site != ref.Site || l.Hour != ref.Hour || l.Spool != ref.Spool || l.Miner.String() != line.Miner {
		return l, fmt.Errorf("the leaf of miner %s is of another site, hour, chain or miner than its line", l.Miner)
	}
	if e.who[l.Site][l.Miner] == nil {
		return l, fmt.Errorf("a leaf of miner %s, which is not the contract's", l.Miner)
	}
	if ref.State == proof.HourDisputed {
		if line.Index != 0 || len(line.Path) > 0 {
			return l, fmt.Errorf("the leaf of miner %s has a place in the tree, of which the statement says that it is disputed", l.Miner)
		}
		return l, nil
	}
	path, err := hashes(line.Path)
	if err != nil {
		return l, err
	}
	if line.Size != int(signed.Leaves) {
		return l, fmt.Errorf("the leaf of miner %s is one of %d, signed are %d", l.Miner, line.Size, signed.Leaves)
	}
	if err := evidence.VerifyInclusion(&l, line.Index, line.Size, path, signed.Root); err != nil {
		return l, fmt.Errorf("the leaf of miner %s is not under the root: %w", l.Miner, err)
	}
	return l, nil
}

// absent checks that a miner has no leaf: entries that follow each other in the signed tree leave no room for it.
func (e *exported) absent(ref *proof.HourRef, signed *evidence.Hour, line *export.Neighbours) (m ident.MinerID, err error) {
	if m, err = ident.ParseMinerID(line.Miner); err != nil {
		return m, err
	}
	if ref.State == proof.HourDisputed || !in(e.who[ref.Site][m], ref.Hour) {
		return m, fmt.Errorf("miner %s is not assigned then, or the hour is disputed: nothing is to be shown of it", m)
	}
	own := evidence.Hash(sha256.Sum256(m[:]))
	before, after := int64(-1), int64(signed.Leaves)
	var nodes []proof.Node
	for i := range line.Entries {
		n := &line.Entries[i]
		both, err := hashes([]string{n.Miner, n.Leaf})
		if err != nil {
			return m, err
		}
		if n.Index < 0 || n.Index >= int(signed.Leaves) {
			return m, fmt.Errorf("entry %d of %d", n.Index, signed.Leaves)
		}
		switch c := bytes.Compare(both[0][:], own[:]); {
		case c < 0 && i == 0:
			before = int64(n.Index)
		case c > 0 && i == len(line.Entries)-1:
			after = int64(n.Index)
		default:
			return m, fmt.Errorf("the entries beside miner %s are not its neighbours", m)
		}
		nodes = append(nodes, proof.Node{Index: uint64(n.Index), Hash: evidence.HashEntry(&both[0], &both[1])})
	}
	if len(nodes) == 0 || before+1 != after || line.Size != int(signed.Leaves) {
		return m, fmt.Errorf("it is not shown that miner %s has no leaf: beside it lie entries %d and %d of %d", m, before, after, signed.Leaves)
	}
	between, err := hashes(line.Hashes)
	if err != nil {
		return m, err
	}
	root, err := proof.MultiproofRoot(uint64(signed.Leaves), nodes, between)
	if err == nil && root != signed.Root {
		err = proof.ErrMultiproof
	}
	return m, err
}

func hashes(texts []string) ([]evidence.Hash, error) {
	out := make([]evidence.Hash, len(texts))
	for i, text := range texts {
		b, ok := unhex(text, sha256.Size)
		if !ok {
			return nil, fmt.Errorf("%.80q is no SHA-256 in hexadecimal", text)
		}
		out[i] = evidence.Hash(b)
	}
	return out, nil
}

// peek is a file of lines of which the next one is known.
type peek[T any] struct {
	l    *lines
	v    T
	have bool
}

func peekOf[T any](e *exported, name string) (*peek[T], error) {
	l, err := e.open(name)
	if err != nil {
		return nil, err
	}
	p := &peek[T]{l: l}
	if err := p.next(); err != nil {
		l.close()
		return nil, err
	}
	return p, nil
}

func (p *peek[T]) next() error {
	p.v = *new(T)
	err := p.l.item(&p.v)
	p.have = err == nil
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (p *peek[T]) close() { p.l.close() }
