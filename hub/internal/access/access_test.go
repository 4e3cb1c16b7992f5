package access

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestKeysAreLongAndOfTheirEnvironment(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		key := newKey("prod")
		if len(key) != len("hsi_prod_key_")+keyDigits || seen[key] {
			t.Fatalf("key %q", key)
		}
		seen[key] = true
		if _, ok := hashKey("prod", key); !ok {
			t.Fatalf("its own form is refused: %q", key)
		}
		if _, ok := hashKey("dev", key); ok {
			t.Fatalf("a key of another environment is read: %q", key)
		}
	}
	good := newKey("dev")
	for _, bad := range []string{"", "hsi_dev_key_", good + "x", good[:len(good)-1], strings.Replace(good, "_key_", "_KEY_", 1), good[:len(good)-1] + "-", " " + good} {
		if _, ok := hashKey("dev", bad); ok {
			t.Errorf("%q passes for a key", bad)
		}
	}
}

func TestSessionSecretsRotate(t *testing.T) {
	const a, b = "first-secret-of-at-least-32-characters", "second-secret-of-at-least-32-characters"
	must := func(secret string) *sealer {
		t.Helper()
		s, err := newSealer(secret)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	old, both, gone := must(a), must(b+", "+a), must(b)
	c := claims{session: [16]byte{1, 2, 3}, expires: time.Unix(1_800_000_000, 0).UTC()}
	token := old.seal(c)
	if got, err := both.open(token); err != nil || got != c {
		t.Errorf("during the rotation: %v %v", got, err)
	}
	if _, err := gone.open(token); err == nil {
		t.Error("the old secret still opens after the rotation")
	}
	if got, err := gone.open(both.seal(c)); err != nil || got != c {
		t.Errorf("the new secret does not seal: %v %v", got, err)
	}
	if old.seal(c) == token || strings.Contains(token, "AQID") {
		t.Error("a cookie shows what it holds")
	}
	for _, bad := range []string{"short", a + "," + b + "," + a, a + ",short", ""} {
		if _, err := newSealer(bad); err == nil || strings.Contains(err.Error(), a) {
			t.Errorf("secret of %d characters: %v", len(bad), err)
		}
	}
	for _, bad := range []string{"", "x", token + "A", token[:len(token)-1], strings.Repeat("A", 300)} {
		if _, err := old.open(bad); err == nil {
			t.Errorf("%.40q opens", bad)
		}
	}
}

func TestThrottleIsBoundedAndForgives(t *testing.T) {
	th := newThrottle()
	now := time.Unix(1_800_000_000, 0)
	one := netip.MustParseAddr("203.0.113.7")
	for i := range throttleBurst {
		if wait := th.wait(one, now); wait != 0 {
			t.Fatalf("wait %s before try %d", wait, i)
		}
		th.fail(one, now)
	}
	if wait := th.wait(one, now); wait <= 0 || wait > throttleInterval {
		t.Errorf("wait %s after the burst", wait)
	}
	if wait := th.wait(one, now.Add(throttleInterval)); wait != 0 {
		t.Errorf("wait %s after the interval", wait)
	}
	// All addresses of one IPv6 line count together.
	for i := range throttleBurst {
		th.fail(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 15: byte(i)}), now)
	}
	if th.wait(netip.MustParseAddr("2001:db8:0:1::ffff"), now) == 0 {
		t.Error("a fresh address of the same line may go on")
	}
	if th.wait(netip.MustParseAddr("2001:db8:0:2::1"), now) != 0 {
		t.Error("another line has to wait")
	}
	for i := range throttleEntries + 100 {
		th.fail(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(th.entries) != throttleEntries || th.recent.Len() != throttleEntries {
		t.Errorf("%d entries", len(th.entries))
	}
}
