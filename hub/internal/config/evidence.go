package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/hashinsight/hashinsight/hub/internal/archive/place"
)

// defaultEvidenceURL is a directory beside the hub's data.
func defaultEvidenceURL(dataDir string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(dataDir, "evidence"))}).String()
}

// finishEvidence fills in and checks the place for evidence and what opens it.
func (c *Config) finishEvidence() (problems []error) {
	if c.EvidenceURL == "" {
		c.EvidenceURL = defaultEvidenceURL(c.DataDir)
		return nil
	}
	p, err := place.Parse(c.EvidenceURL)
	if err != nil {
		return []error{fmt.Errorf("EVIDENCE_URL %w", err)}
	}
	if p.Bucket == "" {
		return nil // whatever else is set for Amazon's tools in this environment is not ours to judge
	}
	if p.InTheClear() {
		c.Warnings = append(c.Warnings, "EVIDENCE_URL has an endpoint with http://: evidence crosses the network in the clear, where https:// would hide it")
	}
	id, secret := c.AWSAccessKeyID != "", c.AWSSecretAccessKey != ""
	switch {
	case id && !secret:
		problems = append(problems, errors.New("AWS_SECRET_ACCESS_KEY is missing: EVIDENCE_URL names a bucket and AWS_ACCESS_KEY_ID is set"))
	case !id && secret:
		problems = append(problems, errors.New("AWS_ACCESS_KEY_ID is missing: EVIDENCE_URL names a bucket and AWS_SECRET_ACCESS_KEY is set"))
	case !id && c.AWSSessionToken != "":
		problems = append(problems, errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are missing: EVIDENCE_URL names a bucket and AWS_SESSION_TOKEN is set"))
	case !id:
		c.Warnings = append(c.Warnings, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are missing: the bucket of EVIDENCE_URL opens only if this machine or container has a role that may")
	}
	return problems
}
