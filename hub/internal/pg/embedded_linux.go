package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// account is who runs the server.
type account struct {
	name     string
	uid, gid uint32
	switched bool // this process is root and changes to the account
}

// resolveAccount finds the account that runs the server: our own, unless we are root.
func resolveAccount(ctx context.Context, wanted string) (account, error) {
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return account{}, fmt.Errorf("this process's user: %w", err)
		}
		return account{name: u.Username, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	names := []string{"postgres", "hashinsight"}
	if wanted != "" {
		names = []string{wanted}
	}
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			return accountOf(u)
		}
	}
	if wanted != "" {
		return account{}, fmt.Errorf("user %q, which is to run PostgreSQL, does not exist", wanted)
	}
	// PostgreSQL refuses to run as root, and this machine has no account for it yet.
	cmd := exec.CommandContext(ctx, "useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "hashinsight")
	if out, err := cmd.CombinedOutput(); err != nil {
		return account{}, fmt.Errorf("making the user hashinsight to run PostgreSQL: %w: %s", err, strings.TrimSpace(string(out)))
	}
	u, err := user.Lookup("hashinsight")
	if err != nil {
		return account{}, fmt.Errorf("the new user hashinsight: %w", err)
	}
	return accountOf(u)
}

func accountOf(u *user.User) (account, error) {
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return account{}, fmt.Errorf("user %s: %w", u.Username, err)
	}
	if uid == 0 {
		return account{}, fmt.Errorf("user %s is root: PostgreSQL refuses to run as root", u.Username)
	}
	return account{name: u.Username, uid: uint32(uid), gid: uint32(gid), switched: true}, nil
}

