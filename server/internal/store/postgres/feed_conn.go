package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiond/sessiond/server/internal/store"
)

const (
	// feedTimeout bounds each statement of the feed, the connecting included,
	// whatever the caller allows: nothing hangs on a dead connection for ever.
	feedTimeout = 5 * time.Second
	// closeTimeout bounds the farewell to a server that may not hear it.
	closeTimeout = 100 * time.Millisecond
	// sideConns is how many connections the statements have that are neither
	// register nor beat nor poll.
	sideConns = 2
)

// line is the one connection that registers, beats and polls. Whatever fails on
// it ends it, and the next statement has a new one: an answer from a connection
// that was given up must never arrive (F6).
type line struct {
	config *pgx.ConnConfig

	mu     sync.Mutex // held for a whole statement
	conn   *pgx.Conn
	closed bool
}

// do calls f with the connection.
func (l *line) do(ctx context.Context, f func(context.Context, *pgx.Conn) error) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errFeedClosed
	}
	if l.conn == nil {
		if l.conn, err = pgx.ConnectConfig(ctx, l.config.Copy()); err != nil {
			l.conn = nil
			return err
		}
	}
	if err = f(ctx, l.conn); err != nil {
		l.drop(ctx)
	}
	return err
}

// drop ends the connection. The caller holds mu.
func (l *line) drop(ctx context.Context) {
	if l.conn == nil {
		return
	}
	hangUp(ctx, l.conn)
	l.conn = nil
}

// close ends the connection when the statement under way, if any, has ended.
func (l *line) close(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.drop(ctx)
}

// hangUp ends a connection in bounded time, even when ctx is done. There is
// nothing to be done about an error: the connection is gone either way.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}

// onLine runs f on the line, in bounded time. op names it in errors.
func (f *Feed) onLine(ctx context.Context, op string, do func(context.Context, *pgx.Conn) error) error {
	return f.bounded(ctx, op, func(ctx context.Context) error { return f.line.do(ctx, do) })
}

// onSide runs f on one of the other connections, in bounded time. What the server
// has refused or rolled back for a passing reason is tried once more.
func (f *Feed) onSide(ctx context.Context, op string, do func(context.Context, *pgxpool.Conn) error) error {
	return f.bounded(ctx, op, func(ctx context.Context) error {
		err := acquired(ctx, f.side, do)
		if err != nil && ctx.Err() == nil && undone(err) {
			f.side.Reset()
			err = acquired(ctx, f.side, do)
		}
		return err
	})
}

// acquired calls f with a connection of the pool.
func acquired(ctx context.Context, pool *pgxpool.Pool, f func(context.Context, *pgxpool.Conn) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return f(ctx, conn)
}

// bounded calls do with the feed's own limit and translates its error.
func (f *Feed) bounded(ctx context.Context, op string, do func(context.Context) error) error {
	if f.closing.Err() != nil {
		return errFeedClosed
	}
	bounded, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	stop := context.AfterFunc(f.closing, cancel) //nolint:contextcheck // Close ends statements too
	defer stop()
	err := do(bounded)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, ctx.Err())
	case f.closing.Err() != nil:
		return errFeedClosed
	case bounded.Err() != nil:
		return fmt.Errorf("%w: %s: %s gave no answer within %s: check its load and the network", store.ErrUnavailable, op, f.server, feedTimeout)
	}
	return f.server.feedFailed(op, err)
}
