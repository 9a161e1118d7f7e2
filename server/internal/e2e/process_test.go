package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long a step may take; a loaded machine is no failure.
	patience = 60 * time.Second
	// stopTimeout is how long a program may take to end when asked to.
	stopTimeout = 15 * time.Second
)

// process is a running program. It ends with the test.
type process struct {
	name    string
	cmd     *exec.Cmd
	journal *journal
	done    chan struct{} // closed when it has ended
	killed  bool          // by the test, so how it ended says nothing
}

// start runs a program in dir (empty: here) with exactly the environment env.
func start(t *testing.T, name, dir string, env []string, path string, args ...string) *process {
	t.Helper()
	p := &process{name: name, journal: newJournal(), done: make(chan struct{})}
	p.cmd = exec.CommandContext(t.Context(), path, args...)
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.Stdout, p.cmd.Stderr = p.journal, p.journal
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopTimeout
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		<-p.done // the test's context is over, so the program was told to end
		// Exit code 0 after SIGTERM is context.Canceled; a program cut off after
		// stopTimeout has no exit code.
		if err := <-ended; !p.killed && !errors.Is(err, context.Canceled) {
			t.Errorf("%s did not end orderly on SIGTERM: %v", name, err)
		}
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, p.journal.text())
		}
	})
	return p
}

// kill ends the program without warning and waits for its end.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill %s: %v", p.name, err)
	}
	p.killed = true
	<-p.done
}

// await returns the first line after the first n that matches, waiting for it.
func (p *process) await(t *testing.T, n int, what string, match func(line string) bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	line, err := p.journal.await(ctx, p.done, n, match)
	if err != nil {
		t.Fatalf("%s did not print %s: %v; it printed:\n%s", p.name, what, err, p.journal.text())
	}
	return line
}

// address waits until the program says which address it serves on.
func (p *process) address(t *testing.T) string {
	t.Helper()
	line := p.await(t, 0, "the address it serves on", func(line string) bool {
		return field(line, "msg") == "serving" && field(line, "address") != ""
	})
	return field(line, "address")
}

// field returns the value of key=value in a line of slog's text form; empty if
// there is none. The values asked for hold no spaces.
func field(line, key string) string {
	for word := range strings.FieldsSeq(line) {
		if value, ok := strings.CutPrefix(word, key+"="); ok {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// journal keeps what a program printed. It is safe for concurrent use.
type journal struct {
	mu    sync.Mutex
	lines []string
	rest  []byte        // the line being written
	grown chan struct{} // closed, and replaced, when lines grow
}

func newJournal() *journal { return &journal{grown: make(chan struct{})} }

// Write takes output. It never fails.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rest = append(j.rest, p...)
	for {
		line, rest, complete := bytes.Cut(j.rest, []byte("\n"))
		if !complete {
			break
		}
		j.lines = append(j.lines, string(line))
		j.rest = slices.Clone(rest)
	}
	close(j.grown)
	j.grown = make(chan struct{})
	return len(p), nil
}

// count returns how many whole lines there are.
func (j *journal) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.lines)
}

// text returns all of it.
func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(append(slices.Clone(j.lines), string(j.rest)), "\n")
}

// await returns the first line after the first n that matches. It fails when the
// context is over, or the program is and there will be no more lines.
func (j *journal) await(ctx context.Context, done <-chan struct{}, n int, match func(string) bool) (string, error) {
	for over := false; ; {
		j.mu.Lock()
		lines, grown := j.lines[n:], j.grown
		j.mu.Unlock()
		if i := slices.IndexFunc(lines, match); i >= 0 {
			return lines[i], nil
		}
		if over {
			return "", errors.New("it has ended")
		}
		n += len(lines)
		select {
		case <-grown:
		case <-done:
			over = true
		case <-ctx.Done():
			return "", fmt.Errorf("waited for %s", patience)
		}
	}
}
