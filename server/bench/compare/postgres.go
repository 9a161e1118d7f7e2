package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// postgres is a throw-away server with a production's durability: fsync is on, or
// a commit would cost nothing and neither would a beat.
type postgres struct {
	*process
	base url.URL
}

// startPostgres makes a server below dir. The caller stops it.
func startPostgres(ctx context.Context, dir string) (*postgres, error) {
	bin, err := postgresBinaries()
	if err != nil {
		return nil, err
	}
	account, err := postgresAccount()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "postgres")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	password, passwordFile := rand.Text(), filepath.Join(home, "password")
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600); err != nil {
		return nil, err
	}
	if account != nil {
		for _, path := range []string{home, passwordFile} {
			if err := os.Chown(path, int(account.Uid), int(account.Gid)); err != nil {
				return nil, err
			}
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(bin, name), args...)
		cmd.Dir, cmd.Env = home, environment("LC_ALL=C")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account}
		return cmd
	}
	data := filepath.Join(home, "data")
	initdb := command("initdb", "--pgdata="+data, "--username=postgres", "--pwfile="+passwordFile, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale")
	if text, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, text)
	}
	if err := os.Remove(passwordFile); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	args := []string{"-D", data, "-h", host, "-p", port, "-k", home}
	for _, setting := range []string{"max_connections=200", "shared_buffers=1GB", "max_wal_size=8GB", "shared_preload_libraries=pg_stat_statements"} {
		args = append(args, "-c", setting)
	}
	p, err := launch("postgres", command("postgres", args...))
	if err != nil {
		return nil, err
	}
	pg := &postgres{process: p, base: url.URL{Scheme: "postgres", User: url.UserPassword("postgres", password), Host: address, RawQuery: "sslmode=disable"}}
	err = pg.await(ctx, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, pg.dsn("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	if err != nil {
		return nil, errors.Join(err, pg.stop())
	}
	return pg, nil
}

// stop ends the server at once; its data are thrown away.
func (p *postgres) stop() error { return p.end(syscall.SIGINT) }

func (p *postgres) dsn(database string) string {
	u := p.base
	u.Path = "/" + database
	return u.String()
}

// postgresBinaries returns the folder of initdb and postgres: PATH's, else that
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
		if isFile(filepath.Join(dir, "initdb")) && isFile(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", errors.New("initdb and postgres were not found: install PostgreSQL (apt-get install postgresql)")
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

// postgresAccount chooses whom the server runs as: PostgreSQL refuses to be root.
// nil means ourselves.
func postgresAccount() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		if account, err = user.Lookup("nobody"); err != nil {
			return nil, errors.New("running as root, and there is no user postgres or nobody to run PostgreSQL as: run this as another user")
		}
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("uid of user %s: %w", account.Username, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("gid of user %s: %w", account.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
