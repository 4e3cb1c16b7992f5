// Package batches computes the facts of signed hours from signed batches that were exported from a hub (package archive/export), without that hub: each payload is
// compared with its header, each header with the key that signed it and with the one before. It has no salts, which only site and hub know, and so gives leaves without them. It asks nobody
// and keeps nothing. hashinsight-verify recompute calls it.
package batches

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashinsight/hashinsight/hub/internal/archive/export"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

const (
	maxLine   = 16 << 20 // bytes: a payload of wire.MaxPayload in base64, its header and names
	maxFiles  = 100_000
	maxMiners = 50_000 // of one hour, as the hub has it
)

// ErrMissing means that batches are needed which the files do not hold, so that nothing can be said.
var ErrMissing = errors.New("batches are missing")

// Dir is the exports of a directory. Headers are in memory, some 300 bytes a batch; payloads are read when they are needed.
type Dir struct {
	Batches int
	Files   int

	files   []string
	keys    map[ident.KeyID]ed25519.PublicKey // that signed, by what the files say
	chains  map[chainID][]batch               // by sequence number
	gaps    map[chainID][]evidence.Gap
	decoder *wire.Decoder
	open    *os.File // of files[opened]
	opened  int
}

type chainID struct {
	site  ident.SiteID
	spool ident.SpoolID
}

// batch is where one lies.
type batch struct {
	evidence.Header
	hash    evidence.Hash
	file    int
	at      int64
	size    int
	missing string
}

// Open reads the headers of all exports in a directory, those below it too, and checks each.
func Open(dir string) (_ *Dir, err error) {
	d := &Dir{keys: map[ident.KeyID]ed25519.PublicKey{}, chains: map[chainID][]batch{}, gaps: map[chainID][]evidence.Gap{}, opened: -1}
	if d.decoder, err = wire.NewDecoder(); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if len(d.files) == maxFiles {
			return fmt.Errorf("more than %d files: give a directory that holds exports alone", maxFiles)
		}
		d.files = append(d.files, path)
		if err := d.read(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.Files = len(d.files)
	for id, all := range d.chains {
		slices.SortFunc(all, func(a, b batch) int { return cmp.Compare(a.Seq, b.Seq) })
		kept := all[:0]
		for i := range all {
			if n := len(kept); n > 0 && kept[n-1].Seq == all[i].Seq {
				if kept[n-1].hash != all[i].hash {
					return nil, fmt.Errorf("the site has signed two batches %d of spool %s: %x and %x", all[i].Seq, id.spool, kept[n-1].hash, all[i].hash)
				}
				if kept[n-1].missing != "" {
					kept[n-1] = all[i]
				}
				continue
			}
			kept = append(kept, all[i])
		}
		d.chains[id] = kept
		d.Batches += len(kept)
	}
	return d, nil
}

// Close releases what Open took.
func (d *Dir) Close() {
	d.decoder.Close()
	if d.open != nil {
		_ = d.open.Close()
	}
}

func (d *Dir) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	var head export.Head
	line, at, err := next(r, 0)
	if err != nil || json.Unmarshal(line, &head) != nil || head.Format != export.Format {
		return fmt.Errorf("not an export of hashinsight-hub evidence export, which begins with %q", export.Format)
	}
	for n := 0; ; n++ {
		begin := at
		if line, at, err = next(r, at); err != nil {
			return errors.New("it ends before its last line: export it again")
		}
		var e struct {
			export.Entry
			End     bool `json:"end"`
			Batches int  `json:"batches"`
		}
		if err := json.Unmarshal(line, &e); err != nil { // the tail's "missing" is a number
			var tail export.Tail
			if json.Unmarshal(line, &tail) != nil || !tail.End {
				return fmt.Errorf("line %d is no batch", n+2)
			}
			if tail.Batches != n {
				return fmt.Errorf("%d batches, its last line says %d", n, tail.Batches)
			}
			return nil
		}
		if err := d.take(&e.Entry, begin, int(at-begin)); err != nil {
			return fmt.Errorf("line %d: %w", n+2, err)
		}
	}
}

