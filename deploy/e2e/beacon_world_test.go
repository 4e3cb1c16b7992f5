package e2e

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/hub/pgtest"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/sim"
)

// Every batch that a site signs names a block of the chain that was there already: it cannot have been signed before. The hub tells the newest one
// when a stream begins, and then once a minute.
func TestBatchesNameABlockThatWasThere(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, url, sim.Config{Miners: 2, Seed: 27})
		time.Sleep(5 * time.Minute)
		w.stopHub()
		begin := time.Now()
		// A block every two seconds, as Base has them; its number is when it was made.
		w.block = func() evidence.Beacon {
			s := time.Since(begin) / time.Second
			return evidence.Beacon{ChainID: 8453, BlockNumber: uint64(s), BlockHash: evidence.Hash{byte(s)}}
		}
		w.startHub()
		time.Sleep(3 * time.Hour)
		w.stop()
		var header []byte
		without, with := 0, 0
		w.query(`SELECT header FROM batch WHERE kind = 1 ORDER BY seq`, []any{&header}, func() {
			h, err := evidence.ParseHeader(header)
			if err != nil {
				t.Fatal(err)
			}
			if h.Beacon.ChainID == 0 {
				without++
				return
			}
			with++
			signed := time.UnixMilli(h.LastMS)
			block := begin.Add(time.Duration(h.Beacon.BlockNumber) * time.Second)
			if age := signed.Sub(block); h.Beacon.ChainID != 8453 || h.Beacon.BlockHash != (evidence.Hash{byte(h.Beacon.BlockNumber)}) || age < -30*time.Second || age > 90*time.Second {
				t.Errorf("a batch whose last sample is of %s names block %+v of %s", signed, h.Beacon, block)
			}
		})
		if without == 0 || with < 20 {
			t.Errorf("%d batches without a block, %d with one", without, with)
		}
	})
}
