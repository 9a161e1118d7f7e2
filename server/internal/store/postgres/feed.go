package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Feed is the change feed and the registry in a PostgreSQL database, which must be
// the primary. It implements [feed.Source], over at most three connections of its
// own. No statement takes longer than 5 s, whatever the caller allows.
type Feed struct {
	server     server
	statements feedStatements
	line       line
	side       *pgxpool.Pool // for all but Register, Beat and Poll

	mu sync.Mutex
	// era is that of the last answer on the line, system the identifier of the
	// server that gave it; empty: not known.
	era    store.Era
	system string

	closing context.Context // done once Close was called
	close   context.CancelFunc
}

// feedStatements are the statements that depend on the tables or on rights.
type feedStatements struct {
	register, beat, revision string
	revoke                   revokeStatements
}

var _ feed.Source = (*Feed)(nil)

// errNoLife means that the life of the server was gone each time it had been begun.
var errNoLife = errors.New("the server's life does not last")

// OpenFeed connects and checks that there is a feed to be used. The caller must
// Close it. The error wraps [feed.ErrNotInstalled] where there is none, none for
// this role or this version, or where the server is a standby; it says what to do.
// Otherwise it wraps [store.ErrUnavailable] or the context's error, or tells what
// is wrong with the tables or the connection string.
func OpenFeed(ctx context.Context, c Config) (*Feed, error) {
	pc, err := parseConfig(c)
	if err != nil {
		return nil, err
	}
	pc.MaxConns, pc.MinConns, pc.MinIdleConns = sideConns, 0, 0
	f := &Feed{server: serverOf(pc.ConnConfig), line: line{config: pc.ConnConfig.Copy()}}
	f.closing, f.close = context.WithCancel(context.WithoutCancel(ctx))
	if f.side, err = pgxpool.NewWithConfig(f.closing, pc); err != nil { //nolint:contextcheck // the pool outlives OpenFeed
		f.close()
		return nil, f.server.unavailable(err)
	}
	if err := f.prepare(ctx, c); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// prepare finds the tables, looks at what is installed and writes the statements.
func (f *Feed) prepare(ctx context.Context, cfg Config) error {
	var (
		c                 *catalog
		standby, readable bool
		version           int
	)
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	err := f.line.do(opening, func(ctx context.Context, conn *pgx.Conn) (err error) {
		if c, err = readCatalog(ctx, conn); err != nil {
			return err
		}
		const look = `SELECT pg_is_in_recovery(), has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')`
		if err := conn.QueryRow(ctx, look).Scan(&standby, &readable); err != nil {
			return err
		}
		return conn.QueryRow(ctx, `SELECT COALESCE((SELECT version FROM sessiond.setting), 0)`).Scan(&version)
	})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("open the change feed: %w", ctx.Err())
	case standby:
		return fmt.Errorf("%w where it can be used: %s is a standby: connect to the primary (target_session_attrs=read-write in the connection string)", feed.ErrNotInstalled, f.server)
	case err != nil:
		return f.server.feedFailed("the change feed", err)
	}
	if err := f.checkVersion(version); err != nil {
		return err
	}
	m, err := schema.Discover(c.Catalog, cfg.Schema)
	if err != nil {
		return fmt.Errorf("database %s: %w", f.server, err)
	}
	system := noSystemSQL
	if readable {
		system = systemSQL
	}
	f.statements = feedStatements{
		register: registerSQL(system),
		beat:     beatSQL(system),
		revision: revisionSQL(system),
		revoke:   newRevokeStatements(c, m, system, cfg.Zone),
	}
	return nil
}

// checkVersion compares the version of what is installed, 0 for nothing.
func (f *Feed) checkVersion(version int) error {
	switch {
	case version == 0:
		return fmt.Errorf("%w in %s: run sessiond feed install", feed.ErrNotInstalled, f.server)
	case version < outboxVersion:
		return fmt.Errorf("%w as it should be: the outbox in %s has version %d, this sessiond needs %d: run sessiond feed install", feed.ErrNotInstalled, f.server, version, outboxVersion)
	case version > outboxVersion:
		return fmt.Errorf("%w as it should be: the outbox in %s has version %d, this sessiond knows %d: upgrade sessiond", feed.ErrNotInstalled, f.server, version, outboxVersion)
	}
	return nil
}

// Close implements [feed.Source]. It ends the statements under way and waits for
// them.
func (f *Feed) Close() error {
	f.close()
	f.line.close(f.closing)
	f.side.Close()
	return nil
}

// Register implements [feed.Source].
func (f *Feed) Register(ctx context.Context, bound time.Duration) (feed.Registration, error) {
	reg := feed.Registration{ID: newID()}
	var (
		o        origin
		system   string
		durable  *string // NULL: no row was written
		version  int
		boundMS  int64
		coverage string
		triggers int
	)
	err := f.onLine(ctx, "registering", func(ctx context.Context, conn *pgx.Conn) error {
		for range lifeTries {
			if _, err := conn.Exec(ctx, beginLifeSQL); err != nil {
				return err
			}
			version = 0
			rows, err := conn.Query(ctx, f.statements.register, reg.ID, outboxVersion, bound.Milliseconds())
			if err != nil {
				return err
			}
			targets := append(o.targets(), &system, &durable, &version, &boundMS, &coverage, &reg.Objects, &triggers)
			if _, err := pgx.ForEachRow(rows, targets, func() error { return nil }); err != nil {
				return err
			}
			if o.life != "" || version == 0 {
				return nil
			}
		}
		return errNoLife
	})
	if err != nil {
		return feed.Registration{}, err
	}
	if err := f.checkVersion(version); err != nil {
		return feed.Registration{}, err
	}
	if durable == nil {
		installed := time.Duration(boundMS) * time.Millisecond
		return feed.Registration{}, fmt.Errorf("%w: the outbox in %s is for %v, staleness_bound is %v: configure %v, or stop all replicas and run sessiond feed install --bound %v",
			feed.ErrBound, f.server, installed, bound, installed, bound)
	}
	reg.Era, reg.Position = o.era(), o.position
	f.cover(&reg.News, coverage, triggers)
	f.saw(reg.Era, system)
	return reg, nil
}

