package hubd

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/access"
)

// KeyOrder is what an operator orders for a new API key.
type KeyOrder = access.KeyOrder

// KeyInfo is an API key without its secret.
type KeyInfo = access.KeyInfo

// Permission names one thing that a key may do.
type Permission = access.Permission

// maxListed bounds the keys that a command lists.
const maxListed = 50_000

func withKeys(ctx context.Context, c Database, env string, work func(ctx context.Context, keys *access.Keys) error) error {
	return c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		keys, err := access.NewKeys(access.KeysConfig{Pool: pool, Env: env, Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		return work(ctx, keys)
	})
}

// CreateKey makes an API key and returns it; the hub keeps only its hash.
func CreateKey(ctx context.Context, c Database, env string, o KeyOrder) (key string, info KeyInfo, err error) {
	err = withKeys(ctx, c, env, func(ctx context.Context, keys *access.Keys) error {
		key, info, err = keys.CreateKey(ctx, access.CommandLine(), o)
		return err
	})
	return key, info, err
}

// ListKeys lists API keys, the newest first, those that have ended too.
func ListKeys(ctx context.Context, c Database, env string) (all []KeyInfo, err error) {
	err = withKeys(ctx, c, env, func(ctx context.Context, keys *access.Keys) error {
		var place access.KeyPlace
		for len(all) < maxListed {
			page, err := keys.ListKeys(ctx, place, access.MaxKeyPage)
			if err != nil {
				return err
			}
			all = append(all, page...)
			if len(page) < access.MaxKeyPage {
				return nil
			}
			place = access.KeyPlace{CreatedAt: page[len(page)-1].CreatedAt, ID: page[len(page)-1].ID}
		}
		return nil
	})
	return all, err
}

// RevokeKey ends an API key and its sessions; running hubs forget it within 3 s.
func RevokeKey(ctx context.Context, c Database, env string, id uuid.UUID, why string) (info KeyInfo, err error) {
	err = withKeys(ctx, c, env, func(ctx context.Context, keys *access.Keys) error {
		info, err = keys.RevokeKey(ctx, access.CommandLine(), id, why)
		return err
	})
	return info, err
}

// LimitKey gives a key a rate limit of its own; nil takes it away.
func LimitKey(ctx context.Context, c Database, env string, id uuid.UUID, limit *int) error {
	return withKeys(ctx, c, env, func(ctx context.Context, keys *access.Keys) error {
		return keys.LimitKey(ctx, access.CommandLine(), id, limit)
	})
}

// RateLimit returns everyone's rate limit, after setting it where set says so: to limit, or with nil back to configured.
func RateLimit(ctx context.Context, c Database, configured int, set bool, limit *int) (current int, err error) {
	err = c.do(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		l, err := access.NewLimiter(access.LimiterConfig{Pool: pool, PerMinute: configured, Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		if set {
			err = l.SetLimit(ctx, access.CommandLine(), limit)
		} else {
			err = l.ReadLimit(ctx)
		}
		current, _ = l.Limits()
		return err
	})
	return current, err
}
