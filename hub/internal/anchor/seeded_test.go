package anchor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/anchor/anviltest"
)

// seedsVar says how many seeded runs are made: make soak sets it.
const seedsVar = "HSI_TEST_ANCHOR_SEEDS"

const defaultSeeds = 20

// Whatever happens, in whatever order, to the chain, its endpoint, the database and the machines: when all is quiet again every entry of the log is covered by a
// final anchor, no size was anchored twice, and the database says what the chain says.
func TestSeededRunsLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	seeds := defaultSeeds
	if text := os.Getenv(seedsVar); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s is %q, want a number of runs", seedsVar, text)
		}
		seeds = n
	}
	first := uint64(1)
	if text := os.Getenv(seedsVar + "_FROM"); text != "" {
		first, _ = strconv.ParseUint(text, 10, 64)
	}
	totals := map[string]int{}
	var mu sync.Mutex // of totals
	t.Run("runs", func(t *testing.T) {
		for i := range seeds {
			seed := first + uint64(i)
			t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
				t.Parallel()
				// A chain for each run: anvil forgets states of long chains, and reorganises into nothing then.
				anvil := anviltest.Start(t, anviltest.Options{Args: []string{"--prune-history", "5000"}})
				r := &seeded{world: newWorld(t, anvil, newPool(t)), rnd: rand.New(rand.NewPCG(seed, 6)), did: map[string]int{}}
				r.run()
				mu.Lock()
				defer mu.Unlock()
				for what, n := range r.did {
					totals[what] += n
				}
			})
		}
	})
	if len(totals) == 0 && !t.Failed() {
		t.Skip("every run was skipped: they say why")
	}
	t.Logf("%d runs: %v", seeds, totals)
	for _, what := range []string{"reorg 1", "reorg 10", "reorg 70", "drop", "spike", "cut", "lost answer", "kill", "race", "restore", "lie", "reread", "adopted", "vanished", "replaced"} {
		if totals[what] == 0 && seeds >= defaultSeeds {
			t.Errorf("no run had a %s", what)
		}
	}
}

// seeded is one run of random faults.
type seeded struct {
	*world
	rnd    *rand.Rand
	did    map[string]int
	backup map[string][]string // rows of the tables as JSON; nil: none taken
	trace  []string
}

func (r *seeded) note(what string) {
	r.did[what]++
	r.trace = append(r.trace, what)
}

const seededOperations = 200

func (r *seeded) run() {
	t := r.t.(*testing.T)
	defer func() {
		if t.Failed() {
			t.Logf("what was done: %s\n%s", strings.Join(r.trace, ", "), r.rows())
		}
	}()
	if r.rnd.IntN(2) == 0 { // two endpoints, which must agree
		r.second = newEndpoint(t, r.anvil.URL)
		r.m = r.machine()
	}
	r.mustBeStored()
	r.log.grow(5)
	for range seededOperations {
		r.operation()
	}
	for _, e := range []*endpoint{r.end, r.second} {
		if e != nil {
			e.set(func(e *endpoint) { e.cut, e.lose, e.answer = false, 0, nil })
		}
	}
	r.log.behind = false
	r.fuse = -1
	r.m = r.machine()
	r.settle()
	r.check()
	for what, sql := range map[string]string{
		"anchors": `SELECT count(*) FROM anchor`, "adopted": `SELECT count(*) FROM anchor WHERE adopted`, "vanished": `SELECT sum(vanished) FROM anchor`,
		"late": `SELECT count(*) FROM anchor WHERE late <> ''`, "replaced": `SELECT count(*) FROM anchor_tx WHERE state = 3`, "void": `SELECT count(*) FROM anchor_tx WHERE state = 6`,
	} {
		var n int
		if err := r.pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		r.did[what] = n
	}
}

// operation does one random thing.
func (r *seeded) operation() {
	switch n := r.rnd.IntN(100); {
	case n < 12:
		r.log.grow(uint64(1 + r.rnd.IntN(40)))
	case n < 45:
		r.step(time.Duration(10+r.rnd.IntN(50)) * time.Second)
	case n < 52:
		r.step(time.Duration(5+r.rnd.IntN(60)) * time.Minute)
		for range r.rnd.IntN(4) { // time enough for an anchor to become final, in some
			r.anvil.Mine(2)
			r.step(10 * time.Second)
		}
	case n < 70:
		r.anvil.Mine(1 + r.rnd.IntN(3))
	case n < 74:
		r.note("reorg 1")
		r.anvil.Reorg(1)
	case n < 77:
		r.note("reorg 10")
		r.anvil.Reorg(10)
	case n < 79:
		r.note("reorg 70")
		r.anvil.Reorg(70)
	case n < 82:
		r.drop()
	case n < 85:
		r.note("spike")
		r.anvil.BaseFee(uint64(1+r.rnd.IntN(120)) * gwei)
		r.anvil.Mine(1)
	case n < 88:
		cut := r.rnd.IntN(2) == 0
		if cut {
			r.note("cut")
		}
		r.end.set(func(e *endpoint) { e.cut = cut })
	case n < 90 && r.second != nil:
		r.lie()
	case n < 91:
		r.note("lost answer")
		r.end.set(func(e *endpoint) { e.lose = 1 })
	case n < 94:
		r.race()
	case n < 96:
		r.note("reread")
		r.log.behind = !r.log.behind
	case n < 98:
		r.note("backup")
		r.backup = r.save()
	default:
		if r.backup != nil {
			r.note("restore")
			r.restore()
		}
	}
}

