package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// labConfig is what the command line says.
type labConfig struct {
	root     string
	rounds   int
	short    bool
	progress io.Writer
}

// lab is what the measurements share: a folder, the built server, PostgreSQL and
// a seeded database. It is used by one goroutine.
type lab struct {
	labConfig
	dir    string
	binary string // of sessiond
	secret string // of the issuer; of this run only
	pg     *postgres
	warm   *database // the database of most rows
	big    *database // the database of the rows about size
	ending stack
}

// stack holds what has to be ended, last first.
type stack []func() error

func (s *stack) push(end func() error) { *s = append(*s, end) }

// close ends everything, whatever fails meanwhile.
func (s *stack) close() error {
	var errs []error
	for _, end := range slices.Backward(*s) {
		errs = append(errs, end())
	}
	*s = nil
	return errors.Join(errs...)
}

func newLab(ctx context.Context, cfg labConfig) (_ *lab, err error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("processor time and memory are read from /proc: run this on Linux")
	}
	if cfg.root, err = filepath.Abs(cfg.root); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(cfg.root, "server", "cmd", "sessiond")); err != nil {
		return nil, fmt.Errorf("%s is not the repository: give its folder with -root", cfg.root)
	}
	l := &lab{labConfig: cfg, secret: rand.Text() + rand.Text()}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.dir, err = os.MkdirTemp("", "sessiond-compare"); err != nil {
		return nil, err
	}
	l.ending.push(func() error { return os.RemoveAll(l.dir) })
	// PostgreSQL may run as another user, below this folder.
	if err := os.Chmod(l.dir, 0o711); err != nil {
		return nil, err
	}
	l.say("building sessiond")
	l.binary = filepath.Join(l.dir, "sessiond")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", l.binary, "./server/cmd/sessiond")
	build.Dir = cfg.root
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, text)
	}
	l.say("starting PostgreSQL")
	if l.pg, err = startPostgres(ctx, l.dir); err != nil {
		return nil, err
	}
	l.ending.push(l.pg.stop)
	return l, nil
}

func (l *lab) close() error { return l.ending.close() }

// say tells whoever waits how far it is.
func (l *lab) say(format string, args ...any) {
	// Progress that cannot be shown is no reason to stop measuring.
	_, _ = fmt.Fprintf(l.progress, "compare: "+format+"\n", args...)
}

// size returns the full size, or a small one for a short run.
func (l *lab) size(full, short int) int {
	if l.short {
		return short
	}
	return full
}

// span is size for durations.
func (l *lab) span(full, short time.Duration) time.Duration {
	if l.short {
		return short
	}
	return full
}

// warmDatabase returns the database of most rows, with the feed installed.
func (l *lab) warmDatabase(ctx context.Context) (*database, error) {
	return l.shared(ctx, &l.warm, "warm", l.size(100_000, 10_000))
}

// bigDatabase returns the database of the rows about size, with the feed installed.
func (l *lab) bigDatabase(ctx context.Context) (*database, error) {
	return l.shared(ctx, &l.big, "big", l.size(10_000_000, 50_000))
}

func (l *lab) shared(ctx context.Context, db **database, name string, sessions int) (*database, error) {
	if *db != nil {
		return *db, nil
	}
	l.say("seeding %d sessions", sessions)
	made, err := l.pg.newDatabase(ctx, name, l.secret)
	if err != nil {
		return nil, err
	}
	if err := made.seed(ctx, sessions); err != nil {
		return nil, err
	}
	if err := l.installFeed(ctx, made); err != nil {
		return nil, err
	}
	*db = made
	return made, nil
}

// inTurns runs both sides in turns, once each a round. The first goes first in
// every other round, so that neither always follows the other's work.
func (l *lab) inTurns(ctx context.Context, first, second func() error) error {
	for i := range l.rounds {
		a, b := first, second
		if i%2 == 1 {
			a, b = second, first
		}
		for _, side := range []func() error{a, b} {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := side(); err != nil {
				return err
			}
		}
	}
	return nil
}

// find returns a program's path, or an error that names its package.
func find(program, pkg string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%s is not in PATH: install it (apt-get install %s)", program, pkg)
	}
	return path, nil
}

// environment is this process's, without what would change the programs started
// from it, plus more.
func environment(more ...string) []string {
	own := slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "PG") || strings.HasPrefix(e, "SESSIOND_") || strings.HasPrefix(e, "GOMAXPROCS=") || strings.HasPrefix(e, "NODE_ENV=")
	})
	return append(own, more...)
}
