package archive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/archive/s3test"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
)

// Variables that make the test binary a process that moves payloads and gets killed.
const (
	moverMark   = "HSI_TEST_ARCHIVE_MOVER" // URL of the database
	moverPlace  = "HSI_TEST_ARCHIVE_PLACE"
	moverID     = "HSI_TEST_ARCHIVE_ID"
	moverSecret = "HSI_TEST_ARCHIVE_SECRET"
)

var later = noon.Add(24 * time.Hour)

// TestMain lets the test binary be the process that gets killed.
func TestMain(m *testing.M) {
	if url := os.Getenv(moverMark); url != "" {
		if err := mover(context.Background(), url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// mover does what the hub's archive job does, once.
func mover(ctx context.Context, url string) error {
	c, err := pg.PoolConfig(url)
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return err
	}
	a, err := Open(ctx, Config{Pool: pool, URL: os.Getenv(moverPlace), Credentials: Credentials{AccessKeyID: os.Getenv(moverID), SecretAccessKey: os.Getenv(moverSecret)}})
	if err != nil {
		return err
	}
	return a.Move(ctx, later)
}

// The moments of a kill are seen on the wire, between the process and what it talks to: nothing in the process knows of them, and what was sent before is
// sent, what comes after is not.
type moment string

const (
	listed      moment = "the batches are listed, the object is begun"
	halfWritten moment = "half of the payloads are read"
	written     moment = "the object is safe, the database does not know it"
	recorded    moment = "the object is recorded, its batches are not"
	uncommitted moment = "everything is sent, not committed"
	committed   moment = "it is committed, the answer is lost"
	// Of a store:
	putBegun   moment = "the upload arrives and is not passed on"
	putHalf    moment = "half of the upload is passed on"
	putOneLeft moment = "all but the last request of the upload is answered"
	putDone    moment = "the upload is complete, the answer is lost"
)

// leaves says what a kill at a moment may leave in the place: an object that the database does not know. The next move writes over it, unless a late batch made
// that move's object another one.
func (m moment) leaves() bool {
	return m == written || m == recorded || m == uncommitted || m == putDone
}

// killer is the far side of a process that is to be killed at a moment.
type killer struct {
	t    *testing.T
	at   moment
	url  string // of the database, through the killer
	cmd  *exec.Cmd
	once sync.Once
	hit  atomic.Bool

	started, dead chan struct{} // closed when the process runs, and when it is gone
	conns         sync.WaitGroup
}

// strike kills the process and returns when it is gone.
func (k *killer) strike() {
	k.once.Do(func() {
		<-k.started
		k.hit.Store(true)
		if err := k.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			k.t.Errorf("killing: %v", err)
		}
	})
	<-k.dead
}

// run starts a mover and returns when it has ended, killed or not.
func (k *killer) run(p *killPlace, url string) {
	t := k.t
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k.started, k.dead = make(chan struct{}), make(chan struct{})
	k.cmd = exec.Command(exe)
	var log strings.Builder
	k.cmd.Stdout, k.cmd.Stderr = &log, &log
	stop := k.database(url)
	placeURL, stopStore := p.through(k)
	k.cmd.Env = append(os.Environ(), moverMark+"="+k.url, moverPlace+"="+placeURL, moverID+"="+p.credentials.AccessKeyID, moverSecret+"="+p.credentials.SecretAccessKey)
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(k.started)
	if err := k.cmd.Wait(); err != nil && !k.hit.Load() {
		t.Errorf("%s: the mover ended by itself: %v\n%s", k.at, err, log.String())
	}
	close(k.dead)
	stop()
	stopStore()
}

// database listens in front of the database and strikes at the moments that its protocol shows.
func (k *killer) database(to string) (stop func()) {
	t := k.t
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	port := q.Get("port")
	if port == "" {
		port = "5432"
	}
	socket := filepath.Join(q.Get("host"), ".s.PGSQL."+port)
	dir, err := os.MkdirTemp("", "hsi-kill-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL."+port))
	if err != nil {
		t.Fatal(err)
	}
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	k.url = u.String()
	k.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("unix", socket)
			if err != nil {
				_ = c.Close()
				return
			}
			k.conns.Go(func() { k.client(c, s) })
			k.conns.Go(func() { k.server(s, c) })
		}
	})
	return func() {
		_ = l.Close()
		k.conns.Wait()
		_ = os.RemoveAll(dir)
	}
}

