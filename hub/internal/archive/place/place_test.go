package place

import (
	"strings"
	"testing"
)

func TestPlacesThatAreMeant(t *testing.T) {
	for text, want := range map[string]Place{
		"file:///var/lib/evidence":                      {Dir: "/var/lib/evidence"},
		"file:///var/lib/my%20evidence":                 {Dir: "/var/lib/my evidence"},
		"s3://evidence?region=eu-central-1":             {Bucket: "evidence", Region: "eu-central-1"},
		"s3://evidence/hub/one/?region=eu-central-1":    {Bucket: "evidence", Prefix: "hub/one/", Region: "eu-central-1"},
		"s3://evidence?endpoint=https://10.0.0.7:9000/": {Bucket: "evidence", Region: "us-east-1", Endpoint: "https://10.0.0.7:9000", PathStyle: true},
		"s3://my.bucket/x?endpoint=http://minio:9000&path_style=false&region=garage": {
			Bucket: "my.bucket", Prefix: "x/", Region: "garage", Endpoint: "http://minio:9000",
		},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestPlacesThatAreNoneAreRefusedWithoutShowingThem(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "scheme",
		"/var/lib/evidence":           "want file:///",
		"file://evidence":             "names no directory",
		"file:///":                    "names no directory",
		"file:///x?hunter2":           "more than a path",
		"file://user:hunter2@/x":      "a password",
		"gs://bucket":                 "scheme",
		"s3://key:hunter2@bucket":     "a password",
		"s3://:hunter2 not a url":     "is not a URL",
		"s3://":                       "names no bucket",
		"s3://Evidence_hunter2":       "names no bucket",
		"s3://evidence":               "names no region",
		"s3://evidence?region=Europe": "malformed region",
		"s3://evidence/a/../b?region=eu-central-1":                                "prefix",
		"s3://evidence?region=eu-central-1&secret=hunter2":                        `parameter "secret"`,
		"s3://evidence?region=eu-central-1&region=x":                              "more than once",
		"s3://evidence?endpoint=minio:9000":                                       "endpoint that is not",
		"s3://evidence?endpoint=https://user:hunter2@minio:9000":                  "endpoint that is not",
		"s3://evidence?endpoint=https://minio/hunter2":                            "endpoint that is not",
		"s3://evidence?endpoint=https://minio:99999":                              "port",
		"s3://evidence?endpoint=https://minio&path_style=hunter2":                 "path_style",
		"s3://evidence?region=eu-central-1;endpoint=https://minio&path_style=yes": "malformed parameters",
	} {
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestPlainHTTPIsNoticedExceptOnThisMachine(t *testing.T) {
	for text, want := range map[string]bool{
		"file:///x": false, "s3://evidence?region=eu-central-1": false, "s3://evidence?endpoint=https://minio": false,
		"s3://evidence?endpoint=http://localhost:9000": false, "s3://evidence?endpoint=http://[::1]:9000": false,
		"s3://evidence?endpoint=http://minio:9000": true, "s3://evidence?endpoint=http://10.0.0.7": true,
	} {
		p, err := Parse(text)
		if err != nil || p.InTheClear() != want {
			t.Errorf("%s: %t, %v", text, p.InTheClear(), err)
		}
	}
}
