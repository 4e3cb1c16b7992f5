package main

import (
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/agent/internal/keys"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

func TestSpoolVerifyFromTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(t.Context(), spool.Config{
		Dir: agentd.SpoolDir(dir), Site: ident.SiteID{1}, Key: key, HubKey: func(ident.KeyID) ed25519.PublicKey { return nil }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := s.Append(t.Context(), evidence.KindSamples, make([]byte, 30_000), wire.Meta{Samples: 7}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := call(t, "spool", "verify", "--dir", dir)
	wantError(t, err, "running agent", "stop the agent")
	if !strings.Contains(out, "not checked") {
		t.Errorf("output %q", out)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	out, err = call(t, "spool", "verify", "--dir", dir)
	if err != nil || !strings.Contains(out, "5 batches, 35 samples") {
		t.Errorf("output %q, %v", out, err)
	}
	// Another site's key did not sign this.
	other := filepath.Join(t.TempDir(), "identity")
	if _, err := keys.Init(other); err != nil {
		t.Fatal(err)
	}
	_, err = call(t, "spool", "verify", "--dir", dir, "--identity", other)
	wantError(t, err, "5 problems", "identity directory")

	files, err := filepath.Glob(filepath.Join(agentd.SpoolDir(dir), "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments %v, %v", files, err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, 100_000); err != nil { // within one payload
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, err = call(t, "spool", "verify", "--dir", dir, "-o", "json")
	wantError(t, err, "damaged: 1 problems")
	var v spool.Verification
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Batches != 4 || len(v.Problems) != 1 || v.Problems[0].Seq == 0 {
		t.Errorf("output %s, %v", out, err)
	}
}
