// Worker validates sessions in a loop and prints what became of each call. The
// history test runs many of them.
//
// It reads lines "add ID COOKIE" and "drop ID" and prints lines "ID START END
// OUTCOME": nanoseconds of the machine's monotonic clock, which all processes
// share, and a for accepted, r for refused, u for undecided.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/sessiond/sessiond/client"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run() error {
	authorities := flag.String("authorities", "", "addresses, separated by commas")
	loops := flag.Int("loops", 3, "calls at a time")
	pause := flag.Duration("pause", time.Millisecond, "between two calls")
	timeout := flag.Duration("timeout", 300*time.Millisecond, "of a call")
	flag.Parse()

	addresses := manual.NewBuilderWithScheme("fleet")
	var state resolver.State
	for _, a := range strings.Split(*authorities, ",") {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: a})
	}
	addresses.InitialState(state)
	sessions, err := client.New("fleet:///sessiond", client.WithInsecure(), client.WithTimeout(*timeout),
		client.WithDialOptions(grpc.WithResolvers(addresses)))
	if err != nil {
		return err
	}
	defer sessions.Close()

	w := &worker{sessions: sessions, out: bufio.NewWriterSize(os.Stdout, 1<<16), credentials: map[string]client.Credential{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range *loops {
		running.Go(func() { w.loop(ctx, *pause) })
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		w.command(strings.Fields(lines.Text()))
	}
	cancel()
	running.Wait()
	stats := sessions.Stats()
	fmt.Fprintf(os.Stderr, "hits %d misses %d joined %d fenced %d gaps %d\n", stats.Hits, stats.Misses, stats.Joined, stats.Fenced, stats.Gaps)
	return w.out.Flush()
}

type worker struct {
	sessions *client.Client

	mu          sync.Mutex
	credentials map[string]client.Credential
	ids         []string

	outMu sync.Mutex
	out   *bufio.Writer
}

func (w *worker) command(fields []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(fields) == 3 && fields[0] == "add":
		w.credentials[fields[1]] = client.FromHeaders(fields[2], "")
	case len(fields) == 2 && fields[0] == "drop":
		delete(w.credentials, fields[1])
	}
	w.ids = w.ids[:0]
	for id := range w.credentials {
		w.ids = append(w.ids, id)
	}
}

func (w *worker) pick() (string, client.Credential, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ids) == 0 {
		return "", client.Credential{}, false
	}
	id := w.ids[rand.IntN(len(w.ids))]
	return id, w.credentials[id], true
}

func (w *worker) loop(ctx context.Context, pause time.Duration) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		id, credential, ok := w.pick()
		if !ok {
			continue
		}
		start := monotonic()
		_, err := w.sessions.Validate(ctx, credential)
		end := monotonic()
		outcome := "u"
		switch {
		case err == nil:
			outcome = "a"
		case errors.Is(err, client.ErrInvalid):
			outcome = "r"
		}
		w.outMu.Lock()
		fmt.Fprintf(w.out, "%s %d %d %s\n", id, start, end, outcome)
		w.outMu.Unlock()
	}
}

// monotonic reads the machine's monotonic clock.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano()
}
