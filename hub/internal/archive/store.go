package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"

	"github.com/hashinsight/hashinsight/hub/internal/archive/place"
)

// What a store may cost. What is slow beyond that fails, and the job tries again.
const (
	dialTimeout   = 5 * time.Second
	answerTimeout = 30 * time.Second // from the end of a request to the head of its answer
	storeAttempts = 3                // of one request, 20 s apart at most
	partBytes     = 8 << 20          // an object is sent in parts of that size ...
	partsAtOnce   = 2                // ... so many of which are held in memory
)

func openBucket(ctx context.Context, p place.Place, c Credentials) (*blob.Bucket, error) {
	if p.Bucket == "" {
		dir := filepath.FromSlash(p.Dir)
		// Only the store itself is private: where it lies in the hub's data directory and comes first, PostgreSQL's account must still pass.
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // what is private below has its own mode
			return nil, err
		}
		// Written beside their place and renamed there: a half-written object never has its name.
		return fileblob.OpenBucket(dir, &fileblob.Options{CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
	}
	options := []func(*config.LoadOptions) error{
		config.WithRegion(p.Region), config.WithRetryMaxAttempts(storeAttempts), config.WithLogger(logging.Nop{}), // what matters is in the errors
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired), // each payload's hash is compared anyway
		config.WithHTTPClient(awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).WithTransportOptions(func(t *http.Transport) {
			t.ResponseHeaderTimeout = answerTimeout
		})),
	}
	if c != (Credentials{}) {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = p.PathStyle
		if p.Endpoint != "" {
			o.BaseEndpoint = aws.String(p.Endpoint)
		}
	})
	// Every request carries a checksum of its body, which the store compares: the driver has to be told, it does not read the client's options.
	b, err := s3blob.OpenBucket(ctx, client, p.Bucket, &s3blob.Options{RequestChecksumCalculation: cfg.RequestChecksumCalculation})
	if err != nil || p.Prefix == "" {
		return b, err
	}
	return blob.PrefixedBucket(b, p.Prefix), nil
}

// storeError is an error of the place, as opposed to the database.
type storeError struct{ error }

// Unwrap gives the cause.
func (e *storeError) Unwrap() error { return e.error }

// put writes an object from what fill gives and returns when it is safe.
func (a *Archive) put(ctx context.Context, key string, size int64, fill func(io.Writer) error) error {
	writing, cancel := context.WithCancel(ctx)
	defer cancel() // before a Close, this keeps an unfinished object from getting its name
	w, err := a.bucket.NewWriter(writing, key, &blob.WriterOptions{
		ContentType: "application/octet-stream", DisableContentTypeDetection: true, BufferSize: partBytes, MaxConcurrency: partsAtOnce,
	})
	if err != nil {
		return &storeError{err}
	}
	into := &countingWriter{w: w}
	if err := fill(into); err != nil {
		cancel()
		closing := w.Close() // it fails, as it must
		if into.err != nil && closing != nil {
			return &storeError{closing} // says more than the write it broke
		}
		return err
	}
	if into.n != size {
		return fmt.Errorf("%d bytes read, want %d", into.n, size) // the database's payloads are not those it listed
	}
	if err := w.Close(); err != nil {
		return &storeError{err}
	}
	if a.place.Dir != "" {
		return a.sync(key)
	}
	// A store answers when the object is safe. The only other copy is about to be deleted: a store that keeps something else is found out now.
	attributes, err := a.bucket.Attributes(ctx, key)
	if err != nil {
		return &storeError{fmt.Errorf("looking at what was written: %w", err)}
	}
	if attributes.Size != size {
		return &storeError{fmt.Errorf("the store keeps %d bytes of %d written", attributes.Size, size)}
	}
	return nil
}

// sweep removes what killed writers of an hour left unfinished in a directory. The hour's lock is held: nobody else writes there.
func (a *Archive) sweep(h siteHour) error {
	if a.place.Dir == "" {
		return nil // a store shows no unfinished object; how long it keeps the parts is a rule of the bucket
	}
	dir, prefix := filepath.Split(filepath.Join(filepath.FromSlash(a.place.Dir), filepath.FromSlash(h.key(""))))
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), prefix) && strings.HasSuffix(f.Name(), ".tmp") { // as fileblob names them
			err = errors.Join(err, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	if err != nil {
		return &storeError{err}
	}
	return nil
}

// countingWriter tells errors of the place from those of the source.
type countingWriter struct {
	w   io.Writer
	n   int64
	err error
}

// Write implements io.Writer.
func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	if err != nil {
		c.err = err
		err = &storeError{err}
	}
	return n, err
}

// sync makes an object and its name safe in a directory.
func (a *Archive) sync(key string) error {
	dir := filepath.FromSlash(a.place.Dir)
	for path := filepath.Join(dir, filepath.FromSlash(key)); ; path = filepath.Dir(path) {
		if err := syncPath(path); err != nil {
			return &storeError{err}
		}
		if path == filepath.Clean(dir) {
			return nil
		}
	}
}

func syncPath(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}

// objects reads pieces of objects. Pieces that follow each other come from one request; Close ends the last one.
type objects struct {
	a    *Archive
	key  string
	at   int64
	r    *blob.Reader
	many bool // more pieces of an object are likely to follow: ask for the rest of it at once
}

func (o *objects) read(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if o.r == nil || o.key != key || o.at != offset {
		if err := o.Close(); err != nil {
			return nil, o.explain(err)
		}
		rest := length
		if o.many {
			rest = -1
		}
		r, err := o.a.bucket.NewRangeReader(ctx, key, offset, rest, nil)
		if err != nil {
			return nil, o.explain(err)
		}
		o.r, o.key, o.at = r, key, offset
	}
	payload := make([]byte, length)
	n, err := io.ReadFull(o.r, payload)
	o.at += int64(n)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) && length > 0:
		return nil, fmt.Errorf("it ends %d bytes too early: %w", length-int64(n), ErrDamaged)
	case err != nil && length > 0:
		return nil, o.explain(err)
	}
	return payload, nil
}

func (o *objects) explain(err error) error {
	var answer *awshttp.ResponseError
	if errors.As(err, &answer); gcerrors.Code(err) == gcerrors.NotFound {
		return fmt.Errorf("%w (looked in %s)", ErrNoObject, o.a.place)
	}
	if answer != nil && (answer.HTTPStatusCode() == http.StatusForbidden || answer.HTTPStatusCode() == http.StatusUnauthorized) || errors.Is(err, fs.ErrPermission) {
		return &storeError{fmt.Errorf("%s refuses it, check the credentials and their rights: %w", o.a.place, err)}
	}
	return &storeError{fmt.Errorf("%s does not give it, try again when it is back: %w", o.a.place, err)}
}

// Close ends the request under way.
func (o *objects) Close() error {
	if o.r == nil {
		return nil
	}
	r := o.r
	o.r = nil
	return r.Close()
}
