package peers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/hub/internal/pg"
	"github.com/hashinsight/hashinsight/pkg/wg"
)

// The form of wg-quick's files, /etc/wireguard/wg0.conf: sections [Interface] and [Peer] of lines Name = value. Comments say whose a peer is, in
// habits that differ: above its section or in it, bare or as Name = …, friendly_name = …, Client ….

// MaxConf is how large a file may be: 65,536 peers of some 200 bytes, with room.
const MaxConf = 32 << 20

// Conf is a wg-quick file, as far as it concerns the hub.
type Conf struct {
	Private wg.Secret // of the interface; zero when the file has none
	Port    int
	Peers   []ConfPeer
}

// ConfPeer is one [Peer].
type ConfPeer struct {
	Line      int // where its section begins
	Name      string
	PublicKey wg.Key
	PSK       wg.Secret
	Allowed   []netip.Prefix
	Endpoint  string
	Keepalive time.Duration
}

// maxProblems is how many problems of a file are told at once.
const maxProblems = 20

// ParseConf reads a file. All its problems are told, with their lines and without a secret.
func ParseConf(r io.Reader) (Conf, error) {
	var c Conf
	var problems []error
	line, section, above := 0, "", ""
	bad := func(at int, format string, args ...any) {
		if len(problems) < maxProblems {
			problems = append(problems, fmt.Errorf("line %d: %s", at, fmt.Sprintf(format, args...)))
		}
	}
	lines := bufio.NewScanner(io.LimitReader(r, MaxConf+1))
	lines.Buffer(nil, 1<<20)
	read := 0
	for lines.Scan() {
		line++
		if read += len(lines.Bytes()) + 1; read > MaxConf {
			return c, fmt.Errorf("longer than %d bytes", MaxConf)
		}
		text, comment, hasComment := strings.Cut(strings.TrimSpace(lines.Text()), "#")
		text = strings.TrimSpace(text)
		switch {
		case text == "" && hasComment:
			name := nameIn(comment)
			if section == "peer" && c.Peers[len(c.Peers)-1].Name == "" && c.Peers[len(c.Peers)-1].PublicKey.IsZero() {
				c.Peers[len(c.Peers)-1].Name = name // between [Peer] and its first line
			} else if name != "" {
				above = name
			}
		case text == "":
			above = ""
		case strings.EqualFold(text, "[Interface]"):
			section, above = "interface", ""
		case strings.EqualFold(text, "[Peer]"):
			if len(c.Peers) >= MaxPeers {
				return c, fmt.Errorf("more than %d peers", MaxPeers)
			}
			name := above
			if own := nameIn(comment); own != "" {
				name = own
			}
			section, above = "peer", ""
			c.Peers = append(c.Peers, ConfPeer{Line: line, Name: name})
		default:
			above = ""
			key, value, ok := strings.Cut(text, "=")
			key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
			var err error
			switch {
			case !ok || section == "":
				err = errors.New("want a section, or Name = value")
			case section == "interface":
				err = c.set(key, value)
			default:
				err = c.Peers[len(c.Peers)-1].set(key, value)
			}
			if err != nil {
				bad(line, "%v", err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		bad(line+1, "%v", err)
	}
	names, keys := map[string]int{}, map[wg.Key]int{}
	for i := range c.Peers {
		p := &c.Peers[i]
		if p.PublicKey.IsZero() {
			bad(p.Line, "this peer has no PublicKey")
			continue
		}
		if p.Name == "" {
			p.Name = "peer " + p.PublicKey.String()[:8]
		}
		if other, taken := names[p.Name]; taken {
			bad(p.Line, "the name %q is that of the peer on line %d too: give each a comment of its own", p.Name, other)
		}
		if other, taken := keys[p.PublicKey]; taken {
			bad(p.Line, "key %s is that of the peer on line %d too", p.PublicKey, other)
		}
		names[p.Name], keys[p.PublicKey] = p.Line, p.Line
	}
	return c, errors.Join(problems...)
}

func (c *Conf) set(key, value string) (err error) {
	switch key {
	case "privatekey":
		c.Private, err = wg.ParseSecret(value)
	case "listenport":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 16)
		c.Port = int(n)
	} // the others concern the machine: Address, DNS, MTU, PostUp …
	return err
}

func (p *ConfPeer) set(key, value string) (err error) {
	switch key {
	case "publickey":
		p.PublicKey, err = wg.ParseKey(value)
	case "presharedkey":
		p.PSK, err = wg.ParseSecret(value)
	case "endpoint":
		p.Endpoint, err = value, checkEndpoint(value)
	case "persistentkeepalive":
		if strings.EqualFold(value, "off") {
			return nil
		}
		var n uint64
		if n, err = strconv.ParseUint(value, 10, 16); err != nil {
			return errors.New("PersistentKeepalive: want seconds, or off")
		}
		p.Keepalive = time.Duration(n) * time.Second
	case "allowedips":
		for part := range strings.SplitSeq(value, ",") {
			part = strings.TrimSpace(part)
			if a, err := netip.ParseAddr(part); err == nil {
				p.Allowed = append(p.Allowed, netip.PrefixFrom(a, a.BitLen()))
				continue
			}
			n, err := netip.ParsePrefix(part)
			if err != nil {
				return fmt.Errorf("AllowedIPs: %.60q is no network", part)
			}
			p.Allowed = append(p.Allowed, n.Masked()) // as wg does
		}
	default:
		return fmt.Errorf("%.40q is unknown in [Peer]", key)
	}
	return err
}

// nameIn takes a site's name out of a comment.
func nameIn(comment string) string {
	s := strings.TrimSpace(strings.TrimLeft(comment, "# \t"))
	for _, prefix := range []string{"friendly_name", "name", "begin_peer", "client", "site"} {
		if len(s) > len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
			if rest := strings.TrimSpace(strings.TrimLeft(s[len(prefix):], " \t=:")); rest != "" && strings.ContainsAny(s[len(prefix):len(prefix)+1], " \t=:") {
				s = rest
				break
			}
		}
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return truncate(strings.TrimSpace(s), 100)
}

// Imported is what an import did.
type Imported struct {
	Added, Unchanged, Sites int
	HubKey                  wg.Key // adopted; zero: none
}

// Import takes over the peers of a file, all or none. A peer's first address inside WG_NETWORK becomes its site's, its other networks those behind the
// site; a site that does not exist is made, and waits for its agent. adopt makes the file's private key the hub's own; dry changes nothing.
func (s *Store) Import(ctx context.Context, c Conf, adopt, dry bool, by string) (out Imported, err error) {
	if adopt && c.Private.IsZero() {
		return out, errors.New("the file has no PrivateKey to take over as the hub's")
	}
	if adopt && !dry {
		if out.HubKey, err = s.AdoptHubKey(ctx, c.Private, by); err != nil {
			return out, err
		}
	}
	errDry := errors.New("only a trial")
	err = pg.InTx(ctx, s.c.DB, func(tx pgx.Tx) error {
		var problems []error
		for i := range c.Peers {
			p := &c.Peers[i]
			added, made, err := s.importPeer(ctx, tx, p, by)
			switch {
			case err != nil && !refusal(err):
				return err
			case err != nil:
				problems = append(problems, fmt.Errorf("line %d, %q: %w", p.Line, p.Name, err))
			case added:
				out.Added++
			default:
				out.Unchanged++
			}
			if made {
				out.Sites++
			}
			if len(problems) >= maxProblems {
				break
			}
		}
		if len(problems) > 0 {
			return errors.Join(problems...)
		}
		if dry {
			return errDry
		}
		return s.Notify(ctx, tx)
	})
	if errors.Is(err, errDry) {
		err = nil
	}
	return out, err
}

func (s *Store) importPeer(ctx context.Context, tx pgx.Tx, p *ConfPeer, by string) (added, made bool, err error) {
	var address netip.Addr
	var networks []netip.Prefix
	for _, a := range p.Allowed {
		if !address.IsValid() && a.IsSingleIP() && s.c.Network.Contains(a.Addr()) {
			address = a.Addr()
			continue
		}
		networks = append(networks, a)
	}
	if !address.IsValid() {
		return false, false, invalid("none of its AllowedIPs is an address of WG_NETWORK (%s): set WG_NETWORK to the network of this set-up", s.c.Network)
	}
	site, made, err := fleet.PlanSite(ctx, tx, p.Name, s.c.Now().UTC())
	if err != nil {
		return false, false, err
	}
	before, known, err := s.one(ctx, tx, site)
	if err != nil {
		return false, made, err
	}
	got, err := s.Add(ctx, tx, New{Site: site, PublicKey: p.PublicKey, Address: address, Endpoint: p.Endpoint, PSK: p.PSK, NoPSK: p.PSK.IsZero(), By: by})
	if err != nil {
		return false, made, err
	}
	if len(networks) > 0 || p.Keepalive != 0 {
		change := Change{}
		if len(networks) > 0 {
			change.Networks = &networks
		}
		if p.Keepalive != 0 {
			change.Keepalive = &p.Keepalive
		}
		if _, err := s.Change(ctx, tx, site, change, by); err != nil {
			return false, made, err
		}
	}
	return !known || !before.RemovedAt.IsZero() || before.Generation != got.Generation, made, nil
}

// Export writes the peers as a file that wg and wg-quick read, and Import. Without secrets it holds none, and wg would need them.
func (s *Store) Export(ctx context.Context, secrets bool) ([]byte, error) {
	keys, err := s.hubKeys(ctx)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The hub's end of the tunnel, %s; public key %s\n[Interface]\n", s.c.Now().UTC().Format(time.RFC3339), keys[0].Public)
	fmt.Fprintf(&b, "Address = %s\nListenPort = %d\n", netip.PrefixFrom(HubAddress(s.c.Network), s.c.Network.Bits()), keys[0].Port)
	if secrets {
		private, err := s.private(ctx, keys[0])
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "PrivateKey = %s\n", private.Reveal())
	}
	for after := (Position{}); ; {
		page, err := records(ctx, s.c.DB, qPage, after.SiteName, after.Site, false, MaxPage)
		if err != nil {
			return nil, err
		}
		for i := range page {
			r := &page[i]
			after = Position{r.SiteName, r.Site}
			fmt.Fprintf(&b, "\n# %s\n[Peer]\nPublicKey = %s\n", nameIn(r.SiteName), r.PublicKey)
			if secrets {
				k, err := s.open(r)
				if err != nil {
					return nil, err
				}
				if !k.PSK.IsZero() {
					fmt.Fprintf(&b, "PresharedKey = %s\n", k.PSK.Reveal())
				}
			}
			allowed := []string{netip.PrefixFrom(r.Address, r.Address.BitLen()).String()}
			for _, n := range r.Networks {
				allowed = append(allowed, n.String())
			}
			fmt.Fprintf(&b, "AllowedIPs = %s\n", strings.Join(allowed, ", "))
			if r.Endpoint != "" {
				fmt.Fprintf(&b, "Endpoint = %s\n", r.Endpoint)
			}
			if r.Keepalive > 0 {
				fmt.Fprintf(&b, "PersistentKeepalive = %d\n", r.Keepalive/time.Second)
			}
		}
		if len(page) < MaxPage {
			return b.Bytes(), nil
		}
	}
}

// SiteConf writes the file of a site's end, for a router or wg-quick there; its private key is the site's own to fill in. It holds the preshared key.
func (s *Store) SiteConf(ctx context.Context, p Peer) ([]byte, error) {
	k, err := s.KeysOf(ctx, s.c.DB, p.Site)
	if err != nil {
		return nil, err
	}
	set, err := s.Settings(ctx)
	if err != nil {
		return nil, err
	}
	if !set.Enabled {
		return nil, errors.New("the hub has no tunnel: WG_ADDR is off")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: its end of the tunnel. The telemetry service is at %s.\n[Interface]\n# PrivateKey = (made at the site, and known to nobody else)\nAddress = %s\n", nameIn(p.SiteName), set.GRPC, netip.PrefixFrom(p.Address, 32))
	fmt.Fprintf(&b, "\n[Peer]\nPublicKey = %s\n", set.HubKeys[0])
	if !k.PSK.IsZero() {
		fmt.Fprintf(&b, "PresharedKey = %s\n", k.PSK.Reveal())
	}
	fmt.Fprintf(&b, "AllowedIPs = %s\nEndpoint = %s\nPersistentKeepalive = %d\n", netip.PrefixFrom(set.HubAddress, 32), set.Endpoint, p.Keepalive/time.Second)
	_, _, err = net.SplitHostPort(set.Endpoint)
	return b.Bytes(), wrap(err, "WG_ENDPOINT")
}
