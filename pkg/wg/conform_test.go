package wg

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// conform is what every backend does, whatever drives it.
func conform(t *testing.T, open func(t *testing.T) bed) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(t *testing.T, b bed)
	}{
		{"carries TCP and says what it saw", carries},
		{"has what was applied", hasWhatWasApplied},
		{"an identical set leaves a live session alone", identicalSet},
		{"an address moves to another peer", addressMoves},
		{"a removed peer is cut off", removedPeer},
		{"bad peers are left out and the rest applied", badPeers},
		{"a kick restores what a restart of the other side broke", kickAfterRestart},
		{"a kick of nobody is an error", kickOfNobody},
		{"a key changes by a second device on another port", secondDevice},
		{"a peer follows its endpoint", followsEndpoint},
		{"closed is closed", closedIsClosed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func carries(t *testing.T, b bed) {
	p := b.pair(t)
	echo(t, p.hub, hubInside+":7000")
	echo(t, p.site, siteInside+":7000")
	before := time.Now().Add(-time.Second) // a handshake's time may be cut to seconds
	mustSay(t, mustDial(t, p.site, hubInside+":7000"))
	mustSay(t, mustDial(t, p.hub, siteInside+":7000")) // the hub has learnt where the site is
	site := peerState(t, p.hub, p.siteKey.Public())
	if site.LastHandshake.Before(before) || site.Received == 0 || site.Sent == 0 {
		t.Errorf("handshake at %s, received %d, sent %d", site.LastHandshake, site.Received, site.Sent)
	}
	if at, err := netip.ParseAddrPort(site.Endpoint); err != nil || at.Addr() != b.host[1] {
		t.Errorf("the hub sees the site at %q, want a port of %s", site.Endpoint, b.host[1])
	}
	if d := snapshot(t, p.hub); d.PublicKey != p.hubKey.Public() || d.Port != p.hubPort || d.Port == 0 {
		t.Errorf("device has key %s and port %d", d.PublicKey, d.Port)
	}
}

func hasWhatWasApplied(t *testing.T, b bed) {
	p := b.pair(t)
	want := append(many(600), p.sitePeer())
	want[0].AllowedIPs = prefixes("10.20.0.0/24", "10.9.0.0/32", "fd00::/64")
	want[1].Keepalive = 25 * time.Second
	want[2].PSK = Secret{}
	want[3].AllowedIPs = nil
	want[4].Endpoint = netip.AddrPortFrom(b.host[1], 9).String()
	apply(t, p.hub, Diff(want, snapshot(t, p.hub)))
	if c := Diff(want, snapshot(t, p.hub)); !c.Empty() {
		t.Fatalf("after applying, %d to upsert and %d to remove remain", len(c.Upsert), len(c.Remove))
	}
	want[1].Keepalive, want[2].PSK, want[3].AllowedIPs = 0, NewPSK(), prefixes("10.21.0.0/24")
	want[0].AllowedIPs = want[0].AllowedIPs[1:]
	want[5] = many(1)[0]
	want[5].AllowedIPs = prefixes("10.22.0.0/32")
	c := Diff(want, snapshot(t, p.hub))
	if len(c.Upsert) != 5 || len(c.Remove) != 1 {
		t.Fatalf("%d to upsert and %d to remove, want 5 and 1", len(c.Upsert), len(c.Remove))
	}
	apply(t, p.hub, c)
	if c := Diff(want, snapshot(t, p.hub)); !c.Empty() {
		t.Fatalf("after changing, %v remains", c)
	}
}

// Trap 1.
func identicalSet(t *testing.T, b bed) {
	p := b.pair(t)
	echo(t, p.hub, hubInside+":7000")
	c := mustDial(t, p.site, hubInside+":7000")
	mustSay(t, c)
	want := append(many(300), p.sitePeer())
	apply(t, p.hub, Changes{Upsert: want})
	before := peerState(t, p.hub, p.siteKey.Public())
	for range 10 {
		apply(t, p.hub, Changes{Upsert: want})
		if err := says(c, 5*time.Second); err != nil { // a session cut off needs 15 s
			t.Fatalf("the live connection was disturbed: %v", err)
		}
	}
	after := peerState(t, p.hub, p.siteKey.Public())
	if !after.LastHandshake.Equal(before.LastHandshake) || after.Received <= before.Received {
		t.Errorf("handshake at %s, was %s; received %d, was %d", after.LastHandshake, before.LastHandshake, after.Received, before.Received)
	}
}

func addressMoves(t *testing.T, b bed) {
	p := b.pair(t)
	echo(t, p.hub, hubInside+":7000")
	heir, bystander := many(2)[0], many(3)[2]
	apply(t, p.hub, Changes{Upsert: []Peer{bystander}})
	// The site's address first belongs to somebody else, and comes back; in between nothing overlaps.
	heir.AllowedIPs = prefixes(siteInside + "/32")
	want := []Peer{bystander, heir}
	c := Diff(want, snapshot(t, p.hub))
	if !slices.Equal(c.Remove, []Key{p.siteKey.Public()}) {
		t.Fatalf("to remove: %v", c.Remove)
	}
	apply(t, p.hub, c)
	if got := peerState(t, p.hub, heir.PublicKey).AllowedIPs; !slices.Equal(got, heir.AllowedIPs) {
		t.Fatalf("the heir has %v", got)
	}
	// Two peers that stay exchange their addresses.
	heir.AllowedIPs, bystander.AllowedIPs = bystander.AllowedIPs, heir.AllowedIPs
	apply(t, p.hub, Diff([]Peer{heir, bystander}, snapshot(t, p.hub)))
	if c := Diff([]Peer{heir, bystander}, snapshot(t, p.hub)); !c.Empty() {
		t.Fatalf("after the exchange remains %v", c)
	}
	want = []Peer{heir, p.sitePeer()}
	apply(t, p.hub, Diff(want, snapshot(t, p.hub)))
	if err := p.site.Kick(context.Background(), p.hubKey.Public()); err != nil {
		t.Fatal(err)
	}
	mustSay(t, mustDial(t, p.site, hubInside+":7000"))
}

func removedPeer(t *testing.T, b bed) {
	p := b.pair(t)
	echo(t, p.hub, hubInside+":7000")
	c := mustDial(t, p.site, hubInside+":7000")
	mustSay(t, c)
	apply(t, p.hub, Changes{Remove: []Key{p.siteKey.Public()}})
	if err := says(c, 500*time.Millisecond); err == nil {
		t.Error("traffic of a removed peer still goes through")
	}
	if d := snapshot(t, p.hub); len(d.Peers) != 0 {
		t.Errorf("the device still has %d peers", len(d.Peers))
	}
	apply(t, p.hub, Changes{Remove: []Key{p.siteKey.Public()}}) // twice is no error
	if err := p.site.Kick(context.Background(), p.hubKey.Public()); err != nil {
		t.Fatal(err)
	}
	if c, err := dial(p.site, hubInside+":7000", 500*time.Millisecond); err == nil {
		_ = c.Close()
		t.Error("a removed peer connects")
	}
}

func badPeers(t *testing.T, b bed) {
	p := b.pair(t)
	ps := many(700)
	own, none, twice, inside, around, same, name, noPort, keepalive, mapped := 10, 20, 30, 256, 257, 300, 511, 512, 600, 650
	ps[own].PublicKey = p.hubKey.Public()
	ps[none].PublicKey = Key{}
	ps[twice].PublicKey = ps[0].PublicKey
	ps[inside].AllowedIPs = prefixes("10.77.0.0/24")
	ps[around].AllowedIPs = prefixes("10.0.0.0/8")
	ps[same].AllowedIPs = prefixes(siteInside + "/32")
	ps[name].Endpoint = "no-such-host.invalid:51820"
	ps[noPort].Endpoint = "127.0.0.1"
	ps[keepalive].Keepalive = 1500 * time.Millisecond
	ps[mapped].AllowedIPs = []netip.Prefix{netip.MustParsePrefix("::ffff:10.9.9.9/128")}
	err := p.hub.Apply(context.Background(), Changes{Upsert: ps})
	refused(t, err, ps[own].PublicKey, ErrOwnKey)
	refused(t, err, ps[none].PublicKey, ErrNoKey)
	refused(t, err, ps[twice].PublicKey, ErrTwice)
	refused(t, err, ps[around].PublicKey, ErrOverlap)
	refused(t, err, ps[same].PublicKey, ErrOverlap)
	refused(t, err, ps[name].PublicKey, ErrEndpoint)
	refused(t, err, ps[noPort].PublicKey, ErrEndpoint)
	refused(t, err, ps[keepalive].PublicKey, ErrKeepalive)
	if peers, _ := PeerErrors(err); len(peers) != 9 {
		t.Errorf("%d peers refused, want 9: %v", len(peers), err)
	}
	d := snapshot(t, p.hub)
	if len(d.Peers) != 700-9+1 {
		t.Errorf("%d peers on the device, want the %d good ones and the site", len(d.Peers), 700-9)
	}
	// What a refused peer wanted is free for another, and what it had stays.
	changed := p.sitePeer()
	changed.AllowedIPs = prefixes("10.77.0.0/25")
	err = p.hub.Apply(context.Background(), Changes{Upsert: []Peer{changed}})
	refused(t, err, changed.PublicKey, ErrOverlap)
	if got := peerState(t, p.hub, changed.PublicKey).AllowedIPs; !slices.Equal(got, p.sitePeer().AllowedIPs) {
		t.Errorf("the refused peer has %v", got)
	}
}

// Trap 2.
func kickAfterRestart(t *testing.T, b bed) {
	p := b.pair(t)
	echo(t, p.hub, hubInside+":7000")
	mustSay(t, mustDial(t, p.site, hubInside+":7000"))
	limit := 50 * time.Millisecond
	if raceDetector {
		limit = time.Second // everything is an order slower; without a kick it would be 15 s
	}
	var took []time.Duration
	for range 20 { // the machine may be busy at times, not always
		if err := p.hub.Close(); err != nil {
			t.Fatal(err)
		}
		p.hub = b.open(t, 0, Config{Private: p.hubKey, Addresses: prefixes(hubInside + "/16"), ListenPort: p.hubPort})
		apply(t, p.hub, Changes{Upsert: []Peer{p.sitePeer()}})
		if !b.machine { // whose listener outlives the device
			echo(t, p.hub, hubInside+":7000")
		}
		start := time.Now()
		if err := p.site.Kick(context.Background(), p.hubKey.Public()); err != nil {
			t.Fatal(err)
		}
		mustSay(t, mustDial(t, p.site, hubInside+":7000"))
		took = append(took, time.Since(start))
		if took[len(took)-1] <= limit {
			t.Logf("from kick to answer: %v", took)
			return
		}
	}
	t.Errorf("from kick to answer: %v, want %s", took, limit)
}

func kickOfNobody(t *testing.T, b bed) {
	p := b.pair(t)
	if err := p.site.Kick(context.Background(), NewPrivate().Public()); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("kick of an unknown peer: %v", err)
	}
	// Kicks in a row, and one right after the peer was added: the other side drops what comes too soon, and the protocol
	// would try again after 5 s.
	echo(t, p.hub, hubInside+":7000")
	c := b.open(t, 1, Config{Private: p.siteKey, Addresses: prefixes(siteInside + "/32"), Interface: "wgagain"})
	apply(t, c, Changes{Upsert: []Peer{p.hubPeer(b)}})
	for range 3 {
		start := time.Now()
		if err := c.Kick(context.Background(), p.hubKey.Public()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "a handshake after the kick", func() bool {
			return peerState(t, c, p.hubKey.Public()).LastHandshake.After(start)
		})
	}
}

// Trap 10: a device keeps its key; the sessions of the old one go on until each site has moved.
func secondDevice(t *testing.T, b bed) {
	p := b.pair(t)
	echo(t, p.hub, hubInside+":7000")
	c := mustDial(t, p.site, hubInside+":7000")
	mustSay(t, c)
	next := NewPrivate()
	second := b.open(t, 0, Config{Private: next, Addresses: prefixes(hubInside + "/32"), Interface: "wgnext"})
	apply(t, second, Changes{Upsert: many(300)})
	handshake := peerState(t, p.hub, p.siteKey.Public()).LastHandshake
	if err := says(c, 5*time.Second); err != nil {
		t.Fatalf("the second device disturbed the first: %v", err)
	}
	if !b.machine {
		echo(t, second, hubInside+":7000")
	}
	moved := p.hubPeer(b)
	moved.PublicKey = next.Public()
	moved.Endpoint = netip.AddrPortFrom(b.host[0], uint16(snapshot(t, second).Port)).String()
	apply(t, second, Changes{Upsert: []Peer{p.sitePeer()}})
	apply(t, p.site, Diff([]Peer{moved}, snapshot(t, p.site)))
	mustSay(t, mustDial(t, p.site, hubInside+":7000"))
	if got := peerState(t, p.hub, p.siteKey.Public()).LastHandshake; !got.Equal(handshake) {
		t.Errorf("the old device had a handshake at %s", got)
	}
	if peerState(t, second, p.siteKey.Public()).LastHandshake.IsZero() {
		t.Error("the new device had none")
	}
}

// Trap 11.
func followsEndpoint(t *testing.T, b bed) {
	p := b.pair(t)
	echo(t, p.hub, hubInside+":7000")
	mustSay(t, mustDial(t, p.site, hubInside+":7000"))
	lookUps := 0
	clock := time.Now
	r := &Resolver{
		Tunnel: p.site, Peer: p.hubKey.Public(), Endpoint: "hub.example:" + p.hubPeer(b).Endpoint[len(b.host[0].String())+1:], Log: discard(),
		Now: func() time.Time { return clock() },
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			lookUps++
			return []netip.Addr{b.host[0]}, nil
		},
	}
	if to, err := r.Step(t.Context()); err != nil || to.IsValid() || lookUps != 0 {
		t.Fatalf("a fresh handshake: moved to %s, %d look-ups, %v", to, lookUps, err)
	}
	// As if the hub had been elsewhere: nobody answers there.
	nowhere := netip.AddrPortFrom(b.host[0], 9)
	if err := p.site.SetEndpoint(t.Context(), p.hubKey.Public(), nowhere); err != nil {
		t.Fatal(err)
	}
	if err := p.site.SetEndpoint(t.Context(), NewPrivate().Public(), nowhere); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("endpoint of an unknown peer: %v", err)
	}
	clock = func() time.Time { return time.Now().Add(StaleAfter + 2*time.Second) }
	to, err := r.Step(t.Context())
	if err != nil || lookUps != 1 || to.Port() != uint16(p.hubPort) {
		t.Fatalf("an old handshake: moved to %s, %d look-ups, %v", to, lookUps, err)
	}
	mustSay(t, mustDial(t, p.site, hubInside+":7000"))
	if c := Diff([]Peer{p.hubPeer(b)}, snapshot(t, p.site)); !c.Empty() {
		t.Errorf("the peer no longer is as it was asked for: %v", c)
	}
}

func closedIsClosed(t *testing.T, b bed) {
	p := b.pair(t)
	echo(t, p.hub, hubInside+":7000")
	c := mustDial(t, p.site, hubInside+":7000")
	mustSay(t, c)
	if err := p.site.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.site.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := says(c, 300*time.Millisecond); err == nil {
		t.Error("traffic goes through a closed device")
	}
	// Which is no peer's fault.
	if peers, rest := PeerErrors(p.site.Apply(context.Background(), Changes{Upsert: many(3)})); rest == nil || len(peers) != 0 {
		t.Errorf("a closed device takes peers: %v, refused: %v", rest, peers)
	}
	if err := p.site.Apply(context.Background(), Changes{Remove: []Key{p.hubKey.Public()}}); err == nil {
		t.Error("a closed device removes peers")
	}
	if _, err := p.site.Snapshot(context.Background()); err == nil {
		t.Error("a closed device says what it has")
	}
}

func TestNetstackConforms(t *testing.T) { conform(t, netstackBed) }
