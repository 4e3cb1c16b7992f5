package wg

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

var errClosed = fmt.Errorf("wireguard: the device is closed: %w", net.ErrClosed)

// userspace is a wireguard-go device; on what packets come and go is the caller's.
type userspace struct {
	dev    *device.Device
	ledger *ledger
	kicker *kicker
}

// start makes a device with key and port and takes it up. It closes t if that fails. Sockets are opened by the calling thread,
// so that they are in its network namespace.
func start(c Config, t tun.Device) (*userspace, error) {
	dev := device.NewDevice(t, c.Bind, &device.Logger{
		Verbosef: device.DiscardLogf,
		// One line per failed packet, in the worst case: what is wrong shows in the age of the handshake.
		Errorf: func(format string, args ...any) {
			if c.Log.Enabled(context.Background(), slog.LevelDebug) {
				c.Log.Debug("wireguard device", "msg", fmt.Sprintf(format, args...))
			}
		},
	})
	err := dev.IpcSet(fmt.Sprintf("private_key=%s\nlisten_port=%d\n", hex.EncodeToString(c.Private[:]), c.ListenPort))
	if err == nil {
		err = dev.Up()
	}
	if err != nil {
		dev.Close()
		return nil, fmt.Errorf("wireguard: start on UDP port %d: %w", c.ListenPort, err)
	}
	u := &userspace{dev: dev, ledger: newLedger(c)}
	u.kicker = newKicker(u.again, u.read)
	return u, nil
}

// Apply is Backend's.
func (u *userspace) Apply(ctx context.Context, c Changes) error { return u.ledger.apply(ctx, c, u) }

func (u *userspace) configure(peers []change) error {
	var b strings.Builder
	b.Grow(len(peers) * 320)
	for _, p := range peers {
		writeHex(&b, "public_key=", p.PublicKey)
		writeHex(&b, "preshared_key=", Key(p.PSK))
		b.WriteString("persistent_keepalive_interval=" + strconv.Itoa(int(p.Keepalive/time.Second)) + "\n")
		if p.endpoint.IsValid() {
			b.WriteString("endpoint=" + p.endpoint.String() + "\n")
		}
		if p.allowed {
			b.WriteString("replace_allowed_ips=true\n")
			for _, a := range p.AllowedIPs {
				b.WriteString("allowed_ip=" + a.String() + "\n")
			}
		}
	}
	if err := u.dev.IpcSet(b.String()); u.open() == nil {
		return err
	}
	return errClosed
}

// open returns an error if the device is closed: by Close, or because its interface was taken from it.
func (u *userspace) open() error {
	select {
	case <-u.dev.Wait():
		return errClosed
	default:
		return nil
	}
}

func (u *userspace) remove(keys []Key) error {
	if err := u.open(); err != nil {
		return err
	}
	for _, k := range keys {
		u.dev.RemovePeer(device.NoisePublicKey(k))
	}
	return nil
}

func writeHex(b *strings.Builder, name string, k Key) {
	var buf [64]byte
	hex.Encode(buf[:], k[:])
	b.WriteString(name)
	b.Write(buf[:])
	b.WriteByte('\n')
}

// Snapshot is Backend's.
func (u *userspace) Snapshot(ctx context.Context) (Device, error) {
	if err := ctx.Err(); err != nil {
		return Device{}, err
	}
	u.ledger.mu.Lock()
	defer u.ledger.mu.Unlock()
	d, err := u.read()
	if err != nil {
		return Device{}, err
	}
	u.ledger.observe(&d)
	return d, nil
}

func (u *userspace) read() (Device, error) {
	if err := u.open(); err != nil {
		return Device{}, err
	}
	text, err := u.dev.IpcGet()
	if err != nil {
		return Device{}, fmt.Errorf("wireguard: read the device: %w", err)
	}
	d, err := parseDevice(strings.NewReader(text))
	if err != nil {
		return Device{}, fmt.Errorf("wireguard: read the device: %w", err)
	}
	d.PublicKey = u.ledger.own
	return d, nil
}

// parseDevice reads the answer of the configuration protocol; https://www.wireguard.com/xplatform/ describes it.
func parseDevice(r io.Reader) (Device, error) {
	var d Device
	var p *PeerState
	var sec int64
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		var err error
		switch name {
		case "listen_port":
			d.Port, err = strconv.Atoi(value)
		case "public_key":
			d.Peers = append(d.Peers, PeerState{})
			p = &d.Peers[len(d.Peers)-1]
			sec = 0
			err = parseHex(p.PublicKey[:], value)
		}
		if p != nil && err == nil {
			switch name {
			case "preshared_key":
				err = parseHex(p.PSK[:], value)
			case "endpoint":
				p.Endpoint = value
			case "last_handshake_time_sec":
				sec, err = strconv.ParseInt(value, 10, 64)
			case "last_handshake_time_nsec":
				var nsec int64
				if nsec, err = strconv.ParseInt(value, 10, 64); sec != 0 || nsec != 0 {
					p.LastHandshake = time.Unix(sec, nsec).UTC()
				}
			case "tx_bytes":
				p.Sent, err = strconv.ParseUint(value, 10, 64)
			case "rx_bytes":
				p.Received, err = strconv.ParseUint(value, 10, 64)
			case "persistent_keepalive_interval":
				var n uint64
				n, err = strconv.ParseUint(value, 10, 16)
				p.Keepalive = time.Duration(n) * time.Second
			case "allowed_ip":
				var a netip.Prefix
				a, err = netip.ParsePrefix(value)
				p.AllowedIPs = append(p.AllowedIPs, a)
			}
		}
		if err != nil {
			return Device{}, fmt.Errorf("value of %q is not as expected", name) // not the value: it may be a secret
		}
	}
	return d, lines.Err()
}

func parseHex(to []byte, s string) error {
	if len(s) != 2*len(to) {
		return errors.New("wrong length")
	}
	_, err := hex.Decode(to, []byte(s))
	return err
}

// Kick is Backend's.
func (u *userspace) Kick(ctx context.Context, key Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return u.kicker.kick(key)
}

func (u *userspace) again(key Key) error {
	p := u.dev.LookupPeer(device.NoisePublicKey(key))
	if p == nil {
		return ErrUnknownPeer
	}
	p.ExpireCurrentKeypairs()
	return p.SendHandshakeInitiation(false)
}

// SetEndpoint is Tunnel's.
func (u *userspace) SetEndpoint(_ context.Context, key Key, to netip.AddrPort) error {
	u.ledger.mu.Lock()
	defer u.ledger.mu.Unlock()
	if u.dev.LookupPeer(device.NoisePublicKey(key)) == nil {
		return fmt.Errorf("set endpoint of %s: %w", key, ErrUnknownPeer)
	}
	var b strings.Builder
	writeHex(&b, "public_key=", key)
	b.WriteString("update_only=true\nendpoint=" + to.String() + "\n")
	if err := u.dev.IpcSet(b.String()); err != nil {
		return fmt.Errorf("set endpoint of %s: %w", key, err)
	}
	return nil
}

// Close is Backend's.
func (u *userspace) Close() error {
	u.kicker.close()
	u.dev.Close()
	return nil
}