// newID is a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Poll implements [feed.Source].
func (f *Feed) Poll(ctx context.Context, from feed.Position) (feed.News, error) {
	news, _, err := f.read(ctx, "polling", pollSQL, []any{string(from)})
	if err != nil {
		return feed.News{}, err
	}
	f.saw(news.Era, "")
	return news, nil
}

// Beat implements [feed.Source].
func (f *Feed) Beat(ctx context.Context, b feed.Beat) (feed.News, error) {
	var (
		system, durable, coverage, objects string
		version, triggers                  int
	)
	args := []any{b.ID, b.Acked, b.Number, string(b.Written), string(b.Done), string(b.DoneEra), string(b.From)}
	news, rows, err := f.read(ctx, "beating", f.statements.beat, args, &system, &durable, &version, &coverage, &objects, &triggers)
	switch {
	case err != nil:
		return feed.News{}, err
	case rows == 0:
		return feed.News{}, fmt.Errorf("%w, or the session store went back in time", feed.ErrLostPlace)
	}
	f.saw(news.Era, system)
	if err := f.checkVersion(version); err != nil {
		return feed.News{}, err
	}
	news.Objects = objects
	f.cover(&news, coverage, triggers)
	return news, nil
}

// cover says how much the feed tells of (S1).
func (f *Feed) cover(news *feed.News, coverage string, triggers int) {
	switch {
	case coverage == "own":
		news.Coverage = feed.CoverageOwn
	case triggers == triggerCount:
		news.Coverage = feed.CoverageFull
	default:
		news.Coverage = feed.CoverageBroken
		news.Problem = fmt.Sprintf("%d of %d triggers on the session and user tables of %s are there and enabled: run sessiond feed install", triggers, triggerCount, f.server)
	}
}

// lifeTries is how often a statement is sent in a row that finds the server's life
// not begun: whoever finds that begins it, and another crash may come between.
const lifeTries = 3

// read sends a poll or a beat and collects what it brought, and how many rows that
// were. Where the server's life was not begun it begins it and asks again, so that
// the answer has an era of its own (F4). Only the end of the statement without an
// error acknowledges it (F2).
func (f *Feed) read(ctx context.Context, op, sql string, args []any, extra ...any) (news feed.News, n int64, err error) {
	var o origin
	err = f.onLine(ctx, op, func(ctx context.Context, conn *pgx.Conn) error {
		for range lifeTries {
			news, o = feed.News{}, origin{}
			rows, err := conn.Query(ctx, sql, args...)
			if err != nil {
				return err
			}
			var e event
			tag, err := pgx.ForEachRow(rows, append(append(o.targets(), e.targets()...), extra...), func() error {
				if e.kind != nil {
					news.Events = append(news.Events, e.decode())
				}
				return nil
			})
			if err != nil {
				return err
			}
			if n = tag.RowsAffected(); n == 0 || o.life != "" {
				return nil
			}
			if _, err := conn.Exec(ctx, beginLifeSQL); err != nil {
				return err
			}
		}
		return errNoLife
	})
	news.Era, news.Position = o.era(), o.position
	if len(news.Events) > bulk {
		news.Events, news.Overflow = nil, true
	}
	return news, n, err
}

// saw notes the era of an answer on the line, and the server's identifier where
// the answer held it. The other connections may lead to the server before.
func (f *Feed) saw(era store.Era, system string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.era != era {
		if f.era != "" {
			f.side.Reset()
		}
		f.era, f.system = era, ""
	}
	if system != "" {
		f.system = system
	}
}

// lastEra is the era of the last answer on the line; empty: there was none.
func (f *Feed) lastEra() store.Era {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.era
}

// systemOf is the system identifier of the server of an era; empty: not known.
func (f *Feed) systemOf(era store.Era) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.era != era {
		return ""
	}
	return f.system
}

// origin is where and when an answer comes from: the columns of originSQL.
type origin struct {
	position       feed.Position
	timeline, life string
}

func (o *origin) targets() []any { return []any{(*string)(&o.position), &o.timeline, &o.life} }

func (o *origin) era() store.Era { return eraOf(o.timeline, o.life) }

// event is a row of the outbox; all is NULL where there was none.
type event struct {
	kind   *string
	key    []byte
	user   *string
	urgent *bool
}

func (e *event) targets() []any { return []any{&e.kind, &e.key, &e.user, &e.urgent} }

// decode never loses an event: what cannot be read is "forget all".
func (e *event) decode() feed.Event {
	out := feed.Event{Kind: feed.KindAll, Urgent: e.urgent != nil && *e.urgent}
	switch {
	case *e.kind == "k" && len(e.key) == len(out.Key):
		out.Kind, out.Key = feed.KindKey, feed.Key(e.key)
		if e.user != nil {
			out.User = *e.user
		}
	case *e.kind == "u" && e.user != nil:
		out.Kind, out.User = feed.KindUser, *e.user
	}
	return out
}