// next returns the next line and where the one after it begins.
func next(r *bufio.Reader, at int64) ([]byte, int64, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, at, fmt.Errorf("a line of more than %d bytes", maxLine)
		case err == nil:
			return line, at + int64(len(line)), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, at, err
		}
	}
}

// take checks a batch and keeps its header.
func (d *Dir) take(e *export.Entry, at int64, size int) error {
	h, err := evidence.ParseHeader(e.Header)
	if err != nil {
		return err
	}
	if len(e.PublicKey) != ed25519.PublicKeySize || ident.KeyIDOf(e.PublicKey) != h.Key {
		return fmt.Errorf("batch %d is signed with key %s, beside it lies another", h.Seq, h.Key)
	}
	if err := evidence.VerifyHeader(e.PublicKey, e.Header, e.Signature); err != nil {
		return fmt.Errorf("batch %d: %w", h.Seq, err)
	}
	if known, ok := d.keys[h.Key]; ok && !bytes.Equal(known, e.PublicKey) {
		return fmt.Errorf("batch %d: two keys have the id %s", h.Seq, h.Key)
	}
	d.keys[h.Key] = e.PublicKey
	b := batch{Header: h, hash: h.Hash(), file: len(d.files) - 1, at: at, size: size, missing: e.Missing}
	if e.Missing == "" {
		if err := h.CheckPayload(e.Payload); err != nil {
			return fmt.Errorf("batch %d: %w", h.Seq, err)
		}
		if h.Kind == evidence.KindGap {
			g, err := evidence.ParseGap(e.Payload)
			if err != nil {
				return fmt.Errorf("batch %d: %w", h.Seq, err)
			}
			id := chainID{h.Site, g.Spool}
			d.gaps[id] = append(d.gaps[id], g)
		}
	}
	id := chainID{h.Site, h.Spool}
	d.chains[id] = append(d.chains[id], b)
	return nil
}

// Found is what the batches of an hour give.
type Found struct {
	Leaves  []evidence.Leaf // without salts, in order of miners
	Batches int             // that were read
	Polls   int64
}

// Hour computes the leaves of a signed hour from its batches; trusted are the site's keys. If agrees does not take what the batches near the hour give, a clock may have been set back: then it is
// computed from all that lie before as well. ErrMissing means that it cannot be told.
func (d *Dir) Hour(h *evidence.Hour, trusted map[ident.KeyID]ed25519.PublicKey, agrees func([]evidence.Leaf) bool) (Found, error) {
	chain := d.chains[chainID{h.Site, h.Spool}]
	end, there := slices.BinarySearchFunc(chain, h.LastSeq, func(b batch, seq uint64) int { return cmp.Compare(b.Seq, seq) })
	if !there {
		return Found{}, fmt.Errorf("%w: batch %d of spool %s, up to which the hour is signed", ErrMissing, h.LastSeq, h.Spool)
	}
	end++
	before := int64(h.Hour)*evidence.HourMS - evidence.HourMS
	first := end - 1
	for first > 0 && (chain[first].Seq >= h.FirstSeq || chain[first].Kind != evidence.KindSamples || chain[first].LastMS >= before) {
		first--
	}
	short := first
	if b := &chain[first]; b.Seq < h.FirstSeq && b.Kind == evidence.KindSamples && b.LastMS < before {
		short++ // nothing up to it matters
	} else if b.Seq != 1 {
		return Found{}, fmt.Errorf("%w: those of the hour before and of the end of the one before that: batches before %d of spool %s", ErrMissing, b.Seq, h.Spool)
	}
	found, err := d.compute(h, chain[short:end], trusted)
	if err != nil || agrees(found.Leaves) || short == 0 {
		return found, err
	}
	again, err := d.compute(h, chain[:end], trusted)
	if err != nil && !errors.Is(err, ErrMissing) {
		return found, err
	}
	if err == nil && agrees(again.Leaves) {
		return again, nil
	}
	return found, nil
}

