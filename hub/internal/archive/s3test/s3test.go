// Package s3test gives tests a real S3 server: versitygw, a program of its own on a loopback port, with its objects in a directory that
// ends with the test. The server ends with the test too, and when the test binary is killed. `make test` installs it in .tools; without it tests that need it skip,
// or fail where HSI_TEST_NO_SKIP=1 says that everything has to be there. Tests of the hub call it.
package s3test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Region is the server's.
const Region = "us-east-1"

// Server is a running S3 server, or a stopped one.
type Server struct {
	AccessKeyID, SecretAccessKey string

	t     testing.TB
	exe   string
	addr  string
	dir   string
	stdin io.Closer // the watcher ends the server when it is closed
	watch *exec.Cmd
	log   *os.File
}

// Start starts a server that has one empty bucket.
func Start(t testing.TB, bucket string) *Server {
	t.Helper()
	exe, err := find()
	switch {
	case err == nil:
	case os.Getenv("HSI_TEST_NO_SKIP") == "1":
		t.Fatalf("%v, and HSI_TEST_NO_SKIP=1 forbids to skip this test", err)
	default:
		t.Skip(err)
	}
	s := &Server{t: t, exe: exe, addr: freeAddr(t), dir: t.TempDir(), AccessKeyID: "AK" + rand.Text(), SecretAccessKey: rand.Text()}
	for _, d := range []string{"objects", "sidecar"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.Stop)
	s.Restart()
	if _, err := s.client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatalf("making a bucket: %v\n%s", err, s.output())
	}
	return s
}

// find looks for the server's program where `make test` puts it.
func find() (string, error) {
	if exe := os.Getenv("HSI_TEST_S3"); exe != "" {
		return exe, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if exe := filepath.Join(dir, ".tools", "bin", "versitygw"); isFile(exe) {
			return exe, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("this test needs the S3 server versitygw in .tools: `make install-test` installs it")
		}
	}
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// freeAddr names an address that was free a moment ago, with a port below those that the system gives away by itself: a server that is stopped
// and started again finds it free.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+mathrand.IntN(12_000)) //nolint:gosec // a port is no secret
		if l, err := net.Listen("tcp", addr); err == nil {                //nolint:noctx // on loopback, closed at once
			_ = l.Close() // it was only to learn whether it is free
			return addr
		}
	}
	t.Fatal("no free port from 20000 to 32000")
	return ""
}

// Restart starts the server again, with the same address and objects.
func (s *Server) Restart() {
	s.t.Helper()
	var err error
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		s.t.Fatal(err)
	}
	script := `"$@" </dev/null & pid=$!; cat >/dev/null; kill -9 $pid; wait $pid` // standard input ends with the test's process, however that ends
	s.watch = exec.Command("/bin/sh", "-c", script, "s3test-watch",               //nolint:noctx // outlives contexts; Stop ends it
		s.exe, "--port", s.addr, "--region", Region, "--quiet", "posix", "--sidecar", filepath.Join(s.dir, "sidecar"), filepath.Join(s.dir, "objects"))
	s.watch.Env = []string{"ROOT_ACCESS_KEY=" + s.AccessKeyID, "ROOT_SECRET_KEY=" + s.SecretAccessKey, "PATH=" + os.Getenv("PATH")}
	s.watch.Dir, s.watch.Stdout, s.watch.Stderr = s.dir, s.log, s.log
	s.watch.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C must not reach it
	if s.stdin, err = s.watch.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.watch.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; {
		res, err := http.Get(s.Endpoint()) //nolint:noctx // on loopback
		if err == nil {
			_ = res.Body.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the S3 server does not answer: %v\n%s", err, s.output())
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Stop ends the server at once, as a crash does. Its objects stay.
func (s *Server) Stop() {
	if s.watch == nil {
		return
	}
	_ = s.stdin.Close()
	_ = s.watch.Wait() // says that the server was killed
	_ = s.log.Close()
	s.watch = nil
}

func (s *Server) output() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Endpoint is where the server answers.
func (s *Server) Endpoint() string { return "http://" + s.addr }

// URL is the setting EVIDENCE_URL for a bucket, or a bucket and a prefix.
func (s *Server) URL(bucket string) string { return URL(s.Endpoint(), bucket) }

// URL is the setting EVIDENCE_URL for a bucket behind an endpoint.
func URL(endpoint, bucket string) string {
	return fmt.Sprintf("s3://%s?endpoint=%s&region=%s", bucket, endpoint, Region)
}

func (s *Server) client() *s3.Client {
	return s3.New(s3.Options{
		Region: Region, BaseEndpoint: aws.String(s.Endpoint()), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, ""),
	})
}

// Keys lists a bucket's objects by name, up to a thousand.
func (s *Server) Keys(ctx context.Context, bucket string) []string {
	s.t.Helper()
	list, err := s.client().ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	if err != nil {
		s.t.Fatalf("listing a bucket: %v", err)
	}
	keys := make([]string, len(list.Contents))
	for i, o := range list.Contents {
		keys[i] = aws.ToString(o.Key)
	}
	return keys
}

// Overwrite puts other content into an object, behind everyone's back.
func (s *Server) Overwrite(ctx context.Context, bucket, key, content string) {
	s.t.Helper()
	if _, err := s.client().PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: strings.NewReader(content)}); err != nil {
		s.t.Fatalf("writing an object: %v", err)
	}
}

// Delete deletes an object, behind everyone's back.
func (s *Server) Delete(ctx context.Context, bucket, key string) {
	s.t.Helper()
	if _, err := s.client().DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)}); err != nil {
		s.t.Fatalf("deleting an object: %v", err)
	}
}