// client passes on what the process sends.
func (k *killer) client(from, to net.Conn) {
	defer func() { _ = to.Close() }() // a killed process's sessions end
	defer func() { _ = from.Close() }()
	statements := map[string]string{} // by name
	contents := 0
	for first := true; ; first = false {
		kind, body, err := message(from, first)
		if err != nil {
			return
		}
		text := string(body)
		sql := ""
		switch kind {
		case 'P':
			name, rest, _ := strings.Cut(text, "\x00")
			statements[name], _, _ = strings.Cut(rest, "\x00")
		case 'B':
			_, rest, _ := strings.Cut(text, "\x00") // the portal
			name, _, _ := strings.Cut(rest, "\x00")
			sql = statements[name]
		case 'Q':
			sql, _, _ = strings.Cut(text, "\x00")
		}
		var now moment
		switch {
		case sql == qContent:
			if contents++; contents == 1 {
				now = listed
			} else {
				now = halfWritten
			}
		case sql == qObject:
			now = written
		case sql == qMoved:
			now = recorded
		case strings.EqualFold(sql, "commit"):
			now = uncommitted
		}
		if now != "" && now == k.at {
			k.strike()
			return
		}
		if err := send(to, kind, body, first); err != nil {
			return
		}
	}
}

// server passes on what the database answers.
func (k *killer) server(from, to net.Conn) {
	defer func() { _ = from.Close() }()
	defer func() { _ = to.Close() }()
	for {
		kind, body, err := message(from, false)
		if err != nil {
			return
		}
		if kind == 'C' && strings.HasPrefix(string(body), "COMMIT") && k.at == committed {
			k.strike()
			return
		}
		if err := send(to, kind, body, false); err != nil {
			return
		}
	}
}

// message reads one message of PostgreSQL's protocol, version 3; the first of a client has no kind.
func message(r io.Reader, first bool) (kind byte, body []byte, err error) {
	head := make([]byte, 5)
	if first {
		_, err = io.ReadFull(r, head[1:])
	} else {
		_, err = io.ReadFull(r, head)
	}
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}

func send(w io.Writer, kind byte, body []byte, first bool) error {
	b := make([]byte, 0, 5+len(body))
	if !first {
		b = append(b, kind)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)+4))
	_, err := w.Write(append(b, body...))
	return err
}

// killPlace is where objects go: a directory, or a real S3 server.
type killPlace struct {
	dir         string
	server      *s3test.Server
	credentials Credentials
}

func (p *killPlace) url() string {
	if p.server == nil {
		return "file://" + p.dir
	}
	return p.server.URL(bucket)
}

