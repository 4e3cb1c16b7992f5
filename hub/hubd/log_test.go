package hubd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/hubd"
	"github.com/hashinsight/hashinsight/hub/internal/anchor"
	"github.com/hashinsight/hashinsight/hub/internal/anchor/anviltest"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

// A running hub puts the key of a site that registers, and its own, into the log, signs a checkpoint, and serves it to anybody when the log is public, and only then.
func TestARunningHubKeepsItsLog(t *testing.T) {
	t.Parallel() // most of it is waiting for the log's next turn
	c := config(pgtest.URL(t))
	c.Transparency = hubd.Transparency{Dir: filepath.Join(t.TempDir(), "log"), Public: true}
	h := start(t, c)
	awaitReady(t, h)
	site(t, c, "north", "127.0.0.1:1")
	url := "http://" + h.WebAddr().String() + "/log/"
	for end := time.Now().Add(time.Minute); ; <-time.After(200 * time.Millisecond) {
		list, err := hubd.LogEntries(t.Context(), c.Database, "site_key", 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the site's key gets no place in the log")
		}
	}
	var size string
	for end := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) { // the tiles follow at once
		if status, _, text := get(t, http.DefaultClient, url+"checkpoint", ""); status == http.StatusOK && strings.HasPrefix(text, "hashinsight.log/") {
			if size = strings.Split(text, "\n")[1]; size >= "3" {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no checkpoint of three entries or more: %s", size)
		}
	}
	if status, header, b := get(t, http.DefaultClient, url+"tile/entries/000.p/"+size, ""); status != http.StatusOK || len(b) < 3*30 || !strings.Contains(header.Get("Cache-Control"), "immutable") {
		t.Errorf("the entries: %d, %d bytes, %v", status, len(b), header)
	}
	if status, _, _ := get(t, http.DefaultClient, url+"tile/entries/000", ""); status != http.StatusNotFound {
		t.Errorf("a tile that is not full yet: %d", status)
	}
	v, err := hubd.CheckLog(t.Context(), c.Database, c.Transparency, io.Discard)
	if err != nil || !v.OK() || v.Entries < 3 || v.Records != 1 {
		t.Errorf("fsck: %+v, %v", v, err)
	}
	c.Transparency.Public = false
	other := start(t, c)
	awaitReady(t, other)
	if _, _, text := get(t, http.DefaultClient, "http://"+other.WebAddr().String()+"/log/checkpoint", ""); strings.HasPrefix(text, "hashinsight.log/") {
		t.Error("a log that is not public is served without a key")
	}
}

// A hub whose database and tiles were set back to before what is anchored finds out from the chain when it starts, and adds nothing.
func TestAHubThatWasSetBackAddsNothingToItsLog(t *testing.T) {
	t.Parallel()
	chain := anviltest.Start(t, anviltest.Options{BlockTime: time.Second})
	signer, key, err := anchor.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain.Fund(anchor.AddressText(signer.Address()), 1e18)
	env := []string{"BASE_RPC_URL=" + chain.URL, "BLOCKCHAIN_PRIVATE_KEY=" + key, "ANCHOR_INTERVAL=1s"}
	d, err := hubd.DeployContract(context.WithoutCancel(t.Context()), chainSettings(t, env...), hubd.ContractOrder{Admin: "0x00000000000000000000000000000000000000aa"}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := config(pgtest.URL(t))
	c.Chain = chainSettings(t, append(env, "BLOCKCHAIN_CONTRACT="+anchor.AddressText(d.Contract))...)
	c.Transparency.Dir = filepath.Join(t.TempDir(), "log")
	pool, err := pgxpool.New(t.Context(), c.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	await := func(what, sql string, args ...any) (n int64) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); ; <-time.After(100 * time.Millisecond) {
			err := pool.QueryRow(t.Context(), sql, args...).Scan(&n)
			if err == nil && n > 0 {
				return n
			}
			if err != nil && !errors.Is(err, pgx.ErrNoRows) || time.Now().After(end) {
				t.Fatalf("%s: %d, %v", what, n, err)
			}
		}
	}
	const inBlock = `SELECT coalesce(max(size), 0) FROM anchor WHERE block_number IS NOT NULL AND size > $1`
	var first, second int64
	t.Run("published", func(t *testing.T) {
		awaitReady(t, start(t, c))
		first = await("the first anchor", inBlock, 0)
		site(t, c, "north", "127.0.0.1:1")
		second = await("one of the site's key", inBlock, first)
	})
	for _, sql := range []string{
		`DELETE FROM anchor_tx WHERE seq > (SELECT min(seq) FROM anchor WHERE size = $1)`, `DELETE FROM anchor WHERE size > $1`, `DELETE FROM log_checkpoint WHERE size > $1`, `DELETE FROM log_entry WHERE idx >= $1`,
	} {
		if _, err := pool.Exec(t.Context(), sql, first); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(c.Transparency.Dir); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, start(t, c))
	site(t, c, "south", "127.0.0.1:1")
	await("the log is halted", `SELECT count(*) FROM log_state WHERE halted LIKE $1`, fmt.Sprintf("the contract on the chain has a root of %d entries, the database and its tiles have %d.%%", second, first))
	if st, _, err := hubd.TransparencyLog(t.Context(), c.Database, c.Transparency); err != nil || st.Entries != first || st.Pending == 0 {
		t.Errorf("%+v, %v", st, err)
	}
}
