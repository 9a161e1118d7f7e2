package history

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take to end when it is asked to.
const stopTimeout = 30 * time.Second

// program is a running program. It dies with this process.
type program struct {
	name string
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid after done
}

// launch runs cmd on a thread of its own that lives as long as the program: the
// kernel sends the parent-death signal when the starting thread ends. What it
// prints on standard error is kept for error texts.
func launch(name string, cmd *exec.Cmd) (*program, error) {
	p := &program{name: name, cmd: cmd, log: &tail{}, done: make(chan struct{})}
	cmd.Stderr = p.log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
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
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// signal sends sig; a program that has ended gets none.
func (p *program) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && p.running() {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

func (p *program) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end sends sig and waits; a program that does not end in time is killed, which
// is an error.
func (p *program) end(sig syscall.Signal) error {
	err := errors.Join(p.signal(syscall.SIGCONT), p.signal(sig))
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return err
	case <-timer.C:
	}
	err = errors.Join(err, fmt.Errorf("%s did not end within %v", p.name, stopTimeout), p.signal(syscall.SIGKILL))
	<-p.done
	return err
}

// tailSize is how much of what a program printed is kept, in bytes.
const tailSize = 8 << 10

// tail keeps the end of what is written to it. It is safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
