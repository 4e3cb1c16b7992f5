package wg

import "net/netip"

// table knows whose every allowed address is, and finds overlaps: an identical prefix would silently move to the peer set
// last, a longer one would silently take a part. It is a binary trie; a /32 out of 10.8.0.0/16 costs about two nodes.
type table struct {
	nodes  []node
	free   []int32
	owners []Key // by owner number, from 1
	number map[Key]int32
	spare  []int32 // owner numbers to use again
}

type node struct {
	child [2]int32
	owner int32 // 0: nobody's prefix ends here
	below int32 // prefixes that end here or further down
}

const (
	rootV4 = 0
	rootV6 = 1
)

func newTable() *table {
	return &table{nodes: make([]node, 2), owners: make([]Key, 1), number: map[Key]int32{}}
}

func bit(a netip.Addr, i int) int {
	if a.Is4() {
		b := a.As4()
		return int(b[i/8]>>(7-i%8)) & 1
	}
	b := a.As16()
	return int(b[i/8]>>(7-i%8)) & 1
}

func root(p netip.Prefix) int32 {
	if p.Addr().Is4() {
		return rootV4
	}
	return rootV6
}

// overlap returns a peer whose prefix contains p or lies within it.
func (t *table) overlap(p netip.Prefix) (Key, bool) {
	at := root(p)
	for i := range p.Bits() {
		if o := t.nodes[at].owner; o != 0 {
			return t.owners[o], true
		}
		at = t.nodes[at].child[bit(p.Addr(), i)]
		if at == 0 {
			return Key{}, false
		}
	}
	for t.nodes[at].below > 0 { // something ends here or further down: any of it will do
		if o := t.nodes[at].owner; o != 0 {
			return t.owners[o], true
		}
		if left := t.nodes[at].child[0]; left != 0 && t.nodes[left].below > 0 {
			at = left
		} else {
			at = t.nodes[at].child[1]
		}
	}
	return Key{}, false
}

// add gives p to key. Whoever had exactly p loses it, as on the device.
func (t *table) add(p netip.Prefix, key Key) {
	at := root(p)
	path := make([]int32, 1, 129)
	path[0] = at
	for i := range p.Bits() {
		b := bit(p.Addr(), i)
		next := t.nodes[at].child[b]
		if next == 0 {
			next = t.node()
			t.nodes[at].child[b] = next
		}
		at = next
		path = append(path, at)
	}
	if t.nodes[at].owner == 0 {
		for _, n := range path {
			t.nodes[n].below++
		}
	}
	o, ok := t.number[key]
	if !ok {
		if n := len(t.spare); n > 0 {
			o, t.spare = t.spare[n-1], t.spare[:n-1]
			t.owners[o] = key
		} else {
			o = int32(len(t.owners))
			t.owners = append(t.owners, key)
		}
		t.number[key] = o
	}
	t.nodes[at].owner = o
}

// remove takes p from key, if it is still key's.
func (t *table) remove(p netip.Prefix, key Key) {
	at := root(p)
	path := make([]int32, 1, 129)
	path[0] = at
	for i := range p.Bits() {
		at = t.nodes[at].child[bit(p.Addr(), i)]
		if at == 0 {
			return
		}
		path = append(path, at)
	}
	if o := t.nodes[at].owner; o == 0 || t.owners[o] != key {
		return
	}
	t.nodes[at].owner = 0
	for i := len(path) - 1; i >= 0; i-- {
		n := path[i]
		t.nodes[n].below--
		if i > 0 && t.nodes[n].below == 0 {
			t.nodes[path[i-1]].child[bit(p.Addr(), i-1)] = 0
			t.nodes[n] = node{}
			t.free = append(t.free, n)
		}
	}
}

// forget frees the number of a key that has no prefix any more.
func (t *table) forget(key Key) {
	if o, ok := t.number[key]; ok {
		delete(t.number, key)
		t.owners[o] = Key{}
		t.spare = append(t.spare, o)
	}
}

func (t *table) node() int32 {
	if n := len(t.free); n > 0 {
		at := t.free[n-1]
		t.free = t.free[:n-1]
		return at
	}
	t.nodes = append(t.nodes, node{})
	return int32(len(t.nodes) - 1)
}
