package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// evidenceSchemes are the stores that hold archived evidence.
var evidenceSchemes = []string{"file", "s3"}

// defaultEvidenceURL is a directory beside the hub's data.
func defaultEvidenceURL(dataDir string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(dataDir, "evidence"))}).String()
}

// checkEvidenceURL returns what is wrong with the address of the evidence store, without showing what could be a password.
func checkEvidenceURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil: // the parser's text repeats the URL
		return errors.New("is not a URL: it looks like file:///var/lib/hashinsight/evidence or s3://bucket?region=eu-central-1")
	case !slices.Contains(evidenceSchemes, u.Scheme):
		return fmt.Errorf("has scheme %.20q: want file:///directory or s3://bucket?region=…", u.Scheme)
	case u.User != nil:
		return errors.New("holds credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
	case u.Scheme == "file" && (u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.Path == "/"):
		return errors.New("names no directory: want file:/// and an absolute path, such as file:///var/lib/hashinsight/evidence")
	case u.Scheme == "s3" && u.Host == "":
		return errors.New("names no bucket: want s3://bucket, with ?region=… and, for a server other than AWS, &endpoint=https://…")
	}
	return nil
}
