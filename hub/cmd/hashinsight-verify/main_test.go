package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/verify/verifytest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
	"github.com/hashinsight/hashinsight/pkg/proof/prooftest"
)

// checked is a file with the chain that it is anchored on.
type checked struct {
	t        *testing.T
	file     string
	contract string
	chain    *verifytest.Server
}

func valid(t *testing.T, kind proof.Kind) *checked {
	t.Helper()
	c, _, w := prooftest.Valid(kind, 1)
	return write(t, c.File, &w.Chain)
}

func bundle(t *testing.T, o verifytest.MonthOf) *checked {
	t.Helper()
	parts, w := o.Parts(t)
	file, err := parts.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return write(t, file, &w.Chain)
}

func write(t *testing.T, file []byte, chain *prooftest.Chain) *checked {
	t.Helper()
	name := filepath.Join(t.TempDir(), "a"+proof.Extension)
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return &checked{t, name, fmt.Sprintf("0x%x", chain.Contract), verifytest.Start(t, chain.ChainID, chain.Contract, chain.Events)}
}

// change writes the file anew.
func (c *checked) change(f func([]byte) []byte) {
	c.t.Helper()
	b, err := os.ReadFile(c.file)
	if err == nil {
		err = os.WriteFile(c.file, f(b), 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// run runs the program and returns what it prints.
func (c *checked) run(args ...string) (code int, out string) {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	code = int(run(context.Background(), args, strings.NewReader(""), &stdout, &stderr))
	return code, stdout.String() + stderr.String()
}

// want runs the program as a customer does, and compares the exit code and some of its lines.
func (c *checked) want(code int, args []string, lines ...string) {
	c.t.Helper()
	got, out := c.run(args...)
	if got != code {
		c.t.Errorf("%q ends with %d, want %d:\n%s", args, got, code, out)
	}
	for _, line := range lines {
		if !regexp.MustCompile("(?m)^" + line).MatchString(out) {
			c.t.Errorf("%q does not print %q:\n%s", args, line, out)
		}
	}
}

func (c *checked) args(command string, more ...string) []string {
	return append([]string{command, c.file, "--rpc", c.chain.URL, "--contract", c.contract}, more...)
}

func TestWhatIsTrueIsProven(t *testing.T) {
	for _, kind := range []proof.Kind{proof.KindHour, proof.KindStatement, proof.KindEntry} {
		c := valid(t, kind)
		for _, command := range []string{"proof", "bundle"} {
			c.want(0, c.args(command), "ok      decode          a proof file of a", `ok      log  `, `ok      anchor  `, `ok      time  `, `note    note-endpoints  `, `verdict 0               proven$`)
		}
	}
	c := bundle(t, verifytest.MonthOf{Seed: 1, Miners: 3, Others: 2, Hours: 50})
	c.want(0, c.args("bundle"), `ok      statement  `, `ok      sla  `, `claim   availability    \d+ ppm by time`, `verdict 0  `)
	c.want(0, c.args("proof", "--rpc", verifytest.Start(t, c.chain.ChainID, c.chain.Contract, c.chain.Events).URL, "--chain-id", strconv.FormatUint(c.chain.ChainID, 10)), `ok      anchor  `)
	c.want(0, c.args("recompute"), `ok      sla  `)
	c.want(0, []string{"recompute", c.file}, `ok      sla  `, `note    note-anchor  `, `verdict 0  `)
}

func TestWhatIsFalseIsRefused(t *testing.T) {
	c := valid(t, proof.KindHour)
	good, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 13, 20, len(good) / 2, len(good) - 1} {
		c.change(func([]byte) []byte { b := bytes.Clone(good); b[at] ^= 1; return b })
		c.want(1, c.args("proof"), `wrong   `, `verdict 1               false$`)
	}
	for text, says := range map[string]string{"": "it is empty", "<!doctype html>": "it does not begin with", "{}": "it does not begin with", "hsi/proof/v": "it ends too early"} {
		c.change(func([]byte) []byte { return []byte(text) })
		c.want(1, c.args("proof"), `wrong   decode          .*`+says)
	}
	for name, f := range map[string]func() []byte{
		"empty": func() []byte { return nil }, "cut short": func() []byte { return good[:len(good)-1] }, "something behind": func() []byte { return append(bytes.Clone(good), 0) },
		"an HTML page": func() []byte { return []byte("<!doctype html>") },
	} {
		c.change(func([]byte) []byte { return f() })
		t.Run(name, func(t *testing.T) { c.want(1, c.args("proof"), `wrong   decode  `) })
	}
	c.change(func([]byte) []byte { return good })
	c.want(1, append(c.args("proof"), "--contract", "0x"+strings.Repeat("11", 20)), `wrong   anchor  `)
	c.want(1, append(c.args("proof"), "--chain-id", "1"), `wrong   anchor  `)
	c.want(1, append(c.args("proof"), "--log-key", strings.Repeat("22", 32)), `wrong   checkpoint  `)
	c.want(1, append(c.args("proof"), "--site-key", strings.Repeat("22", 32)), `wrong   site-key  `)
	c.chain.Code = append(c.chain.Code, 0)
	c.want(1, c.args("proof"), `wrong   anchor          .*SHA-256`)
	c = valid(t, proof.KindStatement)
	c.want(1, append(c.args("proof"), "--hub-key", strings.Repeat("22", 32)), `wrong   statement  `)
	c = bundle(t, verifytest.MonthOf{Seed: 2, Miners: 2, Hours: 30, Change: lowerCredit})
	c.want(1, c.args("bundle"), `ok      anchor  `, `ok      statement  `, `wrong   sla             .*the credit is`)
	c.want(1, []string{"recompute", c.file}, `wrong   sla  `)
}

func TestWhatIsNotFinalIsNotProvenYet(t *testing.T) {
	c := valid(t, proof.KindHour)
	c.chain.Finalized = 0
	c.want(2, c.args("proof"), `not-yet anchor  `, `verdict 2               not yet final$`)
	_, parts, _ := prooftest.Valid(proof.KindHour, 1)
	for _, state := range []proof.AnchorState{proof.AnchorNone, proof.AnchorNever} {
		parts.Head().State = state
		file, err := parts.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		c.change(func([]byte) []byte { return file })
		c.want(2, c.args("proof"), `not-yet anchor  `)
	}
}

func TestWhatCannotBeCheckedIsNeitherTrueNorFalse(t *testing.T) {
	c := valid(t, proof.KindHour)
	c.want(3, []string{"proof", c.file, "--rpc", c.chain.URL}, `unknown anchor          .*your own contract.*--contract`, `verdict 3               could not check$`)
	c.want(3, []string{"proof", c.file, "--contract", c.contract}, `unknown anchor          .*no endpoint.*--rpc`)
	c.want(3, c.args("proof", "--rpc", "http://127.0.0.1:1/"), `unknown anchor          .*two must agree`)
	other := verifytest.Start(t, c.chain.ChainID, c.chain.Contract, nil)
	other.Finalized = c.chain.Finalized
	c.want(3, c.args("proof", "--rpc", other.URL), `unknown anchor          .*contradict`)
	c.want(3, []string{"recompute", c.file}, `unknown sla  `)
	for name, args := range map[string][]string{
		"no command": {}, "an unknown command": {"verify", c.file}, "no file": {"proof"}, "two files": {"proof", c.file, c.file}, "a file that is not there": {"proof", c.file + "x"},
		"an unknown option": {"proof", c.file, "--force"}, "half an address": {"proof", c.file, "--contract", "0x12"}, "an address without 0x": {"proof", c.file, "--contract", strings.Repeat("1", 40)},
		"a key that is none": {"proof", c.file, "--log-key", "abc"}, "an endpoint that is none": {"proof", c.file, "--rpc", "localhost:8545"}, "a form that is none": {"proof", c.file, "-o", "xml"},
		"a directory": {"proof", filepath.Dir(c.file)}, "a chain's name": {"proof", c.file, "--chain-id", "base"}, "chain 0": {"proof", c.file, "--chain-id", "0"},
		"a directory that is no export": {"recompute", filepath.Dir(c.file)},
	} {
		t.Run(name, func(t *testing.T) { c.want(3, args, `hashinsight-verify: `) })
	}
	c.want(3, []string{"proof", filepath.Dir(c.file)}, `hashinsight-verify: .* is a directory: .*recompute`)
	c.want(3, []string{"proof", c.file, "--chain-id", "base"}, `hashinsight-verify: .*such as 8453`)
	b := bundle(t, verifytest.MonthOf{Seed: 1, Miners: 2, Hours: 3})
	b.want(3, []string{"recompute", b.file, "--evidence", t.TempDir()}, `ok      sla  `, `unknown evidence        hour \d+`)
	b.want(3, []string{"recompute", b.file, "--evidence", filepath.Dir(b.file)}, `hashinsight-verify: the evidence: .*not an export`)
	b.want(3, []string{"bundle", b.file, "--evidence", t.TempDir()}, `hashinsight-verify: --evidence is an option of recompute`)
	c.want(0, []string{"help"}, "hashinsight-verify checks")
	c.want(0, []string{"proof", "--help"}, "hashinsight-verify checks")
	c.want(0, []string{"version"}, "hashinsight-verify ")
}

// TestASitesHourIsNotAcceptedUnderAnothersKey: the hub has one site's key, signs what it likes in another's name, and writes into its log that the key is that other site's.
func TestASitesHourIsNotAcceptedUnderAnothersKey(t *testing.T) {
	const at, hour = 1_700_000_000_000, 1_700_000_000_000/3_600_000 + 1
	w := prooftest.New(71)
	north, south := w.Site(at), w.Site(at)
	own, _ := w.SiteKey(north)
	others, _ := w.SiteKey(south)
	w.Borrow(north, south, at)
	miner := ident.MinerID(w.ID())
	h := w.Hour([]evidence.Leaf{w.Leaf(north, miner, hour, w.ID())}, (hour+1)*3_600_000+90_000)
	parts := prooftest.Parts{Miner: w.HourProof(&h, miner, w.Anchor((hour+2)*3_600_000))}
	file, err := parts.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	c := write(t, file, &w.Chain)
	ownKey, otherKey := fmt.Sprintf("%x", own.Public()), base64.StdEncoding.EncodeToString(others.Public().(ed25519.PublicKey))
	with := func(keys ...string) []string {
		args := c.args("proof")
		for _, k := range keys {
			args = append(args, "--site-key", k)
		}
		return args
	}
	a, b := north.String()+"=", south.String()+"="
	c.want(0, with(), `ok      site-key  `, `note    note-site-key `)
	c.want(0, with(ownKey, otherKey), `note    note-site-key   not proven: that each key is that site's`) // he was not told whose they are
	c.want(0, with(a+otherKey), `ok      site-key  `)
	for _, keys := range [][]string{{a + ownKey, b + otherKey}, {a + ownKey, otherKey}, {b + otherKey}, {b + otherKey, ownKey}} {
		c.want(1, with(keys...), `wrong   site-key        key \S+ of site `+north.String()+` is none of those given for it`)
	}
	for _, k := range []string{"=" + ownKey, "north=" + ownKey, a, a + "12", a + "=" + ownKey, ident.SiteID{}.String() + "=" + ownKey} {
		c.want(3, with(k), `hashinsight-verify: .*want `)
	}
}

// TestTheFormForPrograms: names and values of the JSON are an interface.
func TestTheFormForPrograms(t *testing.T) {
	c := bundle(t, verifytest.MonthOf{Seed: 3, Miners: 2, Others: 1, Hours: 5})
	code, out := c.run(c.args("bundle", "-o", "json")...)
	var got struct {
		Verdict *int
		Result  string
		Kind    string
		Claims  []struct{ Name, Value string }
		Steps   []struct{ ID, State, Text string }
	}
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || code != 0 || got.Verdict == nil || *got.Verdict != 0 || got.Result != "proven" || got.Kind != "bundle" {
		t.Fatalf("%d: %v\n%s", code, err, out)
	}
	var ids []string
	for _, s := range got.Steps {
		ids = append(ids, s.ID+" "+s.State)
	}
	want := "decode ok, leaf ok, site-signature ok, site-key ok, log ok, checkpoint ok, anchor ok, time ok, statement ok, sla ok, note-"
	if all := strings.Join(ids, ", "); !strings.HasPrefix(all, want) {
		t.Errorf("the steps are %s", all)
	}
}

// TestWhatAFileSaysDoesNotReachTheTerminal: texts of a file or an endpoint are data.
func TestWhatAFileSaysDoesNotReachTheTerminal(t *testing.T) {
	const evil = "\x1b]0;owned\x07\r\nverdict 0               proven\u202e\u2028\u009b31m\xff"
	c := valid(t, proof.KindHour)
	c.chain.Change = func(method string, r any) any {
		if method == "eth_chainId" {
			return evil
		}
		return r
	}
	for _, form := range []string{"text", "json"} {
		code, out := c.run(c.args("proof", "-o", form)...)
		if code != 3 || strings.ContainsAny(out, "\x1b\x07\r\u202e\u2028\u009b") || !utf8.ValidString(out) || regexp.MustCompile(`(?m)^verdict 0`).MatchString(out) {
			t.Errorf("%s: %d %q", form, code, out)
		}
	}
	for in, want := range map[string]string{
		evil:         `\u{1b}]0;owned\u{7}\u{d}\u{a}verdict 0               proven\u{202e}\u{2028}\u{9b}31m\xff`,
		"Grüße 机房 1": "Grüße 机房 1", "a\u200bb\u00a0c": `a\u{200b}b\u{a0}c`, "\ufffd": "\ufffd", "e\u0301": `e\u{301}`, "": "",
	} {
		if got := safe(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
	if long := safe(strings.Repeat("x", 1<<20)); len(long) > 2*maxLine {
		t.Errorf("%d bytes of one text", len(long))
	}
	c.want(3, []string{"\x1b[31m"}, `hashinsight-verify: "\\x1b\[31m" is no command`)
}

// built builds the program as it is released.
func built(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "hashinsight-verify")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return out
}

// TestTheProgramIsSmall: whoever distrusts the hub reads and builds it himself, or at least sees what is in it.
func TestTheProgramIsSmall(t *testing.T) {
	const most = 8_000_000
	info, err := os.Stat(built(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > most {
		t.Errorf("hashinsight-verify has %d bytes, want at most %d", info.Size(), most)
	}
}

// lowerCredit is what a hub that lies pays.
func lowerCredit(st *sla.Statement) { st.Credit.BP, st.Credit.Minor = 0, 0 }
