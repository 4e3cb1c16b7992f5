package api

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the committed API description anew")

// The page's client is generated from the committed document: it must be the one that the program serves.
func TestCommittedDescriptionIsCurrent(t *testing.T) {
	path := filepath.Join("..", "..", "web", "openapi.json")
	got := documentOnly(t)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from the code: run `go generate ./internal/api` in hub and commit it", path)
	}
}
