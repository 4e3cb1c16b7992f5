package api

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hashinsight/hashinsight/hub/internal/apperr"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// sortKey is a row's place in an order. Rows whose value is unknown come last, whichever way is asked for; the id decides between equals,
// so that every row has one place.
type sortKey struct {
	Absent bool          `json:"a,omitempty"`
	Number float64       `json:"n,omitempty"`
	Text   string        `json:"t,omitempty"`
	ID     ident.MinerID `json:"i"`
}

type sortKind struct {
	value      func(*row) sortKey // without the id
	descending bool
}

func (k sortKind) key(r *row) sortKey {
	v := k.value(r)
	v.ID = r.Info.Miner
	return v
}

func (k sortKind) compare(x, y sortKey) int {
	if x.Absent != y.Absent {
		if x.Absent {
			return 1
		}
		return -1
	}
	c := cmp.Compare(x.Number, y.Number)
	if c == 0 {
		c = cmp.Compare(x.Text, y.Text)
	}
	if k.descending {
		c = -c
	}
	if c == 0 {
		c = bytes.Compare(x.ID[:], y.ID[:])
	}
	return c
}

func byText(text func(*row) string) func(*row) sortKey {
	return func(r *row) sortKey { t := strings.ToLower(text(r)); return sortKey{Absent: t == "", Text: t} }
}

func byNumber[T ~float64](value func(*row) unit.Opt[T]) func(*row) sortKey {
	return func(r *row) sortKey {
		v, ok := value(r).Get()
		return sortKey{Absent: !ok, Number: float64(v)}
	}
}

// sortNames is the enum of the sort parameter; sortKindOf must know each of them.
const sortNames = "name,-name,address,-address,model,-model,firmware,-firmware,worker,-worker,state,-state,at,-at,hashrate,-hashrate," +
	"temp_board,-temp_board,temp_chip,-temp_chip,power,-power"

func sortKindOf(name string) (sortKind, error) {
	var k sortKind
	plain, minus := strings.CutPrefix(name, "-")
	k.descending = minus
	switch plain {
	case "name":
		k.value = func(r *row) sortKey { return sortKey{Text: strings.ToLower(r.SiteName) + "\x00" + r.addrKey} }
	case "address":
		k.value = func(r *row) sortKey { return sortKey{Absent: r.Info.Address == "", Text: r.addrKey} }
	case "model":
		k.value = byText(func(r *row) string { return strings.TrimSpace(r.Info.Maker + " " + r.Info.Model) })
	case "firmware":
		k.value = byText(func(r *row) string { return strings.TrimSpace(r.Info.Firmware + " " + r.Info.FirmwareVersion) })
	case "worker":
		k.value = byText(func(r *row) string { return r.Worker })
	case "state":
		k.value = func(r *row) sortKey { return sortKey{Text: r.State.String()} }
	case "at":
		k.value = func(r *row) sortKey { return sortKey{Number: float64(r.At.UnixMilli())} }
	case "hashrate":
		k.value = byNumber(func(r *row) unit.Opt[unit.Hashrate] { return r.Hashrate })
	case "temp_board":
		k.value = byNumber(func(r *row) unit.Opt[unit.Celsius] { return r.TempBoard })
	case "temp_chip":
		k.value = byNumber(func(r *row) unit.Opt[unit.Celsius] { return r.TempChip })
	case "power":
		k.value = byNumber(func(r *row) unit.Opt[unit.Watts] { return r.Power })
	default:
		return k, apperr.E(apperr.Invalid, "VALID_001", "sort is %.40q, it must be one of %s", name, sortNames)
	}
	return k, nil
}

// cursor is where a page ended. Clients treat it as opaque text.
type cursor struct {
	Sort  string  `json:"s"`
	After sortKey `json:"k"`
}

func (c cursor) encode() (string, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

func parseCursor(text, sort string) (cursor, error) {
	var c cursor
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return c, apperr.E(apperr.Invalid, "VALID_001", "cursor is not one that this API gave: take it from next of the page before, or leave it out")
	}
	if c.Sort != sort {
		return c, apperr.E(apperr.Invalid, "VALID_001", "cursor belongs to sort=%.40s: keep sort as it was, or leave the cursor out", c.Sort)
	}
	return c, nil
}

// addressKey gives an address a text that sorts as its numbers do: 10.0.0.9:4028 before 10.0.0.10:4028, names after numbers.
func addressKey(address string) string {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		return fmt.Sprintf("%x:%05d", ap.Addr().As16(), ap.Port())
	}
	if a, err := netip.ParseAddr(address); err == nil {
		return fmt.Sprintf("%x", a.As16())
	}
	return "~" + address
}