// lie has the second endpoint, of two, say of one question that there is nothing, whatever there is; or the truth again.
func (r *seeded) lie() {
	methods := []string{"eth_getTransactionReceipt", "eth_getLogs", "eth_call", "eth_getBlockByNumber", "eth_getTransactionCount", "eth_getCode", ""}
	empty := []string{`null`, `[]`, `"0x` + strings.Repeat("00", 128) + `"`, `null`, `"0x0"`, `"0x"`, ``}
	i := r.rnd.IntN(len(methods))
	if methods[i] != "" {
		r.note("lie")
	}
	r.second.set(func(e *endpoint) {
		e.answer = func(method string, _, out []byte) []byte {
			if method == methods[i] {
				return []byte(`{"jsonrpc":"2.0","id":1,"result":` + empty[i] + `}`)
			}
			return out
		}
	})
}

// step runs a machine, which in one of three runs is killed at a random place, and another one starts.
func (r *seeded) step(after time.Duration) {
	r.now = r.now.Add(after)
	if r.rnd.IntN(3) == 0 {
		r.fuse = r.rnd.IntN(8)
	}
	err := r.m.Run(r.t.Context())
	if errors.Is(err, errKilled) {
		r.note("kill")
		err = nil
		r.m = r.machine()
	}
	r.fuse = -1
	if err != nil {
		r.t.Fatalf("the task ended with %v\n%s", err, r.rows())
	}
}

// race runs two machines at once without the lock that keeps them apart: the database alone must do it.
func (r *seeded) race() {
	r.note("race")
	other := r.machine()
	var wg sync.WaitGroup
	for _, m := range []*Machine{r.m, other} {
		wg.Go(func() {
			if err := m.run(context.WithoutCancel(r.t.Context())); err != nil {
				r.t.Errorf("a machine that races ended with %v", err)
			}
		})
	}
	wg.Wait()
}

// drop makes the node forget the transactions that wait.
func (r *seeded) drop() {
	r.note("drop")
	rows, err := r.pool.Query(r.t.Context(), `SELECT '0x' || encode(hash, 'hex') FROM anchor_tx WHERE sender = $1 ORDER BY id DESC LIMIT 3`, r.address().Bytes())
	if err != nil {
		r.t.Fatal(err)
	}
	hashes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range hashes {
		_ = r.anvil.Try(nil, "anvil_dropTransaction", h) // what does not wait is not dropped
	}
}

// Tables of a series, in the order in which they can be written.
var seriesTables = []string{"anchor", "anchor_tx", "anchor_status"}

// save reads all rows of the series, as a backup of the database has them.
func (r *seeded) save() map[string][]string {
	saved := map[string][]string{}
	for _, table := range seriesTables {
		rows, err := r.pool.Query(r.t.Context(), `SELECT row_to_json(t)::text FROM `+table+` t WHERE chain_id = $1 AND contract = $2`, r.m.s.args()...)
		if err != nil {
			r.t.Fatal(err)
		}
		if saved[table], err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			r.t.Fatal(err)
		}
	}
	return saved
}

// restore puts the database back to the backup. What the chain has seen since stays.
func (r *seeded) restore() {
	for i := range seriesTables {
		if _, err := r.pool.Exec(r.t.Context(), `DELETE FROM `+seriesTables[len(seriesTables)-1-i]+` WHERE chain_id = $1 AND contract = $2`, r.m.s.args()...); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, table := range seriesTables {
		for _, row := range r.backup[table] {
			if _, err := r.pool.Exec(r.t.Context(), `INSERT INTO `+table+` OVERRIDING SYSTEM VALUE SELECT * FROM json_populate_record(NULL::`+table+`, $1::json)`, row); err != nil {
				r.t.Fatalf("restoring %s: %v", table, err)
			}
		}
	}
	r.m = r.machine()
}

// Two hubs with a lock between them: one anchors, the other one does nothing, and shows what the first one does.
func TestTwoHubsAnchorOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, anviltest.Start(t, anviltest.Options{}), newPool(t))
	other := w.machine()
	for range 20 {
		w.log.grow(3)
		w.now = w.now.Add(20 * time.Minute)
		var wg sync.WaitGroup
		for _, m := range []*Machine{w.m, other} {
			wg.Go(func() {
				if err := m.Run(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.mine(3)
	}
	w.settle()
	w.check()
	for seq := uint64(1); seq <= w.status().HeadSeq; seq++ {
		if n := len(w.txs(seq)); n != 1 {
			t.Errorf("anchor %d has %d transactions", seq, n)
		}
	}
}

// Two hubs whose databases do not know of each other, with one log and a key each, as after a failover that was none: each reads back what the other one
// has anchored, and goes on behind it. What one of them sends too late, the contract refuses.
func TestTwoDatabasesAnchorOneLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, anviltest.Start(t, anviltest.Options{}), newPool(t))
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	b := *w
	b.key, b.pool = key, newPool(t)
	w.grant(b.address(), true)
	w.anvil.Fund(b.address().Hex(), 1_000_000_000*gwei)
	b.m = b.machine()
	w.log.grow(10)
	w.run(time.Minute) // signed and sent
	b.now = w.now
	b.run(0) // as well: both wait for a block
	w.mine(1)
	w.mine(3)
	for range 6 {
		w.run(10 * time.Second)
		b.run(10 * time.Second)
		w.mine(3)
	}
	if one, two := w.anchor(1), b.anchor(1); one.State != Finalized || two.State != Finalized || one.TxHash != two.TxHash || one.Adopted == two.Adopted {
		t.Errorf("one database says %+v, the other one %+v", one, two)
	}
	w.log.grow(10)
	w.run(time.Hour)
	w.mine(3)
	w.settle()
	w.check()
	b.now = w.now
	b.run(time.Minute)
	b.settle()
	b.check()
}
