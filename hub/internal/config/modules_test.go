package config

import (
	"strings"
	"testing"
)

func TestModules(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "ingest,api,page,jobs",
		"jobs":                   "jobs",
		" page, API ,page":       "api,page",
		"jobs,page,api,ingest":   "ingest,api,page,jobs",
		"ingest,billing":         "",
		"ingest,":                "",
		"everything in one word": "",
	} {
		c, err := Load(Sources{Environ: []string{"HASHINSIGHT_ENV=dev", "MODULES=" + text}})
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "MODULES has") || !strings.Contains(err.Error(), "there are ingest, api, page, jobs") {
				t.Errorf("MODULES=%q: %v", text, err)
			}
			continue
		}
		if err != nil || c.Modules != want {
			t.Errorf("MODULES=%q gives %q, %v; want %q", text, c.Modules, err, want)
		}
	}
}

// A process gets only the secrets that its modules use.
func TestSecretsAreRequiredWhereTheyAreUsed(t *testing.T) {
	for modules, want := range map[string]string{
		"api": "SESSION_SECRET", "ingest": "ENCRYPTION_PASSWORD", "jobs,page": "", "": "ENCRYPTION_PASSWORD SESSION_SECRET",
	} {
		_, err := Load(Sources{Environ: []string{"DATABASE_URL=postgres://u@h/d", "MODULES=" + modules}})
		for _, name := range []string{"SESSION_SECRET", "ENCRYPTION_PASSWORD"} {
			named := err != nil && strings.Contains(err.Error(), name+" is required")
			if named != strings.Contains(want, name) {
				t.Errorf("MODULES=%q: %v, want %q required", modules, err, want)
			}
		}
	}
}

func TestEvidenceURL(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "file:///var/lib/evidence": "",
		"/var/lib/evidence": "want file:///", "file://evidence": "names no directory", "file:///": "names no directory", "ftp://host/x": "scheme",
		"s3://key:hunter2@bucket": "scheme", "file://me:hunter2@/x": "has more than a path", "file://%zz hunter2": "is not a URL",
	} {
		c, err := Load(Sources{Environ: []string{"HASHINSIGHT_ENV=dev", "DATA_DIR=/var/lib/hub", "EVIDENCE_URL=" + text}})
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), "EVIDENCE_URL") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("EVIDENCE_URL=%s: %v, want %q", text, err, want)
		case want == "" && err != nil:
			t.Errorf("EVIDENCE_URL=%s: %v", text, err)
		case text == "" && c.EvidenceURL != "file:///var/lib/hub/evidence":
			t.Errorf("the default is %s", c.EvidenceURL)
		}
	}
}

func TestSeveralHubAddresses(t *testing.T) {
	c, err := Load(Sources{Environ: []string{"HASHINSIGHT_ENV=dev", "HUB_ADDRESS=hub-a.example:5443, hub-b.example:5443,hub-a.example:443", "GRPC_ADDR=0.0.0.0:5443"}})
	if err != nil || c.HubAddress != "hub-a.example:5443,hub-b.example:5443,hub-a.example:443" {
		t.Fatalf("%s, %v", c.HubAddress, err)
	}
	if got := strings.Join(c.ServerNames(), " "); got != "localhost 127.0.0.1 hub-a.example hub-b.example" {
		t.Errorf("the certificate has the names %s", got)
	}
	if _, err := Load(Sources{Environ: []string{"HASHINSIGHT_ENV=dev", "HUB_ADDRESS=hub-a.example:5443,hub-b.example"}}); err == nil || !strings.Contains(err.Error(), `HUB_ADDRESS has "hub-b.example"`) {
		t.Errorf("got %v", err)
	}
}
