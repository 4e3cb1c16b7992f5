package pg_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/pgtest"
)

// undistributed are the tables that do not grow with the telemetry of sites, and why they stay whole when the others are distributed by
// site: a copy on every node, or on the first node only.
var undistributed = map[string]string{
	"site":             "one row a site: its id is the key that the others are distributed by; a copy on every node",
	"certificate":      "a few rows a site, found by serial number: a copy on every node",
	"hub_secret":       "the hub's own keys",
	"enrol_token":      "a few rows a site, before there is one: on the first node",
	"audit_entry":      "one chain in one order over all that people do",
	"audit_pending":    "as audit_entry, for a second",
	"rate_count":       "two minutes of counts by key and address, not by site",
	"hub_setting":      "a few rows for the whole hub",
	"api_key":          "belongs to people, not to sites",
	"api_session":      "belongs to people, not to sites",
	"hot_dropped":      "one row a day, about a partition of all sites",
	"archive_object":   "one row a site and hour, joined by its number: a copy on every node",
	"peer":             "one row a site, read whole by the process that has the tunnel's device; keys are unique among all sites: a copy on every node",
	"peer_address":     "one row a site, an address is one site's among all: a copy on every node",
	"peer_key":         "a few rows a site, a key is one site's among all: a copy on every node",
	"peer_network":     "a few rows a site, must not overlap among all: a copy on every node",
	"peer_observed":    "one row a site, joined with peer: a copy on every node",
	"peer_hub_key":     "the hub's own keys",
	"peer_owner":       "one row: the process that has the tunnel's device",
	"customer":         "whom the operator serves: a copy on every node",
	"contract":         "a few rows a customer, over several sites: a copy on every node",
	"contract_version": "a few rows a contract: a copy on every node",
	"contract_miner":   "a few rows a miner in its life, by contract as much as by site: a copy on every node",
	"excuse":           "at most 500 rows a site and month, which people make: a copy on every node",
	"sla_dirty":        "notes of changed contracts, consumed within a minute",
	"sla_month":        "one row a contract and month: a copy on every node",
	"sla_through":      "one row a contract: a copy on every node",
	"statement":        "one row a contract and month, over several sites: a copy on every node",
	"log_entry":        "one log in one order over all sites: on the first node",
	"log_checkpoint":   "as log_entry",
	"log_state":        "one row: what the log is called and how far it has come",
	"anchor":           "one row an hour for the whole hub: on the first node",
	"anchor_tx":        "a few rows for each row of anchor",
	"anchor_status":    "one row a contract on a chain",
	"goose_db_version": "the state of migrations",
}

// loose are indexes of distributed tables without the site in front, and what makes them fit a node that holds some sites only.
var loose = map[string]string{
	"miner_id":            "finds a miner by its id alone, at every node",
	"telemetry_hot_miner": "a miner belongs to one site: the rows it leads to are on one node",
	"telemetry_hot_ts":    "finds rows by time at every node, for retention",
	"telemetry_hour_open": "finds hours to seal at every node",
	"site_hour_hour":      "finds hours by time at every node, for retention",
	"hour_dispute_id":     "lists disputes of all sites, and finds one by its number, at every node",
	"sla_day_pkey":        "a contract's days are read by contract, from every node that has sites of it",
	"sla_group_pkey":      "as sla_day_pkey",
	"sla_group_dirty":     "finds days to compute at every node",
	"sla_group_due":       "as sla_group_dirty",
}

// keyless are distributed tables without a primary key, and what keeps their rows apart.
var keyless = map[string]string{
	"telemetry_hot": "a batch's rows are written with the batch's own, whose key makes them once",
	"block_dirty":   "notes of changed hours, taken by where they lie; two of one hour do no harm",
	"facts_changed": "as block_dirty",
}

// A hub that outgrows one PostgreSQL moves to one distributed by site. That works by configuration only if every table that grows has the
// site in its primary key, in everything else that is unique, and in what refers to it.
func TestTablesCanBeDistributedBySite(t *testing.T) {
	pool := pgtest.New(t)
	rows, err := pool.Query(t.Context(), `
SELECT c.relname, EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'site_id' AND a.attnotnull AND NOT a.attisdropped)
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	var table string
	var has bool
	if _, err := pgx.ForEachRow(rows, []any{&table, &has}, func() error {
		switch why, whole := undistributed[table]; {
		case whole && why == "":
			t.Errorf("%s: no reason is given", table)
		case !whole && !has:
			t.Errorf("%s has no column site_id: a table that grows needs it, others are listed with their reason", table)
		case !whole:
			tables = append(tables, table)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(tables) < 8 || !slices.Contains(tables, "telemetry_hot") || !slices.Contains(tables, "telemetry_block") || !slices.Contains(tables, "batch") {
		t.Fatalf("the catalogue lists %v", tables)
	}

	rows, err = pool.Query(t.Context(), `
SELECT t.relname, i.relname, x.indisunique, x.indisprimary,
	ARRAY(SELECT a.attname::text FROM unnest(x.indkey) WITH ORDINALITY k (num, place) JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.num WHERE k.place <= x.indnkeyatts ORDER BY k.place)
FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid WHERE t.relname = ANY($1) ORDER BY 1, 2`, tables)
	if err != nil {
		t.Fatal(err)
	}
	var index string
	var unique, primary bool
	var columns []string
	keyed, seen := map[string]bool{}, map[string]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&table, &index, &unique, &primary, &columns}, func() error {
		seen[index] = true
		first := len(columns) > 0 && columns[0] == "site_id"
		keyed[table] = keyed[table] || primary
		if unique && !slices.Contains(columns, "site_id") {
			t.Errorf("%s of %s is unique over %v: without site_id no node could check it", index, table, columns)
		}
		if !first && loose[index] == "" {
			t.Errorf("%s of %s begins with %v: an index that serves one site begins with site_id, others are listed with their reason", index, table, columns)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if keyed[table] == (keyless[table] != "") {
			t.Errorf("%s: has a primary key: %t; the list of tables without one says otherwise", table, keyed[table])
		}
	}
	for index := range loose {
		if !seen[index] {
			t.Errorf("there is no index %s any more", index)
		}
	}

	rows, err = pool.Query(t.Context(), `
SELECT c.relname, f.relname, k.conname, EXISTS (SELECT FROM unnest(k.conkey, k.confkey) u (a, b)
	JOIN pg_attribute ca ON ca.attrelid = c.oid AND ca.attnum = u.a JOIN pg_attribute fa ON fa.attrelid = f.oid AND fa.attnum = u.b
	WHERE ca.attname = 'site_id' AND (fa.attname = 'site_id' OR f.relname = 'site' AND fa.attname = 'id'))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class f ON f.oid = k.confrelid WHERE k.contype = 'f' AND c.relname = ANY($1) AND f.relname <> ALL($2)`,
		tables, slices.DeleteFunc(slices.Collect(maps.Keys(undistributed)), func(name string) bool { return name == "site" }))
	if err != nil {
		t.Fatal(err)
	}
	var other, constraint string
	var sites bool
	if _, err := pgx.ForEachRow(rows, []any{&table, &other, &constraint, &sites}, func() error {
		if !sites {
			t.Errorf("%s of %s refers to %s without the site: the row may be on another node", constraint, table, other)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tables can be distributed: %v", len(tables), tables)
}
