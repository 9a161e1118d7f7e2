package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Feed reads the outbox in an SQLite file. It implements [feed.Source] for the one
// authority that a file may have (X5): writers are serial, so the last event's id
// is a position, and every read of the events proves that they were read.
type Feed struct {
	path    string
	lock    *os.File
	mapping *schema.Mapping
	bound   time.Duration
	writer  *sql.DB

	// The reader is for Register, Beat and Poll.
	reader  *sql.DB
	file    os.FileInfo // the file that the reader has open
	version int64       // data_version after the last read
	last    feed.News   // what that read brought, without its events

	mu   sync.Mutex
	own  feed.Replica
	read int64 // the position of the last beat, up to which events may go

	closing  sync.Once
	closeErr error
}

var _ feed.Source = (*Feed)(nil)

// OpenFeed locks the file against a second authority and opens its feed. The caller
// closes it. The error wraps
// [feed.ErrNotInstalled] where there is none that can be used.
func OpenFeed(ctx context.Context, c Config) (_ *Feed, err error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("path of the session store: %w", err)
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	f := &Feed{path: path}
	err = reading(opening, c, func(_ *sql.DB, s *state) error {
		f.mapping, f.bound = s.mapping, s.bound
		switch {
		case !s.installed:
			return fmt.Errorf("%w in %s: run sessiond feed install", feed.ErrNotInstalled, path)
		case s.version != outboxVersion:
			return fmt.Errorf("%w: the outbox in %s has version %d, this sessiond knows %d: upgrade the older of the two (sessiond feed install)", feed.ErrNotInstalled, path, s.version, outboxVersion)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if f.lock, err = lockFile(path + ".sessiond-lock"); err != nil {
		return nil, fmt.Errorf("%s is read by another authority already: an SQLite file can have one only; stop it, or use Postgres: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.writer, err = sql.Open("sqlite", dsn(path, "rw")+"&_pragma=foreign_keys(1)&_pragma=synchronous(2)"); err != nil {
		return nil, unavailable(path, err)
	}
	f.writer.SetMaxOpenConns(1)
	return f, nil
}

// Close implements [feed.Source].
func (f *Feed) Close() error {
	f.closing.Do(func() {
		for _, db := range []*sql.DB{f.reader, f.writer} {
			if db != nil {
				f.closeErr = errors.Join(f.closeErr, db.Close())
			}
		}
		if f.lock != nil {
			f.closeErr = errors.Join(f.closeErr, f.lock.Close()) // which unlocks it
		}
	})
	return f.closeErr
}

// open opens the file anew where it was replaced.
func (f *Feed) open() error {
	file, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("%w: %s cannot be opened: check store.path and the file's permissions", store.ErrUnavailable, f.path)
	}
	if f.reader != nil && os.SameFile(file, f.file) {
		return nil
	}
	if f.reader != nil {
		if err := f.reader.Close(); err != nil {
			return unavailable(f.path, err)
		}
	}
	f.version = 0
	f.file = file
	if f.reader, err = sql.Open("sqlite", dsn(f.path, "ro")+"&_pragma=query_only(1)"); err != nil {
		return unavailable(f.path, err)
	}
	f.reader.SetMaxOpenConns(1) // data_version is a connection's
	return nil
}

// Register implements [feed.Source].
func (f *Feed) Register(ctx context.Context, bound time.Duration) (feed.Registration, error) {
	if f.bound != bound {
		return feed.Registration{}, fmt.Errorf("%w: the outbox in %s has %v, staleness_bound is %v: configure %v, or run sessiond feed install --staleness-bound %v", feed.ErrBound, f.path, f.bound, bound, f.bound, bound)
	}
	news, err := f.events(ctx, "")
	if err != nil {
		return feed.Registration{}, err
	}
	news.Events, news.Overflow = nil, false // before this place
	reg := feed.Registration{ID: rand.Text(), News: news}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own = feed.Replica{ID: reg.ID, Beat: 1, Done: news.Position, DoneEra: news.Era}
	f.read = position(news.Position)
	return reg, nil
}

func position(p feed.Position) int64 {
	n, err := strconv.ParseInt(string(p), 10, 64)
	if err != nil {
		return 0 // before everything
	}
	return n
}

// Poll implements [feed.Source]. It costs a statement without I/O while nobody writes.
func (f *Feed) Poll(ctx context.Context, from feed.Position) (feed.News, error) {
	if err := f.open(); err != nil {
		return feed.News{}, err
	}
	var version int64
	if err := f.reader.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
		return feed.News{}, f.failure(ctx, err)
	}
	if version == f.version && from == f.last.Position {
		return f.last, nil
	}
	return f.events(ctx, from)
}

// Beat implements [feed.Source]. Nothing has to be written: there is nobody else.
func (f *Feed) Beat(ctx context.Context, b feed.Beat) (feed.News, error) {
	f.mu.Lock()
	lost := b.ID != f.own.ID
	f.mu.Unlock()
	if lost {
		return feed.News{}, feed.ErrLostPlace
	}
	news, err := f.events(ctx, b.From)
	if err != nil {
		return feed.News{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own = feed.Replica{ID: b.ID, Beat: b.Number, Done: b.Done, DoneEra: b.DoneEra}
	f.read = position(b.Written)
	return news, nil
}

// events reads what came after a position, and all that a beat tells, from one
// snapshot.
func (f *Feed) events(ctx context.Context, from feed.Position) (feed.News, error) {
	if err := f.open(); err != nil {
		return feed.News{}, err
	}
	var news feed.News
	var version int64
	err := func() (err error) {
		conn, err := f.reader.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		// Before the snapshot: what is committed between the two is read once more.
		if err := conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
			return err
		}
		tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, tx.Rollback()) }()
		if err := f.readSetting(ctx, tx, &news); err != nil {
			return err
		}
		return readEvents(ctx, tx, position(from), &news)
	}()
	if err != nil {
		return feed.News{}, f.failure(ctx, err)
	}
	f.version = version
	f.last = news
	f.last.Events, f.last.Overflow = nil, false
	return news, nil
}

func (f *Feed) readSetting(ctx context.Context, tx *sql.Tx, news *feed.News) error {
	var installed, present, coverage, life string
	var version int
	var last int64
	err := tx.QueryRowContext(ctx, "SELECT version, coverage, life, objects, ("+objectsSQL+"), coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'sessiond_event'), 0) FROM sessiond_setting", f.mapping.Session.Name, f.mapping.User.Name).
		Scan(&version, &coverage, &life, &installed, &present, &last)
	if err != nil {
		return err
	}
	news.Era = store.Era(life)
	news.Position = feed.Position(strconv.FormatInt(last, 10))
	news.Objects = digestOf(present)
	switch {
	case version != outboxVersion:
		return fmt.Errorf("%w: the outbox in %s now has version %d, this sessiond knows %d", feed.ErrNotInstalled, f.path, version, outboxVersion)
	case coverage == "own":
		news.Coverage = feed.CoverageOwn
	case news.Objects == installed:
		news.Coverage = feed.CoverageFull
	default:
		news.Problem = "triggers or columns of " + f.path + " have changed since the feed was installed: run sessiond feed install"
	}
	return nil
}

func readEvents(ctx context.Context, tx *sql.Tx, from int64, news *feed.News) error {
	rows, err := tx.QueryContext(ctx, "SELECT kind, key, usr, urgent FROM sessiond_event WHERE id > ?1 ORDER BY id LIMIT ?2", from, bulk+1)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var kind string
		var key []byte
		var user sql.NullString
		e := feed.Event{Kind: feed.KindAll}
		if err := rows.Scan(&kind, &key, &user, &e.Urgent); err != nil {
			return err
		}
		e.User = user.String
		switch {
		case kind == "k" && len(key) == len(e.Key):
			e.Kind, e.Key = feed.KindKey, feed.Key(key)
		case kind == "u" && user.Valid:
			e.Kind = feed.KindUser
		}
		news.Events = append(news.Events, e)
	}
	if len(news.Events) > bulk {
		news.Events, news.Overflow = nil, true
	}
	return rows.Err()
}

