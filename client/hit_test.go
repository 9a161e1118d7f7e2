package client

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
)

// browserHeader is what a browser sends, about 600 bytes: the session's cookie
// among six others.
const browserHeader = "_ga=GA1.1.1423579.1729511220; _ga_QX4E1KJ0BM=GS1.1.1729511220.1.1.1729511297.0.0.0; theme=dark; " +
	"ph_phc_1H2G8jP4Zo_posthog=%7B%22distinct_id%22%3A%220192b0a2-7c9a-7d2c-8f0e-7e0b6d0a5e55%22%2C%22%24sesid%22%3A%5B1729511297%2C%220192b0a2%22%2C1729511220%5D%7D; " +
	"better-auth.session_token=Jx8AlKdbtDCPV9SEWXVzH7oUAcVpMzTc.q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA%3D; " +
	"consent=eyJhbmFseXRpY3MiOnRydWUsIm1hcmtldGluZyI6ZmFsc2UsInZlcnNpb24iOjMsInRpbWVzdGFtcCI6MTcyOTUxMTIyMH0; " +
	"intercom-device-id-qjx2ck=3c0e31f1-2a44-4b0b-9a8c-0e8f9d5a1b77; lang=en"

// warm returns a client whose memory holds the session of browserHeader.
func warm(tb testing.TB) *Client {
	tb.Helper()
	c, err := New("127.0.0.1:1")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	in := &intake{rules: []cookieRule{{name: "__Secure-better-auth.session_token"}, {name: "better-auth.session_token"}}, maxBytes: 1 << 16, instances: []string{"one"}}
	c.intake.known.Store(in)
	epoch := c.cache.begin("one", clock.Bound(time.Hour))
	narrowed, _ := in.narrow(FromHeaders(browserHeader, ""))
	a := answer{
		result: Result{Session: &Session{ID: "s", UserID: "u"}}, hasKey: true, asked: true, asOf: clock.Now(),
		remaining: time.Hour, instance: "one",
	}
	if j := c.cache.judge(c.cache.digester.of(narrowed), c.cache.ask(), &a, nil); j.verdict != usable || c.cache.idle() {
		tb.Fatal("the answer was not kept")
	}
	c.cache.grant(epoch, clock.Now())
	return c
}

func TestHitDoesNotAllocate(t *testing.T) {
	c := warm(t)
	credential := FromHeaders(browserHeader, "")
	ctx := t.Context()
	n := testing.AllocsPerRun(100, func() {
		if s, err := c.Validate(ctx, credential); err != nil || s.ID != "s" {
			t.Fatal(s, err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	if s := c.Stats(); s.Hits != 101 || s.Calls != 101 || s.Entries != 1 || s.Bytes == 0 {
		t.Errorf("stats %+v", s)
	}
}

func BenchmarkHit(b *testing.B) {
	c := warm(b)
	credential := FromHeaders(browserHeader, "")
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if s, err := c.Validate(ctx, credential); err != nil || s == nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHitParallel(b *testing.B) {
	c := warm(b)
	credential := FromHeaders(browserHeader, "")
	ctx := b.Context()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if s, err := c.Validate(ctx, credential); err != nil || s == nil {
				b.Fatal(err)
			}
		}
	})
}
