// Package inventory gives miners their ids and keeps them: a random UUID at first sight, found again by MAC address or
// serial number where the firmware tells them, else by network address. A machine that moves keeps its id, another
// machine at an old address gets its own. Ids live in a file of their own, outside the spool, and are durable (Flush)
// before the first sample that carries them is committed. It reads no miner and writes no sample: package poll calls it.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// MaxMiners bounds the miners of one site, those long gone included. Beyond it a new device gets no id and no samples.
const MaxMiners = 131072

// ErrFull means that a new miner could not be given an id.
var ErrFull = errors.New("the inventory is full")

// Config configures an inventory.
type Config struct {
	Dir        string           // must exist
	Now        func() time.Time // nil means time.Now
	Log        *slog.Logger     // nil means none
	Registerer prometheus.Registerer
}

// Inventory knows the miners of one site. It is safe for use by several goroutines.
type Inventory struct {
	path string
	now  func() time.Time
	log  *slog.Logger

	mu        sync.Mutex
	miners    map[ident.MinerID]*record
	byMAC     map[string]*record
	bySerial  map[string]*record
	byAddress map[string]*record // who answers, or last answered, at an address
	merges    []merge
	shared    map[string]bool // keys that several live devices reported: they identify nobody
	dirty     bool

	flushMu sync.Mutex // one writer of the file; taken before mu

	full prometheus.Counter
}

// record is one miner, as the file keeps it.
type record struct {
	ID              ident.MinerID `json:"id"`
	FirstSeen       time.Time     `json:"first_seen"`
	Address         string        `json:"address"`
	Holds           bool          `json:"holds_address,omitempty"` // it is the one at Address, as far as we know
	MAC             string        `json:"mac,omitempty"`
	Serial          string        `json:"serial,omitempty"`
	Maker           string        `json:"maker,omitempty"`
	Model           string        `json:"model,omitempty"`
	Firmware        string        `json:"firmware,omitempty"`
	FirmwareVersion string        `json:"firmware_version,omitempty"`
	Hostname        string        `json:"hostname,omitempty"`
	ControlBoard    string        `json:"control_board,omitempty"`
	APIVersion      string        `json:"api_version,omitempty"`
	FirmwareBuilt   string        `json:"firmware_built,omitempty"`

	moves [3]time.Time // latest moves between addresses, newest first; not kept
}

// merge records that two ids turned out to be one machine. Samples keep the id they were signed with.
type merge struct {
	From ident.MinerID `json:"from"`
	Into ident.MinerID `json:"into"`
	At   time.Time     `json:"at"`
	Why  string        `json:"why"`
}

// Open reads the inventory in c.Dir, or begins an empty one.
func Open(c Config) (*Inventory, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	v := &Inventory{
		path: filePath(c.Dir), now: c.Now, log: c.Log,
		full: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hashinsight_agent_inventory_full_total",
			Help: "Polls of devices that got no id because the inventory is full.",
		}),
	}
	if err := v.load(); err != nil {
		return nil, err
	}
	if c.Registerer != nil {
		known := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hashinsight_agent_miners", Help: "Miners that have an id, those long gone included.",
		}, func() float64 { return float64(v.Len()) })
		for _, m := range []prometheus.Collector{v.full, known} {
			if err := c.Registerer.Register(m); err != nil {
				return nil, fmt.Errorf("inventory metrics: %w", err)
			}
		}
	}
	return v, nil
}

// Len returns how many miners have an id.
func (v *Inventory) Len() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.miners)
}

// At returns the miner that is at an address, as far as is known.
func (v *Inventory) At(address string) (ident.MinerID, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r := v.byAddress[address]; r != nil {
		return r.ID, true
	}
	return ident.MinerID{}, false
}

// Sighting is what one poll tells about who is at an address.
type Sighting struct {
	Info     telemetry.MinerInfo // Address is set; the rest as far as the poll told
	Answered bool                // the device gave readings; otherwise Info says nothing but the address
	Expected bool                // the address was named singly: it is a miner even before it answers
}

