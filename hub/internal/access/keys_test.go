package access

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/hub/internal/audit"
	"github.com/hashinsight/hashinsight/hub/pgtest"
)

func TestMain(m *testing.M) {
	if err := pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need PostgreSQL:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const testSecret = "a-secret-that-only-these-tests-use-0123456789"

var home = netip.MustParseAddr("203.0.113.7")

func newAccess(t testing.TB, pool *pgxpool.Pool, clock *testClock) *Access {
	t.Helper()
	a, err := New(Config{Pool: pool, Env: "dev", Secret: testSecret, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func create(t testing.TB, a *Access, by Actor, o KeyOrder) (string, KeyInfo) {
	t.Helper()
	key, info, err := a.CreateKey(t.Context(), by, o)
	if err != nil {
		t.Fatal(err)
	}
	return key, info
}

// works reports whether a key is let in, and fails the test for errors that are no refusal.
func works(t testing.TB, a *Access, key string) bool {
	t.Helper()
	_, err := a.Key(t.Context(), key, home)
	if err != nil && !errors.Is(err, ErrNoKey) && !errors.Is(err, ErrExpired) {
		t.Fatal(err)
	}
	return err == nil
}

// actions lists the actions of the audit log, in order.
func actions(t testing.TB, a *Access) string {
	t.Helper()
	if err := a.audit.Chain(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := a.audit.After(t.Context(), 0, audit.Filter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range all {
		names = append(names, all[i].Action)
	}
	return strings.Join(names, " ")
}

func TestKeyLivesItsTimeAndIsReplacedWithGrace(t *testing.T) {
	clock := newClock()
	a := newAccess(t, pgtest.New(t), clock)
	day := 24 * time.Hour
	oldKey, old := create(t, a, CommandLine(), KeyOrder{Name: "report", UserID: "7", Permissions: []Permission{SitesRead, MinersRead, SitesRead}})
	if old.ExpiresAt.Sub(old.CreatedAt) != 90*day || joinPermissions(old.Permissions) != "miners:read, sites:read" || !strings.HasPrefix(oldKey, "hsi_dev_key_") {
		t.Errorf("%+v", old)
	}
	p, err := a.Key(t.Context(), oldKey, home)
	if err != nil || !p.May(SitesRead) || p.May(AuditRead) || p.Name != "report" {
		t.Errorf("%+v %v", p, err)
	}
	clock.advance(60 * day)
	newKey, info := create(t, a, CommandLine(), KeyOrder{CopyFrom: &old.ID})
	if info.Name != "report" || info.UserID != "7" || *info.CopiedFrom != old.ID || joinPermissions(info.Permissions) != "miners:read, sites:read" || info.ExpiresAt.Sub(clock.now()) != 90*day {
		t.Errorf("copy: %+v", info)
	}
	clock.advance(7*day - time.Minute)
	if !works(t, a, oldKey) || !works(t, a, newKey) {
		t.Error("in the grace period both work")
	}
	clock.advance(time.Minute)
	if works(t, a, oldKey) || !works(t, a, newKey) {
		t.Error("after the grace period only the new one works")
	}
	if _, _, err := a.CreateKey(t.Context(), CommandLine(), KeyOrder{CopyFrom: &old.ID}); apperr.Of(err).Code != "CONFLICT_001" {
		t.Errorf("copying a key that has ended: %v", err)
	}
	list, err := a.ListKeys(t.Context(), KeyPlace{}, 10)
	if err != nil || len(list) != 2 || list[0].ID != info.ID || list[1].State(clock.now()) != "expired" || list[1].LastAddress != "203.0.113.7" || list[1].LastUsedAt.IsZero() {
		t.Errorf("list: %+v %v", list, err)
	}
	if page, err := a.ListKeys(t.Context(), KeyPlace{CreatedAt: list[0].CreatedAt, ID: list[0].ID}, 10); err != nil || len(page) != 1 || page[0].ID != old.ID {
		t.Errorf("second page: %+v %v", page, err)
	}
	if got := actions(t, a); got != "apikey_create apikey_create" {
		t.Errorf("audit log: %s", got)
	}
}

func TestNobodyGivesOrTouchesMoreThanTheyHold(t *testing.T) {
	clock := newClock()
	a := newAccess(t, pgtest.New(t), clock)
	_, strong := create(t, a, CommandLine(), KeyOrder{Name: "strong", Permissions: []Permission{SitesRead, AuditRead}})
	_, owner := create(t, a, CommandLine(), KeyOrder{Name: "owner", Permissions: []Permission{Owner}})
	_, equal := create(t, a, CommandLine(), KeyOrder{Name: "equal", Permissions: []Permission{SitesRead}})
	weakKey, weakInfo := create(t, a, CommandLine(), KeyOrder{Name: "weak", Permissions: []Permission{APIKeysWrite, SitesRead}})
	p, err := a.Key(t.Context(), weakKey, home)
	if err != nil {
		t.Fatal(err)
	}
	weak := ActorOf(p, home)
	ten := 10
	for name, o := range map[string]KeyOrder{
		"another permission":               {Name: "x", Permissions: []Permission{SitesRead, AuditRead}},
		"owner":                            {Name: "x", Permissions: []Permission{Owner}},
		"copy of a stronger key":           {CopyFrom: &strong.ID},
		"copy of a stronger key with less": {CopyFrom: &strong.ID, Permissions: []Permission{SitesRead}},
		"copy of the owner's":              {CopyFrom: &owner.ID},
		"limit of its own":                 {Name: "x", Permissions: []Permission{SitesRead}, RateLimit: &ten},
	} {
		if _, _, err := a.CreateKey(t.Context(), weak, o); apperr.Of(err).Code != "AUTH_002" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string]KeyOrder{
		"no name":            {Permissions: []Permission{SitesRead}},
		"no permission":      {Name: "x"},
		"unknown permission": {Name: "x", Permissions: []Permission{"sites:burn"}},
		"too long":           {Name: "x", Permissions: []Permission{SitesRead}, ExpiresIn: 400 * 24 * time.Hour},
		"no time":            {Name: "x", Permissions: []Permission{SitesRead}, ExpiresIn: time.Second},
		"control characters": {Name: "x\x1b[2J", Permissions: []Permission{SitesRead}},
		"no identity":        {Name: "x", Permissions: []Permission{SitesRead}, Certificate: "ops.example.net"},
	} {
		if _, _, err := a.CreateKey(t.Context(), CommandLine(), o); apperr.Of(err).HTTP != 422 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := a.CreateKey(t.Context(), weak, KeyOrder{CopyFrom: new(uuid.UUID)}); apperr.Of(err).HTTP != 404 {
		t.Errorf("copy of nothing: %v", err)
	}
	for _, id := range []uuid.UUID{strong.ID, owner.ID} {
		if _, err := a.RevokeKey(t.Context(), weak, id, ""); apperr.Of(err).Code != "AUTH_002" {
			t.Errorf("revoking a stronger key: %v", err)
		}
		if err := a.LimitKey(t.Context(), weak, id, &ten); apperr.Of(err).Code != "AUTH_002" {
			t.Errorf("limiting a stronger key: %v", err)
		}
	}
	key, info := create(t, a, weak, KeyOrder{Name: "child", Permissions: []Permission{SitesRead}})
	if !works(t, a, key) || info.CreatedBy != weak.ID {
		t.Errorf("a key of equal rights: %+v", info)
	}
	for _, id := range []uuid.UUID{equal.ID, weakInfo.ID} {
		if _, err := a.RevokeKey(t.Context(), weak, id, ""); err != nil {
			t.Errorf("revoking an equal key, and itself: %v", err)
		}
	}
}

// Two hub processes: the one that revokes forgets at once, the other within 3 s; so do sessions.
func TestRevokedKeyEndsEverywhere(t *testing.T) {
	url, clock := pgtest.URL(t), newClock()
	here, there := newAccess(t, poolOf(t, url), clock), newAccess(t, poolOf(t, url), clock)
	key, info := create(t, here, CommandLine(), KeyOrder{Name: "lost", Permissions: []Permission{SitesRead}})
	cookie, _, err := there.SignIn(t.Context(), key, home)
	if err != nil {
		t.Fatal(err)
	}
	session := func(a *Access) bool {
		_, err := a.Session(t.Context(), cookie, home)
		if err != nil && !errors.Is(err, ErrSignedOut) {
			t.Fatal(err)
		}
		return err == nil
	}
	for _, a := range []*Access{here, there} {
		if !works(t, a, key) || !session(a) {
			t.Fatal("does not work at first")
		}
	}
	if _, err := here.RevokeKey(t.Context(), CommandLine(), info.ID, "laptop stolen"); err != nil {
		t.Fatal(err)
	}
	if works(t, here, key) || session(here) {
		t.Error("still works where it was revoked")
	}
	clock.advance(CacheFor)
	if works(t, there, key) || session(there) {
		t.Error("still works in another process")
	}
	again, err := there.RevokeKey(t.Context(), CommandLine(), info.ID, "again")
	if err != nil || again.RevokedWhy != "laptop stolen" {
		t.Errorf("revoked again: %+v %v", again, err)
	}
	if got := actions(t, here); strings.Count(got, "apikey_revoke") != 1 {
		t.Errorf("audit log: %s", got)
	}
}

func TestEndsOfKeysAreAnnouncedOnceEach(t *testing.T) {
	url, clock := pgtest.URL(t), newClock()
	var log strings.Builder
	a := newAccess(t, poolOf(t, url), clock)
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	day := 24 * time.Hour
	_, soon := create(t, a, CommandLine(), KeyOrder{Name: "soon", Permissions: []Permission{SitesRead}, ExpiresIn: 20 * day})
	create(t, a, CommandLine(), KeyOrder{Name: "late", Permissions: []Permission{SitesRead}, ExpiresIn: 200 * day})
	_, gone := create(t, a, CommandLine(), KeyOrder{Name: "gone", Permissions: []Permission{SitesRead}, ExpiresIn: 20 * day})
	if _, err := a.RevokeKey(t.Context(), CommandLine(), gone.ID, ""); err != nil {
		t.Fatal(err)
	}
	count := func(days int, within14, within3, old float64, announced int) {
		t.Helper()
		clock.advance(time.Duration(days) * day)
		var wg sync.WaitGroup
		for range 2 { // two processes at once
			wg.Go(func() {
				if err := a.AnnounceEnds(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := a.countKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g14, g3, o := testutil.ToFloat64(a.ending.WithLabelValues("14d")), testutil.ToFloat64(a.ending.WithLabelValues("3d")), testutil.ToFloat64(a.old); g14 != within14 || g3 != within3 || o != old {
			t.Errorf("gauges %v %v %v, want %v %v %v", g14, g3, o, within14, within3, old)
		}
		if n := strings.Count(actions(t, a), "apikey_expiring"); n != announced || strings.Count(log.String(), soon.ID.String()) != announced {
			t.Errorf("%d announcements, want %d, log %s", n, announced, log.String())
		}
	}
	count(5, 0, 0, 0, 0)
	count(2, 1, 0, 0, 1)
	count(5, 1, 0, 0, 1)
	count(5, 1, 1, 0, 2)
	count(2, 1, 1, 0, 2)
	count(2, 0, 0, 0, 2)  // it has ended
	count(70, 0, 0, 1, 2) // the other one is older than 90 days
	list, err := a.ListKeys(t.Context(), KeyPlace{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if k := &list[i]; k.Old(clock.now()) != (k.Name == "late") {
			t.Errorf("%s is marked old: %t", k.Name, k.Old(clock.now()))
		}
	}
}

func TestStatementsFitTheSchema(t *testing.T) {
	if n := len(pgtest.PrepareStatements(t, pgtest.New(t))); n < 20 {
		t.Errorf("only %d statements found", n)
	}
}
