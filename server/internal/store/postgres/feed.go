package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// feedTimeout bounds every statement whose caller sets no earlier deadline.
const feedTimeout = 10 * time.Second

// Feed reads the outbox and the registry in a Postgres database. It implements
// [feed.Source]. Every statement is a transaction of its own and needs no session
// state, so a pooler in transaction mode may stand in between.
type Feed struct {
	server  server
	mapping *schema.Mapping
	deletes deletes
	system  string // system identifier; empty where it may not be read

	config *pgx.ConnConfig
	// conn is for Register, Beat and Poll alone. An answer from a connection that
	// was given up cannot come: it is closed with it (F6).
	connMu sync.Mutex
	conn   *pgx.Conn

	others *pgxpool.Pool // for everything else
}

var _ feed.Source = (*Feed)(nil)

// The era of every statement (F4): the timeline comes from the log position, since
// the control file is late by a checkpoint; only life tells a crash behind a pooler.
const eraSQL = `concat_ws('/', left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), (select concat_ws(':', id, tableoid, xmin) from sessiond.life))`

// durable makes this transaction's commit durable whatever the default, without
// waiting for a standby that the default does not wait for (F3). It has to be in a
// target list that is evaluated.
const durable = `set_config('synchronous_commit', case current_setting('synchronous_commit') when 'off' then 'local' else current_setting('synchronous_commit') end, true)`

// eventsSQL reads the events since the position in a parameter (F1), in two
// branches that the index serves in every mode.
func eventsSQL(parameter string) string {
	return fmt.Sprintf(`(select xid, n, kind, key, usr, urgent from sessiond.event where xid >= pg_snapshot_xmax(%[1]s::text::pg_snapshot) order by xid, n limit %[2]d)
  union all
  (select xid, n, kind, key, usr, urgent from sessiond.event where xid = any (array(select pg_snapshot_xip(%[1]s::text::pg_snapshot))) limit %[2]d)`, parameter, bulk+1)
}

var (
	pollSQL = `select pg_current_snapshot()::text, ` + eraSQL + `, e.kind::text, e.key, e.usr, e.urgent
from (select 1) one left join (
  ` + eventsSQL("$1") + `
) e on true`

	// $1 own id; $2 number of the last acknowledged beat; $3 this one's; $4 position
	// of the last acknowledged beat; $5, $6 what is done, in which era; $7 where to
	// read from. No row: the place is lost (G3).
	beatSQL = `with b as (
  update sessiond.replica r
  set beat = greatest(r.beat, $3::bigint), position = $4::text::pg_snapshot, done = $5::text::pg_snapshot, done_era = $6::text
  where r.id = $1::text::uuid and r.beat >= $2::bigint
  returning r.beat)
select pg_current_snapshot()::text, ` + eraSQL + `, e.kind::text, e.key, e.usr, e.urgent, ` + durable + `, b.beat,
  (select s.version from sessiond.setting s), (select s.coverage from sessiond.setting s), coalesce(c.objects, ''), c.triggers
from b cross join (` + coverageSQL + `) c left join (
  ` + eventsSQL("$7") + `
) e on true`

	// $1 the new id. A new place is done at once with what it cannot have cached.
	registerSQL = `with r as (
  insert into sessiond.replica(id, beat, position, done, done_era)
  select $1::text::uuid, 1, pg_current_snapshot(), pg_current_snapshot(), ` + eraSQL + `
  returning position)
select r.position::text, ` + eraSQL + `, ` + durable + `, coalesce(c.objects, ''), c.triggers
from r cross join (` + coverageSQL + `) c`

	settingSQL = `select s.version, s.bound_ms, s.coverage, (select count(*) from sessiond.life), pg_is_in_recovery() from sessiond.setting s`

	// $1 own id; $2 number of the last acknowledged beat.
	replicasSQL = `select ` + eraSQL + `, r.id::text, r.beat, r.done::text, r.done_era, (select count(*) from sessiond.replica o where o.id = $1::text::uuid and o.beat >= $2::bigint)
from (select 1) one left join sessiond.replica r on true`

	excludeSQL = `with d as (delete from sessiond.replica where id = $1::text::uuid and beat = $2::bigint returning id)
select count(*), ` + durable + ` from d`

	// An event goes when it is visible to what every replica has written down (F7).
	// One that is visible and not finished came with a dump of another server.
	cleanSQL = `delete from sessiond.event e
where not exists (select from sessiond.replica r where not pg_visible_in_snapshot(e.xid, r.position))
   or not pg_visible_in_snapshot(e.xid, pg_current_snapshot())`

	revisionSQL = `select pg_current_snapshot()::text, ` + eraSQL
)

