package fleet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// MinerQuery selects and orders miners. Zero members do not restrict.
type MinerQuery struct {
	Site   unit.Opt[ident.SiteID]
	State  unit.Opt[telemetry.State]
	Stale  unit.Opt[bool]
	Family string // firmware family, whole
	Search string // part of address, MAC, serial, model, host name or worker, whatever the case
	Sort   string // a name of SortFields, with "-" before it for descending; empty means address
	Limit  int    // 1 to MaxPage; 0 means 100
	Cursor string // MinerPage.Next of the page before, with everything else unchanged
}

// MaxPage is the largest page of miners.
const MaxPage = 1000

// MinerPage is one page of a list of miners.
type MinerPage struct {
	Count  int64 // miners that match, on all pages
	Miners []Miner
	Next   string // empty on the last page
}

// ErrQuery means that a query's own values are at fault; its text says how.
var ErrQuery = errors.New("query")

// sortKey is an expression that is never null: absent values come last in both directions.
type sortKey struct {
	asc, desc string
	kind      string // SQL type of the expression
}

func textKey(e string) sortKey { return sortKey{e, e, "text"} }

func numberKey(e string) sortKey {
	return sortKey{"coalesce(" + e + "::float8, 'Infinity')", "coalesce(" + e + "::float8, '-Infinity')", "float8"}
}

// sortKeys is the closed list of orders. Values reach SQL as parameters only; these are its only variable texts.
func sortKeys() map[string]sortKey {
	return map[string]sortKey{
		"name":         textKey("coalesce(nullif(m.hostname, ''), m.address_key)"),
		"address":      textKey("m.address_key"),
		"site":         textKey("s.name"),
		"mac":          textKey("m.mac"),
		"serial":       textKey("m.serial"),
		"maker":        textKey("m.maker"),
		"model":        textKey("m.model"),
		"firmware":     textKey("m.firmware"),
		"worker":       textKey("coalesce(l.worker, '')"),
		"state":        numberKey("l.state"),
		"outcome":      numberKey("l.outcome"),
		"at":           numberKey("extract(epoch FROM l.at)"),
		"hashrate":     numberKey("l.hashrate_mhs"),
		"hashrate_avg": numberKey("l.hashrate_avg_mhs"),
		"ideal":        numberKey("l.hashrate_ideal_mhs"),
		"temp_board":   numberKey("l.temp_board_dc"),
		"temp_chip":    numberKey("l.temp_chip_dc"),
		"power":        numberKey("l.power_dw"),
		"uptime":       numberKey("l.uptime_s"),
		"accepted":     numberKey("l.accepted"),
		"rejected":     numberKey("l.rejected"),
		"hw_errors":    numberKey("l.hw_errors"),
	}
}

// SortFields lists the names that MinerQuery.Sort takes.
func SortFields() []string { return slices.Sorted(maps.Keys(sortKeys())) }

// minerFilter restricts minerTables: $1 time, $2 site, $3 state, $4 stale, $5 family, $6 LIKE pattern; null does not restrict.
const minerFilter = `
WHERE ($2::uuid IS NULL OR l.site_id = $2) AND ($3::smallint IS NULL OR l.state = $3)
	AND ($4::boolean IS NULL OR (l.at < $1::timestamptz - ` + staleAfter + `) = $4)
	AND ($5::text IS NULL OR m.firmware = $5)
	AND ($6::text IS NULL OR m.address ILIKE $6 OR m.mac ILIKE $6 OR m.serial ILIKE $6 OR m.model ILIKE $6 OR m.hostname ILIKE $6 OR l.worker ILIKE $6)`

const qCountMiners = `SELECT count(*)` + minerTables + minerFilter

