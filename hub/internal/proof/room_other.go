//go:build !linux && !darwin

package proof

// freeBytes is how much this process may still write on the disk of a directory. It is not known on this system: a disk that is full is noticed when it is.
func freeBytes(string) (n uint64, ok bool) { return 0, false }
