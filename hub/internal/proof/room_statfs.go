//go:build linux || darwin

package proof

import "syscall"

// freeBytes is how much this process may still write on the disk of a directory; ok is false where that is not known.
func freeBytes(dir string) (n uint64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil || st.Blocks == 0 { // some network file systems do not say
		return 0, false
	}
	return st.Bavail * uint64(st.Bsize), true
}
