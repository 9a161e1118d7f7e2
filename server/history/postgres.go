package history

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/history/proxy"
)

// database is the issuer's.
const database = "issuer"

// readyTimeout bounds the start of a server; a loaded machine is no failure.
const readyTimeout = 60 * time.Second

// postgresServer is one PostgreSQL server and its folder.
type postgresServer struct {
	*program
	home, address string
}

// cluster is a primary and a standby that follows it through a link, so that it
// can be made to lack the last commits. One goroutine at a time changes it.
type cluster struct {
	bin      string
	account  *syscall.Credential // nil: ourselves
	password string
	primary  *postgresServer
	standby  *postgresServer
	link     *proxy.Link // from the standby to the primary
}

// newCluster starts a primary and its standby. The caller removes it.
func newCluster(ctx context.Context) (_ *cluster, err error) {
	c := &cluster{password: rand.Text()}
	if c.bin, err = postgresBinaries(); err != nil {
		return nil, err
	}
	if c.account, err = postgresAccount(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove())
		}
	}()
	if c.primary, err = c.newServer(); err != nil {
		return nil, err
	}
	if err := c.initdb(ctx, c.primary.home); err != nil {
		return nil, err
	}
	if err := c.start(ctx, c.primary); err != nil {
		return nil, err
	}
	if c.link, err = proxy.New(c.primary.address); err != nil {
		return nil, err
	}
	if err := c.addStandby(ctx); err != nil {
		return nil, err
	}
	return c, c.execute(ctx, c.primary, "postgres", "CREATE DATABASE "+database)
}

// newServer makes the folder of a server to come.
func (c *cluster) newServer() (*postgresServer, error) {
	home, err := os.MkdirTemp("", "history-postgres-")
	if err != nil {
		return nil, err
	}
	s := &postgresServer{home: home}
	if s.address, err = freeAddress(); err == nil && c.account != nil {
		err = os.Chown(home, int(c.account.Uid), int(c.account.Gid))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(home))
	}
	return s, nil
}

// command prepares one of PostgreSQL's programs, without the caller's PG* settings.
func (c *cluster) command(home, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = home
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "PG") }), "LC_ALL=C", "PGPASSWORD="+c.password)
	// SIGQUIT is PostgreSQL's immediate shutdown.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.account, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// finish runs a program to its end.
func finish(ctx context.Context, name string, cmd *exec.Cmd) error {
	p, err := launch(name, cmd)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.end(syscall.SIGTERM))
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", name, p.err, p.log)
	}
	return nil
}