// See returns the id of the miner at s.Info.Address, made on the spot where that is right, and all that is known of the
// miner. ok is false when there is none: an address of a range that has not answered yet, or a full inventory (ErrFull).
// A new id must not be used in a committed sample before Flush has succeeded.
func (v *Inventory) See(s Sighting) (info telemetry.MinerInfo, ok bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	here := v.byAddress[s.Info.Address]
	if !s.Answered {
		if here == nil && s.Expected {
			here, err = v.add(s.Info.Address)
		}
		if here == nil {
			return telemetry.MinerInfo{}, false, err
		}
		return here.info(), true, nil
	}
	mac, serial := normalMAC(s.Info.MAC), normalSerial(s.Info.Serial)
	r := v.find(v.usable("mac:", mac), v.usable("serial:", serial))
	if r != nil && r != here && v.restless(r, s.Info.Address, mac, serial) {
		r = nil // its key identifies nobody; go by address
	}
	switch {
	case r != nil:
	case here != nil && !here.contradicts(v.usable("mac:", mac), v.usable("serial:", serial)):
		r = here
	default:
		if r, err = v.add(s.Info.Address); err != nil {
			return telemetry.MinerInfo{}, false, err
		}
	}
	v.place(r, s.Info.Address)
	v.learn(r, s.Info, mac, serial)
	return r.info(), true, nil
}

// find returns the miner with this MAC or serial. If they belong to two, these are one machine that was seen twice before
// it told both: that is recorded, and the id found by MAC goes on.
func (v *Inventory) find(mac, serial string) *record {
	a, b := v.byMAC[mac], v.bySerial[serial]
	if a == nil {
		return b
	}
	if b != nil && a != b && b.MAC == "" && a.Serial == "" {
		v.mergeInto(b, a)
	}
	return a
}

func (v *Inventory) mergeInto(from, into *record) {
	v.merges = append(v.merges, merge{From: from.ID, Into: into.ID, At: v.now().UTC(), Why: "one device reported the MAC of one and the serial of the other"})
	v.log.WarnContext(context.Background(), "two miner ids are one machine", "from", from.ID, "into", into.ID, "mac", into.MAC, "serial", from.Serial)
	delete(v.bySerial, from.Serial)
	if v.byAddress[from.Address] == from {
		delete(v.byAddress, from.Address)
	}
	from.Holds = false
	v.dirty = true
}

const (
	restlessMoves = 3
	restlessTime  = 10 * time.Minute
)

// restless reports whether a key that would move r to address cannot be an identity: r has moved so often in so short a
// time that several live devices must be sharing it (cloned control boards do). The key is then ignored for good.
func (v *Inventory) restless(r *record, address, mac, serial string) bool {
	if r.Address == address || !r.Holds {
		return false
	}
	now := v.now()
	oldest := r.moves[restlessMoves-2]
	if oldest.IsZero() || now.Sub(oldest) > restlessTime || now.Before(oldest) {
		copy(r.moves[1:], r.moves[:])
		r.moves[0] = now
		return false
	}
	if r.MAC != "" && r.MAC == mac {
		v.share("mac:", mac)
		delete(v.byMAC, mac)
	}
	if r.Serial != "" && r.Serial == serial {
		v.share("serial:", serial)
		delete(v.bySerial, serial)
	}
	return true
}

func (v *Inventory) share(kind, key string) {
	v.shared[kind+key] = true
	v.dirty = true
	v.log.ErrorContext(context.Background(), "several miners report the same identity: from now on they are told apart by address",
		"key", kind+key)
}

// usable returns key unless it is known to be shared by several devices.
func (v *Inventory) usable(kind, key string) string {
	if v.shared[kind+key] {
		return ""
	}
	return key
}

// contradicts reports whether a device with this MAC and serial cannot be r.
func (r *record) contradicts(mac, serial string) bool {
	if mac != "" && r.MAC != "" {
		return mac != r.MAC
	}
	return serial != "" && r.Serial != "" && serial != r.Serial
}