// through returns the place's address as the process sees it: a store is seen through the killer.
func (p *killPlace) through(k *killer) (address string, stop func()) {
	if p.server == nil {
		return p.url(), func() {}
	}
	target, err := url.Parse(p.server.Endpoint())
	if err != nil {
		k.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(r *http.Response) error {
			if k.at == putDone && completes(r.Request) && r.StatusCode == http.StatusOK {
				k.strike()
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }, // the process is gone, or sees it
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if writes := r.Method == http.MethodPut || r.Method == http.MethodPost; writes {
			switch {
			case k.at == putBegun, k.at == putOneLeft && completes(r):
				k.strike()
				return
			case k.at == putHalf && r.Body != nil && r.ContentLength > 1000:
				r.Body = &halfBody{r.Body, r.ContentLength / 2, k.strike}
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	return s3test.URL(front.URL, bucket), front.Close
}

// completes reports whether a request is the one that makes an object: the only one, or the last of several.
func completes(r *http.Request) bool {
	q := r.URL.Query()
	return r.Method == http.MethodPut && !q.Has("partNumber") || r.Method == http.MethodPost && q.Has("uploadId")
}

// halfBody strikes after half of a body.
type halfBody struct {
	io.ReadCloser
	left   int64
	strike func()
}

// Read implements io.Reader.
func (h *halfBody) Read(b []byte) (int, error) {
	if h.left == 0 {
		h.strike()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := h.ReadCloser.Read(b[:min(int64(len(b)), h.left)])
	h.left -= int64(n)
	return n, err
}

// objects lists whole objects of one site, and what unfinished writing left beside them.
func (p *killPlace) objects(t *testing.T, site string) (whole, rests int) {
	t.Helper()
	if p.server != nil {
		for _, key := range p.server.Keys(t.Context(), bucket) {
			if strings.HasPrefix(key, site) {
				whole++
			}
		}
		return whole, 0
	}
	files, err := os.ReadDir(filepath.Join(p.dir, site))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".tmp") {
			whole++
		} else {
			rests++
		}
	}
	return whole, rests
}

// A process that moves payloads is killed with -9 at every step. The model is what was stored: afterwards each payload is found unchanged, at once and after the
// next move. At most one object is left that nothing refers to, only if a late batch came between, and it harms nothing.
func TestAMoverKilledAtAnyStepLosesNothing(t *testing.T) {
	database := []moment{listed, halfWritten, written, recorded, uncommitted, committed}
	t.Run("directory", func(t *testing.T) {
		killAtEach(t, &killPlace{dir: t.TempDir()}, database)
	})
	t.Run("S3", func(t *testing.T) {
		s := s3test.Start(t, bucket)
		p := &killPlace{server: s, credentials: Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey}}
		killAtEach(t, p, append(database, putBegun, putHalf, putOneLeft, putDone))
	})
}

func killAtEach(t *testing.T, p *killPlace, moments []moment) {
	first := newLedger(t)
	for _, at := range moments {
		for _, large := range []bool{true, false} {
			if at == halfWritten && !large {
				continue // it is read at once
			}
			for _, late := range []bool{false, true} {
				if late && !at.leaves() {
					continue // nothing is left that it could make unknown
				}
				name := fmt.Sprintf("%s, large %t, late batch %t", at, large, late)
				l := newLedgerOn(t, first.pool)
				for i := range 8 {
					size := 1 + l.rng.IntN(5000)
					if large && i < 5 {
						size = 2 << 20 // together more than is read at once, and than one part of an upload
					}
					l.batchOf(noon.Add(time.Duration(i)*time.Minute), size)
				}
				k := &killer{t: t, at: at}
				k.run(p, l.pool.Config().ConnString())
				if !k.hit.Load() {
					t.Errorf("%s: not met", name)
				}
				a := l.openWith(Config{Pool: l.pool, URL: p.url(), Credentials: p.credentials})
				l.wantFound(a, name)
				whole, _ := p.objects(t, l.site.String()) // and perhaps an unfinished file
				if want := at.leaves() || at == committed; (whole == 1) != want {
					t.Errorf("%s: %d objects after the kill", name, whole)
				}
				if late {
					l.batch(noon.Add(30 * time.Minute))
				}
				l.moveAll(a)
				l.wantFound(a, name+", moved")
				whole, rests := p.objects(t, l.site.String())
				unknown := whole - l.known()
				if want := late && at.leaves(); unknown < 0 || unknown > 1 || (unknown == 1) != want {
					t.Errorf("%s: %d objects, %d of them unknown", name, whole, unknown)
				}
				if rests != 0 {
					t.Errorf("%s: %d unfinished files", name, rests)
				}
			}
		}
	}
}

// Kills at seeded moments, of movers that follow one another over the same batches.
func TestAMoverKilledAgainAndAgainLosesNothing(t *testing.T) {
	const seed = 20261126
	r := rand.New(rand.NewPCG(seed, 1))
	p := &killPlace{dir: t.TempDir()}
	l := newLedger(t)
	a := l.open(p.url())
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	killed, finished := 0, 0
	took := 300 * time.Millisecond // of a run that nobody kills; learnt
	for round := range 20 {
		for i := range 4 { // hours
			for range 3 {
				l.batchOf(noon.Add(time.Duration(i)*time.Hour+time.Duration(r.IntN(3600))*time.Second), 1+r.IntN(200_000))
			}
		}
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), moverMark+"="+l.pool.Config().ConnString(), moverPlace+"="+p.url())
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(float64(took)*r.Float64()*1.2), func() { _ = cmd.Process.Kill() }) // done already, perhaps
		if err := cmd.Wait(); err == nil {
			finished++
			took = time.Since(began)
		} else {
			killed++
		}
		kill.Stop()
		l.wantFound(a, fmt.Sprintf("seed %d, round %d", seed, round))
	}
	l.moveAll(a)
	l.wantFound(a, "in the end")
	whole, rests := p.objects(t, l.site.String())
	t.Logf("%d killed, %d finished before; %d objects, %d of them unknown, %d unfinished files", killed, finished, whole, whole-l.known(), rests)
	if killed == 0 || whole < l.known() || rests != 0 {
		t.Errorf("%d killed; %d objects of %d known, %d unfinished files", killed, whole, l.known(), rests)
	}
}

// wantFound checks that every payload is found unchanged.
func (l *ledger) wantFound(a *Archive, when string) {
	l.t.Helper()
	for seq, want := range l.want {
		got, err := a.Find(l.t.Context(), Ref{l.site, l.spool, seq})
		if err != nil || string(got.Payload) != string(want) {
			l.t.Errorf("%s: payload of batch %d: %d bytes, want %d, %v", when, seq, len(got.Payload), len(want), err)
		}
	}
}

// known counts the site's objects that the database knows.
func (l *ledger) known() (n int) {
	l.t.Helper()
	if err := l.pool.QueryRow(l.t.Context(), `SELECT count(*) FROM archive_object WHERE site_id = $1`, l.site).Scan(&n); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// moveAll moves until nothing is left: the database takes a moment to notice that a killed session is gone, and lets its lock go then.
func (l *ledger) moveAll(a *Archive) {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		l.move(a, later)
		var left int
		if err := l.pool.QueryRow(l.t.Context(), `SELECT count(*) FROM batch WHERE site_id = $1 AND payload IS NOT NULL`, l.site).Scan(&left); err != nil {
			l.t.Fatal(err)
		}
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("%d payloads are not moved", left)
		}
		<-time.After(10 * time.Millisecond)
	}
}
