package wg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rtnl sets links, addresses and routes. Its socket stays in the network namespace it was opened in, whichever thread uses it.
type rtnl struct{ c *netlink.Conn }

func openRtnl() (*rtnl, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &rtnl{c}, nil
}

func (r *rtnl) close() { _ = r.c.Close() } // nothing was written that could be lost

func (r *rtnl) do(kind uint16, flags netlink.HeaderFlags, header []byte, attrs func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	ae := netlink.NewAttributeEncoder()
	if attrs != nil {
		attrs(ae)
	}
	b, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	out, err := r.c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
		Data:   append(header, b...),
	})
	var op *netlink.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return out, err
}

// ifinfo is struct ifinfomsg.
func ifinfo(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

func (r *rtnl) addLink(name, kind string) error {
	_, err := r.do(unix.RTM_NEWLINK, netlink.Acknowledge|netlink.Create|netlink.Excl, ifinfo(0, 0, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, name)
		ae.Nested(unix.IFLA_LINKINFO, func(n *netlink.AttributeEncoder) error {
			n.String(unix.IFLA_INFO_KIND, kind)
			return nil
		})
	})
	return err
}

func (r *rtnl) deleteLink(index int) error {
	_, err := r.do(unix.RTM_DELLINK, netlink.Acknowledge, ifinfo(index, 0, 0), nil)
	return err
}

// link returns the index and kind of an interface; os.ErrNotExist if there is none of that name.
func (r *rtnl) link(name string) (index int, kind string, err error) {
	ms, err := r.do(unix.RTM_GETLINK, 0, ifinfo(0, 0, 0), func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, name) })
	if errors.Is(err, unix.ENODEV) {
		return 0, "", os.ErrNotExist
	}
	if err != nil {
		return 0, "", fmt.Errorf("read interface %s: %w", name, err)
	}
	for _, m := range ms {
		if len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		index = int(binary.NativeEndian.Uint32(m.Data[4:]))
		ad, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofIfInfomsg:])
		if err != nil {
			return 0, "", fmt.Errorf("read interface %s: %w", name, err)
		}
		for ad.Next() {
			if ad.Type() == unix.IFLA_LINKINFO {
				ad.Nested(func(n *netlink.AttributeDecoder) error {
					for n.Next() {
						if n.Type() == unix.IFLA_INFO_KIND {
							kind = n.String()
						}
					}
					return nil
				})
			}
		}
		return index, kind, ad.Err()
	}
	return 0, "", os.ErrNotExist
}

func (r *rtnl) up(index, mtu int) error {
	_, err := r.do(unix.RTM_NEWLINK, netlink.Acknowledge, ifinfo(index, unix.IFF_UP, unix.IFF_UP), func(ae *netlink.AttributeEncoder) {
		ae.Uint32(unix.IFLA_MTU, uint32(mtu))
	})
	return err
}

func (r *rtnl) addAddress(index int, a netip.Prefix) error {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1] = family(a.Addr()), uint8(a.Bits())
	b[2] = unix.IFA_F_NODAD // nobody else is on this link; usable at once
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	_, err := r.do(unix.RTM_NEWADDR, netlink.Acknowledge|netlink.Create|netlink.Replace, b, func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.IFA_LOCAL, a.Addr().AsSlice())
		ae.Bytes(unix.IFA_ADDRESS, a.Addr().AsSlice())
	})
	return err
}

func (r *rtnl) route(index int, to netip.Prefix, add bool) error {
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1] = family(to.Addr()), uint8(to.Bits())
	b[4], b[5], b[6], b[7] = unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_LINK, unix.RTN_UNICAST
	kind, flags := uint16(unix.RTM_NEWROUTE), netlink.Acknowledge|netlink.Create|netlink.Replace
	if !add {
		kind, flags = unix.RTM_DELROUTE, netlink.Acknowledge
	}
	_, err := r.do(kind, flags, b, func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.RTA_DST, to.Addr().AsSlice())
		ae.Uint32(unix.RTA_OIF, uint32(index))
	})
	return err
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
