package access

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/jackc/pgx/v5"
)

const (
	qDropOldSessions = `DELETE FROM api_session WHERE id IN (
		SELECT id FROM api_session WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1000)`
	qDropExcessSessions = `DELETE FROM api_session WHERE id IN (
		SELECT id FROM api_session WHERE key_id = $1 ORDER BY expires_at DESC OFFSET $2)`
	qInsertSession = `INSERT INTO api_session (id, key_id, created_at, expires_at) VALUES ($1, $2, $3, $4)`
	qDropSession   = `DELETE FROM api_session WHERE id = $1`
)

// SignIn exchanges a key for a session: the cookie's value and its end. The end is that of the key
// where that comes first.
func (a *Access) SignIn(ctx context.Context, key string, from netip.Addr) (token string, ends time.Time, err error) {
	p, err := a.Key(ctx, key, from)
	if err != nil {
		return "", time.Time{}, err
	}
	now := a.now().UTC()
	ends = now.Add(SessionLifetime).Truncate(time.Second)
	if p.Expires != 0 && p.Expires < ends.Unix() {
		ends = time.Unix(p.Expires, 0).UTC()
	}
	id := uuid.New()
	err = pg.InTx(ctx, a.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, qDropOldSessions, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qInsertSession, id, uuid.UUID(p.KeyID), now, ends); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, qDropExcessSessions, uuid.UUID(p.KeyID), sessionsPerKey); err != nil {
			return err
		}
		return a.audit.Add(ctx, tx, ActorOf(p, from).Entry(audit.Entry{
			Category: audit.Authentication, Action: "login", Details: map[string]any{"login_method": "api_key", "two_factor": false, "key_name": p.Name},
		}))
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("open a session: %w", err)
	}
	return a.sealer.seal(claims{session: id, expires: ends}), ends, nil
}

// SignOut ends the principal's session, in this process at once and in others within CacheFor. A
// principal that showed the key itself has none.
func (a *Access) SignOut(ctx context.Context, p Principal, from netip.Addr) error {
	if p.Session == ([16]byte{}) {
		return nil
	}
	if err := pg.InTx(ctx, a.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, qDropSession, uuid.UUID(p.Session))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return a.audit.Add(ctx, tx, ActorOf(p, from).Entry(audit.Entry{Category: audit.Authentication, Action: "logout"}))
	}); err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	a.forget(credential{session: p.Session})
	return nil
}
