package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// InstallOptions says what is installed.
type InstallOptions struct {
	// Bound is the staleness bound; 0: as it is, or 5 s.
	Bound time.Duration
	// WithoutTriggers installs the outbox alone.
	WithoutTriggers bool
}

const defaultBound = 5 * time.Second

// state is what is installed.
type state struct {
	catalog   schema.Catalog
	mapping   *schema.Mapping
	installed bool
	version   int
	bound     time.Duration
	coverage  string
	life      string
	objects   string // when it was installed
	present   string // now
	events    int64
}

// PlanInstall returns the statements that install the feed or bring it up to date;
// none, if there is nothing to do. It changes nothing.
func PlanInstall(ctx context.Context, c Config, o InstallOptions) (*feed.Plan, error) {
	p := &feed.Plan{}
	err := reading(ctx, c, func(db *sql.DB, s *state) error {
		if s.installed && s.version > outboxVersion {
			return fmt.Errorf("%w: the outbox has version %d, this sessiond knows %d: upgrade sessiond", feed.ErrNotInstalled, s.version, outboxVersion)
		}
		if o.Bound == 0 {
			if o.Bound = s.bound; o.Bound == 0 {
				o.Bound = defaultBound
			}
		}
		coverage := "full"
		if o.WithoutTriggers {
			coverage = "own"
		}
		current := s.installed && s.version == outboxVersion && s.coverage == coverage && s.objects == s.present
		if current && s.bound == o.Bound {
			return nil
		}
		life := s.life
		if life == "" {
			life = rand.Text()
		}
		p.Statements = slices.Concat(tablesDDL, dropTriggersDDL())
		if !o.WithoutTriggers {
			p.Statements = append(p.Statements, triggersDDL(s.catalog, s.mapping)...)
		}
		p.Statements = append(p.Statements,
			fmt.Sprintf("INSERT OR REPLACE INTO sessiond_setting(one, version, bound_ms, coverage, life, objects) VALUES (1, %d, %d, '%s', '%s', '')", outboxVersion, o.Bound.Milliseconds(), coverage, life),
			// Whatever changed before the triggers were there is unknown.
			"INSERT INTO sessiond_event(kind) VALUES ('a')")
		p.Notes = []string{"Restart the authority that reads this file, if one runs."}
		return nil
	})
	return p, err
}

// PlanRemove returns the statements that remove everything that PlanInstall made.
func PlanRemove(ctx context.Context, c Config) (*feed.Plan, error) {
	p := &feed.Plan{}
	err := reading(ctx, c, func(_ *sql.DB, s *state) error {
		if s.installed {
			p.Statements = append(dropTriggersDDL(), "DROP TABLE IF EXISTS sessiond_event", "DROP TABLE IF EXISTS sessiond_setting")
		}
		return nil
	})
	return p, err
}

// Apply runs the statements of a plan in one transaction.
func Apply(ctx context.Context, c Config, statements []string) error {
	return write(ctx, c.Path, func(conn *sql.Conn) error {
		return inTransaction(ctx, conn, func() error {
			for _, s := range statements {
				if _, err := conn.ExecContext(ctx, s); err != nil {
					return err
				}
			}
			return noteObjects(ctx, conn, c)
		})
	})
}

// noteObjects writes down what is installed, for beats to compare with.
func noteObjects(ctx context.Context, conn *sql.Conn, c Config) error {
	var there bool
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'sessiond_setting'").Scan(&there); err != nil || !there {
		return err
	}
	catalog, err := readCatalog(ctx, conn)
	if err != nil {
		return err
	}
	m, err := schema.Discover(catalog, c.Schema)
	if err != nil {
		return err
	}
	var present string
	if err := conn.QueryRowContext(ctx, objectsSQL, m.Session.Name, m.User.Name).Scan(&present); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "UPDATE sessiond_setting SET objects = ?1", digestOf(present))
	return err
}

// Inspect says what is installed and what is wrong with it.
func Inspect(ctx context.Context, c Config) (*feed.Report, error) {
	var r *feed.Report
	err := reading(ctx, c, func(_ *sql.DB, s *state) error {
		r = &feed.Report{
			Location: c.Path, Installed: s.installed, Version: s.version, Bound: s.bound, Coverage: s.coverage, Events: s.events,
		}
		switch {
		case !s.installed:
			r.Problems = append(r.Problems, "the change feed is not installed: run sessiond feed install")
		case s.version != outboxVersion:
			r.Problems = append(r.Problems, fmt.Sprintf("the outbox has version %d, this sessiond knows %d: upgrade the older of the two", s.version, outboxVersion))
		case s.objects != s.present:
			r.Problems = append(r.Problems, "triggers or columns have changed since it was installed: run sessiond feed install")
		}
		return nil
	})
	return r, err
}

// reading calls f with what is installed.
func reading(ctx context.Context, c Config, f func(*sql.DB, *state) error) (err error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return fmt.Errorf("path of the session store: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path, "ro"))
	if err != nil {
		return unavailable(path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	s, err := readState(ctx, db, path, c)
	if err != nil {
		return err
	}
	return f(db, s)
}

func readState(ctx context.Context, db queryer, path string, c Config) (*state, error) {
	s := &state{}
	var err error
	if s.catalog, err = readCatalog(ctx, db); err != nil {
		return nil, unavailable(path, err)
	}
	if s.mapping, err = schema.Discover(s.catalog, c.Schema); err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	var there bool
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'sessiond_setting'").Scan(&there); err != nil {
		return nil, unavailable(path, err)
	}
	if !there {
		return s, nil
	}
	var boundMs int64
	var present string
	err = db.QueryRowContext(ctx, "SELECT version, bound_ms, coverage, life, objects, (SELECT count(*) FROM sessiond_event), ("+objectsSQL+") FROM sessiond_setting", s.mapping.Session.Name, s.mapping.User.Name).
		Scan(&s.version, &boundMs, &s.coverage, &s.life, &s.objects, &s.events, &present)
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return nil, unavailable(path, err)
	}
	s.installed, s.bound, s.present = true, time.Duration(boundMs)*time.Millisecond, digestOf(present)
	return s, nil
}