// qListMiners builds the query of one order: $7 limit, $8 and $9 the last row of the page before (value of the key, miner id).
func qListMiners(k sortKey, descending, more bool) string {
	expr, op, dir := k.asc, ">", "ASC"
	if descending {
		expr, op, dir = k.desc, "<", "DESC"
	}
	sql := `SELECT ` + minerColumns + `, (` + expr + `)::text` + minerTables + minerFilter
	if more {
		sql += ` AND (` + expr + `, m.id) ` + op + ` ($8::text::` + k.kind + `, $9::uuid)`
	}
	return sql + ` ORDER BY ` + expr + ` ` + dir + `, m.id ` + dir + ` LIMIT $7`
}

// cursor is the last row of a page.
type cursor struct {
	Sort  string        `json:"s"`
	Value string        `json:"v"`
	Miner ident.MinerID `json:"m"`
}

// Miners lists one page of miners.
func (s *Store) Miners(ctx context.Context, q MinerQuery) (MinerPage, error) {
	if q.Limit == 0 {
		q.Limit = 100
	}
	if q.Limit < 1 || q.Limit > MaxPage {
		return MinerPage{}, fmt.Errorf("%w: limit %d is not within 1 to %d", ErrQuery, q.Limit, MaxPage)
	}
	if q.Sort == "" {
		q.Sort = "address"
	}
	name, descending := strings.CutPrefix(q.Sort, "-")
	key, ok := sortKeys()[name]
	if !ok {
		return MinerPage{}, fmt.Errorf("%w: sort %.40q is none of %s", ErrQuery, name, strings.Join(SortFields(), ", "))
	}
	filter := filterArgs(s, q)
	args := append(slices.Clone(filter), q.Limit+1)
	if q.Cursor != "" {
		c, err := parseCursor(q.Cursor, q.Sort)
		if err != nil {
			return MinerPage{}, err
		}
		args = append(args, c.Value, uuidOf(c.Miner))
	}
	var page MinerPage
	if err := s.pool.QueryRow(ctx, qCountMiners, filter...).Scan(&page.Count); err != nil {
		return MinerPage{}, fmt.Errorf("counting miners: %w", err)
	}
	var last []string
	miners, err := collect(ctx, s.pool, "miners", qListMiners(key, descending, q.Cursor != ""), args, func(r pgx.Rows) (Miner, error) {
		var x minerRow
		var value string
		err := r.Scan(x.targets(&value)...)
		last = append(last, value)
		return x.miner(), err
	})
	if err != nil {
		return MinerPage{}, err
	}
	if len(miners) > q.Limit {
		miners = miners[:q.Limit]
		page.Next = cursor{q.Sort, last[q.Limit-1], miners[q.Limit-1].Info.Miner}.String()
	}
	page.Miners = miners
	return page, nil
}

func filterArgs(s *Store, q MinerQuery) []any {
	var site pgtype.UUID
	if id, ok := q.Site.Get(); ok {
		site = uuidOf(id)
	}
	var state *int16
	if st, ok := q.State.Get(); ok {
		v := int16(st)
		state = &v
	}
	var family, pattern *string
	if q.Family != "" {
		family = &q.Family
	}
	if q.Search != "" {
		p := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(clean(q.Search)) + "%"
		pattern = &p
	}
	return []any{s.now(), site, state, ptr(q.Stale), family, pattern}
}

// String is the cursor as clients hand it back.
func (c cursor) String() string {
	b, _ := json.Marshal(c) // strings and an id: cannot fail
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(text, sort string) (cursor, error) {
	var c cursor
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil || c.Sort != sort || strings.IndexByte(c.Value, 0) >= 0 {
		return cursor{}, fmt.Errorf("%w: the cursor does not belong to this list: begin without one", ErrQuery)
	}
	if k := sortKeys()[strings.TrimPrefix(sort, "-")]; k.kind == "float8" && !isFloat(c.Value) { // a text that SQL would refuse to read as a number
		return cursor{}, fmt.Errorf("%w: the cursor does not belong to this list: begin without one", ErrQuery)
	}
	return c, nil
}

func isFloat(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}
