package inventory

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

func TestASaltKeyIsMadeOnceAndToldOnce(t *testing.T) {
	dir := t.TempDir()
	open := func() *Salts {
		t.Helper()
		s, err := OpenSalts(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	miners := []ident.MinerID{{2}, {1}, {3}}
	first, err := s.Keys(miners)
	if err != nil || first[0] == first[1] || first[0] == (SaltKey{}) {
		t.Fatalf("keys %x, %v", first, err)
	}
	s = open()
	again, err := s.Keys(miners[:2])
	if err != nil || again[0] != first[0] || again[1] != first[1] {
		t.Fatalf("keys %x after a restart, were %x, %v", again, first, err)
	}
	some := s.Untold(2, nil)
	if len(some) != 2 || s.UntoldLen() != 3 {
		t.Fatalf("%d of %d keys are to be told", len(some), s.UntoldLen())
	}
	if err := s.Told(some); err != nil {
		t.Fatal(err)
	}
	if left := open().Untold(9, nil); len(left) != 1 || maps.Equal(left, some) {
		t.Errorf("%d keys are to be told after a restart, want the one that was not", len(left))
	}
	info, err := os.Stat(filepath.Join(dir, "salts.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: the keys are secret", info.Mode(), err)
	}
}

func TestAKeyThatCouldBeLostIsNotUsed(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenSalts(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "salts.json.tmp"), 0o700); err != nil { // nothing can be written there
		t.Fatal(err)
	}
	if keys, err := s.Keys([]ident.MinerID{{1}}); err == nil || s.UntoldLen() != 0 {
		t.Fatalf("keys %x that are not on the disk", keys)
	}
	if err := os.Remove(filepath.Join(dir, "salts.json.tmp")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Keys([]ident.MinerID{{1}}); err != nil || s.UntoldLen() != 1 {
		t.Errorf("%d keys, %v", s.UntoldLen(), err)
	}
}

func TestDamagedSaltKeysAreNotReplaced(t *testing.T) {
	for name, content := range map[string]string{
		"torn":       `{"version":1,"salts":[{"id":"010`,
		"short key":  `{"version":1,"salts":[{"id":"01000000-0000-0000-0000-000000000000","key":"00"}]}`,
		"from later": `{"version":2}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "salts.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSalts(dir); err == nil || !strings.Contains(err.Error(), "backup") && !strings.Contains(err.Error(), "newer") {
			t.Errorf("%s: error %v does not say what to do", name, err)
		}
	}
}
