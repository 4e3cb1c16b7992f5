package statement

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// readme is what an export tells its reader.
const readme = `This directory holds a statement of uptime and everything it was made from. Nothing in it needs the hub.

statement.json      the statement: exactly the bytes that were signed. Their SHA-256 is the statement's name: %s
statement.sig       the signature, hexadecimal: Ed25519 over the 17 bytes "hsi/statement/v1" and a zero byte, followed by statement.json
hub.key             the hub's evidence key that signed it, hexadecimal. Compare it with the one you were given when the contract was made:
                    a file beside a signature proves nothing about who made it
terms.jsonl         the versions of the contract's terms, one a line
assignments.jsonl   which miner belonged to the contract from when to when, one a line
excuses.jsonl       announcements of maintenance, orders to curtail, and the records that shortened them, one a line, as they were recorded: with the ids
                    of all miners that they name, of whomever
hours.jsonl         the signed hours of the sites: the site's word for what its miners did
leaves.jsonl        the facts of the contract's miners, each with the proof that it belongs to its signed hour

How to check, step by step:
1. SHA-256 of statement.json is its name, and hub.key verifies statement.sig.
2. Each line of terms.jsonl, assignments.jsonl and excuses.jsonl, without the newline at its end, has the SHA-256 that statement.json names for it;
   nothing is missing, nothing is there that is not named. A statement names an assignment as it was until the month's end.
3. Each line of hours.jsonl: "key" verifies "signature" over the 11 bytes "hsi/sig/v1" and a zero byte, followed by "header" (all base64). The SHA-256 of
   "payload" stands in the header at offset 96, and the SHA-256 of the header is the header_hash that the statement names. The payload's last 32
   bytes are the root over the facts of that hour (formats: package evidence of HashInsight, and RFC 6962).
4. Each line of leaves.jsonl: the leaf (480 bytes, base64) is entry "index" of "size" under that root: entries are SHA-256(miner id) followed by SHA-256(leaf),
   and "path" is the inclusion proof of RFC 6962 section 2.1.1. The leaves of an hour that the statement calls disputed are the ones the hub
   computed from the site's batches: they do not belong to the signed root, and such an hour counts as unknown.
5. From leaves, terms, assignments and excuses the rules of the engine version that the statement names give each slot, each day, and the month, and so the bytes
   of statement.json.

What this does not show: that the site told the truth. The leaves are what the site signed; that they are what its measurements say can be checked against the
signed batches themselves: hashinsight-hub statement recompute %s, or hashinsight-hub evidence export for each hour.
`

// exportedHour is a line of hours.jsonl: what a site signed.
type exportedHour struct {
	Site      string `json:"site"`
	Hour      string `json:"hour"`
	Chain     string `json:"chain"`
	Key       []byte `json:"key"` // the site's public key
	Header    []byte `json:"header"`
	Signature []byte `json:"signature"`
	Payload   []byte `json:"payload"`
}

// exportedLeaf is a line of leaves.jsonl.
type exportedLeaf struct {
	Site  string   `json:"site"`
	Hour  string   `json:"hour"`
	Chain string   `json:"chain"`
	Miner string   `json:"miner"`
	Leaf  []byte   `json:"leaf"`
	Index int      `json:"index"`
	Size  int      `json:"size"`
	Path  []string `json:"path"` // hexadecimal; none in a disputed hour
}

// exporter writes files into a directory.
type exporter struct {
	dir   string
	files int
}

