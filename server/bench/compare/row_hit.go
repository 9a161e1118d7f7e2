package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/interceptors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// hitSessions is how many sessions, tokens and keys take turns: a worker does not
// see one user alone.
const hitSessions = 1024

// maxMissShare is how many in a hundred calls of the hit may reach the authority
// before it is none: sessions that came to the end of their deadline.
const maxMissShare = 0.1

// measureHit compares a client's answer from its cache, from the raw Cookie header
// on, with the verification of a JWT and with a cache hit of rueidis. Neither of
// these reads a Cookie header or decodes what it finds; the session is not made
// to pay for that.
func measureHit(ctx context.Context, l *lab) (rows []Row, err error) {
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	db, err := l.warmDatabase(ctx)
	if err != nil {
		return nil, err
	}
	a, err := l.startAuthority(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	ending.push(a.stop)
	worker, err := a.worker()
	if err != nil {
		return nil, err
	}
	ending.push(worker.Close)
	redis, address, err := l.startRedis(ctx)
	if err != nil {
		return nil, err
	}
	ending.push(func() error { return redis.end(syscall.SIGTERM) })
	cache, err := redisCache(ctx, address, hitSessions)
	if err != nil {
		return nil, err
	}
	ending.push(func() error { cache.Close(); return nil })
	verifiers, err := newVerifiers(hitSessions)
	if err != nil {
		return nil, err
	}
	guarded, err := newGuarded(worker, db)
	if err != nil {
		return nil, err
	}

	credentials := db.credentials(0, hitSessions)
	hit := func(i int) error {
		_, err := worker.Validate(ctx, credentials[i%hitSessions])
		return err
	}
	cached, err := a.settle(ctx, worker, db.credentials(hitSessions, hitSessions+spareSessions))
	if err != nil {
		return nil, err
	}
	sides := []*side{{name: "hit", call: hit}}
	for _, v := range verifiers {
		sides = append(sides, &side{name: v.name, call: v.verify})
	}
	keys := make([]string, hitSessions)
	for i := range keys {
		keys[i] = token(i)
	}
	sides = append(sides, &side{name: "rueidis", call: func(i int) error {
		return cache.DoCache(ctx, cache.B().Get().Key(keys[i%hitSessions]).Cache(), time.Hour).Error()
	}}, &side{name: "guard", call: guarded.call})
	for _, s := range sides { // fills the caches
		for i := range hitSessions {
			if err := s.call(i); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}

	before, err := a.decided(ctx)
	if err != nil {
		return nil, err
	}
	ours := 0
	for range l.rounds {
		for _, s := range sides {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			n, err := s.measure(l.span(500*time.Millisecond, 30*time.Millisecond))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			if s.name == "hit" || s.name == "guard" {
				ours += n
			}
		}
	}
	after, err := a.decided(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		answer := cache.DoCache(ctx, cache.B().Get().Key(key).Cache(), time.Hour)
		if err := answer.Error(); err != nil || !answer.IsCacheHit() {
			return nil, errors.Join(errors.New("rueidis did not answer from its cache"), err)
		}
	}

	const name = "client hit, from the raw Cookie header"
	nanos := sides[0].nanos
	rows = append(rows,
		soloRow(name, "ns", oursAtMost(200, "ns"), nanos),
		soloRow(name+": allocations", "allocs", oursAtMost(0, "allocs"), sides[0].allocations),
		pairRow(name+" / HS256 golang-jwt", "ns", ratioAtLeast(40), timesCheaper, nanos, sides[1].nanos),
		pairRow(name+" / EdDSA golang-jwt", "ns", noBar, timesCheaper, nanos, sides[2].nanos),
		pairRow(name+" / ES256 golang-jwt", "ns", noBar, timesCheaper, nanos, sides[3].nanos),
		pairRow(name+" / rueidis DoCache, not decoded", "ns", ratioAtLeast(5), timesCheaper, nanos, sides[4].nanos),
		pairRow("gRPC guard around a hit / the hit alone", "ns", noBar, oursByTheirs, sides[5].nanos, nanos),
	)
	if share := 100 * (after - before) / float64(ours); !cached || share > maxMissShare {
		for i := range rows {
			rows[i] = rows[i].invalid(fmt.Sprintf("%.3g %% of the calls reached the authority", share))
		}
	}
	return rows, nil
}

// side is one side of a comparison of calls within this process.
type side struct {
	name               string
	call               func(i int) error
	nanos, allocations []float64
}

// measure takes one sample and returns how many calls it made.
func (s *side) measure(d time.Duration) (int, error) {
	runtime.GC() // what others left behind is not this side's to clean
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, n, err := perCall(d, s.call)
	if err != nil {
		return n, err
	}
	runtime.ReadMemStats(&after)
	// Whole allocations a call, as testing.AllocsPerRun: the process has more to do.
	s.allocations = append(s.allocations, float64((after.Mallocs-before.Mallocs)/uint64(n)))
	took, more, err := perCall(d, s.call)
	s.nanos = append(s.nanos, float64(took.Nanoseconds()))
	return n + more, err
}

// guarded is a gRPC method behind the guard, without the transport.
type guarded struct {
	contexts  []context.Context
	intercept grpc.UnaryServerInterceptor
	info      *grpc.UnaryServerInfo
}

func newGuarded(worker *client.Client, db *database) (*guarded, error) {
	guard, err := interceptors.New(worker)
	if err != nil {
		return nil, err
	}
	g := &guarded{intercept: guard.Unary(), info: &grpc.UnaryServerInfo{FullMethod: "/content.v1.ContentService/Get"}}
	for i := range hitSessions {
		g.contexts = append(g.contexts, metadata.NewIncomingContext(context.Background(), metadata.Pairs("cookie", db.cookie(i))))
	}
	return g, nil
}

func (g *guarded) call(i int) error {
	_, err := g.intercept(g.contexts[i%hitSessions], nil, g.info, func(context.Context, any) (any, error) { return nil, nil })
	return err
}
