// Package proxy is a TCP link that tests can cut, hold up and delay, each
// direction for itself. What is held up is never lost: it arrives late, as on a
// network that comes back, which is the hardest case for whoever must not believe
// old news.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Direction is one of a link's two.
type Direction int

// The directions.
const (
	// Up goes from whoever connected to the target.
	Up Direction = iota
	// Down comes back.
	Down
)

const (
	// chunkSize is the most that is read at once, in bytes, and queueLength how
	// many chunks are under way; more waits in the sender's socket.
	chunkSize   = 32 << 10
	queueLength = 64
	// dialTimeout bounds a connection to the target.
	dialTimeout = 2 * time.Second
)

// Link listens on loopback and connects whoever comes with its target. Its
// methods are safe for concurrent use. The caller closes it.
type Link struct {
	listener net.Listener
	running  sync.WaitGroup
	lifetime context.Context
	end      context.CancelFunc

	mu      sync.Mutex
	target  string
	cut     bool
	ways    [2]way
	changed chan struct{} // closed, and replaced, when ways change
	conns   map[net.Conn]struct{}
}

// way is how one direction behaves.
type way struct {
	held  bool
	delay time.Duration
}

// New returns a link to target, host:port, that passes everything on.
func New(target string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	l := &Link{listener: listener, target: target, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	l.lifetime, l.end = context.WithCancel(context.Background())
	l.running.Go(l.accept)
	return l, nil
}

// Address returns where the link listens, host:port.
func (l *Link) Address() string { return l.listener.Addr().String() }

// Close ends the link and its connections, and waits for its goroutines.
func (l *Link) Close() error {
	l.end()
	err := l.listener.Close()
	l.mu.Lock()
	l.closeConns()
	l.mu.Unlock()
	l.running.Wait()
	return err
}

// Cut ends all connections, and each new one as soon as it is made, until Heal.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	l.closeConns()
}

// Hold stops one direction: nothing arrives until Heal, and everything then.
func (l *Link) Hold(d Direction) { l.set(d, way{held: true}) }

// Delay has everything in one direction arrive that much later, until Heal.
func (l *Link) Delay(d Direction, by time.Duration) { l.set(d, way{delay: by}) }

// Heal lets everything pass again, in both directions.
func (l *Link) Heal() {
	l.mu.Lock()
	l.cut = false
	l.mu.Unlock()
	l.set(Up, way{})
	l.set(Down, way{})
}

// Retarget ends all connections; new ones go to target.
func (l *Link) Retarget(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = target
	l.closeConns()
}

func (l *Link) set(d Direction, w way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ways[d] = w
	close(l.changed)
	l.changed = make(chan struct{})
}

// closeConns needs the lock. The pumps of the connections see it as their end.
func (l *Link) closeConns() {
	for c := range l.conns {
		_ = c.Close() // cut on purpose; there is nothing to flush
	}
	clear(l.conns)
}

// admit notes a connection; it refuses while the link is cut or closed.
func (l *Link) admit(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || l.lifetime.Err() != nil {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.running.Go(func() { l.serve(near) })
	}
}

// serve carries one connection until either end, or the link, ends it.
func (l *Link) serve(near net.Conn) {
	defer l.forget(near)
	if !l.admit(near) {
		return
	}
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	dialer := net.Dialer{Timeout: dialTimeout}
	far, err := dialer.DialContext(l.lifetime, "tcp", target)
	if err != nil {
		return // whoever connected sees a connection that ends
	}
	defer l.forget(far)
	if !l.admit(far) {
		return
	}
	over, end := context.WithCancel(l.lifetime)
	defer end()
	var pumps sync.WaitGroup
	for _, p := range []struct {
		d        Direction
		from, to net.Conn
	}{{Up, near, far}, {Down, far, near}} {
		chunks := make(chan chunk, queueLength)
		pumps.Go(func() {
			defer close(chunks)
			l.read(over, p.from, chunks)
		})
		pumps.Go(func() {
			defer end()
			l.write(over, p.d, p.to, chunks)
		})
	}
	// One direction's end is the connection's: neither gRPC nor PostgreSQL lives
	// on half of one.
	<-over.Done()
	l.forget(near)
	l.forget(far)
	pumps.Wait()
}

func (l *Link) forget(c net.Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	_ = c.Close() // may be closed already; there is nothing to flush
}

// chunk is what arrived at once.
type chunk struct {
	data []byte
	at   time.Time
}

func (l *Link) read(over context.Context, from net.Conn, chunks chan<- chunk) {
	for {
		data := make([]byte, chunkSize)
		n, err := from.Read(data)
		if n > 0 {
			select {
			case chunks <- chunk{data: data[:n], at: time.Now()}:
			case <-over.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *Link) write(over context.Context, d Direction, to net.Conn, chunks <-chan chunk) {
	for c := range chunks {
		if l.pass(over, d, c.at) != nil {
			return
		}
		if _, err := to.Write(c.data); err != nil {
			return
		}
	}
	// The sender has ended; what it had sent has been passed on.
}

// errOver ends a wait that nothing will come of.
var errOver = errors.New("the connection is over")

// pass waits until what arrived at the given time may go on.
func (l *Link) pass(over context.Context, d Direction, at time.Time) error {
	for {
		l.mu.Lock()
		w, changed := l.ways[d], l.changed
		l.mu.Unlock()
		left := w.delay - time.Since(at)
		if !w.held && left <= 0 {
			return nil
		}
		var due <-chan time.Time
		var timer *time.Timer
		if !w.held {
			timer = time.NewTimer(left)
			due = timer.C
		}
		select {
		case <-changed:
		case <-due:
		case <-over.Done():
		}
		if timer != nil {
			timer.Stop()
		}
		if over.Err() != nil {
			return errOver
		}
	}
}