func (e *exporter) file(name string, write func(f *os.File) error) error {
	f, err := os.OpenFile(filepath.Join(e.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // for somebody else to read
	if err != nil {
		return err
	}
	e.files++
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func (e *exporter) bytes(name string, b []byte) error {
	return e.file(name, func(f *os.File) error { _, err := f.Write(b); return err })
}

// Export writes a statement with everything it was made from into a directory that is there and empty, and returns the number of files. What it writes is
// compared with what the statement names: an input that has changed since ends it.
func (s *Store) Export(ctx context.Context, hash evidence.Hash, dir string) (files int, err error) {
	i, err := s.statement(ctx, s.c.Pool, Scope{}, hash)
	if err != nil {
		return 0, err
	}
	st, err := sla.ParseStatement(i.Bytes)
	if err != nil {
		return 0, err
	}
	in, err := s.inputs(ctx, s.c.Pool, uuid.UUID(st.Contract), st.Month)
	if err != nil {
		return 0, err
	}
	in.Engine, in.AsOfMS, in.AcceptUntilMS = st.Engine, st.IssuedMS, st.AcceptUntilMS
	rules, err := newRules(in)
	if err != nil {
		return 0, err
	}
	if rules == nil {
		return 0, fmt.Errorf("nothing is contracted in %s any more: restore the contract's terms and miners from a backup", st.Month)
	}
	e := &exporter{dir: dir}
	name := hex.EncodeToString(hash[:])
	for _, f := range []struct {
		name string
		b    []byte
	}{
		{"README.txt", fmt.Appendf(nil, readme, name, name)}, {"statement.json", i.Bytes}, {"statement.sig", []byte(hex.EncodeToString(i.Signature) + "\n")},
		{"hub.key", []byte(hex.EncodeToString(i.PublicKey) + "\n")},
	} {
		if err := e.bytes(f.name, f.b); err != nil {
			return e.files, err
		}
	}
	if err := s.exportInputs(e, st, rules); err != nil {
		return e.files, err
	}
	if err := e.file("hours.jsonl", func(f *os.File) error { return s.exportHours(ctx, f, st) }); err != nil {
		return e.files, err
	}
	if err := e.file("leaves.jsonl", func(f *os.File) error { return s.exportLeaves(ctx, f, st, rules) }); err != nil {
		return e.files, err
	}
	return e.files, nil
}

func (s *Store) exportInputs(e *exporter, st *sla.Statement, rules *sla.Rules) error {
	named := map[sla.HexHash]bool{}
	for _, t := range st.Terms {
		named[t.Hash] = true
	}
	for _, a := range st.Assignments {
		named[a.Hash] = true
	}
	for _, x := range st.Excuses {
		named[x.Hash] = true
	}
	lines := func(name string, n int, doc func(i int) ([]byte, evidence.Hash)) error {
		var b bytes.Buffer
		for i := range n {
			line, h := doc(i)
			if !named[sla.HexHash(h)] {
				return fmt.Errorf("%s: %.200s is not what the statement names: hashinsight-hub statement recompute shows the difference", name, line)
			}
			delete(named, sla.HexHash(h))
			b.Write(line)
			b.WriteByte('\n')
		}
		return e.bytes(name, b.Bytes())
	}
	terms, assigned, excuses := rules.Terms(), rules.Assignments(), rules.Excuses()
	if err := errors.Join(
		lines("terms.jsonl", len(terms), func(i int) ([]byte, evidence.Hash) { return terms[i].Canonical(), terms[i].Hash() }),
		lines("assignments.jsonl", len(assigned), func(i int) ([]byte, evidence.Hash) { return assigned[i].Canonical(), assigned[i].Hash() }),
		lines("excuses.jsonl", len(excuses), func(i int) ([]byte, evidence.Hash) { return excuses[i].Canonical(), excuses[i].Hash() }),
	); err != nil {
		return err
	}
	if len(named) > 0 {
		return fmt.Errorf("%d terms, assignments or excuses that the statement names are not there: hashinsight-hub statement recompute shows which", len(named))
	}
	return nil
}

func hourName(hour uint32) string { return time.Unix(int64(hour)*3600, 0).UTC().Format(time.RFC3339) }

func (s *Store) exportHours(ctx context.Context, f *os.File, st *sla.Statement) error {
	out := json.NewEncoder(f)
	for site, refs := range bySite(st.Hours) {
		hours, err := s.c.Facts.Hours(ctx, s.c.Pool, site, refs[0].Hour, refs[len(refs)-1].Hour+1)
		if err != nil {
			return err
		}
		place := map[hourKey]*facts.Hour{}
		for i := range hours {
			place[hourKey{site, hours[i].Hour, hours[i].Spool}] = &hours[i]
		}
		for _, ref := range refs {
			h := place[hourKey{site, ref.Hour, ref.Spool}]
			if h == nil || sla.HexHash(h.Header) != ref.HeaderHash {
				return fmt.Errorf("hour %s of site %s is not as the statement names it: hashinsight-hub statement recompute shows the difference", hourName(ref.Hour), site)
			}
			b, err := s.batch(ctx, site, h.InSpool, h.InSeq)
			if err != nil {
				return err
			}
			key, err := s.c.SiteKey(ctx, site, b.Header.Key)
			if err != nil {
				return err
			}
			if err := out.Encode(exportedHour{site.String(), hourName(ref.Hour), ref.Spool.String(), key, b.RawHeader, b.Signature, b.Payload}); err != nil {
				return err
			}
		}
	}
	return nil
}

// bySite groups hours, which are in order of their sites.
func bySite(hours []sla.HourRef) func(yield func(ident.SiteID, []sla.HourRef) bool) {
	return func(yield func(ident.SiteID, []sla.HourRef) bool) {
		for i := 0; i < len(hours); {
			n := i
			for n < len(hours) && hours[n].Site == hours[i].Site {
				n++
			}
			if !yield(hours[i].Site, hours[i:n]) {
				return
			}
			i = n
		}
	}
}

// exportLeaves writes the leaves of the contract's miners. Leaves of others stay where they are: of them a reader sees hashes alone.
func (s *Store) exportLeaves(ctx context.Context, f *os.File, st *sla.Statement, rules *sla.Rules) error {
	wanted := map[sla.MinerKey]bool{}
	for _, k := range rules.Miners() {
		wanted[k] = true
	}
	out := json.NewEncoder(f)
	for site, refs := range bySite(st.Hours) {
		for _, ref := range refs {
			var leaves []evidence.Leaf
			if err := s.c.Facts.Each(ctx, s.c.Pool, site, ref.Hour, ref.Hour+1, nil, func(_ *facts.Hour, l *evidence.Leaf) error {
				if l.Spool == ref.Spool {
					leaves = append(leaves, *l)
				}
				return nil
			}); err != nil {
				return err
			}
			if err := writeLeaves(out, &ref, leaves, wanted); err != nil {
				return fmt.Errorf("hour %s of site %s: %w", hourName(ref.Hour), site, err)
			}
		}
	}
	return nil
}

func writeLeaves(out *json.Encoder, ref *sla.HourRef, leaves []evidence.Leaf, wanted map[sla.MinerKey]bool) error {
	if len(leaves) == 0 {
		return nil // disputed, and its batches give none
	}
	tree, err := evidence.NewTree(leaves)
	if err != nil {
		return err
	}
	agreed := ref.State == sla.HourAgreed
	if agreed && sla.HexHash(tree.Root()) != ref.Root {
		return errors.New("the leaves that are kept do not give the root: hashinsight-hub statement recompute shows the difference")
	}
	for i := range leaves {
		l := &leaves[i]
		if !wanted[sla.MinerKey{Site: l.Site, Miner: l.Miner}] {
			continue
		}
		b, err := l.AppendBinary(nil)
		if err != nil {
			return err
		}
		line := exportedLeaf{Site: l.Site.String(), Hour: hourName(l.Hour), Chain: l.Spool.String(), Miner: l.Miner.String(), Leaf: b, Size: tree.Len(), Path: []string{}}
		if agreed {
			index, path, err := tree.Inclusion(l.Miner)
			if err != nil {
				return err
			}
			line.Index = index
			for _, h := range path {
				line.Path = append(line.Path, hex.EncodeToString(h[:]))
			}
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
