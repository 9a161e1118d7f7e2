package history

import (
	"io"
	"net"
	"sync"
	"time"
)

// link is a TCP connection's way that can be cut, silenced and slowed, each
// direction by itself.
type link struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	cut   bool
	// up is from whoever connects, down is back to it.
	up, down direction
	closed   bool
}

// direction is the state of one direction.
type direction struct {
	silent bool
	delay  time.Duration
}

func newLink(target string) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{listener: listener, target: target, conns: map[net.Conn]struct{}{}}
	l.running.Go(l.accept)
	return l, nil
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		refused := l.cut || l.closed
		l.mu.Unlock()
		if refused {
			_ = near.Close()
			continue
		}
		l.running.Go(func() { l.serve(near) })
	}
}

func (l *link) serve(near net.Conn) {
	far, err := net.DialTimeout("tcp", l.target, time.Second)
	if err != nil {
		_ = near.Close()
		return
	}
	l.mu.Lock()
	if l.closed || l.cut {
		l.mu.Unlock()
		_, _ = near.Close(), far.Close()
		return
	}
	l.conns[near], l.conns[far] = struct{}{}, struct{}{}
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.copy(far, near, func() direction { return l.up }) })
	both.Go(func() { l.copy(near, far, func() direction { return l.down }) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, near)
	delete(l.conns, far)
	l.mu.Unlock()
}

// copy passes on what comes, or holds it while the direction is silent: TCP loses
// nothing, it comes late.
func (l *link) copy(to, from net.Conn, of func() direction) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 1<<15)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !l.hold(of) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

var _ io.Reader = (net.Conn)(nil)

func (l *link) hold(of func() direction) bool {
	const step = 2 * time.Millisecond
	for held := time.Duration(0); ; held += step {
		l.mu.Lock()
		d, gone := of(), l.cut || l.closed
		l.mu.Unlock()
		if gone {
			return false
		}
		if !d.silent && held >= d.delay {
			return true
		}
		time.Sleep(step)
	}
}

// set changes the state of the link. Cutting closes what is open.
func (l *link) set(cut bool, up, down direction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.up, l.down = cut, up, down
	if cut {
		l.closeConns()
	}
}

func (l *link) closeConns() {
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.closeConns()
	l.mu.Unlock()
	_ = l.listener.Close()
	l.running.Wait()
}
