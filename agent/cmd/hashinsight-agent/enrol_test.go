package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/identity"
)

func TestATokenOnTheCommandLineIsRefusedAndNotRepeated(t *testing.T) {
	token := identity.NewToken("dev", [32]byte{1}).Reveal()
	for name, args := range map[string][]string{
		"argument":      {"enrol", "--hub", "hub:5443", "--token-file", "x", token},
		"flag":          {"enrol", "--hub", "hub:5443", "--token", token},
		"as the file":   {"enrol", "--hub", "hub:5443", "--token-file", token},
		"without a hub": {"enrol", "--hub", "hub:5443", token, "--token-file", "-"},
	} {
		out, err := call(t, append(args, "--dir", t.TempDir())...)
		wantError(t, err, "list processes", "--token-file")
		if strings.Contains(out+err.Error(), token[20:40]) {
			t.Errorf("%s: the token is repeated", name)
		}
	}
}

func TestATokenFileThatIsNoneSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.txt")
	if err := os.WriteFile(path, []byte("hsi_dev_join_secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "identity")
	_, err := call(t, "enrol", "--hub", "hub:5443", "--token-file", path, "--dir", dir)
	wantError(t, err, "not an enrolment token", "token create")
	if _, err := os.Stat(dir); err == nil {
		t.Error("keys were made for nothing")
	}
	_, err = call(t, "identity", "show", "--dir", dir)
	wantError(t, err, "enrol")
}
