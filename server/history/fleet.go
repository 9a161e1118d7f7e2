package history

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sessiond/sessiond/server/history/proxy"
	"github.com/sessiond/sessiond/server/history/record"
)

// cookieName is the issuer's session cookie.
const cookieName = "better-auth.session_token"

// authority is one replica of sessiond, which reaches the store through a link.
type authority struct {
	name, address, operator string
	stores                  []*proxy.Link // in the order of the store's addresses
	conn                    *grpc.ClientConn
	admin                   sessiondv1.SessionAdminServiceClient
	command                 func() *exec.Cmd

	mu      sync.Mutex
	program *program
	serves  bool               // it has come up, and we have not ended it
	counted map[string]float64 // of the lives that are over
}

// newAuthority prepares an authority. The caller starts and closes it.
func newAuthority(cfg Config, secret, name string, store storage) (_ *authority, err error) {
	a := &authority{name: name, counted: map[string]float64{}}
	if a.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if a.operator, err = freeAddress(); err != nil {
		return nil, err
	}
	var links []string
	for _, address := range store.addresses() {
		l, err := proxy.New(address)
		if err != nil {
			return nil, errors.Join(err, a.closeLinks())
		}
		a.stores, links = append(a.stores, l), append(links, l.Address())
	}
	if a.conn, err = grpc.NewClient(a.address, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return nil, errors.Join(err, a.closeLinks())
	}
	a.admin = sessiondv1.NewSessionAdminServiceClient(a.conn)
	flags, env := store.settings(links, name)
	a.command = func() *exec.Cmd {
		cmd := exec.Command(cfg.Sessiond, slices.Concat([]string{"serve", "--listen=" + a.address, "--admin-listen=" + a.operator,
			"--feed-mode=required", "--staleness-bound=" + cfg.Bound.String(), "--policy-refuse-banned", "--log-level=warn"}, flags)...)
		cmd.Env = append([]string{"SESSIOND_ISSUER_SECRET=" + secret}, env...)
		return cmd
	}
	return a, nil
}

// start runs the authority and waits until it serves. One that does not come up,
// for the store may be away, is started again.
func (a *authority) start(ctx context.Context) error {
	return await(ctx, readyTimeout, a.name+" serves", func(ctx context.Context) error {
		a.mu.Lock()
		if a.program == nil || !a.program.running() {
			p, err := launch(a.name, a.command())
			if err != nil {
				a.mu.Unlock()
				return err
			}
			a.program = p
		}
		p := a.program
		a.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := sessiondv1.NewSessionServiceClient(a.conn).GetIntake(ctx, &sessiondv1.GetIntakeRequest{}); err != nil {
			return fmt.Errorf("%w; it printed:\n%s", err, p.log)
		}
		a.mu.Lock()
		a.serves = true
		a.mu.Unlock()
		return nil
	})
}

// signal sends sig to the authority that runs.
func (a *authority) signal(sig syscall.Signal) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.program == nil {
		return nil
	}
	return a.program.signal(sig)
}

// kill ends the authority without warning.
func (a *authority) kill() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.program == nil {
		return nil
	}
	a.serves = false
	err := a.program.end(syscall.SIGKILL)
	a.program = nil
	return err
}

// alive reports that nobody but us has ended the authority.
func (a *authority) alive() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.serves && !a.program.running() {
		return fmt.Errorf("%s has ended: %w; it printed:\n%s", a.name, a.program.err, a.program.log)
	}
	return nil
}

// count adds the counters of the life that is about to end, as far as they can be had.
func (a *authority) count(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	found, err := scrape(ctx, a.operator)
	if err != nil {
		return // stopped or silent: its part of the statistics is missing
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, value := range found {
		a.counted[name] += value
	}
}

func (a *authority) close() error {
	return errors.Join(a.kill(), a.conn.Close(), a.closeLinks())
}

func (a *authority) closeLinks() error {
	var err error
	for _, l := range a.stores {
		err = errors.Join(err, l.Close())
	}
	return err
}

// scrape reads the counters without labels from an operator's listener.
func scrape(ctx context.Context, address string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.ContainsAny(name, "#{") {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = n
		}
	}
	return out, errors.Join(lines.Err(), response.Body.Close())
}

// worker is one worker process and its links, one to each authority.
type worker struct {
	name  string
	links []*proxy.Link
	*program

	stdin io.WriteCloser
	mu    sync.Mutex
	queue []byte
	wake  chan struct{} // capacity 1

	writing, reading chan struct{} // closed when that has ended
}

// startWorker runs a worker. Each record it reports is handed to take, in order.
func startWorker(cfg Config, number int, authorities []*authority, take func(record.Record)) (_ *worker, err error) {
	w := &worker{name: fmt.Sprintf("worker-%d", number), wake: make(chan struct{}, 1), writing: make(chan struct{}), reading: make(chan struct{})}
	var addresses []string
	defer func() {
		if err != nil {
			err = errors.Join(err, w.closeLinks())
		}
	}()
	for _, a := range authorities {
		l, err := proxy.New(a.address)
		if err != nil {
			return nil, err
		}
		w.links = append(w.links, l)
		addresses = append(addresses, l.Address())
	}
	timeout := min(cfg.Bound, 500*time.Millisecond)
	cmd := exec.Command(cfg.Worker, "-name="+w.name, "-authorities="+strings.Join(addresses, ","), "-rate="+strconv.Itoa(cfg.Calls), "-timeout="+timeout.String())
	// Pipes of our own: Wait would close those of cmd.StdoutPipe before the last
	// record is read.
	stdout, reports := io.Pipe()
	cmd.Stdout = reports
	if w.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if w.program, err = launch(w.name, cmd); err != nil {
		return nil, err
	}
	go func() {
		<-w.done
		_ = reports.Close() // never fails; tells the reader that no more comes
	}()
	go w.write()
	go w.read(stdout, take)
	return w, nil
}

// tell queues a command; it does not wait for a worker that stands still.
func (w *worker) tell(command string) {
	w.mu.Lock()
	w.queue = append(append(w.queue, command...), '\n')
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default: // it will see this one too
	}
}

func (w *worker) write() {
	defer close(w.writing)
	for {
		select {
		case <-w.wake:
		case <-w.done:
			return
		}
		w.mu.Lock()
		queued := w.queue
		w.queue = nil
		w.mu.Unlock()
		if _, err := w.stdin.Write(queued); err != nil {
			return // it has ended, which is noticed elsewhere
		}
	}
}

func (w *worker) read(from io.Reader, take func(record.Record)) {
	defer close(w.reading)
	buffered := bufio.NewReaderSize(from, 64<<10)
	for {
		r, err := record.Read(buffered)
		if err != nil {
			return
		}
		take(r)
	}
}

// alive reports that the worker has not ended.
func (w *worker) alive() error {
	if w.running() {
		return nil
	}
	return fmt.Errorf("%s has ended: %w; it printed:\n%s", w.name, w.err, w.log)
}

// close asks the worker to end and waits for its last record.
func (w *worker) close() error {
	err := w.signal(syscall.SIGCONT)
	_ = w.stdin.Close() // closed already where the worker has ended
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-w.done:
		if w.err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w; it printed:\n%s", w.name, w.err, w.log))
		}
	case <-timer.C:
		err = errors.Join(err, fmt.Errorf("%s did not end within %v", w.name, stopTimeout), w.end(syscall.SIGKILL))
	}
	<-w.writing
	<-w.reading
	return errors.Join(err, w.closeLinks())
}

func (w *worker) closeLinks() error {
	var err error
	for _, l := range w.links {
		err = errors.Join(err, l.Close())
	}
	return err
}
