package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// reloadEvery is the longest time between two complete reads. In between only rows that were written since are read, which
// misses what is not a poll: a renamed site, another poll interval, a miner taken out.
const reloadEvery = time.Minute

// image is the latest values of the whole fleet at one moment, ready to be filtered, sorted and sent. It never changes; the next
// one shares with it the rows that did not change. Every hub process has its own, and none needs another's.
type image struct {
	at        time.Time // hub's clock, before it was read
	version   int64     // grows with every image: ms since 1970 UTC, made unique
	since     int64     // version of the oldest image that this one knows the changes from; below it: reset
	loadedAt  time.Time // of the last complete read
	dbVersion uint64    // fleet's version, for the next Changes
	rows      []*row    // by site, then id
	index     map[ident.MinerID]int
	sites     []siteRef // by id; rows name their site by its place here

	mu      sync.Mutex
	orders  map[string]*order
	packed  sync.Once // the snapshot, encoded and compressed when first asked for
	plain   []byte
	gzipped []byte
}

// siteRef is a site as the snapshot names it.
type siteRef struct {
	ID   string `json:"id" format:"uuid"`
	Name string `json:"name"`
}

// row is a miner with its encoded forms.
type row struct {
	fleet.Miner
	changed int64  // version of the image in which it last changed
	search  string // what a text filter looks into, in lower case
	addrKey string // sorts as the address's numbers do
	list    []byte // its members as a JSON object, without the closing brace
	compact []byte // its row in snapshots and patches
}

// loadImage makes the next image. Only one runs at a time.
func (s *Server) loadImage(ctx context.Context, before *image) (*image, error) {
	now := s.now()
	if before != nil && now.Sub(before.loadedAt) < reloadEvery && !now.Before(before.loadedAt) {
		snap, err := s.fleet.Changes(ctx, before.dbVersion)
		if err != nil {
			return nil, err
		}
		if snap.Version >= before.dbVersion {
			if next, ok, err := before.with(&snap); err != nil || ok {
				return next, err
			}
		}
	}
	snap, err := s.fleet.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return newImage(&snap, before)
}

func nextVersion(at time.Time, before *image) int64 {
	v := at.UnixMilli()
	if before != nil && v <= before.version {
		v = before.version + 1
	}
	return v
}

// newImage makes an image from a complete read. Rows that are as they were in before are shared with it.
func newImage(snap *fleet.Snapshot, before *image) (*image, error) {
	img := &image{
		at: snap.At, version: nextVersion(snap.At, before), loadedAt: snap.At, dbVersion: snap.Version,
		rows: make([]*row, 0, len(snap.Miners)), index: make(map[ident.MinerID]int, len(snap.Miners)),
		orders: make(map[string]*order),
	}
	img.since = img.version
	img.sites = sitesOf(snap.Miners)
	sameSites := before != nil && slices.Equal(img.sites, before.sites)
	kept := 0
	place := make(map[string]int, len(img.sites))
	for i, ref := range img.sites {
		place[ref.ID] = i
	}
	for i := range snap.Miners {
		m := &snap.Miners[i]
		if _, twice := img.index[m.Info.Miner]; twice {
			continue // two sites with one id: package fleet admits none, an index has room for one
		}
		var r *row
		if sameSites {
			if j, ok := before.index[m.Info.Miner]; ok {
				kept++
				if old := before.rows[j]; old.Version == m.Version && old.Info == m.Info && old.PollInterval == m.PollInterval && old.Site == m.Site {
					r = old
				}
			}
		}
		if r == nil {
			var err error
			if r, err = newRow(m, place[m.Site.String()], img.version); err != nil {
				return nil, err
			}
		}
		img.index[m.Info.Miner] = len(img.rows)
		img.rows = append(img.rows, r)
	}
	// A patch can bring rows and replace them; it cannot take one out or number sites anew.
	if sameSites && kept == len(before.rows) {
		img.since = before.since
	}
	return img, nil
}

// sitesOf lists the sites of miners that are in the order of their sites.
func sitesOf(miners []fleet.Miner) []siteRef {
	var refs []siteRef
	for i := range miners {
		if m := &miners[i]; i == 0 || m.Site != miners[i-1].Site {
			refs = append(refs, siteRef{ID: m.Site.String(), Name: m.SiteName})
		}
	}
	return refs
}

// with returns the image that follows b by changed rows. It is not ok when they bring a miner or a site that b does not have: a
// complete read then puts it in its place.
func (b *image) with(changes *fleet.Snapshot) (_ *image, ok bool, _ error) {
	img := &image{
		at: changes.At, version: nextVersion(changes.At, b), since: b.since, loadedAt: b.loadedAt, dbVersion: changes.Version,
		rows: b.rows, index: b.index, sites: b.sites, orders: make(map[string]*order),
	}
	copied := false
	for i := range changes.Miners {
		m := &changes.Miners[i]
		j, known := b.index[m.Info.Miner]
		if !known {
			return nil, false, nil
		}
		old := b.rows[j]
		if old.Version == m.Version || old.Site != m.Site {
			continue // read once more, or a second claim on the id
		}
		site, _ := slices.BinarySearchFunc(b.sites, m.Site.String(), func(r siteRef, id string) int { return cmp.Compare(r.ID, id) })
		r, err := newRow(m, site, img.version)
		if err != nil {
			return nil, false, err
		}
		if !copied {
			img.rows, copied = slices.Clone(b.rows), true
		}
		img.rows[j] = r
	}
	return img, true, nil
}

func newRow(m *fleet.Miner, site int, version int64) (*row, error) {
	r := &row{Miner: *m, changed: version, addrKey: addressKey(m.Info.Address)}
	r.search = strings.ToLower(strings.Join([]string{
		r.SiteName, m.Info.Address, m.Info.MAC, m.Info.Serial, m.Info.Maker, m.Info.Model, m.Info.Firmware, m.Info.FirmwareVersion,
		m.Info.Hostname, m.Worker, m.Info.Miner.String(),
	}, "\n"))
	b, err := json.Marshal(minerBody(m))
	if err != nil {
		return nil, fmt.Errorf("encode miner %s: %w", m.Info.Miner, err)
	}
	r.list = b[:len(b)-1]
	r.compact = appendCompact(nil, m, site)
	return r, nil
}

// stale reports whether the row's latest poll must not be taken for the present.
func (r *row) stale(now time.Time) bool {
	return fleet.Stale(now, r.At, r.PollInterval)
}

// order is the rows of an image sorted one way, with the keys they were sorted by.
type order struct {
	rows []*row
	keys []sortKey
}

// sorted returns the rows in the order that name asks for. It is made once an image and kind.
func (b *image) sorted(name string, kind sortKind) *order {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.orders[name]; ok {
		return o
	}
	type keyed struct {
		key sortKey
		row *row
	}
	all := make([]keyed, len(b.rows))
	for i, r := range b.rows {
		all[i] = keyed{kind.key(r), r}
	}
	slices.SortFunc(all, func(x, y keyed) int { return kind.compare(x.key, y.key) })
	o := &order{rows: make([]*row, len(all)), keys: make([]sortKey, len(all))}
	for i := range all {
		o.rows[i], o.keys[i] = all[i].row, all[i].key
	}
	b.orders[name] = o
	return o
}
