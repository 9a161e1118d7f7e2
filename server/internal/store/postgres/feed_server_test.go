package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	osexec "os/exec" // exec runs a statement
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// account is whom the servers run as: the owner of the cluster's data.
func account(t testing.TB, dsn string) *syscall.Credential {
	t.Helper()
	info, err := os.Stat(scan[string](t, connect(t, dsn), "SHOW data_directory"))
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("the owner of the data directory cannot be told")
	}
	if int(owner.Uid) == os.Getuid() {
		return nil
	}
	return &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
}

// directory is an empty one that the account owns.
func directory(t testing.TB, as *syscall.Credential) string {
	t.Helper()
	// Not t.TempDir: the account could not enter the folders above it.
	dir, err := os.MkdirTemp("", "pgtest") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// program prepares a program to run as the account in dir.
func program(as *syscall.Credential, dir, path string, args ...string) *osexec.Cmd {
	cmd := osexec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	return cmd
}

// serve runs a server until the test ends.
func serve(t testing.TB, cmd *osexec.Cmd, end syscall.Signal) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(end); err != nil {
			t.Errorf("%s: %v", cmd.Path, err)
		}
		var exit *osexec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), log.String())
		}
	})
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// atPort is dsn for another port of this machine.
func atPort(t testing.TB, dsn string, port int) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = fmt.Sprintf("127.0.0.1:%d", port)
	return u.String()
}

// answers waits until the server of dsn lets clients in.
func answers(t testing.TB, dsn string) {
	t.Helper()
	eventually(t, "the server answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return false
		}
		_, err = conn.Exec(ctx, "SELECT 1")
		return errors.Join(err, conn.Close(ctx)) == nil
	})
}

// newStandby makes a streaming standby of the server of dsn and returns its DSN.
func newStandby(t testing.TB, dsn string) string {
	t.Helper()
	as, bin := account(t, dsn), scan[string](t, connect(t, dsn), "SELECT setting FROM pg_config WHERE name = 'BINDIR'")
	dir, port := directory(t, as), freePort(t)
	data := filepath.Join(dir, "data")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "" // a base backup is of no database
	if out, err := program(as, dir, filepath.Join(bin, "pg_basebackup"), "-d", u.String(), "-D", data, "-R", "-c", "fast").CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	serve(t, program(as, dir, filepath.Join(bin, "postgres"), "-D", data, "-p", fmt.Sprint(port), "-k", dir, "-h", "127.0.0.1",
		"-c", "fsync=off", "-c", "logging_collector=off", "-c", "log_destination=stderr", "-c", "max_connections=200"), syscall.SIGQUIT)
	standby := atPort(t, dsn, port)
	answers(t, standby)
	return standby
}

// newPooler runs PgBouncer in transaction mode before the server of dsn, with so
// few connections to it that its clients share them, and returns the DSN through it.
func newPooler(t testing.TB, dsn string) string {
	t.Helper()
	path, err := osexec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer" // where Debian has it, outside of most people's PATH
		if _, err := os.Stat(path); err != nil {
			t.Fatal("PgBouncer is not installed: run tools/prepare, or apt-get install pgbouncer")
		}
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	as := account(t, dsn)
	dir, port := directory(t, as), freePort(t)
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if as != nil {
			if err := os.Chown(file, int(as.Uid), int(as.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		return file
	}
	users := write("users", fmt.Sprintf("%q %q\n", u.User.Username(), password))
	config := write("pgbouncer.ini", strings.Join([]string{
		"[databases]",
		fmt.Sprintf("* = host=127.0.0.1 port=%s user=%s password=%s", u.Port(), u.User.Username(), password),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1", fmt.Sprintf("listen_port = %d", port), "unix_socket_dir =",
		"auth_type = plain", "auth_file = " + users,
		"pool_mode = transaction", "default_pool_size = 2", "server_login_retry = 0.1",
	}, "\n")+"\n")
	serve(t, program(as, dir, path, config), syscall.SIGTERM)
	through := atPort(t, dsn, port)
	answers(t, withOption(t, through, "default_query_exec_mode", "exec"))
	return withOption(t, through, "default_query_exec_mode", "exec")
}
