package statement

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement/export"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// readme is what an export tells its reader.
const readme = `This directory holds a statement of uptime and everything it was made from. Nothing in it needs the hub: hashinsight-verify recompute DIRECTORY checks
all that is below by itself, and says what it finds.

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
absent.jsonl        for each of the contract's miners without facts in a signed hour the proof that it has none
evidence            only where it was asked for: the signed batches that the facts were made from, of all miners of the sites

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
5. Each line of absent.jsonl: the "entries" follow each other under that root, or are the first or last of "size"; the SHA-256 of the miner's id lies
   between theirs, before the first or behind the last. "hashes" are those of the largest subtrees without these entries, from the root's left to its right.
   Each miner that is assigned in an hour has a line here or in leaves.jsonl.
6. From leaves, terms, assignments and excuses the rules of the engine version that the statement names give each slot, each day, and the month, and so the bytes
   of statement.json.

What this does not show: that the site told the truth. The leaves are what the site signed; that they are what its measurements say can be checked against the
signed batches themselves: hashinsight-verify does so where the directory evidence is here, and hashinsight-hub statement export --batches writes it.
Nor that statement, hours and excuses stood in the hub's log, and since when: that shows against a chain the bundle which the page has, and
hashinsight-hub proof bundle %s
`

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

// Export writes a statement with everything it was made from into a directory that is there and empty, and returns the number of files; with batches, the signed batches
// of its hours too. What it writes is compared with what the statement names: an input that has changed since ends it.
func (s *Store) Export(ctx context.Context, hash evidence.Hash, dir string, batches bool) (files int, err error) {
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
		{"README.txt", fmt.Appendf(nil, readme, name, name)}, {export.Statement, i.Bytes}, {export.Signature, []byte(hex.EncodeToString(i.Signature) + "\n")},
		{export.HubKey, []byte(hex.EncodeToString(i.PublicKey) + "\n")},
	} {
		if err := e.bytes(f.name, f.b); err != nil {
			return e.files, err
		}
	}
	if err := s.exportInputs(e, st, rules); err != nil {
		return e.files, err
	}
	if err := e.file(export.Hours, func(f *os.File) error { return s.exportHours(ctx, f, st) }); err != nil {
		return e.files, err
	}
	if err := e.file(export.Leaves, func(leaves *os.File) error {
		return e.file(export.Absent, func(absent *os.File) error { return s.exportLeaves(ctx, leaves, absent, st, rules) })
	}); err != nil {
		return e.files, err
	}
	if batches {
		return e.files, s.exportBatches(ctx, e, st)
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
		lines(export.Terms, len(terms), func(i int) ([]byte, evidence.Hash) { return terms[i].Canonical(), terms[i].Hash() }),
		lines(export.Assignments, len(assigned), func(i int) ([]byte, evidence.Hash) { return assigned[i].Canonical(), assigned[i].Hash() }),
		lines(export.Excuses, len(excuses), func(i int) ([]byte, evidence.Hash) { return excuses[i].Canonical(), excuses[i].Hash() }),
	); err != nil {
		return err
	}
	if len(named) > 0 {
		return fmt.Errorf("%d terms, assignments or excuses that the statement names are not there: hashinsight-hub statement recompute shows which", len(named))
	}
	return nil
}

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
				return fmt.Errorf("hour %s of site %s is not as the statement names it: hashinsight-hub statement recompute shows the difference", export.HourName(ref.Hour), site)
			}
			b, err := s.batch(ctx, site, h.InSpool, h.InSeq)
			if err != nil {
				return err
			}
			key, err := s.c.SiteKey(ctx, site, b.Header.Key)
			if err != nil {
				return err
			}
			if err := out.Encode(export.Hour{
				Site: site.String(), Hour: export.HourName(ref.Hour), Chain: ref.Spool.String(), Key: key, Header: b.RawHeader, Signature: b.Signature, Payload: b.Payload,
			}); err != nil {
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

// exportLeaves writes the leaves of the contract's miners, and of those that have none that it is so. Leaves of others stay where they are: of them a reader sees hashes alone.
func (s *Store) exportLeaves(ctx context.Context, leaves, absent io.Writer, st *sla.Statement, rules *sla.Rules) error {
	toLeaves, toAbsent := bufio.NewWriter(leaves), bufio.NewWriter(absent)
	out := leafWriter{leaves: json.NewEncoder(toLeaves), absent: json.NewEncoder(toAbsent), wanted: map[sla.MinerKey]bool{}, assigned: map[ident.SiteID][]proof.Assignment{}}
	for _, k := range rules.Miners() {
		out.wanted[k] = true
	}
	for _, a := range rules.Assignments() {
		out.assigned[a.Site] = append(out.assigned[a.Site], proof.Assignment{Site: a.Site, Miner: a.Miner, FromMS: a.FromMS, ToMS: a.ToMS})
	}
	for site, refs := range bySite(st.Hours) {
		for _, ref := range refs {
			var all []evidence.Leaf
			if err := s.c.Facts.Each(ctx, s.c.Pool, site, ref.Hour, ref.Hour+1, nil, func(_ *facts.Hour, l *evidence.Leaf) error {
				if l.Spool == ref.Spool {
					all = append(all, *l)
				}
				return nil
			}); err != nil {
				return err
			}
			if err := out.hour(&ref, all); err != nil {
				return fmt.Errorf("hour %s of site %s: %w", export.HourName(ref.Hour), site, err)
			}
		}
	}
	return errors.Join(toLeaves.Flush(), toAbsent.Flush())
}

// leafWriter writes lines of hours.
type leafWriter struct {
	leaves, absent *json.Encoder
	wanted         map[sla.MinerKey]bool
	assigned       map[ident.SiteID][]proof.Assignment
}

func (w *leafWriter) hour(ref *sla.HourRef, leaves []evidence.Leaf) error {
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
	told := map[ident.MinerID]bool{}
	for i := range leaves {
		l := &leaves[i]
		if !w.wanted[sla.MinerKey{Site: l.Site, Miner: l.Miner}] {
			continue
		}
		told[l.Miner] = true
		b, err := l.AppendBinary(nil)
		if err != nil {
			return err
		}
		line := export.Leaf{Site: l.Site.String(), Hour: export.HourName(l.Hour), Chain: l.Spool.String(), Miner: l.Miner.String(), Leaf: b, Size: tree.Len(), Path: []string{}}
		if agreed {
			index, path, err := tree.Inclusion(l.Miner)
			if err != nil {
				return err
			}
			line.Index, line.Path = index, hexes(path)
		}
		if err := w.leaves.Encode(line); err != nil {
			return err
		}
	}
	if !agreed {
		return nil
	}
	for i := range w.assigned[ref.Site] {
		a := &w.assigned[ref.Site][i]
		if told[a.Miner] || !a.In(ref.Hour) {
			continue
		}
		told[a.Miner] = true
		if err := w.absent.Encode(neighbours(tree, ref, a.Miner)); err != nil {
			return err
		}
	}
	return nil
}

// neighbours shows between which entries a miner's would be.
func neighbours(tree *evidence.Tree, ref *sla.HourRef, miner ident.MinerID) export.Neighbours {
	line := export.Neighbours{Site: ref.Site.String(), Hour: export.HourName(ref.Hour), Chain: ref.Spool.String(), Miner: miner.String(), Size: tree.Len()}
	at, _ := tree.Find(sha256.Sum256(miner[:]))
	var indexes []int
	for i := max(at-1, 0); i < min(at+1, tree.Len()); i++ {
		m, l := tree.Entry(i)
		indexes = append(indexes, i)
		line.Entries = append(line.Entries, export.Entry{Index: i, Miner: hex.EncodeToString(m[:]), Leaf: hex.EncodeToString(l[:])})
	}
	line.Hashes = hexes(tree.Multiproof(indexes))
	return line
}

func hexes(hashes []evidence.Hash) []string {
	out := make([]string, len(hashes))
	for i := range hashes {
		out[i] = hex.EncodeToString(hashes[i][:])
	}
	return out
}