func (f *Feed) failure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("change feed: %w", errors.Join(store.ErrUnavailable, ctx.Err()))
	case errors.Is(err, feed.ErrNotInstalled), errors.Is(err, store.ErrUnavailable):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%w in %s any more: run sessiond feed install", feed.ErrNotInstalled, f.path)
	}
	return unavailable(f.path, err)
}

// Replicas implements [feed.Source]: there is one.
func (f *Feed) Replicas(_ context.Context, own string, acked int64) (feed.Registry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if own != f.own.ID || f.own.Beat < acked {
		return feed.Registry{}, feed.ErrLostPlace
	}
	return feed.Registry{Era: f.own.DoneEra, Replicas: []feed.Replica{f.own}}, nil
}

// Exclude implements [feed.Source]: there is nobody to exclude.
func (f *Feed) Exclude(context.Context, string, int64) (bool, error) { return false, nil }

// Clean implements [feed.Source]. It waits for no other writer.
func (f *Feed) Clean(ctx context.Context) error {
	f.mu.Lock()
	upTo := f.read
	f.mu.Unlock()
	var some bool
	if err := f.writer.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sessiond_event WHERE id <= ?1)", upTo).Scan(&some); err != nil || !some {
		return err
	}
	if _, err := f.writer.ExecContext(ctx, "DELETE FROM sessiond_event WHERE id IN (SELECT id FROM sessiond_event WHERE id <= ?1 LIMIT ?2)", upTo, bulk); err != nil {
		return f.failure(ctx, err)
	}
	return nil
}