// OpenFeed connects and checks that the feed is installed. The caller closes it.
// The error wraps [feed.ErrNotInstalled] where there is none that can be used.
func OpenFeed(ctx context.Context, c Config) (*Feed, error) {
	pc, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, errDSN
	}
	if pc.ConnConfig.ConnectTimeout == 0 {
		pc.ConnConfig.ConnectTimeout = DefaultConnectTimeout
	}
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "sessiond-feed"
	}
	pc.MaxConns, pc.MinConns, pc.MinIdleConns = 2, 0, 0
	f := &Feed{server: serverOf(pc.ConnConfig), config: pc.ConnConfig.Copy()}

	conn, _, err := connect(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	state, err := readState(ctx, conn, c)
	switch {
	case err != nil && isMissing(err):
		return nil, fmt.Errorf("%w: user %q may not read it in %s: sessiond feed install --role %s", feed.ErrNotInstalled, f.server.user, f.server, f.server.user)
	case err != nil:
		return nil, f.server.unavailable(err)
	case !state.installed:
		return nil, fmt.Errorf("%w in %s: run sessiond feed install", feed.ErrNotInstalled, f.server)
	case state.version != outboxVersion:
		return nil, fmt.Errorf("%w: the outbox in %s has version %d, this sessiond knows %d: upgrade the older of the two (sessiond feed install)", feed.ErrNotInstalled, f.server, state.version, outboxVersion)
	}
	f.mapping = state.mapping
	f.deletes = newDeletes(namesOf(state.mapping))
	// Refused to some roles; then a revision names no server, only its era.
	if err := conn.QueryRow(ctx, "select system_identifier::text from pg_control_system()").Scan(&f.system); err != nil && !isMissing(err) {
		return nil, f.server.unavailable(err)
	}
	if f.others, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), pc); err != nil {
		return nil, f.server.unavailable(err)
	}
	return f, nil
}

// isMissing reports whether an object is not there, or not for this role.
func isMissing(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "42P01" || pg.Code == "3F000" || pg.Code == "42703")
}

// Close implements [feed.Source].
func (f *Feed) Close() error {
	f.giveUp()
	f.others.Close()
	return nil
}

// own runs one statement on the connection of the feed and reads its rows. A
// failure gives the connection up.
func (f *Feed) own(ctx context.Context, sql string, args []any, row func(pgx.Rows) error) error {
	bounded, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	f.connMu.Lock()
	conn := f.conn
	f.connMu.Unlock()
	if conn == nil {
		var err error
		if conn, err = pgx.ConnectConfig(bounded, f.config.Copy()); err != nil {
			return f.failure(ctx, err)
		}
		f.connMu.Lock()
		f.conn = conn
		f.connMu.Unlock()
	}
	if err := query(bounded, conn, sql, args, row); err != nil {
		f.giveUp()
		return f.failure(ctx, err)
	}
	return nil
}

// giveUp closes the feed's connection; the next statement makes another.
func (f *Feed) giveUp() {
	f.connMu.Lock()
	conn := f.conn
	f.conn = nil
	f.connMu.Unlock()
	if conn != nil {
		closeConn(context.Background(), conn)
	}
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// query runs one statement. Only its end without an error acknowledges it: rows
// that came before prove nothing.
func query(ctx context.Context, q querier, sql string, args []any, row func(pgx.Rows) error) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (f *Feed) other(ctx context.Context, sql string, args []any, row func(pgx.Rows) error) error {
	bounded, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	if err := query(bounded, f.others, sql, args, row); err != nil {
		return f.failure(ctx, err)
	}
	return nil
}

func (f *Feed) failure(ctx context.Context, err error) error {
	var known *store.EraError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("change feed: %w", errors.Join(store.ErrUnavailable, ctx.Err()))
	case errors.As(err, &known), errors.Is(err, feed.ErrLostPlace):
		return err
	case isMissing(err):
		return fmt.Errorf("%w, or user %q has no right to it, in %s: run sessiond feed status", feed.ErrNotInstalled, f.server.user, f.server)
	}
	return f.server.unavailable(err)
}

// Register implements [feed.Source].
func (f *Feed) Register(ctx context.Context, bound time.Duration) (feed.Registration, error) {
	var version, lives int
	var boundMs int64
	var coverage string
	var standby bool
	err := f.own(ctx, settingSQL, nil, func(r pgx.Rows) error { return r.Scan(&version, &boundMs, &coverage, &lives, &standby) })
	switch installed := time.Duration(boundMs) * time.Millisecond; {
	case err != nil:
		return feed.Registration{}, err
	case version != outboxVersion:
		return feed.Registration{}, fmt.Errorf("%w: the outbox in %s has version %d, this sessiond knows %d: upgrade the older of the two", feed.ErrNotInstalled, f.server, version, outboxVersion)
	case installed != bound:
		return feed.Registration{}, fmt.Errorf("%w: the outbox in %s has %v, staleness_bound is %v: configure %v, or stop all replicas and run sessiond feed install --bound %v", feed.ErrBound, f.server, installed, bound, installed, bound)
	case standby:
		return feed.Registration{}, fmt.Errorf("%w: %s is a standby: the feed is read from the primary only", store.ErrUnavailable, f.server)
	}
	if lives == 0 {
		// A crash has emptied it: whoever finds that begins a new life (F4).
		if err := f.own(ctx, "insert into sessiond.life default values on conflict do nothing", nil, func(pgx.Rows) error { return nil }); err != nil {
			return feed.Registration{}, err
		}
	}
	reg := feed.Registration{ID: newID()}
	var triggers int
	err = f.own(ctx, registerSQL, []any{reg.ID}, func(r pgx.Rows) error {
		var sync string
		return r.Scan((*string)(&reg.Position), (*string)(&reg.Era), &sync, &reg.Objects, &triggers)
	})
	if err != nil {
		return feed.Registration{}, err
	}
	f.cover(&reg.News, coverage, triggers)
	return reg, nil
}

