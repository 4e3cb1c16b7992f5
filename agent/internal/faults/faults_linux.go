package faults

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a system call filter does with the calls that it names.
const (
	failWith  = 0x00050000 // SECCOMP_RET_ERRNO; the errno is added
	Kill      = 0x80000000 // SECCOMP_RET_KILL_PROCESS: before the call does anything
	allowCall = 0x7fff0000 // SECCOMP_RET_ALLOW
)

// Point is a system call, perhaps only with some of its arguments.
type Point struct {
	Call uint32
	// pwrite64: only at offsets below or from 8192, where bbolt's two meta pages end
	below, from uint32
}

// Arm puts a filter on the calling thread, for good: the goroutine stays locked to it.
func Arm(action uint32, points ...Point) error {
	runtime.LockOSThread()
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		least = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		nr    = 0
		arg3  = 16 + 3*8 // low word of the fourth argument: pwrite64's offset; files here are below 4 GiB
	)
	var prog []unix.SockFilter
	add := func(code uint16, jt, jf uint8, k uint32) {
		prog = append(prog, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
	}
	for _, p := range points {
		add(load, 0, 0, nr)
		switch {
		case p.below > 0:
			add(equal, 0, 3, p.Call)
			add(load, 0, 0, arg3)
			add(least, 1, 0, p.below)
		case p.from > 0:
			add(equal, 0, 3, p.Call)
			add(load, 0, 0, arg3)
			add(least, 0, 1, p.from)
		default:
			add(equal, 0, 1, p.Call)
		}
		add(ret, 0, 0, action)
	}
	add(ret, 0, 0, allowCall)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}

// Failing runs fn on a thread of its own on which the named system calls fail with errno. Other goroutines notice nothing.
func Failing(t *testing.T, errno syscall.Errno, points []Point, fn func()) {
	t.Helper()
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { // never unlocked: the thread ends with the goroutine
		if err = Arm(failWith|uint32(errno), points...); err == nil {
			fn()
		}
	})
	wg.Wait()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		Skip(t, "system calls cannot be made to fail: this kernel has no seccomp filters: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Points by what they are for the files of a spool.
var (
	OnSync   = []Point{{Call: unix.SYS_FDATASYNC}, {Call: unix.SYS_FSYNC}}
	OnWrite  = []Point{{Call: unix.SYS_PWRITE64}}
	OnMeta   = []Point{{Call: unix.SYS_PWRITE64, below: 8192}}
	OnData   = []Point{{Call: unix.SYS_PWRITE64, from: 8192}}
	OnOpen   = []Point{{Call: unix.SYS_OPENAT}}
	OnRename = []Point{{Call: unix.SYS_RENAMEAT}, {Call: unix.SYS_RENAMEAT2}}
	OnUnlink = []Point{{Call: unix.SYS_UNLINKAT}}
	OnGrow   = []Point{{Call: unix.SYS_FTRUNCATE}}
)

// Skip skips a test for want of something that this machine does not have, or fails it where tests must not skip.
func Skip(t testing.TB, why string, args ...any) {
	t.Helper()
	if os.Getenv("HSI_TEST_NO_SKIP") != "" {
		t.Fatalf(why, args...)
	}
	t.Skipf(why, args...)
}
