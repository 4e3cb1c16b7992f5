package archive

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hashinsight/hashinsight/hub/internal/archive/export"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// The form of an export is package export's.
type (
	Head  = export.Head
	Entry = export.Entry
	Tail  = export.Tail
)

// ExportFormat names the form.
const ExportFormat = export.Format

// ErrNothing means that an hour has no batches.
var ErrNothing = errors.New("no batch of this site has its first sample in this hour")

// ExportConfig describes an export.
type ExportConfig struct {
	Hour Hour
	// Key returns the public key that checks a site's signatures, one that was revoked since too.
	Key func(context.Context, ident.SiteID, ident.KeyID) (ed25519.PublicKey, error)
	// SkipDamaged writes a batch whose payload is damaged or gone without it, with the reason. Otherwise it ends the export.
	SkipDamaged bool
}

// exportPage is how many batches are listed at once; one payload is in memory at a time.
const exportPage = 1000

// Export writes the batches of an hour, wherever they lie, each checked: its payload with its header, its header with the site's key. A batch whose payload was
// dropped from quarantine on purpose stands there without it.
func (a *Archive) Export(ctx context.Context, w io.Writer, c ExportConfig) (_ Tail, err error) {
	out := json.NewEncoder(w)
	tail := Tail{End: true}
	from := &objects{a: a, many: true}
	defer func() { err = errors.Join(err, from.Close()) }()
	keys := map[ident.KeyID]ed25519.PublicKey{}
	var last *Line
	for {
		lines, err := list(ctx, a.c.Pool, c.Hour, last, exportPage)
		if err != nil {
			return tail, err
		}
		if last == nil && len(lines) == 0 {
			return tail, fmt.Errorf("%s: %w", siteHour{c.Hour.Site, c.Hour.From.Unix() / 3600}, ErrNothing)
		}
		if last == nil {
			if err := out.Encode(Head{Format: ExportFormat, Site: c.Hour.Site.String(), Hour: c.Hour.From.UTC()}); err != nil {
				return tail, fmt.Errorf("writing the export: %w", err)
			}
		}
		for _, l := range lines {
			b, err := a.find(ctx, Ref{c.Hour.Site, l.Spool, l.Seq}, from)
			missing := ""
			switch {
			case err == nil:
			case errors.Is(err, ErrDropped):
				missing = ErrDropped.Error()
			case c.SkipDamaged && b.Header.Seq == l.Seq && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrNoObject)):
				missing = err.Error()
			default:
				return tail, err
			}
			key, err := signer(ctx, &b, c, keys)
			if err != nil {
				return tail, err
			}
			e := Entry{
				Spool: b.Spool.String(), Seq: b.Seq, Kind: b.Header.Kind.String(), ReceivedAt: b.ReceivedAt.UTC(), Where: string(b.Where), Missing: missing,
				Key: b.Header.Key.String(), PublicKey: key, Header: b.RawHeader, Signature: b.Signature, Payload: b.Payload,
			}
			if missing != "" {
				e.Payload = nil
				tail.Missing++
			}
			tail.Batches++
			tail.Bytes += int64(len(e.Payload))
			if err := out.Encode(e); err != nil {
				return tail, fmt.Errorf("writing the export: %w", err)
			}
		}
		if len(lines) < exportPage {
			break
		}
		last = &lines[len(lines)-1]
	}
	if err := out.Encode(tail); err != nil {
		return tail, fmt.Errorf("writing the export: %w", err)
	}
	return tail, nil
}

// signer checks a batch's signature and returns the key that made it. known holds the hour's keys, of which a site has few.
func signer(ctx context.Context, b *Batch, c ExportConfig, known map[ident.KeyID]ed25519.PublicKey) (key ed25519.PublicKey, err error) {
	key, ok := known[b.Header.Key]
	if !ok {
		if key, err = c.Key(ctx, b.Site, b.Header.Key); err != nil {
			return nil, b.error(err)
		}
		known[b.Header.Key] = key
	}
	if err := evidence.VerifyHeader(key, b.RawHeader, b.Signature); err != nil {
		return nil, b.error(fmt.Errorf("%w: %w", ErrDamaged, err))
	}
	return key, nil
}