// dropped tells whether the site has said that it dropped the batches from one to another.
func (d *Dir) dropped(id chainID, from, to uint64) bool {
	for _, g := range d.gaps[id] {
		if g.FirstSeq <= from && g.LastSeq >= from {
			if g.LastSeq >= to {
				return true
			}
			from = g.LastSeq + 1
		}
	}
	return false
}

func (d *Dir) compute(h *evidence.Hour, chain []batch, trusted map[ident.KeyID]ed25519.PublicKey) (f Found, err error) {
	facts := evidence.NewFactsOf(h.Site, h.Spool, h.Hour)
	miners := map[ident.MinerID]struct{}{}
	for i := range chain {
		b := &chain[i]
		if i > 0 {
			p := &chain[i-1]
			if p.Seq+1 == b.Seq && p.hash != b.Prev {
				return f, fmt.Errorf("batch %d of spool %s does not follow batch %d: the chain is broken", b.Seq, b.Spool, p.Seq)
			}
			if p.Seq+1 < b.Seq && !d.dropped(chainID{h.Site, h.Spool}, p.Seq+1, b.Seq-1) {
				return f, fmt.Errorf("%w: %d to %d of spool %s", ErrMissing, p.Seq+1, b.Seq-1, b.Spool)
			}
		}
		if !bytes.Equal(trusted[b.Key], d.keys[b.Key]) {
			return f, fmt.Errorf("%w: batch %d of spool %s is signed with key %s, of which the proof file knows nothing", ErrMissing, b.Seq, b.Spool, b.Key)
		}
		f.Batches++
		if b.Kind != evidence.KindSamples {
			continue
		}
		payload, err := d.payload(b)
		if err != nil {
			return f, err
		}
		samples, err := d.decoder.Samples(payload)
		if err != nil {
			return f, fmt.Errorf("%w: batch %d of spool %s cannot be read: %w", ErrMissing, b.Seq, b.Spool, err)
		}
		for _, m := range samples.Miners {
			miners[m] = struct{}{}
		}
		if len(miners) > maxMiners {
			return f, fmt.Errorf("%w: more than %d miners, more than are computed again", ErrMissing, maxMiners)
		}
		f.Polls += int64(samples.Len())
		samples.EachFact(func(o *telemetry.Observation) { facts.Add(b.Seq, o) })
	}
	f.Leaves = facts.Close(h.Hour, h.LastSeq)
	return f, nil
}

// payload reads a batch's payload again, and compares it again: a file may have changed.
func (d *Dir) payload(b *batch) ([]byte, error) {
	if b.missing != "" {
		return nil, fmt.Errorf("%w: the export says of batch %d of spool %s: %s", ErrMissing, b.Seq, b.Spool, b.missing)
	}
	unread := func(err error) error {
		return fmt.Errorf("%w: batch %d of spool %s cannot be read again: %w", ErrMissing, b.Seq, b.Spool, err)
	}
	if d.opened != b.file {
		f, err := os.Open(d.files[b.file])
		if err != nil {
			return nil, unread(err)
		}
		if d.open != nil {
			_ = d.open.Close()
		}
		d.open, d.opened = f, b.file
	}
	line := make([]byte, b.size)
	var e struct {
		Payload []byte `json:"payload"`
	}
	_, err := io.ReadFull(io.NewSectionReader(d.open, b.at, int64(b.size)), line)
	if err == nil {
		err = json.Unmarshal(line, &e)
	}
	if err == nil {
		err = b.CheckPayload(e.Payload)
	}
	if err != nil {
		return nil, unread(err)
	}
	return e.Payload, nil
}