// newID is a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (f *Feed) cover(news *feed.News, coverage string, triggers int) {
	switch {
	case coverage == "own":
		news.Coverage = feed.CoverageOwn
	case triggers == triggerCount:
		news.Coverage = feed.CoverageFull
	default:
		news.Problem = fmt.Sprintf("%d of %d triggers on the session and user tables of %s are there and enabled: run sessiond feed install", triggers, triggerCount, f.server)
	}
}

// Poll implements [feed.Source].
func (f *Feed) Poll(ctx context.Context, from feed.Position) (feed.News, error) {
	var news feed.News
	err := f.own(ctx, pollSQL, []any{string(from)}, func(r pgx.Rows) error {
		var e event
		if err := r.Scan((*string)(&news.Position), (*string)(&news.Era), &e.kind, &e.key, &e.user, &e.urgent); err != nil {
			return err
		}
		return e.addTo(&news)
	})
	return f.judge(news, err)
}

// Beat implements [feed.Source].
func (f *Feed) Beat(ctx context.Context, b feed.Beat) (feed.News, error) {
	var news feed.News
	var coverage string
	var triggers, version int
	args := []any{b.ID, b.Acked, b.Number, string(b.Written), string(b.Done), string(b.DoneEra), string(b.From)}
	err := f.own(ctx, beatSQL, args, func(r pgx.Rows) error {
		var e event
		var sync string
		var number int64
		if err := r.Scan((*string)(&news.Position), (*string)(&news.Era), &e.kind, &e.key, &e.user, &e.urgent, &sync, &number, &version, &coverage, &news.Objects, &triggers); err != nil {
			return err
		}
		return e.addTo(&news)
	})
	if err == nil && news.Position == "" {
		return feed.News{}, feed.ErrLostPlace
	}
	if err == nil && version != outboxVersion {
		return feed.News{}, fmt.Errorf("%w: the outbox in %s now has version %d, this sessiond knows %d: upgrade it", feed.ErrNotInstalled, f.server, version, outboxVersion)
	}
	f.cover(&news, coverage, triggers)
	return f.judge(news, err)
}

// judge makes an emptied life a lost place, and too many events an overflow.
func (f *Feed) judge(news feed.News, err error) (feed.News, error) {
	if err != nil {
		return feed.News{}, err
	}
	if len(news.Era) <= len("00000001/") {
		return feed.News{}, fmt.Errorf("%w: the server has crashed or was promoted", feed.ErrLostPlace)
	}
	if len(news.Events) > bulk {
		news.Events, news.Overflow = nil, true
	}
	return news, nil
}

// event is a row of the outbox; all is NULL where there was none.
type event struct {
	kind   *string
	key    []byte
	user   *string
	urgent *bool
}

func (e event) addTo(news *feed.News) error {
	if e.kind == nil {
		return nil
	}
	out := feed.Event{Kind: feed.KindAll, Urgent: e.urgent != nil && *e.urgent}
	if e.user != nil {
		out.User = *e.user
	}
	switch {
	case *e.kind == "k" && len(e.key) == len(out.Key):
		out.Kind, out.Key = feed.KindKey, feed.Key(e.key)
	case *e.kind == "u" && e.user != nil:
		out.Kind = feed.KindUser
	}
	news.Events = append(news.Events, out)
	return nil
}

// Replicas implements [feed.Source].
func (f *Feed) Replicas(ctx context.Context, own string, acked int64) (feed.Registry, error) {
	var registry feed.Registry
	var mine int
	err := f.other(ctx, replicasSQL, []any{own, acked}, func(r pgx.Rows) error {
		var id, done, doneEra *string
		var beat *int64
		if err := r.Scan((*string)(&registry.Era), &id, &beat, &done, &doneEra, &mine); err != nil {
			return err
		}
		if id != nil {
			registry.Replicas = append(registry.Replicas, feed.Replica{ID: *id, Beat: *beat, Done: feed.Position(*done), DoneEra: store.Era(*doneEra)})
		}
		return nil
	})
	if err == nil && mine == 0 {
		return feed.Registry{}, feed.ErrLostPlace
	}
	return registry, err
}

// Exclude implements [feed.Source].
func (f *Feed) Exclude(ctx context.Context, id string, beat int64) (bool, error) {
	var n int
	var sync string
	err := f.other(ctx, excludeSQL, []any{id, beat}, func(r pgx.Rows) error { return r.Scan(&n, &sync) })
	return n == 1, err
}

// Clean implements [feed.Source].
func (f *Feed) Clean(ctx context.Context) error {
	return f.other(ctx, cleanSQL, nil, func(pgx.Rows) error { return nil })
}
