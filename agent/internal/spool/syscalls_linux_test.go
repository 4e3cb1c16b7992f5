package spool

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a system call filter does with the calls that it names.
const (
	failWith    = 0x00050000 // SECCOMP_RET_ERRNO; the errno is added
	killProcess = 0x80000000 // SECCOMP_RET_KILL_PROCESS: before the call does anything
	allowCall   = 0x7fff0000 // SECCOMP_RET_ALLOW
)

// point is a system call, perhaps only with some of its arguments.
type point struct {
	call uint32
	// pwrite64: only at offsets below or from 8192, where bbolt's two meta pages end
	below, from uint32
}

// arm puts a filter on the calling thread, for good: the goroutine stays locked to it.
func arm(action uint32, points ...point) error {
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
			add(equal, 0, 3, p.call)
			add(load, 0, 0, arg3)
			add(least, 1, 0, p.below)
		case p.from > 0:
			add(equal, 0, 3, p.call)
			add(load, 0, 0, arg3)
			add(least, 0, 1, p.from)
		default:
			add(equal, 0, 1, p.call)
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

// faulty runs fn on a thread of its own on which the named system calls fail with errno. Other goroutines notice nothing.
func faulty(t *testing.T, errno syscall.Errno, points []point, fn func()) {
	t.Helper()
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { // never unlocked: the thread ends with the goroutine
		if err = arm(failWith|uint32(errno), points...); err == nil {
			fn()
		}
	})
	wg.Wait()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("system calls cannot be made to fail: this kernel has no seccomp filters: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

var (
	onSync   = []point{{call: unix.SYS_FDATASYNC}, {call: unix.SYS_FSYNC}}
	onWrite  = []point{{call: unix.SYS_PWRITE64}}
	onMeta   = []point{{call: unix.SYS_PWRITE64, below: 8192}}
	onData   = []point{{call: unix.SYS_PWRITE64, from: 8192}}
	onOpen   = []point{{call: unix.SYS_OPENAT}}
	onRename = []point{{call: unix.SYS_RENAMEAT}, {call: unix.SYS_RENAMEAT2}}
	onUnlink = []point{{call: unix.SYS_UNLINKAT}}
	onGrow   = []point{{call: unix.SYS_FTRUNCATE}}
)
