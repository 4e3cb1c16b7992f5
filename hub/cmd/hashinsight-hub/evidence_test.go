package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/archive/s3test"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// evidenceSite is a site whose batches lie in a database, as ingest leaves them.
type evidenceSite struct {
	t       *testing.T
	pool    *pgxpool.Pool
	site    ident.SiteID
	spool   ident.SpoolID
	public  ed25519.PublicKey
	private ed25519.PrivateKey
	enc     *wire.Encoder
	want    map[uint64][]byte // payloads
	headers map[uint64][]byte
}

var evidenceHour = time.Now().UTC().Truncate(time.Hour).Add(-6 * time.Hour)

func newEvidenceSite(t *testing.T, url string) *evidenceSite {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s := &evidenceSite{t: t, pool: pool, site: ident.NewSiteID(), spool: ident.NewSpoolID(), want: map[uint64][]byte{}, headers: map[uint64][]byte{}}
	if s.public, s.private, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if s.enc, err = wire.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	if err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		return fleet.RegisterSite(t.Context(), tx, fleet.Registration{Site: s.site, Name: "north", Key: s.public, At: time.Now()})
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// batch stores a batch of one sample, or puts it into quarantine.
func (s *evidenceSite) batch(at time.Time, quarantine bool) {
	s.t.Helper()
	payload, meta, err := s.enc.Samples([]telemetry.Observation{{Miner: ident.NewMinerID(), At: at, Outcome: telemetry.OutcomeOK}}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	seq := uint64(len(s.want) + 1)
	h := evidence.Header{
		Kind: evidence.KindSamples, Schema: evidence.Schema, Codec: evidence.CodecZstd, Site: s.site, Key: ident.KeyIDOf(s.public), Spool: s.spool, Seq: seq,
		PayloadLen: uint32(len(payload)), Payload: sha256.Sum256(payload), Miners: meta.Miners, Samples: meta.Samples, FirstMS: meta.FirstMS, LastMS: meta.LastMS,
	}
	if seq > 1 {
		h.Prev = evidence.Hash{1}
	}
	hash, signature := h.Hash(), evidence.SignHeader(s.private, h.Bytes())
	s.want[seq], s.headers[seq] = payload, h.Bytes()
	disposition, kept := 1, payload
	if quarantine {
		disposition, kept = 2, nil
		s.exec(`INSERT INTO dead_letter (site_id, spool_id, seq, header, signature, payload, reason, received_at) VALUES ($1, $2, $3, $4, $5, $6, 'a kind that came later', $7)`,
			s.site[:], s.spool[:], int64(seq), h.Bytes(), signature, payload, at)
		s.exec(`INSERT INTO batch_total (site_id, spool_id, batches, samples, quarantined, newest_seq, last_received_at) VALUES ($1, $2, 1, 0, 1, 1, $3)
			ON CONFLICT (site_id, spool_id) DO UPDATE SET quarantined = batch_total.quarantined + 1`, s.site[:], s.spool[:], at)
	}
	s.exec(`INSERT INTO batch (site_id, spool_id, seq, kind, disposition, link_state, miners, samples, first_at, last_at, received_at, key_id, header_hash, header, signature, payload)
		VALUES ($1, $2, $3, 1, $4, 1, 1, 1, $5, $5, $5, $6, $7, $8, $9, $10)`, s.site[:], s.spool[:], int64(seq), disposition, at, h.Key[:], hash[:], h.Bytes(), signature, kept)
}

func (s *evidenceSite) exec(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.pool.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatal(err)
	}
}

// move does what the archive job does.
func (s *evidenceSite) move(c archive.Config) {
	s.t.Helper()
	c.Pool = s.pool
	a, err := archive.Open(s.t.Context(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	if err := a.Move(s.t.Context(), time.Now()); err != nil {
		s.t.Fatal(err)
	}
}

// args are a command's arguments that name the hour.
func (s *evidenceSite) args(command string, more ...string) []string {
	return append([]string{"evidence", command, "--site", s.site.String(), "--hour", evidenceHour.Format("2006-01-02T15")}, more...)
}

// where lists where the payloads lie, in the order of time.
func (s *evidenceSite) where(env []string) string {
	s.t.Helper()
	stdout, stderr, err := output(s.t, env, s.args("show", "-o", "json")...)
	var views []evidenceView
	if jerr := json.Unmarshal([]byte(stdout), &views); err != nil || jerr != nil {
		s.t.Fatalf("show: %v %v %s", err, jerr, stderr)
	}
	var places []string
	for _, v := range views {
		places = append(places, v.Where)
		if v.Spool != s.spool.String() || v.Kind != "samples" || v.Samples != 1 || v.Bytes != int64(len(s.want[v.Seq])) || (v.Object != "") != (v.Where == "archive") {
			s.t.Errorf("listed is %+v", v)
		}
	}
	return strings.Join(places, " ")
}

// export exports the hour and checks the file as an outsider does who has the site's public key: nothing else of the hub's is believed.
func (s *evidenceSite) export(env []string, more ...string) (batches, missing int) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "hour.jsonl")
	if _, stderr, err := output(s.t, env, s.args("export", append(more, "--out", file)...)...); err != nil {
		s.t.Fatalf("export: %v %s", err, stderr)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		s.t.Errorf("the export's file: %v, %v", st, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	var head archive.Head
	var tail archive.Tail
	scan := bufio.NewScanner(bytes.NewReader(text))
	for n := 0; scan.Scan(); n++ {
		line := scan.Bytes()
		switch {
		case n == 0:
			if err := json.Unmarshal(line, &head); err != nil || head.Format != archive.ExportFormat || head.Site != s.site.String() || !head.Hour.Equal(evidenceHour) {
				s.t.Errorf("head %s, %v", line, err)
			}
		case bytes.HasPrefix(line, []byte(`{"end":true`)):
			if err := json.Unmarshal(line, &tail); err != nil {
				s.t.Error(err)
			}
		default:
			var e archive.Entry
			if err := json.Unmarshal(line, &e); err != nil {
				s.t.Fatal(err)
			}
			h, err := evidence.ParseHeader(e.Header)
			if err == nil {
				err = evidence.VerifyHeader(s.public, e.Header, e.Signature)
			}
			if err == nil && e.Missing == "" {
				err = h.CheckPayload(e.Payload)
			}
			if err != nil || !bytes.Equal(e.Header, s.headers[e.Seq]) || e.Missing == "" && !bytes.Equal(e.Payload, s.want[e.Seq]) || e.Missing != "" && e.Payload != nil || !bytes.Equal(e.PublicKey, s.public) {
				s.t.Errorf("line %d: %v, %.200s", n, err, line)
			}
			batches++
			if e.Missing != "" {
				missing++
			}
		}
	}
	if scan.Err() != nil || tail.Batches != batches || tail.Missing != missing || !tail.End {
		s.t.Errorf("%d batches, %d without payload, tail %+v, %v", batches, missing, tail, scan.Err())
	}
	return batches, missing
}

// refused wants a command to fail with a text, and an export to leave no file.
func (s *evidenceSite) refused(env []string, want string, args ...string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "hour.jsonl")
	_, stderr, err := output(s.t, env, append(args, "--out", file)...)
	if err == nil || !strings.Contains(stderr, want) {
		s.t.Errorf("%v: %v %s, want %q", args, err, stderr, want)
	}
	if files, err := os.ReadDir(filepath.Dir(file)); err != nil || len(files) != 0 {
		s.t.Errorf("a refused export left %v, %v", files, err)
	}
}

func TestEvidenceIsListedAndExportedWhereverItLies(t *testing.T) {
	url, dir := pgtest.URL(t), t.TempDir()
	place := archive.Config{URL: "file://" + dir}
	env := append(environment(t), "DATABASE_URL="+url, "EVIDENCE_URL="+place.URL)
	s := newEvidenceSite(t, url)
	s.batch(evidenceHour.Add(-time.Millisecond), false) // of the hour before
	for i := range 3 {
		s.batch(evidenceHour.Add(time.Duration(i)*time.Minute), i == 2)
	}
	if got := s.where(env); got != "database database quarantine" {
		t.Fatalf("the payloads lie in %s", got)
	}
	if n, missing := s.export(env); n != 3 || missing != 0 {
		t.Errorf("%d batches exported, %d without payload", n, missing)
	}
	s.move(place)
	s.batch(evidenceHour.Add(59*time.Minute+59*time.Second+999*time.Millisecond), false)
	s.batch(evidenceHour.Add(time.Hour), false) // of the hour after
	s.batch(evidenceHour.Add(3*time.Minute), true)
	if got := s.where(env); got != "archive archive quarantine quarantine database" {
		t.Fatalf("the payloads lie in %s", got)
	}
	if n, missing := s.export(env); n != 5 || missing != 0 {
		t.Errorf("%d batches exported, %d without payload", n, missing)
	}

	// The quarantine goes on working beside it.
	letter := []string{s.site.String(), s.spool.String(), "4"}
	if _, stderr, err := output(t, env, append([]string{"deadletter", "retry"}, letter...)...); err != nil {
		t.Fatalf("retry: %v %s", err, stderr)
	}
	letter[2] = "7"
	if _, stderr, err := output(t, env, append([]string{"deadletter", "drop", "--yes"}, letter...)...); err != nil {
		t.Fatalf("drop: %v %s", err, stderr)
	}
	if got := s.where(env); got != "archive archive database dropped database" {
		t.Fatalf("the payloads lie in %s", got)
	}
	if n, missing := s.export(env); n != 5 || missing != 1 {
		t.Errorf("%d batches exported, %d without payload", n, missing)
	}

	// What is damaged, lost, forged or mistyped is told.
	objects, err := filepath.Glob(filepath.Join(dir, s.site.String(), evidenceHour.Format("2006-01-02T15")+"-*"))
	if err != nil || len(objects) != 1 {
		t.Fatalf("objects %v, %v", objects, err)
	}
	content, err := os.ReadFile(objects[0])
	if err != nil {
		t.Fatal(err)
	}
	content[0] ^= 1
	if err := os.WriteFile(objects[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.refused(env, "restore the object, or the database, from a backup", s.args("export")...)
	if n, missing := s.export(env, "--skip-damaged"); n != 5 || missing != 2 {
		t.Errorf("%d batches exported, %d without payload", n, missing)
	}
	if err := os.Remove(objects[0]); err != nil {
		t.Fatal(err)
	}
	s.refused(env, "if EVIDENCE_URL was changed, copy the objects", s.args("export")...)
	if n, missing := s.export(env, "--skip-damaged"); n != 5 || missing != 3 {
		t.Errorf("%d batches exported, %d without payload", n, missing)
	}
	if err := os.WriteFile(objects[0], append([]byte{content[0] ^ 1}, content[1:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.exec(`UPDATE batch SET signature = set_byte(signature, 0, get_byte(signature, 0) # 1) WHERE seq = 5`)
	s.refused(env, "batch 5 of spool", s.args("export")...)
	s.refused(env, "batch 5 of spool", s.args("export", "--skip-damaged")...) // not what the site signed at all
	s.refused(env, "does not exist", "evidence", "export", "--hour", "2026-03-10T12", "--site", ident.NewSiteID().String())
	s.refused(env, "no batch of this site", "evidence", "export", "--hour", "2026-03-10T12", "--site", s.site.String())
	s.refused(env, "want a full hour in UTC", "evidence", "export", "--hour", "2026-03-10T12:30:00Z", "--site", s.site.String())
	s.refused(env, "--site", "evidence", "export", "--hour", "2026-03-10T12", "--site", "north")
}

// From a bucket of a real S3 server, with credentials from the environment only; no output ever shows them.
func TestEvidenceIsExportedFromAnS3Server(t *testing.T) {
	server := s3test.Start(t, "evidence")
	url := pgtest.URL(t)
	place := archive.Config{URL: server.URL("evidence/hub"), Credentials: archive.Credentials{AccessKeyID: server.AccessKeyID, SecretAccessKey: server.SecretAccessKey}}
	env := append(environment(t), "DATABASE_URL="+url, "EVIDENCE_URL="+place.URL, "AWS_ACCESS_KEY_ID="+server.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+server.SecretAccessKey)
	s := newEvidenceSite(t, url)
	const batches = 40
	for i := range batches {
		s.batch(evidenceHour.Add(time.Duration(i)*time.Second), false)
	}
	s.move(place)
	if got := s.where(env); got != strings.TrimSpace(strings.Repeat("archive ", batches)) {
		t.Fatalf("the payloads lie in %s", got)
	}
	if n, missing := s.export(env); n != batches || missing != 0 {
		t.Errorf("%d batches exported, %d without payload", n, missing)
	}
	stdout, stderr, err := output(t, env, "config", "check")
	if shown := fmt.Sprint(stdout, stderr); err != nil || strings.Count(shown, "[set, not shown]") < 2 || strings.Contains(shown, server.SecretAccessKey) || strings.Contains(shown, server.AccessKeyID) {
		t.Errorf("config check: %v %s", err, shown)
	}
	server.Stop()
	s.refused(env, "try again when it is back", s.args("export")...)
	_, stderr, _ = output(t, env, s.args("export", "--out", filepath.Join(t.TempDir(), "hour.jsonl"))...)
	if strings.Contains(stderr, server.SecretAccessKey) || strings.Contains(stderr, server.AccessKeyID) {
		t.Errorf("credentials are shown: %s", stderr)
	}
	if got := s.where(env); !strings.HasPrefix(got, "archive archive") {
		t.Errorf("the list needs the store: %s", got)
	}
}