func (c *cluster) initdb(ctx context.Context, home string) error {
	file := filepath.Join(home, "password")
	if err := os.WriteFile(file, []byte(c.password+"\n"), 0o600); err != nil {
		return err
	}
	if c.account != nil {
		if err := os.Chown(file, int(c.account.Uid), int(c.account.Gid)); err != nil {
			return err
		}
	}
	err := finish(ctx, "initdb", c.command(home, "initdb", "--pgdata="+filepath.Join(home, "data"), "--username=postgres",
		"--pwfile="+file, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"))
	return errors.Join(err, os.Remove(file))
}

// start runs a server, the first time or again, and waits until it answers.
func (c *cluster) start(ctx context.Context, s *postgresServer) error {
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return err
	}
	args := []string{"-D", filepath.Join(s.home, "data"), "-h", host, "-p", port, "-k", s.home}
	for _, setting := range []string{
		// Nothing here survives the machine; what survives a killed server is the
		// kernel's, with fsync or without.
		"fsync=off", "full_page_writes=off", "max_connections=300", "lc_messages=C",
		// Asynchronous commits are to be lost in a crash, not to be saved just before it.
		"wal_writer_delay=10s", "wal_writer_flush_after=1GB",
		"wal_keep_size=256MB",
	} {
		args = append(args, "-c", setting)
	}
	if s.program, err = launch("postgres", c.command(s.home, "postgres", args...)); err != nil {
		return err
	}
	return await(ctx, readyTimeout, "PostgreSQL answers", func(ctx context.Context) error {
		if !s.running() {
			return fmt.Errorf("postgres has ended: %w\n%s", s.err, s.log)
		}
		return c.execute(ctx, s, "postgres", "SELECT 1")
	})
}

// execute runs one statement on a connection of its own.
func (c *cluster) execute(ctx context.Context, s *postgresServer, database, sql string) error {
	conn, err := pgx.Connect(ctx, c.dsn(s.address, database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// dsn is the connection string for a server at an address, its own or a link's.
func (c *cluster) dsn(address, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", c.password), Host: address, Path: "/" + database,
		RawQuery: "sslmode=disable&connect_timeout=2",
	}
	return u.String()
}

// addStandby makes a standby of the primary and waits until it follows.
func (c *cluster) addStandby(ctx context.Context) error {
	s, err := c.newServer()
	if err != nil {
		return err
	}
	c.standby = s
	host, port, err := net.SplitHostPort(c.link.Address())
	if err != nil {
		return err
	}
	// -R writes down where the primary is: at the link.
	if err := finish(ctx, "pg_basebackup", c.command(s.home, "pg_basebackup", "-h", host, "-p", port, "-U", "postgres",
		"-D", filepath.Join(s.home, "data"), "-R", "-X", "stream", "-c", "fast", "--no-sync")); err != nil {
		return err
	}
	if err := c.start(ctx, s); err != nil {
		return err
	}
	return await(ctx, readyTimeout, "the standby follows", func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, c.dsn(s.address, "postgres"))
		if err != nil {
			return err
		}
		var n int
		err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'").Scan(&n)
		if err == nil && n == 0 {
			err = errors.New("the standby does not follow yet")
		}
		return errors.Join(err, conn.Close(ctx))
	})
}

// restart ends the primary by sig and starts it again.
func (c *cluster) restart(ctx context.Context, sig syscall.Signal) error {
	if err := c.primary.end(sig); err != nil {
		return err
	}
	return c.start(ctx, c.primary)
}

// promote ends the primary without warning and makes the standby the primary,
// with whatever has reached it. There is no standby then.
func (c *cluster) promote(ctx context.Context) error {
	if err := c.primary.end(syscall.SIGQUIT); err != nil {
		return err
	}
	if err := c.execute(ctx, c.standby, "postgres", "SELECT pg_promote(true, 60)"); err != nil {
		return fmt.Errorf("promote the standby: %w", err)
	}
	old := c.primary
	c.primary, c.standby = c.standby, nil
	c.link.Retarget(c.primary.address)
	return os.RemoveAll(old.home)
}

// remove ends the servers and deletes their folders.
func (c *cluster) remove() error {
	var err error
	for _, s := range []*postgresServer{c.standby, c.primary} {
		if s == nil {
			continue
		}
		if s.program != nil {
			err = errors.Join(err, s.end(syscall.SIGQUIT))
		}
		err = errors.Join(err, os.RemoveAll(s.home))
	}
	if c.link != nil {
		err = errors.Join(err, c.link.Close())
	}
	return err
}

// await repeats try until it succeeds; the error is its last.
func await(ctx context.Context, timeout time.Duration, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("waited %v until %s: %w", timeout, what, err)
		}
	}
}

// pause waits for d; the error is the context's, where that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// postgresBinaries returns the folder of PostgreSQL's programs: PATH's, else that
// of the highest version where Debian keeps them.
func postgresBinaries() (string, error) {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(installed, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
	for _, dir := range append(dirs, installed...) {
		if isFile(filepath.Join(dir, "initdb")) && isFile(filepath.Join(dir, "pg_basebackup")) {
			return dir, nil
		}
	}
	return "", errors.New("initdb and pg_basebackup were not found: install PostgreSQL (apt-get install postgresql)")
}

// majorVersion reads it out of /usr/lib/postgresql/<version>/bin; 0: none there.
func majorVersion(bin string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	if err != nil {
		return 0
	}
	return n
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// postgresAccount chooses whom the servers run as: PostgreSQL refuses to be root.
func postgresAccount() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		if account, err = user.Lookup("nobody"); err != nil {
			return nil, errors.New("running as root, and there is no user postgres or nobody to run PostgreSQL as: run it as another user")
		}
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user id of %s: %w", account.Username, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group id of %s: %w", account.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// freeAddress finds a loopback address whose port is below the range the kernel
// takes ports for outgoing connections from, so that it stays free over a restart.
func freeAddress() (string, error) {
	const low, high = 20000, 32000
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(high-low))
		if err != nil {
			return "", err
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(low+int(n.Int64())))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue // taken
		}
		return address, l.Close()
	}
	return "", errors.New("no free port on 127.0.0.1")
}
