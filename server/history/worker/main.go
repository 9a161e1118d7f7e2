// Worker is a service as the history checker needs it: it validates the sessions
// that it is told of, without an end, and reports each call.
//
// Standard input has lines "add N COOKIE", "hot N" and "drop N"; N numbers the
// session. Standard output is a stream of records (package record). It ends when
// standard input does.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sessiond/sessiond/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/sessiond/sessiond/server/history/record"
)

const (
	// callsUnderWay is the most at a time. Calls that wait for a silent authority
	// must not keep others from being answered from memory.
	callsUnderWay = 512
	// flushEvery is how long records may wait.
	flushEvery = 5 * time.Millisecond
	// burst is the most calls that are made up for after a pause.
	burst = 16
	// batchSize is how many credentials a batch holds.
	batchSize = 8
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	authorities := flags.String("authorities", "", "addresses, separated by commas")
	name := flags.String("name", "worker", "name in the authorities' view")
	rate := flags.Int("rate", 2000, "calls a second")
	timeout := flags.Duration("timeout", 500*time.Millisecond, "of a call")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := record.CheckClock(); err != nil {
		return err
	}
	sessions, err := connect(strings.Split(*authorities, ","), *name, *timeout)
	if err != nil {
		return err
	}
	w := &worker{sessions: sessions, known: map[uint32]*entry{}, out: bufio.NewWriterSize(out, 64<<10)}
	ctx, cancel := context.WithCancelCause(context.Background())
	var calling sync.WaitGroup
	calling.Go(func() {
		if err := w.call(ctx, *rate); err != nil {
			cancel(err)
		}
	})
	err = w.obey(ctx, in)
	cancel(nil)
	calling.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	return errors.Join(err, sessions.Close(), w.flush())
}

// seen carries the source of an answer out of a call.
type seen struct{ source record.Source }

type seenKey struct{}

func connect(addresses []string, name string, timeout time.Duration) (*client.Client, error) {
	fleet := manual.NewBuilderWithScheme("fleet")
	var state resolver.State
	for _, a := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: a})
	}
	fleet.InitialState(state)
	return client.New("fleet:///sessiond", client.WithInsecure(), client.WithName(name), client.WithTimeout(timeout),
		client.WithDialOptions(grpc.WithResolvers(fleet)),
		client.WithObserver(func(ctx context.Context, o client.Observation) {
			if s, ok := ctx.Value(seenKey{}).(*seen); ok {
				s.source = sources[o.Source]
			}
		}))
}

var sources = map[client.Source]record.Source{
	client.SourceLocal: record.FromLocal, client.SourceAuthority: record.FromAuthority, client.SourceCache: record.FromCache,
}

// pool says how often a session is asked about.
type pool int

const (
	hot   pool = iota // about to end
	warm              // good as far as known
	ended             // refused
	pools
)

// entry is one session. The worker's lock guards it.
type entry struct {
	number     uint32
	credential client.Credential
	pool       pool
	index      int // in its pool
	underWay   int // calls
	dropped    bool
}

type worker struct {
	sessions *client.Client

	mu    sync.Mutex
	known map[uint32]*entry
	pools [pools][]*entry

	outMu  sync.Mutex
	out    *bufio.Writer
	outErr error
}

// obey reads commands until the input or the context ends.
func (w *worker) obey(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() && ctx.Err() == nil {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			return errors.New("a command needs a name and a number")
		}
		number, err := strconv.ParseUint(fields[1], 10, 32)
		if err != nil {
			return fmt.Errorf("command %s: not a number", fields[0])
		}
		switch {
		case fields[0] == "add" && len(fields) == 3:
			w.add(&entry{number: uint32(number), credential: client.FromHeaders(fields[2], ""), pool: warm})
		case fields[0] == "hot":
			w.heat(uint32(number))
		case fields[0] == "drop":
			w.drop(uint32(number))
		default:
			return fmt.Errorf("no such command: %s with %d words", fields[0], len(fields))
		}
	}
	return lines.Err()
}

func (w *worker) add(e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known[e.number] = e
	w.enter(e, e.pool)
}

func (w *worker) heat(number uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.known[number]; e != nil && e.pool == warm {
		w.leave(e)
		w.enter(e, hot)
	}
}

func (w *worker) drop(number uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.known[number]
	if e == nil {
		return
	}
	delete(w.known, number)
	w.leave(e)
	e.dropped = true
	if e.underWay == 0 {
		w.report(record.Record{Kind: record.Dropped, Session: number})
	}
}

// enter and leave need the lock.
func (w *worker) enter(e *entry, p pool) {
	e.pool, e.index = p, len(w.pools[p])
	w.pools[p] = append(w.pools[p], e)
}

func (w *worker) leave(e *entry) {
	in := w.pools[e.pool]
	last := in[len(in)-1]
	in[e.index], last.index = last, e.index
	w.pools[e.pool] = in[:len(in)-1]
}

