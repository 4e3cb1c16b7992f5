package hubd

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/internal/enrol"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// NewToken is what an operator orders, and Token one line of the list.
type (
	NewToken    = enrol.NewToken
	Token       = enrol.TokenInfo
	TokenCursor = enrol.TokenCursor
)

// operator is who acts from the command line.
func operator() enrol.Actor { return enrol.Actor{Name: byCommand, ID: byCommand} }

// enrolment opens what lets sites join, for a command.
func (c Database) enrolment(ctx context.Context, env string, work func(ctx context.Context, s *enrol.Store) error) error {
	return c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		ca, err := openPKI(ctx, c, pool)
		if err != nil {
			return err
		}
		record, err := audit.New(audit.Config{Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		tunnel, err := Tunnel{}.store(pool, c, record)
		if err != nil {
			return err
		}
		s, err := enrol.New(enrol.Config{DB: pool, CA: ca, Audit: record, Peers: tunnel, Env: env, Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		return work(ctx, s)
	})
}

// CreateToken makes a token with which a site joins and returns its text, which is stored nowhere.
func CreateToken(ctx context.Context, c Database, env string, n NewToken) (text string, info Token, err error) {
	err = c.enrolment(ctx, env, func(ctx context.Context, s *enrol.Store) error {
		token, i, err := s.CreateToken(ctx, n, operator())
		if err == nil {
			text, info = token.Reveal(), i
		}
		return err
	})
	return text, info, err
}

// Tokens lists tokens, the newest first; with waiting only those whose sites wait for approval.
func Tokens(ctx context.Context, c Database, env string, waiting bool, limit int) (list []Token, err error) {
	err = c.enrolment(ctx, env, func(ctx context.Context, s *enrol.Store) error {
		if waiting {
			list, err = s.Waiting(ctx)
		} else {
			list, err = s.Tokens(ctx, TokenCursor{}, limit)
		}
		return err
	})
	return list, err
}

// RevokeToken ends a token that was not used.
func RevokeToken(ctx context.Context, c Database, env, id string) error {
	return c.enrolment(ctx, env, func(ctx context.Context, s *enrol.Store) error { return s.RevokeToken(ctx, id, operator()) })
}

// DecideSite lets in, or sends away, the agent that came with a token and shows this fingerprint.
func DecideSite(ctx context.Context, c Database, env, token, fingerprint string, approve bool) error {
	return c.enrolment(ctx, env, func(ctx context.Context, s *enrol.Store) error {
		return s.Decide(ctx, token, fingerprint, approve, operator())
	})
}

// RevokeSite cuts a site off, by its name or id.
func RevokeSite(ctx context.Context, c Database, env, site, why string) (id ident.SiteID, err error) {
	err = c.enrolment(ctx, env, func(ctx context.Context, s *enrol.Store) error {
		if id, err = s.SiteByName(ctx, site); err != nil {
			return err
		}
		return s.Revoke(ctx, id, why, operator())
	})
	return id, err
}
