package postgres_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a client and a server, as an address that moves from one
// server to another does. Connections that are open stay where they are.
type proxy struct {
	listener net.Listener
	wait     sync.WaitGroup

	mu     sync.Mutex
	target string
	deaf   bool
	conns  map[net.Conn]bool
	closed bool
}

// newProxy returns a proxy to the server of dsn, and the DSN through it.
func newProxy(t testing.TB, dsn string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: u.Host, conns: make(map[net.Conn]bool)}
	p.wait.Go(p.accept)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.cut()
		p.wait.Wait()
	})
	u.Host = l.Addr().String()
	return p, u.String()
}

// leadTo sends new connections to the server of dsn.
func (p *proxy) leadTo(t testing.TB, dsn string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = u.Host
}

// loseNextAnswer cuts a connection instead of bringing what its server says next.
func (p *proxy) loseNextAnswer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		server, err := net.Dial("tcp", target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		closed := p.closed
		p.mu.Unlock()
		hangUp := func() {
			_ = client.Close()
			_ = server.Close()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.conns, client)
			delete(p.conns, server)
		}
		if closed {
			hangUp()
			return
		}
		p.wait.Go(func() {
			defer hangUp()
			_, _ = io.Copy(server, client)
		})
		p.wait.Go(func() {
			defer hangUp()
			_, _ = io.Copy(hearing{p, client}, server)
		})
	}
}

// hearing writes to a client what its server says, unless the answer is to be lost.
type hearing struct {
	p      *proxy
	client net.Conn
}

func (h hearing) Write(b []byte) (int, error) {
	h.p.mu.Lock()
	deaf := h.p.deaf
	h.p.deaf = false
	h.p.mu.Unlock()
	if deaf {
		return 0, io.ErrClosedPipe
	}
	return h.client.Write(b)
}
