package hubd

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
)

// AuditFilter chooses entries of the audit log.
type AuditFilter = audit.Filter

// AuditEntry is an entry of the audit log with its place in the chain.
type AuditEntry = audit.Chained

// AuditHead is a place in the chain that was kept.
type AuditHead = audit.Head

// AuditVerdict is what AuditVerify found.
type AuditVerdict = audit.Verdict

// AuditLevels and AuditCategories list what entries can have.
func AuditLevels() []string { return audit.Levels() }

// AuditCategories lists what entries can have.
func AuditCategories() []string { return audit.Categories() }

// ParseAuditHead reads a head that was kept.
func ParseAuditHead(s string) (AuditHead, error) { return audit.ParseHead(s) }

func withAudit(ctx context.Context, c Database, work func(ctx context.Context, l *audit.Log) error) error {
	return c.use(ctx, true, func(ctx context.Context, pool *pgxpool.Pool, _ string) error {
		l, err := audit.New(audit.Config{Pool: pool, Now: c.Now, Log: c.Log})
		if err != nil {
			return err
		}
		if err := l.Chain(ctx); err != nil { // also where no hub runs
			return err
		}
		return work(ctx, l)
	})
}

// AuditTail gives emit the newest n entries that match, the oldest first, and with follow those that come, until ctx ends.
func AuditTail(ctx context.Context, c Database, f AuditFilter, n int, follow bool, emit func([]AuditEntry) error) error {
	return withAudit(ctx, c, func(ctx context.Context, l *audit.Log) error {
		head, err := l.Head(ctx)
		if err != nil {
			return err
		}
		newest, err := l.Before(ctx, head.Seq+1, f, n)
		if err != nil {
			return err
		}
		slices.Reverse(newest)
		if err := emit(newest); err != nil {
			return err
		}
		for seq := head.Seq; follow; {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
			more, err := l.After(ctx, seq, f, audit.MaxPage)
			if err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // the person ended it
				}
				return err
			}
			if len(more) > 0 {
				seq = more[len(more)-1].Seq
				if err := emit(more); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// AuditSearch returns the newest entries that match, the newest first; more tells that there are further ones.
func AuditSearch(ctx context.Context, c Database, f AuditFilter, limit int) (found []AuditEntry, more bool, err error) {
	limit = min(max(limit, 1), audit.MaxPage-1)
	err = withAudit(ctx, c, func(ctx context.Context, l *audit.Log) error {
		found, err = l.Before(ctx, 0, f, limit+1)
		return err
	})
	if len(found) > limit {
		return found[:limit], true, err
	}
	return found, false, err
}

// AuditExport gives emit every entry that matches, the oldest first, and returns the head up to which it looked.
func AuditExport(ctx context.Context, c Database, f AuditFilter, emit func([]AuditEntry) error) (head AuditHead, err error) {
	err = withAudit(ctx, c, func(ctx context.Context, l *audit.Log) error {
		if head, err = l.Head(ctx); err != nil {
			return err
		}
		for seq := int64(0); ; {
			page, err := l.After(ctx, seq, f, audit.MaxPage)
			if err != nil {
				return err
			}
			for len(page) > 0 && page[len(page)-1].Seq > head.Seq { // came meanwhile
				page = page[:len(page)-1]
			}
			if len(page) == 0 {
				return nil
			}
			seq = page[len(page)-1].Seq
			if err := emit(page); err != nil {
				return err
			}
		}
	})
	return head, err
}

// AuditVerify checks the chain against itself, against heads that were kept, and against the head of this host's audit
// file where path names one.
func AuditVerify(ctx context.Context, c Database, path string, kept []AuditHead) (v AuditVerdict, err error) {
	if path != "" {
		h, ok, err := audit.FileHead(path)
		if err != nil {
			return v, err
		}
		if ok {
			kept = append(slices.Clone(kept), h)
		}
	}
	err = withAudit(ctx, c, func(ctx context.Context, l *audit.Log) error {
		v, err = l.Verify(ctx, kept...)
		return err
	})
	return v, err
}