// Revoke implements [feed.Source].
func (f *Feed) Revoke(ctx context.Context, t feed.Target) (feed.Revoked, error) {
	q := schema.Quote
	table, token, owner, id := f.mapping.Session.SQL(), q(f.mapping.Session.Fields["token"].Name), q(f.mapping.Session.Fields["userId"].Name), q(f.mapping.Session.Fields["id"].Name)
	where, args := fmt.Sprintf("CAST(%s AS TEXT) = ?1 AND (?2 = '' OR CAST(%s AS TEXT) IS NOT ?2)", owner, id), []any{t.User, t.Except}
	var key []byte
	var user any = t.User
	switch {
	case t.Token != "":
		digest := feed.KeyOf(t.Token)
		where, args, key, user = token+" = ?1", []any{t.Token}, digest[:], nil
	case t.Session != "":
		where, args = fmt.Sprintf("CAST(%s AS TEXT) = ?1 AND CAST(%s AS TEXT) = ?2", owner, id), []any{t.User, t.Session}
	}
	kind := "u"
	if key != nil {
		kind = "k"
	}
	var out feed.Revoked
	err := func() error {
		conn, err := f.writer.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return inTransaction(ctx, conn, func() error {
			end := "DELETE FROM " + table + " WHERE "
			switch t.Ending {
			case feed.EndNow:
				end = f.endSQL(0)
			case feed.EndPast:
				end = f.endSQL(feed.PastBy)
			}
			result, err := conn.ExecContext(ctx, end+where, args...)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			out.Sessions = int(n)
			var event int64
			var life string
			if err := conn.QueryRowContext(ctx, "INSERT INTO sessiond_event(kind, key, usr, urgent) VALUES (?1, ?2, ?3, 1) RETURNING id, (SELECT life FROM sessiond_setting)", kind, key, user).Scan(&event, &life); err != nil {
				return err
			}
			out.Era = store.Era(life)
			out.Revision = revision(life, event)
			return nil
		})
	}()
	if err != nil {
		return feed.Revoked{}, f.failure(ctx, err)
	}
	if t.Token != "" {
		out.Key = feed.KeyOf(t.Token)
	}
	return out, nil
}

// endSQL ends rows that are not over yet, as the issuer does where they outlive their
// sessions: expiresAt becomes so long ago, and updatedAt now, in the forms that the
// columns have.
func (f *Feed) endSQL(ago time.Duration) string {
	expires, updated := schema.Quote(f.mapping.Session.Fields["expiresAt"].Name), schema.Quote(f.mapping.Session.Fields["updatedAt"].Name)
	at := func(column string, ago time.Duration) string {
		ms := fmt.Sprintf("(CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - %d)", ago.Milliseconds())
		return fmt.Sprintf("CASE WHEN typeof(%[1]s) <> 'integer' THEN strftime('%%Y-%%m-%%dT%%H:%%M:%%fZ', 'now', '-%[3]d seconds') WHEN %[1]s < 100000000000 THEN %[2]s / 1000 ELSE %[2]s END", column, ms, int(ago.Seconds()))
	}
	end := at(expires, ago)
	return fmt.Sprintf("UPDATE %s SET %s = %s, %s = %s WHERE %s > %s AND ", f.mapping.Session.SQL(), expires, end, updated, at(updated, 0), expires, end)
}

// A revision is LIFE,ID: all events up to one.
func revision(life string, id int64) feed.Revision {
	return feed.Revision(life + "," + strconv.FormatInt(id, 10))
}

var errRevision = errors.New("not a revision of this store")

func parseRevision(r feed.Revision) (store.Era, int64, error) {
	life, text, ok := strings.Cut(string(r), ",")
	id, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || life == "" {
		return "", 0, errRevision
	}
	return store.Era(life), id, nil
}

// Revision implements [feed.Source].
func (f *Feed) Revision(ctx context.Context) (feed.Revision, error) {
	var life string
	var last int64
	err := f.writer.QueryRowContext(ctx, "SELECT life, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'sessiond_event'), 0) FROM sessiond_setting").Scan(&life, &last)
	if err != nil {
		return "", f.failure(ctx, err)
	}
	return revision(life, last), nil
}

// Covers implements [feed.Source].
func (f *Feed) Covers(p feed.Position, era store.Era, r feed.Revision) (bool, error) {
	life, id, err := parseRevision(r)
	return err == nil && p != "" && life == era && position(p) >= id, err
}

// Meets implements [feed.Source]: there is one server, and it forgets nothing.
func (f *Feed) Meets(_ store.Era, r feed.Revision) (bool, error) {
	_, _, err := parseRevision(r)
	return err == nil, err
}
