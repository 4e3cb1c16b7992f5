package proof

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// small mounts a file system of a few hundred kilobytes, which only root may.
func small(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=400k"); err != nil {
		if os.Getenv("HSI_TEST_NO_SKIP") != "" && os.Getuid() == 0 {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: a full disk is a small tmpfs here, and this process may not mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// The disk of the tiles fills up, and turns read-only, as disks do. The process goes on; the log says what is wrong and gives no further places; what was signed can still be
// proven; and it goes on by itself when there is room, with the same bytes.
func TestAFullOrReadOnlyDiskIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		spoil, mend func(*world) error
		want        error
	}{
		"full": {
			func(w *world) error {
				b := make([]byte, 4096)
				f, err := os.Create(filepath.Join(w.dir, "somebody's"))
				for err == nil {
					_, err = f.Write(b)
				}
				if errors.Is(err, syscall.ENOSPC) {
					err = nil
				}
				return errors.Join(err, f.Close())
			},
			func(w *world) error { return os.Remove(filepath.Join(w.dir, "somebody's")) }, syscall.ENOSPC,
		},
		"read-only": {
			func(w *world) error {
				return syscall.Mount("", w.dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
			},
			func(w *world) error { return syscall.Mount("", w.dir, "", syscall.MS_REMOUNT, "size=400k") }, syscall.EROFS,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			small(t, w.dir)
			w.store.room = nil // it is the disk itself that this is about
			w.note(300)
			w.run()
			before := w.checkpoint()
			if err := c.spoil(w); err != nil {
				t.Fatal(err)
			}
			w.note(100)
			for range 3 {
				err := w.store.Run(t.Context())
				var b *blockedError
				if !errors.As(err, &b) || !errors.Is(err, c.want) || !strings.Contains(err.Error(), w.dir) {
					t.Fatalf("the run ended with %v, want one that is blocked by %v", err, c.want)
				}
			}
			if testutil.ToFloat64(w.store.metrics.blocked) != 1 {
				t.Error("no alarm")
			}
			st, err := w.store.Status(t.Context())
			if err != nil || !strings.Contains(st.Blocked, w.dir) || st.Newest.Size != before.Size || st.Halted != "" {
				t.Errorf("the log says %+v, %v", st, err)
			}
			if c, ok, err := w.store.Head(t.Context()); err != nil || !ok || c.Size != before.Size {
				t.Errorf("what was signed is not given for anchoring: %t, %v", ok, err)
			}
			if _, err := w.store.Inclusion(t.Context(), 100, before.Size); err != nil {
				t.Errorf("what was signed cannot be proven: %v", err)
			}
			if err := c.mend(w); err != nil {
				t.Fatal(err)
			}
			w.run()
			w.wantSize(401)
			if st, err := w.store.Status(t.Context()); err != nil || st.Blocked != "" || testutil.ToFloat64(w.store.metrics.blocked) != 0 {
				t.Errorf("it goes on, and says %q: %v", st.Blocked, err)
			}
			w.wantFsck(w.store, "")
		})
	}
}
