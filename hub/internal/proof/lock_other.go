//go:build !unix

package proof

import "os"

// tryLock takes no lock: hubs run on Unix in production, and one on another system is alone on its machine.
func tryLock(*os.File) (bool, error) { return true, nil }

// syncDir does nothing: directories cannot be synced on every system.
func syncDir(string) error { return nil }