// begin chooses a session at random, most often one that is about to end.
func (w *worker) begin() *entry {
	const tries, share = 4, 8
	w.mu.Lock()
	defer w.mu.Unlock()
	for range tries {
		p := warm
		switch n := rand.IntN(100); {
		case n < 50:
			p = hot
		case n >= 85:
			p = ended
		}
		for range pools {
			if len(w.pools[p]) > 0 {
				break
			}
			p = (p + 1) % pools
		}
		if len(w.pools[p]) == 0 {
			return nil
		}
		// One that nobody answers for must not use up all calls.
		if e := w.pools[p][rand.IntN(len(w.pools[p]))]; e.underWay < share {
			e.underWay++
			return e
		}
	}
	return nil
}

// finish reports a call and notes what it says about the session.
func (w *worker) finish(e *entry, r record.Record) {
	w.report(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	e.underWay--
	switch {
	case e.dropped:
		if e.underWay == 0 {
			w.report(record.Record{Kind: record.Dropped, Session: e.number})
		}
	case r.Outcome == record.Refused && e.pool != ended:
		w.leave(e)
		w.enter(e, ended)
	case r.Outcome == record.Accepted && e.pool == ended:
		w.leave(e)
		w.enter(e, warm)
	}
}

func (w *worker) report(r record.Record) {
	w.outMu.Lock()
	defer w.outMu.Unlock()
	if _, err := w.out.Write(r.Append(nil)); err != nil {
		w.outErr = err
	}
}

func (w *worker) flush() error {
	w.outMu.Lock()
	defer w.outMu.Unlock()
	return errors.Join(w.outErr, w.out.Flush())
}

// call makes calls at the given rate until the context ends, and waits for them.
func (w *worker) call(ctx context.Context, rate int) error {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	room := make(chan struct{}, callsUnderWay)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	failed := make(chan error, 1)
	flushed, last, due := time.Now(), time.Now(), 0.0
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
		}
		now := time.Now()
		due = min(due+now.Sub(last).Seconds()*float64(rate), burst)
		last = now
		for ; due >= 1; due-- {
			select {
			case room <- struct{}{}:
			default:
				continue // everybody waits; not even this one is made up for
			}
			underWay.Go(func() {
				defer func() { <-room }()
				if err := w.one(ctx); err != nil {
					select {
					case failed <- err:
					default: // the first says enough
					}
				}
			})
		}
		if now.Sub(flushed) >= flushEvery {
			flushed = now
			if err := w.flush(); err != nil {
				return fmt.Errorf("report: %w", err)
			}
		}
	}
}

// one makes one call of a random way.
func (w *worker) one(ctx context.Context) error {
	switch n := rand.IntN(100); {
	case n < 2:
		return w.batch(ctx)
	case n < 5:
		return w.single(ctx, record.AtLeast)
	case n < 10:
		return w.single(ctx, record.Strict)
	default:
		return w.single(ctx, record.Plain)
	}
}

func (w *worker) single(ctx context.Context, way record.Way) error {
	e := w.begin()
	if e == nil {
		return nil
	}
	s := &seen{}
	ctx = context.WithValue(ctx, seenKey{}, s)
	r := record.Record{Kind: record.Call, Way: way, Session: e.number, Start: record.Now()}
	session, err := w.validate(ctx, e.credential, way)
	r.End = record.Now()
	r.Source = s.source
	err = judge(&r, session, err)
	w.finish(e, r)
	return err
}

func (w *worker) validate(ctx context.Context, credential client.Credential, way record.Way) (*client.Session, error) {
	switch way {
	case record.Strict:
		return w.sessions.Validate(ctx, credential, client.Strict())
	case record.AtLeast:
		revision, err := w.sessions.Revision(ctx)
		if err != nil {
			return nil, err
		}
		return w.sessions.Validate(ctx, credential, client.AtLeast(revision))
	default:
		return w.sessions.Validate(ctx, credential)
	}
}

func (w *worker) batch(ctx context.Context) error {
	var entries []*entry
	var credentials []client.Credential
	for range batchSize {
		if e := w.begin(); e != nil {
			entries, credentials = append(entries, e), append(credentials, e.credential)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	start := record.Now()
	results, err := w.sessions.ValidateBatch(ctx, credentials)
	end := record.Now()
	var wrong error
	for i, e := range entries {
		r := record.Record{Kind: record.Call, Way: record.Batch, Source: record.FromAuthority, Session: e.number, Start: start, End: end}
		result := client.Result{Err: err}
		if err == nil {
			result = results[i]
		}
		wrong = errors.Join(wrong, judge(&r, result.Session, result.Err))
		w.finish(e, r)
	}
	return wrong
}

// judge fills in how the call ended. Its error is about fields that nobody wrote.
func judge(r *record.Record, session *client.Session, err error) error {
	switch client.OutcomeOf(err) {
	case client.OutcomeAccepted:
		r.Outcome = record.Accepted
		var userErr, sessionErr error
		r.UserVersion, userErr = version(session.User.Name)
		r.SessionVersion, sessionErr = version(session.UserAgent)
		return errors.Join(userErr, sessionErr)
	case client.OutcomeRefused:
		r.Outcome = record.Refused
	default:
		r.Outcome = record.Undecided
	}
	return nil
}

// version reads a row's version out of a field: v and a number.
func version(field string) (int32, error) {
	text, ok := strings.CutPrefix(field, "v")
	n, err := strconv.ParseInt(text, 10, 32)
	if !ok || err != nil {
		return 0, fmt.Errorf("a session came with the field %q, which nobody wrote", field)
	}
	return int32(n), nil
}