func (v *Inventory) add(address string) (*record, error) {
	if len(v.miners) >= MaxMiners {
		v.full.Inc()
		return nil, fmt.Errorf("%w: %d miners have an id; %s gets none: split the site, or remove miners that are gone from %s", ErrFull, len(v.miners), address, v.path)
	}
	r := &record{ID: ident.NewMinerID(), FirstSeen: v.now().UTC()}
	v.miners[r.ID] = r
	v.place(r, address)
	return r, nil
}

// place puts r at address. Whoever was there is somewhere else now.
func (v *Inventory) place(r *record, address string) {
	if r.Address == address && r.Holds {
		return
	}
	if was := v.byAddress[address]; was != nil && was != r {
		was.Holds = false
	}
	if v.byAddress[r.Address] == r {
		delete(v.byAddress, r.Address)
	}
	r.Address, r.Holds = address, true
	v.byAddress[address] = r
	v.dirty = true
}

// learn takes over what the device said of itself; what it did not say this time stays.
func (v *Inventory) learn(r *record, in telemetry.MinerInfo, mac, serial string) {
	before := *r
	if mac != "" && mac != r.MAC {
		if v.byMAC[r.MAC] == r { // found by serial: a new network card
			delete(v.byMAC, r.MAC)
		}
		r.MAC = mac
	}
	if serial != "" && serial != r.Serial {
		if v.bySerial[r.Serial] == r {
			delete(v.bySerial, r.Serial)
		}
		r.Serial = serial
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&r.Maker, in.Maker}, {&r.Model, in.Model}, {&r.Firmware, in.Firmware},
		{&r.FirmwareVersion, in.FirmwareVersion}, {&r.Hostname, in.Hostname},
		{&r.ControlBoard, in.ControlBoard}, {&r.APIVersion, in.APIVersion}, {&r.FirmwareBuilt, in.FirmwareBuilt},
	} {
		if f.from != "" {
			*f.to = clip(f.from)
		}
	}
	v.index(r)
	v.dirty = v.dirty || before != *r
}

// index makes r findable by its keys, as far as they identify it.
func (v *Inventory) index(r *record) {
	if k := v.usable("mac:", r.MAC); k != "" && v.byMAC[k] == nil {
		v.byMAC[k] = r
	}
	if k := v.usable("serial:", r.Serial); k != "" && v.bySerial[k] == nil {
		v.bySerial[k] = r
	}
}

func (r *record) info() telemetry.MinerInfo {
	return telemetry.MinerInfo{
		Miner: r.ID, Address: r.Address, MAC: r.MAC, Serial: r.Serial, Maker: r.Maker, Model: r.Model,
		Firmware: r.Firmware, FirmwareVersion: r.FirmwareVersion, Hostname: r.Hostname,
		ControlBoard: r.ControlBoard, APIVersion: r.APIVersion, FirmwareBuilt: r.FirmwareBuilt,
	}
}

// normalMAC returns a MAC as upper case with colons, or "" for what cannot be one device's.
func normalMAC(s string) string {
	hex := strings.Map(func(c rune) rune {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'F':
			return c
		case c >= 'a' && c <= 'f':
			return c - 'a' + 'A'
		case c == ':', c == '-', c == '.':
			return -1
		default:
			return '?'
		}
	}, s)
	if len(hex) != 12 || strings.Contains(hex, "?") || strings.Trim(hex, hex[:1]) == "" {
		return "" // malformed, or one digit over and over: a placeholder
	}
	if strings.ContainsRune("13579BDF", rune(hex[1])) {
		return "" // a group address is no device's own
	}
	var b strings.Builder
	for i := 0; i < 12; i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(hex[i : i+2])
	}
	return b.String()
}

// normalSerial returns a serial number, or "" for the placeholders that firmware shows where none was written.
func normalSerial(s string) string {
	s = clip(strings.ToUpper(strings.TrimSpace(s)))
	if len(s) < 6 || strings.Trim(s, s[:1]) == "" || strings.HasPrefix("0123456789", s) {
		return ""
	}
	switch s {
	case "UNKNOWN", "DEFAULT", "SERIAL", "NOT SET", "INVALID", "UNDEFINED":
		return ""
	}
	return s
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), telemetry.MaxText)], "") }
