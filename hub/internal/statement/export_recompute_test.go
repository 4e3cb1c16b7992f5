package statement

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/customer"
	"github.com/hashinsight/hashinsight/hub/internal/facts/factstest"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/hub/internal/statement/export"
	"github.com/hashinsight/hashinsight/pkg/evidence"
)

// exported is a directory as a customer gets it, and the program that he checks it with.
type exported struct {
	*world
	program string
	dir     string
	site    *factstest.Site
	other   *factstest.Site
}

// newExported exports a month of two sites in which a miner is not there for some hours, and which has an announced maintenance.
func newExported(t *testing.T) *exported {
	from := december.Add(-30 * time.Hour)
	w := newWorld(t, from.Add(-48*time.Hour))
	e := &exported{world: w, program: filepath.Join(t.TempDir(), "hashinsight-verify"), dir: filepath.Join(t.TempDir(), "export")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", e.program, "../../cmd/hashinsight-verify").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var err error
	w.archive, err = archive.Open(t.Context(), archive.Config{Pool: w.pool, URL: "file://" + t.TempDir()})
	w.must(err)
	t.Cleanup(func() { w.must(w.archive.Close()) })
	w.store = w.hub()
	e.site, e.other = w.Site("North", 4), w.Site("South", 2)
	c := w.contract("Hosting", w.terms(from))
	w.assign(c, e.site, []int{0, 1, 2}, from, time.Time{}) // the fourth miner is somebody else's
	w.assign(c, e.other, []int{1}, from, time.Time{})
	_, err = w.customers.Excuse(t.Context(), w.by, customer.NewExcuse{
		Kind: sla.Maintenance, Site: e.site.ID, FromMS: from.Add(3 * time.Hour).UnixMilli(), ToMS: from.Add(4 * time.Hour).UnixMilli(), Note: "filters",
	})
	w.must(err)
	for at := from.Add(-4 * time.Hour); at.Before(december.Add(3 * time.Hour)); at = at.Add(time.Hour) { // the sites neither begin nor end with the month
		e.site.Run(at, at.Add(time.Hour), func(miner int, _ time.Time) factstest.Does {
			hours := int(at.Sub(from).Hours())
			switch {
			case miner == 1 && hours >= 5 && hours < 8:
				return factstest.Absent
			case miner == 2 && hours >= 10 && hours < 14:
				return factstest.Idles
			}
			return factstest.Hashes
		})
	}
	w.Set(from)
	e.other.Run(from.Add(-20*time.Hour), from.Add(-19*time.Hour), factstest.Always(factstest.Hashes)) // silent before the month
	e.other.Run(from, december.Add(2*time.Hour), factstest.Always(factstest.Hashes))
	w.Set(december.Add(73 * time.Hour))
	w.update()
	hash, err := w.store.Issue(t.Context(), c, month)
	w.must(err)
	w.must(os.Mkdir(e.dir, 0o700))
	_, err = w.store.Export(t.Context(), hash, e.dir, true)
	w.must(err)
	return e
}

func (e *exported) read(name string) []byte {
	e.t.Helper()
	b, err := os.ReadFile(filepath.Join(e.dir, name))
	e.must(err)
	return b
}

// want runs the program on a copy of the directory that was changed.
func (e *exported) want(code int, line string, change func(dir string), args ...string) {
	e.t.Helper()
	dir := filepath.Join(e.t.TempDir(), "copy")
	e.must(os.CopyFS(dir, os.DirFS(e.dir)))
	if change != nil {
		change(dir)
	}
	out, err := exec.CommandContext(e.t.Context(), e.program, append([]string{"recompute", dir}, args...)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		e.t.Fatal(err)
	}
	got := 0
	if exit != nil {
		got = exit.ExitCode()
	}
	if got != code || !regexp.MustCompile("(?m)^"+line).Match(out) {
		e.t.Errorf("it ends with %d, want %d and %q:\n%s", got, code, line, out)
	}
}

func (e *exported) file(name string, change func([]byte) []byte) func(string) {
	return func(dir string) {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		e.must(err)
		e.must(os.WriteFile(path, change(b), 0o600))
	}
}

func without(name string) func(string) {
	return func(dir string) { _ = os.RemoveAll(filepath.Join(dir, name)) }
}

// withoutLine takes a line away.
func withoutLine(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		return bytes.Join(slices.Delete(bytes.SplitAfter(b, []byte("\n")), at, at+1), nil)
	}
}

