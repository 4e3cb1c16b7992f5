package series

import (
	"context"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// cursor reads a cursor of a transaction page by page.
type cursor[T any] struct {
	tx    pgx.Tx
	fetch string
	read  func(raw [][]byte) (T, error) // must not keep raw
	page  []T
	at    int
	ended bool
}

// next returns the next row, or false at the end.
func (c *cursor[T]) next(ctx context.Context) (row T, ok bool, err error) {
	if c.at == len(c.page) && !c.ended {
		clear(c.page)
		c.page, c.at = c.page[:0], 0
		r := c.tx.Conn().PgConn().ExecParams(ctx, c.fetch, nil, nil, nil, []int16{pgx.BinaryFormatCode})
		var bad error
		for r.NextRow() {
			v, err := c.read(r.Values())
			if err != nil && bad == nil {
				bad = err
			}
			c.page = append(c.page, v)
		}
		if _, err := r.Close(); err != nil {
			return row, false, fmt.Errorf("reading rows: %w", err)
		}
		if bad != nil {
			return row, false, bad
		}
		c.ended = len(c.page) == 0
	}
	if c.ended {
		return row, false, nil
	}
	c.at++
	return c.page[c.at-1], true, nil
}

// groups reads rows that are sorted by miner one miner at a time.
type groups struct {
	next  func(context.Context) (telemetry.Observation, bool, error)
	ahead *telemetry.Observation
	rows  []telemetry.Observation
	ended bool
	extra int64 // rows beyond maxMinerRows, which no block takes
}

// maxMinerRows bounds the polls of one miner and hour that a block takes: ten a second. What lies beyond stays evidence only.
const maxMinerRows = 36_000

// group returns the next miner's rows, valid until the next call; none at the end.
func (g *groups) group(ctx context.Context) ([]telemetry.Observation, error) {
	clear(g.rows)
	g.rows = g.rows[:0]
	if g.ahead != nil {
		g.rows = append(g.rows, *g.ahead)
		g.ahead = nil
	}
	for !g.ended {
		o, ok, err := g.next(ctx)
		switch {
		case err != nil:
			return nil, err
		case !ok:
			g.ended = true
		case len(g.rows) > 0 && o.Miner != g.rows[0].Miner:
			g.ahead = &o
			return g.rows, nil
		case len(g.rows) >= maxMinerRows:
			g.extra++
		default:
			g.rows = append(g.rows, o)
		}
	}
	return g.rows, nil
}

func (g *groups) each(ctx context.Context, f func(context.Context, []telemetry.Observation) error) error {
	for {
		rows, err := g.group(ctx)
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := f(ctx, rows); err != nil {
			return err
		}
	}
}

// oldBlock is a row of qOldCursor.
type oldBlock struct {
	miner    ident.MinerID
	checksum int32
	payload  []byte
}

func readOldBlock(raw [][]byte) (oldBlock, error) {
	return oldBlock{ident.MinerID(raw[0]), int32(binary.BigEndian.Uint32(raw[1])), slices.Clone(raw[2])}, nil
}

// oldBlocks reads the blocks of an hour in order of their miners.
type oldBlocks struct {
	codec *codec
	rows  *cursor[oldBlock]
}

func (b *oldBlocks) group(ctx context.Context) ([]telemetry.Observation, error) {
	o, ok, err := b.rows.next(ctx)
	if err != nil || !ok {
		return nil, err
	}
	samples, err := b.codec.unpack(o.miner, o.checksum, o.payload)
	if err != nil {
		return nil, err
	}
	out := make([]telemetry.Observation, samples.Len())
	for i := range out {
		out[i] = samples.Observation(i)
	}
	return out, nil
}

// mergeGroups calls f with the rows of each miner of both.
func mergeGroups(ctx context.Context, old *oldBlocks, hot *groups, f func(context.Context, []telemetry.Observation) error) error {
	a, err := old.group(ctx)
	if err != nil {
		return err
	}
	b, err := hot.group(ctx)
	if err != nil {
		return err
	}
	for len(a) > 0 || len(b) > 0 {
		var order int
		switch {
		case len(b) == 0:
			order = -1
		case len(a) == 0:
			order = 1
		default:
			order = a[0].Miner.Compare(b[0].Miner)
		}
		rows := b
		if order < 0 {
			rows = a
		} else if order == 0 {
			rows = mergeRows(a, b)
		}
		if err := f(ctx, rows); err != nil {
			return err
		}
		if order <= 0 {
			if a, err = old.group(ctx); err != nil {
				return err
			}
		}
		if order >= 0 {
			if b, err = hot.group(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// mergeRows returns the rows of one miner that stand in either list, both in order of time; a row that stands in both comes once.
func mergeRows(old, hot []telemetry.Observation) []telemetry.Observation {
	out := make([]telemetry.Observation, 0, len(old)+len(hot))
	for len(hot) > 0 {
		at := hot[0].At
		for len(old) > 0 && !old[0].At.After(at) {
			out, old = append(out, old[0]), old[1:]
		}
		known := false
		for i := len(out) - 1; i >= 0 && out[i].At.Equal(at) && !known; i-- {
			known = reflect.DeepEqual(out[i], hot[0])
		}
		if !known {
			out = append(out, hot[0])
		}
		hot = hot[1:]
	}
	return append(out, old...)
}
