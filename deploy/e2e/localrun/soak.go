package localrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// reading is what a soak run looks at, at one moment.
type reading struct {
	heap    map[string]float64 // bytes in use after the latest garbage collection, by program
	tables  map[string]int64   // bytes with indexes, by table; partitions count for their parent
	samples int64              // ever stored
}

// What a soak run allows. A run is read in three parts: the first third is warm-up.
const (
	heapGrowth   = 1.25    // median of the last third over that of the second
	heapSlack    = 6 << 20 // bytes, for heaps of a few MB in which one buffer is a quarter
	tableGrowth  = 1.25    // a table that holds state and no history: last over first third's end
	tableSlack   = 2 << 20 // bytes, because tables grow by pages and are vacuumed now and then
	soakReadings = 60      // in a run
)

// historyTables grow with every sample. The bounds are bytes a sample, with indexes, at fleets of a thousand: small batches cost more.
func historyTables() map[string]float64 {
	return map[string]float64{"telemetry_hot": 600, "batch": 250, "telemetry_block": 150}
}

const (
	qTableSizes = `SELECT coalesce(p.relname, c.relname)::text, sum(pg_total_relation_size(c.oid))::bigint
		FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') GROUP BY 1`
	qSamples = `SELECT coalesce(sum(samples), 0)::bigint FROM batch_total`
)

// soak reads heaps and tables until end.
func (s *stack) soak(ctx context.Context, end time.Time) error {
	tick := time.NewTicker(max(time.Until(end)/soakReadings, time.Second))
	defer tick.Stop()
	conn, err := pgx.Connect(ctx, s.databaseURL())
	if err != nil {
		return fmt.Errorf("look into the hub's database: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing is under way
	for time.Now().Before(end) {
		select {
		case <-tick.C:
		case <-s.broken:
			return s.failed()
		case <-ctx.Done():
			return nil
		}
		r, err := s.read(ctx, conn)
		if err != nil {
			return err
		}
		s.readings = append(s.readings, r)
	}
	return nil
}

func (s *stack) read(ctx context.Context, conn *pgx.Conn) (reading, error) {
	r := reading{heap: map[string]float64{}, tables: map[string]int64{}}
	for name, address := range map[string]string{"agent": s.ports.Agent, "hub": s.ports.Metrics} {
		// Go collects next when the heap has grown by GOGC percent over what was in use after the collection before.
		next, err := s.metric(ctx, address, "go_memstats_next_gc_bytes")
		if err != nil {
			return r, err
		}
		percent, err := s.metric(ctx, address, "go_gc_gogc_percent")
		if err != nil {
			return r, err
		}
		r.heap[name] = next / (1 + percent/100)
	}
	rows, err := conn.Query(ctx, qTableSizes)
	if err == nil {
		var table string
		var size int64
		_, err = pgx.ForEachRow(rows, []any{&table, &size}, func() error { r.tables[table] = size; return nil })
	}
	if err == nil {
		err = conn.QueryRow(ctx, qSamples).Scan(&r.samples)
	}
	if err != nil {
		return r, fmt.Errorf("sizes of the hub's tables: %w", err)
	}
	return r, nil
}

var errBounds = errors.New("a bound of the soak run is exceeded")

// bounds judges the readings: a table for people, and whether all is within bounds.
func bounds(all []reading) (lines []string, err error) {
	if len(all) < 6 {
		return nil, fmt.Errorf("only %d readings: a soak run needs more time", len(all))
	}
	judge := func(what, bound string, ok bool, values ...float64) {
		word := "ok"
		if !ok {
			word, err = "EXCEEDED", errBounds
		}
		lines = append(lines, fmt.Sprintf("%-28s%12.0f%12.0f%12.0f  %-40s %s", what, values[0]/1024, values[1]/1024, values[2]/1024, bound, word))
	}
	lines = append(lines, fmt.Sprintf("%-28s%12s%12s%12s  %-40s", "kB", "first", "second", "last third", "bound"))
	first, second, last := all[:len(all)/3], all[len(all)/3:2*len(all)/3], all[2*len(all)/3:]
	for _, p := range []string{"agent", "hub"} {
		median := func(part []reading) float64 {
			var v []float64
			for _, r := range part {
				v = append(v, r.heap[p])
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		a, b, c := median(first), median(second), median(last)
		judge(p+" heap after collection", fmt.Sprintf("last ≤ %.2f × second + %d MB", heapGrowth, heapSlack>>20), c > 0 && c <= heapGrowth*b+heapSlack, a, b, c)
	}
	a, b, c := first[len(first)-1], second[len(second)-1], last[len(last)-1]
	history := historyTables()
	var names []string
	for n := range c.tables {
		names = append(names, n)
	}
	slices.SortFunc(names, func(x, y string) int { return cmp.Compare(c.tables[y], c.tables[x]) })
	samples := float64(c.samples - a.samples)
	for _, n := range names {
		x, y, z := float64(a.tables[n]), float64(b.tables[n]), float64(c.tables[n])
		if most, ok := history[n]; ok {
			each := max(0, z-x-tableSlack) / max(1, samples)
			judge(n, fmt.Sprintf("growth ≤ %.0f B a sample: %.0f", most, (z-x)/max(1, samples)), each <= most, x, y, z)
		} else {
			judge(n, fmt.Sprintf("last ≤ %.2f × first + %d MB", tableGrowth, tableSlack>>20), z <= tableGrowth*x+tableSlack, x, y, z)
		}
	}
	lines = append(lines, fmt.Sprintf("%.0f samples were stored in the last two thirds", samples))
	return lines, err
}
