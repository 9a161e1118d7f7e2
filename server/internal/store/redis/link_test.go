package redis_test

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/redistest"
)

// link is a network between a feed and its server. What comes down to the connection
// that is told of changes can be held, and its messages are late by a while, with what
// follows them.
type link struct {
	url  string
	late time.Duration
	gate sync.RWMutex // locked: held
	// before is called with what goes up, before it does; nil: nothing is.
	before func(chunk []byte)
}

func newLink(t *testing.T, s *redistest.Server, late time.Duration) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{url: "redis://" + listener.Addr().String(), late: late}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := []net.Conn{}
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", s.Address)
			if err != nil {
				_ = near.Close()
				continue
			}
			mu.Lock()
			open = append(open, near, far)
			mu.Unlock()
			var tracks atomic.Bool
			running.Go(func() {
				pump(near, far, func(chunk []byte) {
					if l.before != nil {
						l.before(chunk)
					}
					if bytes.Contains(chunk, []byte("TRACKING")) {
						tracks.Store(true)
					}
				})
			})
			running.Go(func() {
				pump(far, near, func([]byte) {
					if tracks.Load() {
						l.gate.RLock()
						l.gate.RUnlock() //nolint:staticcheck // it only waits
					}
				}, l.late)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l
}

var message = []byte(">2\r\n$10\r\ninvalidate")

// pump copies until an end closes.
func pump(from, to net.Conn, see func([]byte), late ...time.Duration) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		chunk := buffer[:n]
		see(chunk)
		if at := bytes.Index(chunk, message); at >= 0 && len(late) > 0 && late[0] > 0 {
			if _, err := to.Write(chunk[:at]); err != nil {
				return
			}
			time.Sleep(late[0])
			chunk = chunk[at:]
		}
		if _, err := to.Write(chunk); err != nil {
			return
		}
	}
}
