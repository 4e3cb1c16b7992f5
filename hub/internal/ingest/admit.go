package ingest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"

	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
	telemetryv1 "github.com/hashinsight/hashinsight/proto/telemetry/v1"
)

// item is an authentic batch on its way to the database.
type item struct {
	header    evidence.Header
	hash      evidence.Hash
	raw       []byte // header, signature and payload as they came
	signature []byte
	payload   []byte
	samples   *wire.Samples  // of kind samples
	gap       *evidence.Gap  // of kind gap
	hour      *evidence.Hour // of kind hour
	skewed    bool           // the site's clock was wrong when the batch came
	poison    string         // why the payload cannot be used; it is then kept in quarantine
	answer    func(answer)   // called once; does not block
}

func (i *item) key() batchKey { return batchKey{i.header.Site, i.header.Spool, i.header.Seq} }

// rows is the size of an item in a transaction.
func (i *item) rows() int {
	if i.samples == nil {
		return 1
	}
	return i.samples.Len()
}

// batchKey names a batch.
type batchKey struct {
	site  ident.SiteID
	spool ident.SpoolID
	seq   uint64
}

// notAuthenticError means that a batch is not what its site signed: it is refused and not kept.
type notAuthenticError struct{ error }

// admit authenticates a batch and unpacks it. It returns notAuthenticError, or another error when the database did not answer. A
// batch that is authentic but whose payload cannot be used is returned as poison.
func (s *Server) admit(ctx context.Context, site ident.SiteID, spool ident.SpoolID, b *telemetryv1.Batch) (*item, error) {
	h, err := evidence.ParseHeader(b.GetHeader())
	if err != nil {
		return nil, notAuthenticError{err}
	}
	switch {
	case h.Site != site:
		return nil, notAuthenticError{fmt.Errorf("the batch is of site %s, the certificate of site %s", h.Site, site)}
	case h.Spool != spool:
		return nil, notAuthenticError{fmt.Errorf("the batch is of spool %s, the stream of spool %s", h.Spool, spool)}
	case h.Seq > math.MaxInt64:
		return nil, notAuthenticError{fmt.Errorf("sequence number %d is beyond what can be stored", h.Seq)}
	case len(b.GetPayload()) > wire.MaxPayload:
		return nil, notAuthenticError{fmt.Errorf("payload of %d bytes, at most %d are accepted", len(b.GetPayload()), wire.MaxPayload)}
	}
	public, err := s.keys.public(ctx, site, h.Key)
	if errors.Is(err, errNoKey) {
		return nil, notAuthenticError{err}
	}
	if err != nil {
		return nil, err
	}
	if err := evidence.VerifyHeader(public, b.GetHeader(), b.GetSignature()); err != nil {
		return nil, notAuthenticError{fmt.Errorf("batch %d: %w with key %s", h.Seq, err, h.Key)}
	}
	if err := h.CheckPayload(b.GetPayload()); err != nil {
		return nil, notAuthenticError{err}
	}
	i := &item{header: h, hash: h.Hash(), raw: b.GetHeader(), signature: b.GetSignature(), payload: b.GetPayload()}
	if i.payload == nil {
		i.payload = []byte{} // empty is not absent
	}
	select {
	case d := <-s.decoders:
		err = i.unpack(d, public)
		s.decoders <- d
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err != nil {
		i.samples, i.gap, i.hour, i.poison = nil, nil, nil, err.Error()
	}
	return i, nil
}

// unpack reads the payload as far as this hub knows its kind. An error is the reason for quarantine. public is the
// enrolled key that signed the batch.
func (i *item) unpack(d *wire.Decoder, public []byte) error {
	h := &i.header
	if h.Schema > evidence.Schema {
		return fmt.Errorf("payload schema %d is newer than this hub, which knows %d: upgrade the hub", h.Schema, evidence.Schema)
	}
	switch h.Kind {
	case evidence.KindSamples:
		if h.Codec != evidence.CodecZstd {
			return fmt.Errorf("samples with codec %d, want %d", h.Codec, evidence.CodecZstd)
		}
		samples, err := d.Samples(i.payload)
		if err != nil {
			return err
		}
		if want := (wire.Meta{Miners: h.Miners, Samples: h.Samples, FirstMS: h.FirstMS, LastMS: h.LastMS}); samples.Meta != want {
			return fmt.Errorf("the payload holds %+v, its header says %+v", samples.Meta, want)
		}
		i.samples = samples
	case evidence.KindGap:
		gap, err := evidence.ParseGap(i.payload)
		if err != nil {
			return err
		}
		if gap.LastSeq > math.MaxInt64 || gap.Spool == h.Spool && gap.LastSeq >= h.Seq {
			return fmt.Errorf("gap record %d names batches %d to %d, which are not before it", h.Seq, gap.FirstSeq, gap.LastSeq)
		}
		i.gap = &gap
	case evidence.KindKey:
		k, err := evidence.ParseKey(i.payload)
		if err != nil {
			return err
		}
		if k.Site != h.Site || !k.Public.Equal(ed25519.PublicKey(public)) {
			return fmt.Errorf("the batch binds key %s to site %s, and it is signed by key %s of site %s", ident.KeyIDOf(k.Public), k.Site, h.Key, h.Site)
		}
	case evidence.KindHour:
		hour, err := facts.CheckHour(h, i.payload)
		if err != nil {
			return err
		}
		i.hour = &hour
	}
	return nil
}
