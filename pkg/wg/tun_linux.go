package wg

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// TUN is a device on a TUN interface of the machine: the machine's own network stack, for every process on it. It needs
// CAP_NET_ADMIN and /dev/net/tun. The interface ends with the process.
type TUN struct {
	*userspace
	*host
	uapi *uapi // nil: not served
}

// OpenTUN makes the interface, gives it its addresses, and routes to whatever peers are allowed.
func OpenTUN(c Config) (*TUN, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	t, err := tun.CreateTUN(c.Interface, c.MTU)
	if err != nil {
		return nil, fmt.Errorf("wireguard: make TUN interface %s: %w%s", c.Interface, err, hint(err))
	}
	u, err := start(c, t) // before the interface is up: its event would open the sockets in another network namespace
	if err != nil {
		return nil, err
	}
	out := &TUN{userspace: u}
	if err := out.prepare(c); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

func (t *TUN) prepare(c Config) error {
	nl, err := openRtnl()
	if err != nil {
		return err
	}
	index, _, err := nl.link(c.Interface)
	if err == nil {
		t.host, err = newHost(nl, index, c)
	}
	if err != nil {
		nl.close()
		return err
	}
	if c.UAPI {
		t.uapi, err = serveUAPI(c.Interface, t.dev, c.Log)
	}
	return err
}

// Apply is Backend's.
func (t *TUN) Apply(ctx context.Context, c Changes) error {
	err := t.userspace.Apply(ctx, c)
	return errors.Join(err, t.follow(t.ledger))
}

// Close is Backend's.
func (t *TUN) Close() error {
	var err error
	if t.uapi != nil {
		err = t.uapi.close()
	}
	err = errors.Join(err, t.userspace.Close())
	if t.host != nil {
		t.nl.close()
	}
	return err
}

func hint(err error) string {
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return " (needs CAP_NET_ADMIN: run as root, give the service the capability, or use netstack)"
	case errors.Is(err, unix.EBUSY):
		return " (the name is taken: choose another interface)"
	case errors.Is(err, unix.EOPNOTSUPP):
		return " (the kernel has no WireGuard: load the module, or use tun or netstack)"
	}
	return ""
}
