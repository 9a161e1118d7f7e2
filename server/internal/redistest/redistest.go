// Package redistest runs a throw-away Redis for tests.
package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const startTimeout = 20 * time.Second

// Server is a running Redis that keeps nothing on disk.
type Server struct {
	// Address is host:port.
	Address string
	cmd     *exec.Cmd
}

// URL is the server's database 0.
func (s *Server) URL() string { return "redis://" + s.Address + "/0" }

// Start runs a server that ends with the test. Further arguments are its options
// ("--maxmemory", "1mb").
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: make prepare installs it (Debian: apt-get install redis-server)")
	}
	s := &Server{Address: freeAddress(t)}
	s.run(t, path, options)
	t.Cleanup(func() { s.Stop(t) })
	return s
}

// Restart stops the server as a crash would and starts it empty on its address.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	path := s.cmd.Path
	s.Stop(t)
	s.run(t, path, nil)
}

// Stop kills the server. It may be stopped already.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	s.cmd.Wait() //nolint:errcheck // it was killed
	s.cmd = nil
}

func (s *Server) run(t testing.TB, path string, options []string) {
	t.Helper()
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := append([]string{"--port", port, "--bind", host, "--save", "", "--appendonly", "no", "--dir", dir, "--logfile", filepath.Join(dir, "log")}, options...)
	s.cmd = exec.Command(path, args...)
	dieWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for err = s.ping(ctx); err != nil; err = s.ping(ctx) {
		if ctx.Err() != nil {
			t.Fatalf("redis-server did not start: %v", err)
		}
	}
}

// ping waits for an answer; the server refuses connections until it listens.
func (s *Server) ping(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing was written that could be lost
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "+PONG\r\n" && !strings.HasPrefix(line, "-NOAUTH") {
		err = fmt.Errorf("answered %q", line)
	}
	return err
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}