// give hands a path to the account.
func (a account) give(path string) error {
	if !a.switched {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// makeDir makes dir and checks that the account can reach it: below a closed home directory it could not.
func makeDir(dir string, a account) error {
	mode := fs.FileMode(0o700)
	if a.switched {
		mode = 0o755
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	if !a.switched {
		return nil
	}
	for p := dir; ; p = filepath.Dir(p) {
		st, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("checking the way to the directory: %w", err)
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		perm := st.Mode().Perm()
		open := perm&0o001 != 0 || ok && (sys.Uid == a.uid && perm&0o100 != 0 || sys.Gid == a.gid && perm&0o010 != 0)
		if !open {
			return fmt.Errorf("PostgreSQL runs as user %s, who cannot pass %s (mode %04o): set DATA_DIR to a directory that this user can reach, such as /var/lib/hashinsight",
				a.name, p, perm)
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// Who holds the lock writes what it is and its process id, and a hub adds that its server is ready.
const (
	lockHub     = "hub"
	lockCommand = "command"
	lockReady   = "ready"
)

func writeLock(f *os.File, c EmbeddedConfig, state string) error {
	kind := lockHub
	if c.Command {
		kind = lockCommand
	}
	_, err := f.WriteAt(fmt.Appendf(nil, "%s %d %-5s\n", kind, os.Getpid(), state), 0)
	if err != nil {
		return fmt.Errorf("writing the lock: %w", err)
	}
	return nil
}

// lockPatience is how long a hub waits for another hub: one that was killed a moment ago holds the lock until the kernel has
// cleared it away.
const lockPatience = 2 * time.Second

// takeLock returns the held lock file, or nil when c is a command and a hub runs the server. Commands are waited for.
func takeLock(ctx context.Context, c EmbeddedConfig) (*os.File, error) {
	path := filepath.Join(c.Dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	patience := time.Now().Add(lockPatience)
	for told := false; ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("locking: %w", err)
		}
		b, _ := os.ReadFile(path) // unreadable counts as a command: wait
		held := append(strings.Fields(string(b)), "", "", "")
		kind, pid, state := held[0], held[1], held[2]
		if kind == lockHub {
			if c.Command && state == lockReady {
				_ = f.Close()   // nothing was written
				return nil, nil //nolint:nilnil // documented: no lock, attach instead
			}
			if !c.Command && time.Now().After(patience) {
				_ = f.Close() // nothing was written
				return nil, fmt.Errorf("%w by process %s: stop that hub first, or give this one another DATA_DIR", ErrInUse, pid)
			}
		}
		if !told {
			c.Log.InfoContext(ctx, "waiting for another process that uses the embedded database", "pid", pid)
			told = true
		}
		select {
		case <-ctx.Done():
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("%w by process %s: %w", ErrInUse, pid, ctx.Err())
		case <-tick.C:
		}
	}
	if err := errors.Join(f.Truncate(0), writeLock(f, c, "")); err != nil {
		_ = f.Close() // the first error is the one to tell
		return nil, err
	}
	return f, nil
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// chooseServer returns the directory of the server programs: the newest installed, or the one that fits existing data.
func chooseServer(ctx context.Context, search []string, data string) (string, error) {
	found := map[int]string{}
	var dirs []string
	if search == nil {
		search = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"}
		if p, err := exec.LookPath("postgres"); err == nil {
			search = append(search, filepath.Dir(p))
		}
	}
	for _, pattern := range search {
		m, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("where to look for PostgreSQL: %q: %w", pattern, err)
		}
		dirs = append(dirs, m...)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
		if err != nil {
			continue
		}
		if m := versionText.FindSubmatch(out); m != nil {
			major, _ := strconv.Atoi(string(m[1])) // the pattern has digits only
			if _, have := found[major]; !have {
				found[major] = dir
			}
		}
	}
	var majors []int
	for m := range found {
		if m >= MinMajor {
			majors = append(majors, m)
		}
	}
	slices.Sort(majors)

	b, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if len(majors) == 0 {
			return "", fmt.Errorf("PostgreSQL %d or newer is not installed: install it (Debian and Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server), or set DATABASE_URL to a server", MinMajor)
		}
		return found[majors[len(majors)-1]], nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the cluster's version: %w", err)
	}
	need, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return "", fmt.Errorf("%s/PG_VERSION holds %.20q: not a PostgreSQL data directory", data, b)
	}
	dir, have := found[need]
	if !have {
		return "", fmt.Errorf("the data in %s is of PostgreSQL %d, and installed is %v: install PostgreSQL %d (apt-get install postgresql-%d), "+
			"or move the data with pg_upgrade, or set aside the directory to begin empty", data, need, majors, need, need)
	}
	return dir, nil
}

// createCluster runs initdb once. It works in a directory beside the final one, so that an interrupted initdb is never
// taken for a cluster.
func createCluster(ctx context.Context, c EmbeddedConfig, bin string, a account) error {
	data := filepath.Join(c.Dir, "data")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(c.Dir, &st); err == nil {
		if free := st.Bavail * uint64(st.Bsize); free < minFreeBytes {
			return fmt.Errorf("the disk is full: %d MB free, and a new database needs %d MB: make room or set DATA_DIR to another disk", free>>20, minFreeBytes>>20)
		}
	}
	fresh := filepath.Join(c.Dir, "data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("removing an unfinished cluster: %w", err)
	}
	if err := errors.Join(os.Mkdir(fresh, 0o700), a.give(fresh)); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	// initdb would flush a thousand files one by one (16 s on a busy disk); one flush of the file system does the same.
	args := []string{"-D", fresh, "-U", embeddedRole, "--auth=peer", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync"}
	if !c.Throwaway {
		args = append(args, "--data-checksums")
	}
	said := newServerLog(slog.New(slog.DiscardHandler))
	ch, err := startChild(filepath.Join(bin, "initdb"), args, a, said)
	if err != nil {
		return fmt.Errorf("creating the cluster: %w", err)
	}
	select {
	case <-ch.done:
	case <-ctx.Done():
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return errors.Join(fmt.Errorf("creating the cluster: %w", ctx.Err()), ch.stop(stopCtx))
	}
	if ch.err != nil {
		if strings.Contains(said.String(), "No space left on device") {
			return fmt.Errorf("creating the cluster: the disk is full: make room and start again (%s)", said)
		}
		return fmt.Errorf("creating the cluster: %w: %s", ch.err, said)
	}
	if err := flush(fresh, c.Throwaway); err != nil {
		return fmt.Errorf("writing the new cluster out: %w", err)
	}
	if err := os.Rename(fresh, data); err != nil {
		return fmt.Errorf("putting the new cluster in place: %w", err)
	}
	return flush(c.Dir, c.Throwaway)
}

// flush writes out the file system that holds dir.
func flush(dir string, throwaway bool) error {
	if throwaway {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// awaitOldServer ends a server whose hub was killed. We hold the lock, so no hub uses it: it is asked to stop (the
// kernel has done so already when the hub died) and waited for.
func awaitOldServer(ctx context.Context, data string, log *slog.Logger) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; {
		p, err := readPostmaster(data)
		if err != nil || !isServerOf(p.pid, data) {
			return nil
		}
		if !told {
			told = true
			log.InfoContext(ctx, "waiting for the database server of an earlier hub to stop", "pid", p.pid)
			if err := syscall.Kill(p.pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("an old server (process %d) still runs and cannot be stopped: %w", p.pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("an old server (process %d) still runs: %w", p.pid, ctx.Err())
		case <-tick.C:
		}
	}
}

// isServerOf tells a server of this data directory from another process that got the same id later: a server works
// inside its data directory.
func isServerOf(pid int, data string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	want, err := filepath.EvalSymlinks(data)
	return err == nil && cwd == want
}

// makeSocketDir makes the directory for the socket, open to the account only.
func makeSocketDir(path string, a account) error {
	if err := os.Mkdir(path, 0o700); err == nil {
		return a.give(path)
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the socket directory: %w", err)
	}
	st, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("socket directory: %w", err)
	}
	// Where others can make files, a directory of that name must be ours.
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() || st.Mode().Perm() != 0o700 || sys.Uid != a.uid && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("socket directory %s is not a directory of user %s with mode 0700: remove it", path, a.name)
	}
	return a.give(path)
}

// writeAccessFiles writes who may connect: this process's user and the server's account, on the socket, proven by the
// kernel. The files lie outside the data directory, which as root belongs to another user.
func writeAccessFiles(dir string, a account) (string, error) {
	conf := filepath.Join(dir, "conf")
	mode, fileMode := fs.FileMode(0o700), fs.FileMode(0o600)
	if a.switched {
		mode, fileMode = 0o755, 0o644
	}
	if err := os.MkdirAll(conf, mode); err != nil {
		return "", fmt.Errorf("making the access files: %w", err)
	}
	ident := fmt.Sprintf("hub %q %s\n", a.name, embeddedRole)
	if a.switched {
		ident += fmt.Sprintf("hub root %s\n", embeddedRole)
	}
	hba := "# Written at every start of the hub.\nlocal all " + embeddedRole + " peer map=hub\n"
	if err := errors.Join(
		os.WriteFile(filepath.Join(conf, "pg_hba.conf"), []byte(hba), fileMode),
		os.WriteFile(filepath.Join(conf, "pg_ident.conf"), []byte(ident), fileMode),
	); err != nil {
		return "", fmt.Errorf("writing the access files: %w", err)
	}
	return conf, nil
}

// child is a process that ends with us.
type child struct {
	pid  int
	done chan struct{} // closed when the process has ended; err may be read then
	err  error
	proc *os.Process
}

// startChild starts a program under the account, from one locked thread that lives as long as the program: the kernel
// sends Pdeathsig when the *thread* that forked ends, not the process.
func startChild(path string, args []string, a account, out io.Writer) (*child, error) {
	cmd := exec.Command(path, args...)                                            //nolint:noctx // stopped by signal, in stop
	cmd.Dir = "/"                                                                 // our own directory may be closed to the account
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"} // none of our secrets
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGINT, // to the server: fast, clean shutdown
		Setpgid:   true,           // Ctrl-C in a terminal goes to the hub, which drains first
	}
	if a.switched {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	c := &child{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, after the program
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		c.pid, c.proc = cmd.Process.Pid, cmd.Process
		started <- nil
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// stop asks the program to end, and when ctx ends first makes it.
func (c *child) stop(ctx context.Context) error {
	_ = c.proc.Signal(syscall.SIGINT) // fails only when it has ended already
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	_ = c.proc.Signal(syscall.SIGQUIT) // as above
	select {
	case <-c.done:
	case <-time.After(5 * time.Second):
		_ = c.proc.Kill() // as above
		<-c.done
	}
	return fmt.Errorf("the server did not stop in time and was ended: %w", ctx.Err())
}
