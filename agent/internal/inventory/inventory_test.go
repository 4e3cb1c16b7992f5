package inventory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// site is an inventory with its directory and a clock.
type site struct {
	*Inventory
	t   *testing.T
	dir string
	now time.Time
}

func newSite(t *testing.T) *site {
	s := &site{t: t, dir: t.TempDir(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s.open()
	return s
}

func (s *site) open() {
	s.t.Helper()
	v, err := Open(Config{Dir: s.dir, Now: func() time.Time { return s.now }})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Inventory = v
}

// restart flushes and opens the inventory again.
func (s *site) restart() {
	s.t.Helper()
	if err := s.Flush(); err != nil {
		s.t.Fatal(err)
	}
	s.open()
}

// answers is a poll of address that a device with this MAC and serial answered.
func (s *site) answers(address, mac, serial string) ident.MinerID {
	s.t.Helper()
	s.now = s.now.Add(10 * time.Second)
	info, ok, err := s.See(Sighting{Answered: true, Info: telemetry.MinerInfo{Address: address, MAC: mac, Serial: serial}})
	if !ok || err != nil {
		s.t.Fatalf("%s got no id: %v", address, err)
	}
	return info.Miner
}

const (
	macA, macB       = "02:00:00:00:00:0A", "02:00:00:00:00:0B"
	serialA, serialB = "SN-AAAA-1", "SN-BBBB-2"
)

func TestAMinerKeepsItsIDWhereverItGoes(t *testing.T) {
	for name, keys := range map[string][2]string{"by MAC": {macA, ""}, "by serial": {"", serialA}, "by both": {macA, serialA}} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			id := s.answers("10.0.0.1:4028", keys[0], keys[1])
			if got := s.answers("10.0.0.2:4028", keys[0], keys[1]); got != id {
				t.Errorf("another address gave another id")
			}
			s.restart()
			if got := s.answers("10.0.0.3:4028", keys[0], keys[1]); got != id {
				t.Errorf("another address after a restart gave another id")
			}
			if _, there := s.At("10.0.0.2:4028"); there {
				t.Errorf("the miner is still at its old address")
			}
			if got := s.answers("10.0.0.3:4028", "", ""); got != id {
				t.Errorf("a poll that did not tell MAC and serial gave another id")
			}
		})
	}
}

func TestAnotherMachineAtAnOldAddressIsAnotherMiner(t *testing.T) {
	s := newSite(t)
	a := s.answers("10.0.0.1:4028", macA, serialA)
	b := s.answers("10.0.0.1:4028", macB, serialB)
	if a == b {
		t.Fatal("two machines share an id")
	}
	s.restart()
	if got := s.answers("10.0.0.9:4028", macA, serialA); got != a {
		t.Error("the first machine came back and lost its id")
	}
	if got, _ := s.At("10.0.0.1:4028"); got != b {
		t.Error("the second machine is no longer at its address")
	}
}

func TestTwoMinersThatSwapAddressesKeepTheirIDs(t *testing.T) {
	s := newSite(t)
	a, b := s.answers("10.0.0.1:4028", macA, ""), s.answers("10.0.0.2:4028", macB, "")
	if s.answers("10.0.0.1:4028", macB, "") != b || s.answers("10.0.0.2:4028", macA, "") != a {
		t.Error("ids did not follow the machines")
	}
}

func TestAnAddressWithoutIdentityKeepsItsIDWhenTheMachineTellsMore(t *testing.T) {
	s := newSite(t)
	info, ok, err := s.See(Sighting{Expected: true, Info: telemetry.MinerInfo{Address: "10.0.0.1:4028"}})
	if !ok || err != nil {
		t.Fatalf("an expected address got no id before it answered: %v", err)
	}
	if got := s.answers("10.0.0.1:4028", "", serialA); got != info.Miner {
		t.Error("learning the serial changed the id")
	}
	if got := s.answers("10.0.0.1:4028", macA, serialA); got != info.Miner {
		t.Error("learning the MAC changed the id")
	}
	if got := s.answers("10.0.0.2:4028", macA, ""); got != info.Miner {
		t.Error("the MAC does not identify the miner")
	}
}

func TestSilentAddressesOfARangeAreNoMiners(t *testing.T) {
	s := newSite(t)
	_, ok, err := s.See(Sighting{Info: telemetry.MinerInfo{Address: "10.0.0.1:4028"}})
	if ok || err != nil || s.Len() != 0 {
		t.Fatalf("a silent address became a miner (%v, %v)", ok, err)
	}
	id := s.answers("10.0.0.1:4028", "", "")
	info, ok, _ := s.See(Sighting{Info: telemetry.MinerInfo{Address: "10.0.0.1:4028"}})
	if !ok || info.Miner != id {
		t.Error("a miner that stopped answering lost its id")
	}
}

