package proof

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A checkpoint that the database has lost is signed again to the same bytes; one of a size that was never signed is the tree's too; one of a longer log is not
// there, and none is given of tiles that are not what was signed.
func TestAnEarlierCheckpointIsSignedAgain(t *testing.T) {
	w := newWorld(t)
	w.note(300)
	w.run()
	was := w.checkpoint()
	w.note(300)
	w.run()
	kept, ok, err := w.store.At(t.Context(), was.Size)
	if err != nil || !ok || !bytes.Equal(kept.Note, was.Note) {
		t.Errorf("the kept checkpoint is %q, %t, %v", kept.Note, ok, err)
	}
	w.exec(`DELETE FROM log_checkpoint WHERE size = $1`, was.Size)
	again, ok, err := w.store.At(t.Context(), was.Size)
	if err != nil || !ok || !bytes.Equal(again.Note, was.Note) || again.Root != was.Root {
		t.Errorf("signed again it is %q, %t, %v, and was %q", again.Note, ok, err, was.Note)
	}
	between, ok, err := w.store.At(t.Context(), was.Size+7)
	if err != nil || !ok || between.verify(public()) != nil {
		t.Errorf("one between is %q, %t, %v", between.Note, ok, err)
	}
	for _, size := range []uint64{0, w.checkpoint().Size + 1} {
		if _, ok, err := w.store.At(t.Context(), size); ok || err != nil {
			t.Errorf("of size %d: %t, %v", size, ok, err)
		}
	}
	w.exec(`UPDATE log_checkpoint SET root = sha256('another') WHERE size = $1`, w.checkpoint().Size)
	if _, ok, err := w.store.At(t.Context(), w.checkpoint().Size); ok || err == nil || !strings.Contains(err.Error(), "log fsck") {
		t.Errorf("of tiles with another root: %t, %v", ok, err)
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "tile")); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := w.store.At(t.Context(), was.Size); ok || err == nil {
		t.Errorf("without tiles: %t, %v", ok, err)
	}
}
