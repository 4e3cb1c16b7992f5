package localrun

import (
	"cmp"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// anvil returns the chain's program, or skips the test.
func anvil(t *testing.T) string {
	t.Helper()
	path := cmp.Or(os.Getenv("HSI_TEST_ANVIL"), AnvilIn("../../../hub/contracts/node_modules"))
	needs(t, path != "", "a development chain in hub/contracts (make installs it), or HSI_TEST_ANVIL")
	return path
}

// A chain that is stopped goes on where it ended, and one whose file was cut off is another one.
func TestTheChainIsKept(t *testing.T) {
	c := Config{Anvil: anvil(t), StateDir: t.TempDir(), RunDir: t.TempDir(), Web: "127.0.0.1:0", Out: io.Discard}
	const account = "0x00000000000000000000000000000000000000aa"
	visit := func(do func(s *stack)) {
		t.Helper()
		s, err := openStack(t.Context(), c.withDefaults())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.close(); err != nil {
				t.Error(err)
			}
		}()
		if err := s.runChain(t.Context()); err != nil {
			t.Fatal(err)
		}
		do(s)
	}
	ask := func(s *stack, method string, params ...any) string {
		t.Helper()
		var answer string
		if err := s.rpc(t.Context(), &answer, method, params...); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var url string
	visit(func(s *stack) {
		url = s.chainURL()
		if err := s.rpc(t.Context(), nil, "anvil_setBalance", account, chainAccount); err != nil {
			t.Fatal(err)
		}
	})
	visit(func(s *stack) {
		if s.chainURL() != url {
			t.Errorf("the chain is at %s, before at %s", s.chainURL(), url)
		}
		if got := ask(s, "eth_getBalance", account, "latest"); got != chainAccount {
			t.Errorf("the account has %s, before %s", got, chainAccount)
		}
		if !s.patient(t.Context(), 20*time.Second, func() bool {
			var b struct {
				Number string `json:"number"`
			}
			return s.rpc(t.Context(), &b, "eth_getBlockByNumber", "finalized", false) == nil && len(b.Number) > 2 && b.Number != "0x0"
		}) {
			t.Error("no block is final after 20 s")
		}
	})
	state := filepath.Join(c.StateDir, "chain", "state.json")
	b, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	visit(func(s *stack) {
		if got := ask(s, "eth_getBalance", account, "latest"); got != "0x0" {
			t.Errorf("a chain of its own has %s on an account nobody gave anything", got)
		}
	})
}

// The address of a key is what the chain takes its signature for: one known pair.
func TestChainAddress(t *testing.T) {
	// The first account of every development chain.
	got, err := chainAddress("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
	if want := "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"; err != nil || got != want {
		t.Errorf("%s %v, want %s", got, err, want)
	}
	if _, err := chainAddress("0x12"); err == nil {
		t.Error("a short key has an address")
	}
}

func TestAnchorsAreHeldAgainstTheChain(t *testing.T) {
	row := func(seq, size uint64, root string) anchorRow {
		return anchorRow{Seq: seq, Hour: 9, Size: size, Root: root, Prev: strings.Repeat("0", 64)}
	}
	one, two := row(1, 5, "aa"), row(2, 7, "bb")
	for _, c := range []struct {
		name             string
		events           []anchorRow
		booked           map[uint64]anchorRow
		mined            map[uint64]bool
		duplicate, wrong int
	}{
		{"all is as booked", []anchorRow{one, two}, map[uint64]anchorRow{1: one, 2: two}, map[uint64]bool{1: true, 2: true}, 0, 0},
		{"one under way is not on the chain yet", []anchorRow{one}, map[uint64]anchorRow{1: one, 2: two}, map[uint64]bool{1: true}, 0, 0},
		{"one under way is, and the books say it a moment later", []anchorRow{one, two}, map[uint64]anchorRow{1: one, 2: two}, map[uint64]bool{1: true}, 0, 0},
		{"one that is booked as mined is lost", []anchorRow{one}, map[uint64]anchorRow{1: one, 2: two}, map[uint64]bool{1: true, 2: true}, 0, 1},
		{"one is not booked", []anchorRow{one, two}, map[uint64]anchorRow{1: one}, map[uint64]bool{1: true}, 0, 1},
		{"one is booked otherwise", []anchorRow{row(1, 5, "cc")}, map[uint64]anchorRow{1: one}, map[uint64]bool{1: true}, 0, 1},
		{"a head is anchored twice", []anchorRow{one, row(2, 5, "aa")}, map[uint64]anchorRow{1: one, 2: row(2, 5, "aa")}, map[uint64]bool{1: true, 2: true}, 1, 0},
		{"a size is anchored twice, with two roots", []anchorRow{one, row(2, 5, "bb")}, map[uint64]anchorRow{1: one, 2: row(2, 5, "bb")}, map[uint64]bool{1: true, 2: true}, 1, 0},
		{"a number is used twice", []anchorRow{one, one}, map[uint64]anchorRow{1: one}, map[uint64]bool{1: true}, 1, 0},
	} {
		var v anchorsVerdict
		v.compare(c.events, c.booked, c.mined)
		if v.Anchors != len(c.events) || v.Duplicate != c.duplicate || v.Wrong != c.wrong {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

// What is on the chain must be the log's own root, by a computation that is not the hub's, and the log must have all that the hub has confirmed.
func TestAnchorsAreHeldAgainstTheLog(t *testing.T) {
	var log []proof.Entry
	var leaves []evidence.Hash
	for i := range 70 {
		x := proof.ExcuseBody{ID: [16]byte{byte(i)}}
		log = append(log, x.Entry(int64(i)))
		leaves = append(leaves, log[i].LeafHash())
	}
	var defined func(d []evidence.Hash) evidence.Hash // RFC 6962 section 2.1, word for word
	defined = func(d []evidence.Hash) evidence.Hash {
		if len(d) == 1 {
			return d[0]
		}
		k := 1
		for k*2 < len(d) {
			k *= 2
		}
		return inner(defined(d[:k]), defined(d[k:]))
	}
	var events []anchorRow
	for n := 1; n <= len(log); n++ {
		root := defined(leaves[:n])
		events = append(events, anchorRow{Seq: uint64(n), Size: uint64(n), Root: hex.EncodeToString(root[:])})
	}
	check := func(what string, want int, events []anchorRow, log []proof.Entry, confirmed ...[16]byte) {
		t.Helper()
		var v anchorsVerdict
		if v.compareLog(events, log, confirmed); v.Wrong != want || len(v.Lines) != want {
			t.Errorf("%s: %+v, want %d wrong", what, v, want)
		}
	}
	check("all is as it should be", 0, events, log, [16]byte{0}, [16]byte{69})
	check("the log has lost its end", 1, events, log[:69])
	check("the log has lost what it had confirmed", 1, nil, log[:69], [16]byte{69})
	other := slices.Clone(log)
	other[40].AtMS++
	check("an entry was changed", 30, events, other)
	lie := slices.Clone(events)
	lie[7].Root = lie[6].Root
	check("a root of another size", 1, lie, log)
}
