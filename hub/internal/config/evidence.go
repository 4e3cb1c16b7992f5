package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// defaultEvidenceURL is a directory beside the hub's data.
func defaultEvidenceURL(dataDir string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(dataDir, "evidence"))}).String()
}

// checkEvidenceURL returns what is wrong with the address of the evidence store, without showing what could be a password.
func checkEvidenceURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil: // the parser's text repeats the URL
		return errors.New("is not a URL: it looks like file:///var/lib/hashinsight/evidence")
	case u.Scheme != "file":
		return fmt.Errorf("has scheme %.20q: want file:/// and an absolute path; hubs on several machines need one that all of them mount", u.Scheme)
	case u.User != nil || u.RawQuery != "":
		return errors.New("has more than a path: want file:/// and an absolute path")
	case u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.Path == "/":
		return errors.New("names no directory: want file:/// and an absolute path, such as file:///var/lib/hashinsight/evidence")
	}
	return nil
}
