package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/history/proxy"
)

const (
	// patience bounds a wait for what must happen, glance one for what must not.
	patience = 10 * time.Second
	glance   = 50 * time.Millisecond
)

// echo serves lines and returns its address.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // ends when the other side does
			}()
		}
	}()
	return listener.Addr().String()
}

func newLink(t *testing.T, target string) *proxy.Link {
	t.Helper()
	l, err := proxy.New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// peer is a connection through a link.
type peer struct {
	net.Conn
	lines *bufio.Reader
}

func dial(t *testing.T, l *proxy.Link) *peer {
	t.Helper()
	c, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &peer{Conn: c, lines: bufio.NewReader(c)}
}

func (p *peer) send(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(p, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

func (p *peer) want(t *testing.T, line string) {
	t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if got, err := p.lines.ReadString('\n'); err != nil || got != line+"\n" {
		t.Fatalf("got %q, %v, want %q", got, err, line)
	}
}

func (p *peer) wantSilence(t *testing.T) {
	t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(glance)); err != nil {
		t.Fatal(err)
	}
	if got, err := p.lines.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %q, %v, want nothing yet", got, err)
	}
}

func (p *peer) wantEnd(t *testing.T) {
	t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if got, err := p.lines.ReadString('\n'); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %q, %v, want the end of the connection", got, err)
	}
}

func TestHoldAndHeal(t *testing.T) {
	for _, d := range []proxy.Direction{proxy.Up, proxy.Down} {
		l := newLink(t, echo(t))
		p := dial(t, l)
		p.send(t, "before")
		p.want(t, "before")
		l.Hold(d)
		p.send(t, "first")
		p.send(t, "second")
		p.wantSilence(t)
		l.Heal()
		p.want(t, "first")
		p.want(t, "second")
	}
}

func TestDelay(t *testing.T) {
	l := newLink(t, echo(t))
	p := dial(t, l)
	const by = 120 * time.Millisecond
	l.Delay(proxy.Down, by)
	start := time.Now()
	p.send(t, "late")
	p.wantSilence(t)
	p.want(t, "late")
	if took := time.Since(start); took < by {
		t.Errorf("arrived after %v, want no sooner than %v", took, by)
	}
}

func TestCutAndHeal(t *testing.T) {
	l := newLink(t, echo(t))
	p := dial(t, l)
	p.send(t, "before")
	p.want(t, "before")
	l.Cut()
	p.wantEnd(t)
	dial(t, l).wantEnd(t)
	l.Heal()
	p = dial(t, l)
	p.send(t, "after")
	p.want(t, "after")
}

func TestRetarget(t *testing.T) {
	l := newLink(t, "127.0.0.1:1") // nobody listens there
	dial(t, l).wantEnd(t)
	l.Retarget(echo(t))
	p := dial(t, l)
	p.send(t, "there")
	p.want(t, "there")
}

func TestCloseEndsWhatIsHeld(t *testing.T) {
	l, err := proxy.New(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	p := dial(t, l)
	p.send(t, "before")
	p.want(t, "before")
	l.Hold(proxy.Up)
	p.send(t, "held")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p.wantEnd(t)
}
