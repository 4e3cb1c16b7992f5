// Package place reads the address of the place where evidence is kept, the setting EVIDENCE_URL: a directory, or a bucket of a store that speaks
// S3. It checks the form and opens nothing, so that the configuration can check an address without the SDK of a store. Packages config
// and archive call it.
package place

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Place is a directory or a bucket.
type Place struct {
	Dir string // absolute; empty for a bucket

	Bucket    string
	Prefix    string // before every object's name: empty, or ends with a slash
	Region    string
	Endpoint  string // of a store other than Amazon's: scheme, host and port; empty is Amazon's
	PathStyle bool   // the bucket stands in the path and not in the host's name
}

// InTheClear reports whether payloads cross a network unencrypted.
func (p Place) InTheClear() bool {
	u, err := url.Parse(p.Endpoint)
	if err != nil || u.Scheme != "http" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback())
}

// String is the address without its parameters.
func (p Place) String() string {
	if p.Bucket != "" {
		return "s3://" + p.Bucket + "/" + p.Prefix
	}
	return (&url.URL{Scheme: "file", Path: p.Dir}).String()
}

const (
	dirForm = "file:///var/lib/hashinsight/evidence"
	s3Form  = "s3://bucket/prefix?region=eu-central-1, or s3://bucket?endpoint=https://host:9000 for a store of one's own"
)

var (
	bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`) // Amazon's rule for names, which others share
	regionForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)
	prefixForm = regexp.MustCompile(`^([A-Za-z0-9._-]+/){0,8}$`)
)

// Parse reads an address. Its errors complete a sentence that begins with the setting's name, and repeat nothing that could be a password.
func Parse(text string) (Place, error) {
	u, err := url.Parse(text)
	if err != nil { // the parser's text repeats the URL
		return Place{}, fmt.Errorf("is not a URL: it looks like %s or %s", dirForm, s3Form)
	}
	if u.User != nil {
		return Place{}, errors.New("holds a user or a password: credentials are settings of their own (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)")
	}
	switch u.Scheme {
	case "file":
		return parseDir(u)
	case "s3":
		return parseBucket(u)
	default:
		return Place{}, fmt.Errorf("has scheme %.20q: want file:/// and an absolute path, or %s", u.Scheme, s3Form)
	}
}

func parseDir(u *url.URL) (Place, error) {
	switch {
	case u.RawQuery != "" || u.Fragment != "":
		return Place{}, errors.New("has more than a path: want file:/// and an absolute path")
	case u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.Path == "/":
		return Place{}, errors.New("names no directory: want file:/// and an absolute path, such as " + dirForm)
	}
	return Place{Dir: u.Path}, nil
}

func parseBucket(u *url.URL) (Place, error) {
	p := Place{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	if p.Prefix != "" {
		p.Prefix += "/"
	}
	q, err := url.ParseQuery(u.RawQuery)
	switch {
	case !bucketForm.MatchString(p.Bucket):
		return Place{}, errors.New("names no bucket: it looks like " + s3Form)
	case !prefixForm.MatchString(p.Prefix) || strings.Contains("/"+p.Prefix, "/../") || strings.Contains("/"+p.Prefix, "/./"):
		return Place{}, errors.New("has a prefix that is not up to 8 names of letters, digits, dots, dashes and underscores")
	case err != nil || u.Fragment != "":
		return Place{}, errors.New("has malformed parameters: want region, endpoint, path_style")
	}
	for name, values := range q {
		if len(values) != 1 {
			return Place{}, fmt.Errorf("has the parameter %.20q more than once", name)
		}
		switch value := values[0]; name {
		case "region":
			p.Region = value
		case "endpoint":
			if p.Endpoint, err = parseEndpoint(value); err != nil {
				return Place{}, err
			}
		case "path_style":
			if p.PathStyle, err = strconv.ParseBool(value); err != nil {
				return Place{}, errors.New("has a path_style that is neither true nor false")
			}
		default:
			return Place{}, fmt.Errorf("has the parameter %.20q: want region, endpoint or path_style", name)
		}
	}
	if p.Endpoint != "" {
		if p.Region == "" {
			p.Region = "us-east-1" // what such stores take for granted
		}
		if !q.Has("path_style") {
			p.PathStyle = true // few of them have names for buckets
		}
	}
	switch {
	case p.Region == "":
		return Place{}, errors.New("names no region: add ?region= to it, such as s3://bucket?region=eu-central-1")
	case !regionForm.MatchString(p.Region):
		return Place{}, errors.New("has a malformed region: it looks like eu-central-1")
	}
	return p, nil
}

func parseEndpoint(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("has an endpoint that is not https:// (or http://), host and port: it looks like https://minio.example.com:9000")
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", errors.New("has an endpoint whose port is not a number up to 65535")
		}
	}
	return u.Scheme + "://" + u.Host, nil
}
