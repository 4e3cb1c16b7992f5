package enrol

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
)

// Lifetimes and bounds of tokens.
const (
	DefaultValidity = time.Hour
	MaxValidity     = 24 * time.Hour
	minValidity     = time.Minute
	maxOpen         = 1000                // tokens that could be used at one time
	keepClosed      = 90 * 24 * time.Hour // how long a token stays listed; what became of it is in the audit log for longer
	forgetAtOnce    = 1000
)

// NewToken is what an operator orders.
type NewToken struct {
	SiteName   string
	ValidFor   time.Duration // 0 means DefaultValidity
	Source     netip.Prefix  // addresses that it may be used from; zero: any
	Approval   bool          // a person compares fingerprints before the site is let in
	ReplaceKey bool          // if the site is known, it may come with another evidence key, which ends the old one
}

// State is what a token is good for.
type State string

// States of a token.
const (
	StateOpen     State = "open"     // can be used
	StateWaiting  State = "waiting"  // somebody came with it; a person has to compare fingerprints
	StateApproved State = "approved" // may be used by the keys that were compared
	StateRefused  State = "refused"
	StateUsed     State = "used"
	StateRevoked  State = "revoked"
	StateExpired  State = "expired"
)

// TokenInfo is a token as lists show it.
type TokenInfo struct {
	ID         string
	SiteName   string
	Source     netip.Prefix // zero: any
	Approval   bool
	ReplaceKey bool
	CreatedAt  time.Time
	CreatedBy  string
	ExpiresAt  time.Time
	State      State
	UsedAt     time.Time    // zero before
	Site       ident.SiteID // zero before
	UsedFrom   string

	// Of who came with it, where a person has to approve.
	Fingerprint    string // as the agent shows it
	ClaimedAt      time.Time
	ClaimedFrom    string
	ClaimedVersion string
	DecidedBy      string
}

const columns = `id, hash, site_name, source, approval, replace_key, created_at, created_by, expires_at, revoked_at, claimed_at, claimed_keys,
	coalesce(claimed_from, ''), coalesce(claimed_version, ''), decided_at, coalesce(approved, false), coalesce(decided_by, ''), used_at, used_keys, coalesce(used_from, ''), site_id`

