package pgtest

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// readyLine is what the server logs (lc_messages=C) once it accepts connections.
	readyLine = "database system is ready to accept connections"
	// startTimeout and stopTimeout are generous: a loaded machine is no failure.
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	// portTries is how often another port is tried when one was taken meanwhile.
	portTries = 5
)

// errPortTaken means that somebody else listens on the chosen port.
var errPortTaken = errors.New("port is taken")

// server is a throw-away server and its directory.
type server struct {
	bin      string
	dir      string
	account  *syscall.Credential // nil: run as ourselves
	password string
	port     int
	preload  bool

	proc *process // nil while stopped
}

// newServer makes a data directory and starts a server on it.
func newServer() (_ *server, err error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, err
	}
	s := &server{bin: bin, dir: dir, password: rand.Text(), preload: hasStatements(bin)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove())
		}
	}()
	if err := s.dropRoot(); err != nil {
		return nil, err
	}
	if err := s.initdb(); err != nil {
		return nil, err
	}
	for range portTries {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = s.start(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// findBinaries returns the folder of initdb and postgres: PATH's, else that of
// the highest version where Debian keeps them.
func findBinaries() (string, error) {
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil && isFile(filepath.Join(filepath.Dir(p), "initdb")) {
			return filepath.Dir(p), nil
		}
	}
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	dirs = slices.DeleteFunc(dirs, func(d string) bool {
		return !isFile(filepath.Join(d, "initdb")) || !isFile(filepath.Join(d, "postgres"))
	})
	if len(dirs) == 0 {
		return "", fmt.Errorf("no PostgreSQL found: set %s to the DSN of a server, or install one (apt-get install postgresql)", EnvDSN)
	}
	return slices.MaxFunc(dirs, func(a, b string) int { return version(a) - version(b) }), nil
}

// version reads the major version out of /usr/lib/postgresql/<version>/bin; 0
// where there is none.
func version(bin string) int {
	major, _, _ := strings.Cut(filepath.Base(filepath.Dir(bin)), ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return n
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

// hasStatements reports whether pg_stat_statements is installed beside bin.
func hasStatements(bin string) bool {
	lib := filepath.Join(filepath.Dir(bin), "lib")
	return isFile(filepath.Join(lib, "pg_stat_statements.so")) ||
		isFile(filepath.Join(lib, "postgresql", "pg_stat_statements.so"))
}

// dropRoot chooses the account to run as when we are root, as whom PostgreSQL
// refuses to run, and gives it the directory.
func (s *server) dropRoot() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return errors.New("running as root, and there is no user postgres or nobody to run the server as: run the tests as another user")
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return fmt.Errorf("uid of user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return fmt.Errorf("gid of user %s: %w", u.Username, err)
	}
	s.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, int(uid), int(gid))
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

// command prepares a program of the server's to run in its directory, as its
// account, without the caller's PG* settings.
func (s *server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "PG") }), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account}
	dieWithParent(cmd.SysProcAttr)
	return cmd
}

func (s *server) initdb() error {
	pwfile := filepath.Join(s.dir, "password")
	if err := os.WriteFile(pwfile, []byte(s.password+"\n"), 0o600); err != nil {
		return err
	}
	if s.account != nil {
		if err := os.Chown(pwfile, int(s.account.Uid), int(s.account.Gid)); err != nil {
			return err
		}
	}
	cmd := s.command("initdb", "--pgdata="+s.data(), "--username=postgres", "--pwfile="+pwfile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync")
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	p, err := run(cmd)
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	<-p.done
	if p.err != nil {
		return fmt.Errorf("initdb: %w\n%s", p.err, out)
	}
	return os.Remove(pwfile)
}

// freePort finds a port below the range the kernel takes ports for outgoing
// connections from, so that it is still free after a Stop.
func freePort() (int, error) {
	const low, high = 20000, 32000
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(high-low))
		if err != nil {
			return 0, err
		}
		port := low + int(n.Int64())
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue // taken
		}
		return port, l.Close()
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

func (s *server) dsn() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// start runs the server and waits until it accepts connections.
func (s *server) start() error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port), "-k", s.dir, "-h", "127.0.0.1"}
	for _, setting := range []string{
		"fsync=off", "full_page_writes=off", "max_connections=200", "lc_messages=C", "logging_collector=off", "log_destination=stderr",
	} {
		args = append(args, "-c", setting)
	}
	if s.preload {
		args = append(args, "-c", "shared_preload_libraries=pg_stat_statements")
	}
	cmd := s.command("postgres", args...)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = w, w
	p, err := run(cmd)
	if err = errors.Join(err, w.Close()); err != nil {
		return errors.Join(err, r.Close())
	}

	out := &output{}
	ready := make(chan struct{})
	p.logged = make(chan struct{})
	go func() {
		defer close(p.logged)
		defer r.Close()
		follow(r, out, ready)
	}()
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-ready:
		s.proc = p
		return nil
	case <-p.done:
		<-p.logged
		if text := out.String(); strings.Contains(text, "Address already in use") {
			return fmt.Errorf("%w: %d\n%s", errPortTaken, s.port, text)
		}
		return fmt.Errorf("postgres ended at once: %w\n%s", p.err, out)
	case <-timeout.C:
		return errors.Join(fmt.Errorf("postgres was not ready within %s\n%s", startTimeout, out), p.end(syscall.SIGKILL))
	}
}

// follow copies the server's log to out and closes ready at the line that says so.
func follow(r io.Reader, out *output, ready chan<- struct{}) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		out.WriteString(line)
		if ready != nil && strings.Contains(line, readyLine) {
			close(ready)
			ready = nil
		}
		if err != nil {
			return
		}
	}
}

// stop shuts the server down and waits for it.
func (s *server) stop(mode Mode) error {
	if s.proc == nil {
		return errors.New("not running")
	}
	sig := map[Mode]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}[mode]
	if sig == 0 {
		return fmt.Errorf("no such mode: %q", mode)
	}
	p := s.proc
	s.proc = nil
	return p.end(sig)
}

// remove ends the server, if it runs, and deletes its directory.
func (s *server) remove() error {
	var err error
	if s.proc != nil {
		err = s.stop(Immediate)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// process is a running program.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid after done
	// logged, where set, is closed when its log has been read to the end.
	logged chan struct{}
}

// run starts cmd on a thread of its own that lives as long as the process: the
// kernel sends the parent-death signal when the starting thread ends.
func run(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// end sends sig and waits; a process that does not end in time is killed.
func (p *process) end(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-p.done:
	case <-timeout.C:
		err = errors.Join(fmt.Errorf("postgres did not end within %s", stopTimeout), p.cmd.Process.Kill())
		<-p.done
	}
	if p.logged != nil {
		<-p.logged // closes when the last backend has closed the pipe
	}
	return err
}
