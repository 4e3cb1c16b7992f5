package statement

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement/export"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// When the last batch of samples before a time began. Work is split between two polls, so that of an hour's facts the first need the last one before it.
const qBatchBefore = `SELECT first_at FROM batch WHERE site_id = $1 AND spool_id = $2 AND kind = 1 AND first_at < $3 ORDER BY first_at DESC LIMIT 1`

// hoursBefore and hoursAfter are how many hours of batches facts need at most beside their own: two before, and the one after, in whose first minute an hour is closed.
const hoursBefore, hoursAfter = 2, 1

// exportBatches writes the signed batches that the statement's hours were made from, a file for each hour of a site. They hold all miners of the site, of whomever.
func (s *Store) exportBatches(ctx context.Context, e *exporter, st *sla.Statement) error {
	if s.c.Archive == nil {
		return errors.New("the batches: EVIDENCE_URL does not say where their payloads lie")
	}
	for site, refs := range bySite(st.Hours) {
		from := time.Unix((int64(refs[0].Hour)-hoursBefore)*3600, 0).UTC()
		to := time.Unix((int64(refs[len(refs)-1].Hour)+hoursAfter)*3600, 0).UTC()
		dir := filepath.Join(export.Evidence, site.String())
		if err := os.MkdirAll(filepath.Join(e.dir, dir), 0o755); err != nil { //nolint:gosec // for somebody else to read
			return err
		}
		earlier, err := s.hoursBefore(ctx, site, refs, from)
		if err != nil {
			return err
		}
		for hour := range hoursOf(earlier, from, to) {
			name := filepath.Join(dir, hour.Format("2006-01-02T15")+".jsonl")
			err := e.file(name, func(f *os.File) error {
				_, err := s.c.Archive.Export(ctx, f, archive.ExportConfig{Hour: archive.Hour{Site: site, From: hour}, Key: s.c.SiteKey})
				return err
			})
			if errors.Is(err, archive.ErrNothing) { // the site was silent
				e.files--
				err = os.Remove(filepath.Join(e.dir, name))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// hoursOf goes over single hours, and then over those from one to another.
func hoursOf(single []time.Time, from, to time.Time) func(yield func(time.Time) bool) {
	return func(yield func(time.Time) bool) {
		for _, t := range single {
			if !yield(t) {
				return
			}
		}
		for t := from; !t.After(to); t = t.Add(time.Hour) {
			if !yield(t) {
				return
			}
		}
	}
}

// hoursBefore returns the hours before a time in which the chains of signed hours have their last batches before it.
func (s *Store) hoursBefore(ctx context.Context, site ident.SiteID, refs []sla.HourRef, from time.Time) (hours []time.Time, err error) {
	seen, known := map[ident.SpoolID]bool{}, map[time.Time]bool{}
	for i := range refs {
		spool := refs[i].Spool
		if seen[spool] {
			continue
		}
		seen[spool] = true
		var at time.Time
		err := s.c.Pool.QueryRow(ctx, qBatchBefore, site, spool, from).Scan(&at)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for the last batch of spool %s before %s: %w", spool, from.Format(time.RFC3339), err)
		}
		if at = at.UTC().Truncate(time.Hour); !known[at] {
			known[at] = true
			hours = append(hours, at)
		}
	}
	return hours, nil
}