// Whoever has the directory computes the statement again from the signed batches, with the hub switched off; whatever is changed in it is refused.
func TestAnExportIsComputedAgainWithoutTheHub(t *testing.T) {
	e := newExported(t)
	for name, story := range map[string]func(*testing.T, *exported){"what is changed": changedExport, "a hub that lies": lyingExport, "batches": exportedBatches} {
		t.Run(name, func(t *testing.T) { of := *e; w := *e.world; of.world, w.t = &w, t; story(t, &of) })
	}
}

func changedExport(t *testing.T, e *exported) {
	t.Helper()
	st, err := sla.ParseStatement(e.read(export.Statement))
	e.must(err)
	if len(st.Excuses) != 1 || st.Excuses[0].Counted == 0 || bytes.Count(e.read(export.Absent), []byte("\n")) != 3 {
		t.Fatalf("the month has %d excuses and %s", len(st.Excuses), e.read(export.Absent))
	}
	key := func(k ed25519.PrivateKey) string { return fmt.Sprintf("%x", k.Public()) }
	north, south := e.site.ID.String()+"=", e.other.ID.String()+"="
	keys := []string{"--hub-key", key(e.key), "--site-key", north + key(e.site.Key), "--site-key", south + key(e.other.Key)}

	e.want(0, `ok      evidence  `, nil, keys...)
	e.want(0, `ok      sla  `, nil, keys...)
	e.want(0, `note    note-site-key  `, nil)
	e.want(0, `note    note-evidence  `, without(export.Evidence))
	e.want(0, `ok      evidence  `, without("README.txt"))
	e.want(0, `verdict 0  `, nil, "--site-key", key(e.site.Key), "--site-key", key(e.other.Key))
	e.want(0, `note    note-site-key  .*whose they are`, nil, "--site-key", key(e.site.Key), "--site-key", key(e.other.Key))

	whole := e.dir
	e.dir = filepath.Join(t.TempDir(), "small") // a hundred copies without batches
	e.must(os.CopyFS(e.dir, os.DirFS(whole)))
	e.must(os.RemoveAll(filepath.Join(e.dir, export.Evidence)))
	for _, name := range []string{export.Statement, export.Signature, export.HubKey, export.Terms, export.Assignments, export.Excuses, export.Hours, export.Leaves, export.Absent} {
		size := len(e.read(name))
		for _, at := range []int{0, size / 5, size / 2, size * 4 / 5, size - 1} {
			e.want(1, `wrong   `, e.file(name, func(b []byte) []byte { b[at] ^= 1; return b }), keys...)
		}
		e.want(1, `wrong   `, e.file(name, func(b []byte) []byte { return b[:len(b)-7] }))
		e.want(1, `wrong   `, e.file(name, func(b []byte) []byte { return append(b, "{}\n"...) }))
		if name != export.Absent {
			e.want(3, `hashinsight-verify: .* it has no `+regexp.QuoteMeta(name), without(name))
		}
	}
	for _, name := range []string{export.Terms, export.Assignments, export.Excuses, export.Hours, export.Leaves, export.Absent} {
		e.want(1, `wrong   `, e.file(name, withoutLine(0)))
	}
	e.want(1, `wrong   statement       excuses.jsonl: line 1`, e.file(export.Excuses, func(b []byte) []byte {
		return bytes.Replace(b, fmt.Appendf(nil, `"to_ms":%d`, december.Add(-26*time.Hour).UnixMilli()), fmt.Appendf(nil, `"to_ms":%d`, december.Add(-25*time.Hour).UnixMilli()), 1)
	}))
	e.want(3, `unknown leaf  .*exported again`, without(export.Absent))
	e.want(1, `wrong   statement  `, nil, "--hub-key", strings.Repeat("22", 32))
	e.want(1, `wrong   site-key  `, nil, "--site-key", north+key(e.site.Key))
	e.want(1, `wrong   site-key  `, nil, "--site-key", north+key(e.other.Key), "--site-key", south+key(e.site.Key))
	e.want(3, `hashinsight-verify: .*bundle`, nil, "--rpc", "http://127.0.0.1:1/")
}