func TestTwoIDsOfOneMachineAreMergedByARecord(t *testing.T) {
	s := newSite(t)
	a, b := s.answers("10.0.0.1:4028", macA, ""), s.answers("10.0.0.2:4028", "", serialA)
	if got := s.answers("10.0.0.3:4028", macA, serialA); got != a {
		t.Fatal("the id found by MAC does not go on")
	}
	s.restart()
	if len(s.merges) != 1 || s.merges[0].From != b || s.merges[0].Into != a {
		t.Errorf("merges %+v, want one of %s into %s", s.merges, b, a)
	}
	if s.miners[b] == nil {
		t.Error("the merged id was forgotten: a merge is a record, never a rewrite")
	}
	if got := s.answers("10.0.0.4:4028", "", serialA); got != a {
		t.Error("the serial still leads to the merged id")
	}
}

func TestClonedIdentityIsDetected(t *testing.T) {
	s := newSite(t)
	ids := map[ident.MinerID]bool{}
	for range 5 { // both machines answer, again and again
		s.answers("10.0.0.1:4028", macA, "")
		s.answers("10.0.0.2:4028", macA, "")
	}
	s.restart()
	ids[s.answers("10.0.0.1:4028", macA, "")] = true
	ids[s.answers("10.0.0.2:4028", macA, "")] = true
	ids[s.answers("10.0.0.1:4028", macA, "")] = true
	if len(ids) != 2 || s.Len() != 2 {
		t.Errorf("two machines with one MAC have %d ids, inventory %d, want 2", len(ids), s.Len())
	}
}

func TestPlaceholdersIdentifyNobody(t *testing.T) {
	s := newSite(t)
	seen := map[ident.MinerID]bool{}
	for i, k := range [][2]string{
		{"00:00:00:00:00:00", ""}, {"00:00:00:00:00:00", ""}, {"ff:ff:ff:ff:ff:ff", "0000000000"}, {"", "unknown"}, {"", "UNKNOWN"},
		{"01:00:5e:00:00:01", "1"}, {"01:00:5e:00:00:01", "1"}, {"not a mac", "0123456"}, {"not a mac", "0123456"},
	} {
		seen[s.answers(fmt.Sprintf("10.0.0.%d:4028", i), k[0], k[1])] = true
	}
	if len(seen) != 9 {
		t.Errorf("9 machines with placeholder identities have %d ids", len(seen))
	}
	if got := normalMAC("02-aa-bb-cc-dd-ee"); got != "02:AA:BB:CC:DD:EE" {
		t.Errorf("MAC reads %q", got)
	}
}

func TestADamagedFileStopsTheAgentInsteadOfMakingNewIDs(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"cut":   {`{"version":1,"miners":[{"id":"6f1d`, "restore it from a backup"},
		"newer": {`{"version":2,"miners":[]}`, "has version 2"},
		"twice": {`{"version":1,"miners":[{"id":"6f1d2c3b-4a5e-4f60-8a7b-9c0d1e2f3a4b"},{"id":"6f1d2c3b-4a5e-4f60-8a7b-9c0d1e2f3a4b"}]}`, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "inventory.json"), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not say %q", err, c.want)
			}
		})
	}
}

func TestAFailedFlushIsTriedAgain(t *testing.T) {
	s := newSite(t)
	id := s.answers("10.0.0.1:4028", macA, "")
	blocked := filepath.Join(s.dir, "inventory.json.tmp")
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	if s.Flush() == nil {
		t.Fatal("a flush that could not write succeeded")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if got := s.answers("10.0.0.1:4028", macA, ""); got != id {
		t.Error("the id was not written by the second flush")
	}
}

func TestTheInventoryIsBounded(t *testing.T) {
	s := newSite(t)
	for i := range MaxMiners {
		s.miners[ident.MinerID{byte(i), byte(i >> 8), byte(i >> 16), 1}] = &record{}
	}
	_, ok, err := s.See(Sighting{Answered: true, Info: telemetry.MinerInfo{Address: "10.0.0.1:4028"}})
	if ok || !errors.Is(err, ErrFull) {
		t.Errorf("one miner too many: ok %v, error %v", ok, err)
	}
}