const (
	qAdd = `
INSERT INTO enrol_token (id, hash, site_name, source, approval, replace_key, created_at, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	// One transaction at a time makes tokens: their number is bounded. The lock's number is this package's alone.
	qLock       = `SELECT pg_advisory_xact_lock(7391204433)`
	qOpenTokens = `SELECT count(*) FROM enrol_token WHERE expires_at > $1 AND used_at IS NULL AND revoked_at IS NULL` //nolint:gosec // a statement, not a credential
	qForget     = `
DELETE FROM enrol_token WHERE id IN (SELECT id FROM enrol_token WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)`
	qToken       = `SELECT ` + columns + ` FROM enrol_token WHERE id = $1`
	qTokens      = `SELECT ` + columns + ` FROM enrol_token WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3`
	qWaiting     = `SELECT ` + columns + ` FROM enrol_token WHERE claimed_at IS NOT NULL AND decided_at IS NULL AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $1 ORDER BY claimed_at LIMIT 1000`
	qRevokeToken = `UPDATE enrol_token SET revoked_at = $2, revoked_by = $3 WHERE id = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2` //nolint:gosec // a statement, not a credential
	qClaim       = `
UPDATE enrol_token SET claimed_at = $2, claimed_keys = $3, claimed_from = $4, claimed_version = $5
WHERE id = $1 AND claimed_at IS NULL AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2`
	qDecide = `
UPDATE enrol_token SET decided_at = $2, approved = $3, decided_by = $4
WHERE id = $1 AND claimed_at IS NOT NULL AND claimed_keys = $5 AND decided_at IS NULL AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2`
	// The one guard of one use: callers that race for a token wait here for each other, and one finds it unused. A caller that fails later rolls
	// this back: the token is as good as before.
	qUse = `
UPDATE enrol_token SET used_at = $2, used_keys = $3, used_from = $4
WHERE id = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2 AND (NOT approval OR approved AND claimed_keys = $3)`
	qJoined = `UPDATE enrol_token SET site_id = $2 WHERE id = $1`
)

// token is a row.
type token struct {
	TokenInfo
	hash      [sha256.Size]byte
	revokedAt time.Time
	decidedAt time.Time
	approved  bool
	claimed   [sha256.Size]byte
	usedKeys  [sha256.Size]byte
}

func scanToken(row pgx.CollectableRow) (token, error) {
	var t token
	var hash, claimed, usedKeys []byte
	var source *netip.Prefix
	var site *[16]byte
	var revoked, claimedAt, decided, used *time.Time
	err := row.Scan(&t.ID, &hash, &t.SiteName, &source, &t.Approval, &t.ReplaceKey, &t.CreatedAt, &t.CreatedBy, &t.ExpiresAt, &revoked, &claimedAt, &claimed,
		&t.ClaimedFrom, &t.ClaimedVersion, &decided, &t.approved, &t.DecidedBy, &used, &usedKeys, &t.UsedFrom, &site)
	copy(t.hash[:], hash)
	copy(t.claimed[:], claimed)
	copy(t.usedKeys[:], usedKeys)
	if source != nil {
		t.Source = *source
	}
	if site != nil {
		t.Site = *site
	}
	if claimedAt != nil {
		t.Fingerprint = identity.FormatFingerprint(t.claimed)
	}
	t.revokedAt, t.ClaimedAt, t.decidedAt, t.UsedAt = timeOf(revoked), timeOf(claimedAt), timeOf(decided), timeOf(used)
	return t, err
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// state returns what the token is good for now.
func (t *token) state(now time.Time) State {
	switch {
	case !t.UsedAt.IsZero():
		return StateUsed
	case !t.revokedAt.IsZero():
		return StateRevoked
	case !t.decidedAt.IsZero() && !t.approved:
		return StateRefused
	case !now.Before(t.ExpiresAt):
		return StateExpired
	case !t.decidedAt.IsZero():
		return StateApproved
	case !t.ClaimedAt.IsZero():
		return StateWaiting
	default:
		return StateOpen
	}
}

func (t *token) info(now time.Time) TokenInfo {
	i := t.TokenInfo
	i.State = t.state(now)
	return i
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func tokens(ctx context.Context, q querier, sql string, args ...any) ([]token, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading tokens: %w", err)
	}
	out, err := pgx.CollectRows(rows, scanToken)
	if err != nil {
		return nil, fmt.Errorf("reading tokens: %w", err)
	}
	return out, nil
}

func oneToken(ctx context.Context, q querier, id string) (t token, known bool, err error) {
	all, err := tokens(ctx, q, qToken, id)
	if err != nil || len(all) == 0 {
		return t, false, err
	}
	return all[0], true, nil
}

// fits compares a token with the stored one in constant time.
func (t *token) fits(shown identity.Token) bool {
	hash := shown.Hash()
	return subtle.ConstantTimeCompare(hash[:], t.hash[:]) == 1
}

// CreateToken makes a token. The text in the result is the only copy there will ever be.
func (s *Store) CreateToken(ctx context.Context, n NewToken, by Actor) (identity.Token, TokenInfo, error) {
	name := strings.TrimSpace(n.SiteName)
	if n.ValidFor == 0 {
		n.ValidFor = DefaultValidity
	}
	switch {
	case name == "" || len(name) > 100:
		return identity.Token{}, TokenInfo{}, apperr.E(apperr.Invalid, "VALID_001", "a site's name has 1 to 100 bytes, this one has %d", len(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl): // it is shown on consoles
		return identity.Token{}, TokenInfo{}, apperr.E(apperr.Invalid, "VALID_001", "a site's name has no control characters")
	case n.ValidFor < minValidity || n.ValidFor > MaxValidity:
		return identity.Token{}, TokenInfo{}, apperr.E(apperr.Invalid, "VALID_001", "a token is valid for %s to %s, not for %s", minValidity, MaxValidity, n.ValidFor)
	case n.Source.IsValid() && n.Source != n.Source.Masked():
		return identity.Token{}, TokenInfo{}, apperr.E(apperr.Invalid, "VALID_001", "source %s is not a network: did you mean %s?", n.Source, n.Source.Masked())
	}
	if a := n.Source.Addr(); a.Is4In6() && n.Source.Bits() >= 96 { // callers are compared as IPv4
		n.Source = netip.PrefixFrom(a.Unmap(), n.Source.Bits()-96)
	}
	now := s.c.Now().UTC()
	made := identity.NewToken(s.c.Env, s.c.CA.RootFingerprint())
	hash := made.Hash()
	t := token{TokenInfo: TokenInfo{ID: made.ID, SiteName: name, Source: n.Source, Approval: n.Approval, ReplaceKey: n.ReplaceKey,
		CreatedAt: now, CreatedBy: by.Name, ExpiresAt: now.Add(n.ValidFor)}}
	var source *netip.Prefix
	if n.Source.IsValid() {
		source = &n.Source
	}
	err := pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qLock); err != nil {
			return fmt.Errorf("making a token: %w", err)
		}
		var open int
		if err := tx.QueryRow(ctx, qOpenTokens, now).Scan(&open); err != nil {
			return fmt.Errorf("counting tokens: %w", err)
		}
		if open >= maxOpen {
			return apperr.E(apperr.Conflict, "CONFLICT_001", "%d tokens wait to be used, which is as many as there may be: revoke some, or let them expire", open)
		}
		if _, err := tx.Exec(ctx, qForget, now.Add(-keepClosed), forgetAtOnce); err != nil {
			return fmt.Errorf("forgetting old tokens: %w", err)
		}
		if _, err := tx.Exec(ctx, qAdd, t.ID, hash[:], name, source, n.Approval, n.ReplaceKey, now, by.Name, t.ExpiresAt); err != nil {
			return fmt.Errorf("storing a token: %w", err)
		}
		return s.audit(ctx, tx, by, audit.Info, "enrol_token_created", map[string]any{
			"token": t.ID, "site_name": name, "source": textOf(n.Source), "approval": n.Approval, "replace_key": n.ReplaceKey, "expires_at": t.ExpiresAt.Format(time.RFC3339),
		})
	})
	if err != nil {
		return identity.Token{}, TokenInfo{}, err
	}
	return made, t.info(now), nil
}

func textOf(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// TokenCursor is where a list of tokens goes on: after the token made at that time with that id.
type TokenCursor struct {
	CreatedAt time.Time
	ID        string
}

// Tokens lists tokens, the newest first, at most limit; before is zero for the first page.
func (s *Store) Tokens(ctx context.Context, before TokenCursor, limit int) ([]TokenInfo, error) {
	if before == (TokenCursor{}) {
		before.CreatedAt = s.c.Now().Add(24 * time.Hour)
	}
	list, err := tokens(ctx, s.c.DB, qTokens, before.CreatedAt, before.ID, min(max(limit, 1), 1000))
	return s.infos(list), err
}

// Waiting lists the tokens whose bearers wait for approval, the longest waiting first, at most 1,000.
func (s *Store) Waiting(ctx context.Context) ([]TokenInfo, error) {
	list, err := tokens(ctx, s.c.DB, qWaiting, s.c.Now().UTC())
	return s.infos(list), err
}

func (s *Store) infos(list []token) []TokenInfo {
	now := s.c.Now()
	out := make([]TokenInfo, len(list))
	for i := range list {
		out[i] = list[i].info(now)
	}
	return out
}

// RevokeToken ends a token that was not used.
func (s *Store) RevokeToken(ctx context.Context, id string, by Actor) error {
	now := s.c.Now().UTC()
	return pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, qRevokeToken, id, now, by.Name)
		if err != nil {
			return fmt.Errorf("revoking a token: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return s.whyNot(ctx, tx, id, now)
		}
		return s.audit(ctx, tx, by, audit.Info, "enrol_token_revoked", map[string]any{"token": id})
	})
}

// whyNot says why a token could not be changed.
func (s *Store) whyNot(ctx context.Context, tx pgx.Tx, id string, now time.Time) error {
	t, known, err := oneToken(ctx, tx, id)
	switch {
	case err != nil:
		return err
	case !known:
		return apperr.E(apperr.NotFound, "NOTFOUND_001", "there is no token %.40q: hashinsight-hub token list --waiting shows who waits, token list all", id)
	case t.state(now) == StateUsed:
		return apperr.E(apperr.Conflict, "CONFLICT_001", "token %s was used on %s: to cut its site off, revoke the site", id, t.UsedAt.Format(time.RFC3339))
	case t.state(now) == StateOpen:
		return apperr.E(apperr.Conflict, "CONFLICT_001", "nobody has come with token %s yet", id)
	default:
		return apperr.E(apperr.Conflict, "CONFLICT_001", "token %s is %s", id, t.state(now))
	}
}

// Decide approves or refuses whoever came with a token. The fingerprint is the one that was compared: it must still be the one
// that waits. A refused token is no good any more, for anybody.
func (s *Store) Decide(ctx context.Context, id, fingerprint string, approve bool, by Actor) error {
	now := s.c.Now().UTC()
	return pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error {
		t, known, err := oneToken(ctx, tx, id)
		if err != nil {
			return err
		}
		if known && t.state(now) == StateWaiting && !sameFingerprint(fingerprint, t.Fingerprint) {
			return apperr.E(apperr.Conflict, "CONFLICT_001", "the agent that came with token %s shows fingerprint %s, not the one given: if the site's screen shows another one, "+
				"somebody else has the token: refuse it", id, t.Fingerprint)
		}
		tag, err := tx.Exec(ctx, qDecide, id, now, approve, by.Name, t.claimed[:])
		if err != nil {
			return fmt.Errorf("deciding on a token: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return s.whyNot(ctx, tx, id, now)
		}
		level, action := audit.Info, "enrol_approved"
		if !approve {
			level, action = audit.Security, "enrol_refused"
		}
		return s.audit(ctx, tx, by, level, action, map[string]any{
			"token": id, "site_name": t.SiteName, "fingerprint": t.Fingerprint, "from": t.ClaimedFrom,
		})
	})
}

// sameFingerprint compares what a person typed with what is shown: case and groups do not matter.
func sameFingerprint(typed, shown string) bool {
	strip := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", " ", "", ":", "").Replace(s))
	}
	return strip(typed) == strip(shown)
}

// use makes the token used by these keys, in the caller's transaction, or says why it cannot be.
func (s *Store) use(ctx context.Context, tx pgx.Tx, id string, keys [sha256.Size]byte, from string, now time.Time) error {
	tag, err := tx.Exec(ctx, qUse, id, now, keys[:], from)
	if err != nil {
		return fmt.Errorf("using a token: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errNotUsable
	}
	return nil
}

// errNotUsable means that somebody was faster, or that the token has ended just now: look again.
var errNotUsable = errors.New("the token is not open")