// The hub's own keys sign whatever it likes: the statement still has to be what the sites' facts give.
func lyingExport(t *testing.T, e *exported) {
	t.Helper()
	e.want(1, `wrong   sla  .*the credit is`, func(dir string) {
		st, err := sla.ParseStatement(e.read(export.Statement))
		e.must(err)
		st.Credit.BP, st.Credit.Minor = 0, 0
		text := st.Canonical()
		e.must(os.WriteFile(filepath.Join(dir, export.Statement), text, 0o600))
		e.must(os.WriteFile(filepath.Join(dir, export.Signature), fmt.Appendf(nil, "%x\n", evidence.SignStatement(e.key, text)), 0o600))
	})
	// It holds a leaf back, and shows as its neighbours those of another miner that has none.
	e.want(1, `wrong   leaf  .*not its neighbours|wrong   leaf  .*not shown`, func(dir string) {
		var gone export.Neighbours
		first, _, _ := bytes.Cut(e.read(export.Absent), []byte("\n"))
		e.must(json.Unmarshal(first, &gone))
		lines := bytes.SplitAfter(e.read(export.Leaves), []byte("\n"))
		at := slices.IndexFunc(lines, func(b []byte) bool {
			return bytes.Contains(b, []byte(gone.Site)) && bytes.Contains(b, []byte(gone.Hour))
		})
		var l export.Leaf
		e.must(json.Unmarshal(lines[at], &l))
		gone.Miner = l.Miner
		line, err := json.Marshal(gone)
		e.must(err)
		e.must(os.WriteFile(filepath.Join(dir, export.Leaves), bytes.Join(slices.Delete(lines, at, at+1), nil), 0o600))
		e.must(os.WriteFile(filepath.Join(dir, export.Absent), slices.Concat(first, []byte("\n"), line, e.read(export.Absent)[len(first):]), 0o600))
	})
}

// Batches that are changed or missing say nothing about the statement: it could not be checked.
func exportedBatches(t *testing.T, e *exported) {
	t.Helper()
	hours, err := filepath.Glob(filepath.Join(e.dir, export.Evidence, e.site.ID.String(), "*.jsonl"))
	if err != nil || len(hours) < 30 {
		t.Fatalf("%d hours of batches, %v", len(hours), err)
	}
	// 20 hours before the month the silent site had its last batch: without it nobody knows what the first one counts from.
	early, err := filepath.Glob(filepath.Join(e.dir, export.Evidence, e.other.ID.String(), "*.jsonl"))
	e.must(err)
	name := func(path string) string {
		rel, err := filepath.Rel(e.dir, path)
		e.must(err)
		return rel
	}
	e.want(3, `unknown evidence  .*missing`, without(name(hours[9])))
	e.want(3, `unknown evidence  .*missing`, without(name(early[0])))
	payload := regexp.MustCompile(`"payload":"....................`)
	for what, change := range map[string]func([]byte) []byte{
		"a payload": func(b []byte) []byte {
			return payload.ReplaceAllFunc(b, func(p []byte) []byte { p[len(p)-1] = "AB"[p[len(p)-1]&1]; p[len(p)-2] = "CD"[p[len(p)-2]&1]; return p })
		},
		"a batch taken out": withoutLine(1),
		"the end":           func(b []byte) []byte { return b[:len(b)-9] },
	} {
		t.Run(what, func(t *testing.T) { e.want(3, `hashinsight-verify: the evidence: `, e.file(name(hours[9]), change)) })
	}
}
