package proof

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"

	"github.com/hashinsight/hashinsight/hub/internal/statement"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	format "github.com/hashinsight/hashinsight/pkg/proof"
)

// issued is a statement's entries, before they have their paths.
type issued struct {
	format.StatementProof
	entry, key Placed
}

// issued finds a statement's entries.
func (b *Builder) issued(ctx context.Context, i *statement.Issued) (p issued, err error) {
	if sha256.Sum256(i.Bytes) != i.Hash || len(i.PublicKey) != ed25519.PublicKeySize || len(i.Signature) != ed25519.SignatureSize {
		return p, differs("the bytes of statement %x are not those that have its name", i.Hash)
	}
	if err := evidence.VerifyStatement(i.PublicKey, i.Bytes, i.Signature); err != nil {
		return p, differs("statement %x: %w", i.Hash, err)
	}
	p.Statement = i.Bytes
	entry := statementBody(i)
	if p.entry, err = b.find(ctx, entry.Entry(0), "the statement"); err != nil {
		return p, err
	}
	key := format.HubKeyBody{Role: format.HubKeyEvidence, Event: format.KeyAdded, Public: entry.Public}
	p.key, err = b.find(ctx, key.Entry(0), "the hub's key")
	return p, err
}

// statementBody is what the log has of a statement.
func statementBody(i *statement.Issued) format.StatementBody {
	return format.StatementBody{
		Contract: i.Contract, Month: uint32(i.Month), Seq: uint32(i.Seq), Hash: i.Hash, Supersedes: i.Supersedes,
		Public: [ed25519.PublicKeySize]byte(i.PublicKey), Signature: [ed25519.SignatureSize]byte(i.Signature),
	}
}

// place gives them their paths.
func (p *issued) place(ctx context.Context, places *places) (err error) {
	if p.Entry, err = places.place(ctx, &p.entry); err != nil {
		return err
	}
	p.HubKey, err = places.place(ctx, &p.key)
	return err
}

// Statement makes the proof that a statement was issued.
func (b *Builder) Statement(ctx context.Context, scope statement.Scope, hash evidence.Hash) ([]byte, error) {
	i, err := b.c.Statements.Statement(ctx, scope, hash)
	if err != nil {
		return nil, err
	}
	p, err := b.issued(ctx, &i)
	if err != nil {
		return nil, err
	}
	var places *places
	if p.Head, places, err = b.head(ctx, last(&p.entry, &p.key)); err != nil {
		return nil, err
	}
	if err := p.place(ctx, places); err != nil {
		return nil, err
	}
	return p.AppendBinary(nil)
}

// Logged is how far a statement has come in the log.
type Logged struct {
	Placed bool // whether it has its place
	Index  uint64
	AtMS   int64
	Size   uint64 // of the newest checkpoint; 0: there is none
}

// Logged tells how far a statement has come in the log.
func (b *Builder) Logged(ctx context.Context, scope statement.Scope, hash evidence.Hash) (l Logged, err error) {
	i, err := b.c.Statements.Statement(ctx, scope, hash)
	if err != nil {
		return l, err
	}
	if len(i.PublicKey) != ed25519.PublicKeySize || len(i.Signature) != ed25519.SignatureSize {
		return l, differs("statement %x has no signature", hash)
	}
	body := statementBody(&i)
	entry := body.Entry(0)
	p, ok, err := b.c.Log.Find(ctx, entry.Kind, entry.Ref())
	if err != nil {
		return l, err
	}
	if ok {
		l.Placed, l.Index, l.AtMS = true, p.Index, p.Entry.AtMS
	}
	st, err := b.c.Log.Status(ctx)
	l.Size = st.Newest.Size
	return l, err
}
