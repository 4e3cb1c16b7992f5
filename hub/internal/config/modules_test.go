package config

import (
	"fmt"
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
		"api": "SESSION_SECRET", "ingest": "ENCRYPTION_PASSWORD", "jobs,page": "ENCRYPTION_PASSWORD", "page": "", "": "ENCRYPTION_PASSWORD SESSION_SECRET",
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
		"s3://evidence?region=eu-central-1": "",
		"/var/lib/evidence":                 "want file:///", "s3://evidence": "names no region", "s3://key:hunter2@bucket": "a password", "file://%zz hunter2": "is not a URL",
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

// What opens a bucket is named as set or missing, and never shown.
func TestCredentialsOfTheEvidenceStore(t *testing.T) {
	const bucket = "EVIDENCE_URL=s3://evidence?region=eu-central-1"
	for name, c := range map[string]struct {
		environ          []string
		problem, warning string
		set              string
	}{
		"both":                  {[]string{bucket, "AWS_ACCESS_KEY_ID=AKhunter2", "AWS_SECRET_ACCESS_KEY=hunter2"}, "", "", "set set missing"},
		"temporary":             {[]string{bucket, "AWS_ACCESS_KEY_ID=AKhunter2", "AWS_SECRET_ACCESS_KEY=hunter2", "AWS_SESSION_TOKEN=hunter2"}, "", "", "set set set"},
		"none":                  {[]string{bucket}, "", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are missing", "missing missing missing"},
		"no secret":             {[]string{bucket, "AWS_ACCESS_KEY_ID=AKhunter2"}, "AWS_SECRET_ACCESS_KEY is missing", "", "set missing missing"},
		"no id":                 {[]string{bucket, "AWS_SECRET_ACCESS_KEY=hunter2"}, "AWS_ACCESS_KEY_ID is missing", "", "missing set missing"},
		"token only":            {[]string{bucket, "AWS_SESSION_TOKEN=hunter2"}, "are missing", "", "missing missing set"},
		"a directory asks none": {[]string{"EVIDENCE_URL=file:///x", "AWS_ACCESS_KEY_ID=AKhunter2"}, "", "", "set missing missing"},
		"in the clear":          {[]string{"EVIDENCE_URL=s3://evidence?endpoint=http://minio:9000", "AWS_ACCESS_KEY_ID=AKhunter2", "AWS_SECRET_ACCESS_KEY=hunter2"}, "", "in the clear", "set set missing"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load(Sources{Environ: append(c.environ, "HASHINSIGHT_ENV=dev", "DATA_DIR=/var/lib/hub")})
			if (err != nil) != (c.problem != "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%v, want %q", err, c.problem)
			}
			if warnings := strings.Join(got.Warnings, "\n"); (warnings != "") != (c.warning != "") || !strings.Contains(warnings, c.warning) {
				t.Errorf("warnings %q, want %q", warnings, c.warning)
			}
			var set []string
			for _, v := range got.Values() {
				if strings.HasPrefix(v.Name, "AWS_") {
					set = append(set, strings.Trim(strings.TrimSuffix(v.Value, ", not shown]"), "[]"))
				}
			}
			if shown := strings.Join(set, " "); shown != c.set || strings.Contains(fmt.Sprintf("%v %+v %v", got, got.Values(), err), "hunter2") {
				t.Errorf("shown are %s, want %s; all: %+v", shown, c.set, got)
			}
		})
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
