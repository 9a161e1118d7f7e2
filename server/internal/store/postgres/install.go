package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// InstallOptions says what is installed.
type InstallOptions struct {
	// Bound is the staleness bound, the same for all replicas; 0: as it is, or 5 s.
	Bound time.Duration
	// WithoutTriggers installs the outbox alone, where the rights for triggers are
	// missing: sessiond's own revocations reach everybody at once, other changes
	// are seen when entries age out.
	WithoutTriggers bool
	// Role is the role that the authority runs as, which is given its rights; empty: none is.
	Role string
}

// oldestVersion is the first that has xid8 and pg_snapshot.
const oldestVersion = 13_00_00

// defaultBound is the staleness bound where nobody names another.
const defaultBound = 5 * time.Second

// state is what is installed.
type state struct {
	mapping   *schema.Mapping
	installed bool
	version   int
	bound     time.Duration
	coverage  string
	tables    [2]string
	objects   string
	triggers  int
	replicas  int
	events    int64
}

// PlanInstall returns the statements that install the feed or bring it up to date;
// none, if there is nothing to do. It changes nothing.
func PlanInstall(ctx context.Context, c Config, o InstallOptions) (*feed.Plan, error) {
	return plan(ctx, c, func(conn *pgx.Conn, s *state) (*feed.Plan, error) {
		if s.installed && s.version > outboxVersion {
			return nil, fmt.Errorf("%w: the outbox has version %d, this sessiond knows %d: upgrade sessiond", feed.ErrNotInstalled, s.version, outboxVersion)
		}
		if err := checkTables(ctx, conn, s.mapping); err != nil && !o.WithoutTriggers {
			return nil, err
		}
		if o.Bound == 0 {
			if o.Bound = s.bound; o.Bound == 0 {
				o.Bound = defaultBound
			}
		}
		if s.installed && s.bound != o.Bound && s.replicas > 0 {
			return nil, fmt.Errorf("%w: installed for %v, asked for %v: stop the %d registered replicas first (a stopped one leaves the registry after the bound)", feed.ErrBound, s.bound, o.Bound, s.replicas)
		}
		n := namesOf(s.mapping)
		coverage, objects := "full", functionsDDL(n)
		if o.WithoutTriggers {
			coverage, objects = "own", dropTriggersDDL(n.session, n.user)
		} else {
			objects = append(objects, triggersDDL(n)...)
		}
		digest := digestOf(slices.Concat(tablesDDL, objects))
		p := &feed.Plan{}
		current := s.installed && s.objects == digest && s.coverage == coverage && s.tables == [2]string{n.session, n.user} && (coverage == "own" || s.triggers == triggerCount)
		if !current {
			p.Statements = append(slices.Clone(tablesDDL), objects...)
		}
		if !current || s.bound != o.Bound {
			if s.installed {
				// A replica that is registering now must see the new bound, or be seen (G5).
				p.Statements = append(p.Statements, "lock table sessiond.replica in share mode")
			}
			p.Statements = append(p.Statements, fmt.Sprintf(
				"insert into sessiond.setting(version, bound_ms, coverage, session_table, user_table, objects) values (%d, %d, '%s', %s, %s, '%s')\n"+
					"  on conflict (one) do update set version = excluded.version, bound_ms = case when exists (select from sessiond.replica) then setting.bound_ms else excluded.bound_ms end,\n"+
					"  coverage = excluded.coverage, session_table = excluded.session_table, user_table = excluded.user_table, objects = excluded.objects",
				outboxVersion, o.Bound.Milliseconds(), coverage, literal(n.session), literal(n.user), digest))
			// Whatever changed before the triggers were there is unknown.
			p.Statements = append(p.Statements, "insert into sessiond.event(kind) values ('a')")
		}
		if o.Role != "" {
			granted, err := hasRights(ctx, conn, n, o.Role)
			if err != nil {
				return nil, err
			}
			if !granted || !current {
				p.Statements = append(p.Statements, grantsDDL(n, o.Role)...)
			}
		}
		return p, nil
	})
}

// PlanRemove returns the statements that remove everything that PlanInstall made.
func PlanRemove(ctx context.Context, c Config) (*feed.Plan, error) {
	return plan(ctx, c, func(_ *pgx.Conn, s *state) (*feed.Plan, error) {
		if !s.installed {
			return &feed.Plan{}, nil
		}
		if s.replicas > 0 {
			return nil, fmt.Errorf("%d replicas are registered: stop the authorities first (a stopped one leaves the registry after the bound, or is gone with: delete from sessiond.replica)", s.replicas)
		}
		return &feed.Plan{Statements: append(dropTriggersDDL(s.tables[0], s.tables[1]), "drop schema sessiond cascade")}, nil
	})
}

// Apply runs the statements of a plan in one transaction. It gives up rather than queue in front of
// the issuer's statements.
func Apply(ctx context.Context, c Config, statements []string) error {
	conn, where, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local lock_timeout = '2s'"); err != nil {
			return err
		}
		for _, s := range statements {
			if _, err := tx.Exec(ctx, s); err != nil {
				return fmt.Errorf("%w\n  in: %s", where.installFailure(err), s)
			}
		}
		return nil
	})
	return err
}

// Inspect says what is installed and what is wrong with it.
func Inspect(ctx context.Context, c Config) (*feed.Report, error) {
	conn, where, err := connect(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	s, err := readState(ctx, conn, where, c)
	if err != nil {
		return nil, err
	}
	r := &feed.Report{
		Location: where.String(), Installed: s.installed, Version: s.version, Bound: s.bound,
		Coverage: s.coverage, Replicas: s.replicas, Events: s.events,
	}
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	n := namesOf(s.mapping)
	switch {
	case !s.installed:
		problem("the change feed is not installed: run sessiond feed install")
	case s.version != outboxVersion:
		problem("the outbox has version %d, this sessiond knows %d: upgrade the older of the two (sessiond feed install)", s.version, outboxVersion)
	case s.tables != [2]string{n.session, n.user}:
		problem("it was installed for %s and %s, and sessions are read from %s and %s: run sessiond feed install", s.tables[0], s.tables[1], n.session, n.user)
	case s.coverage == "full" && s.triggers != triggerCount:
		problem("%d of %d triggers are there and enabled, so changes may be missed and nothing is cached: run sessiond feed install", s.triggers, triggerCount)
	}
	if err := checkTables(ctx, conn, s.mapping); err != nil {
		problem("%v", err)
	}
	return r, nil
}

func plan(ctx context.Context, c Config, make func(*pgx.Conn, *state) (*feed.Plan, error)) (*feed.Plan, error) {
	conn, where, err := connect(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	var standby bool
	var version int
	if err := conn.QueryRow(ctx, "select pg_is_in_recovery(), current_setting('server_version_num')::int").Scan(&standby, &version); err != nil {
		return nil, where.unavailable(err)
	}
	if version < oldestVersion {
		return nil, fmt.Errorf("%s runs PostgreSQL %d, the change feed needs %d or later: without it cached sessions age out (feed.mode=off)", where, version/10000, oldestVersion/10000)
	}
	if standby {
		return nil, fmt.Errorf("%s is a standby, which cannot be written to: connect to the primary", where)
	}
	s, err := readState(ctx, conn, where, c)
	if err != nil {
		return nil, err
	}
	return make(conn, s)
}

func connect(ctx context.Context, c Config) (*pgx.Conn, server, error) {
	pc, err := pgx.ParseConfig(c.DSN)
	if err != nil {
		return nil, server{}, errDSN
	}
	if pc.ConnectTimeout == 0 {
		pc.ConnectTimeout = openTimeout
	}
	where := serverOf(pc)
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		return nil, where, where.unavailable(err)
	}
	return conn, where, nil
}

// closeConn says goodbye; nothing depends on it.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(bounded)
}

func readState(ctx context.Context, conn *pgx.Conn, where server, c Config) (*state, error) {
	catalog, err := readCatalog(ctx, conn)
	if err != nil {
		return nil, where.unavailable(err)
	}
	s := &state{}
	if s.mapping, err = schema.Discover(catalog.Catalog, c.Schema); err != nil {
		return nil, fmt.Errorf("database %s: %w", where, err)
	}
	var there bool
	if err := conn.QueryRow(ctx, "select to_regclass('sessiond.setting') is not null").Scan(&there); err != nil {
		return nil, where.unavailable(err)
	}
	if !there {
		return s, nil
	}
	var boundMs int64
	err = conn.QueryRow(ctx, "select version, bound_ms, coverage, session_table, user_table, s.objects, c.triggers,\n"+
		"  (select count(*) from sessiond.replica), (select count(*) from sessiond.event)\n"+
		"from sessiond.setting s, ("+coverageSQL+") c").
		Scan(&s.version, &boundMs, &s.coverage, &s.tables[0], &s.tables[1], &s.objects, &s.triggers, &s.replicas, &s.events)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return nil, where.unavailable(err)
	}
	s.installed, s.bound = true, time.Duration(boundMs)*time.Millisecond
	return s, nil
}

// checkTables refuses what triggers cannot cover: DML on a partition, DETACH and
// DROP of one fire nothing on the parent.
func checkTables(ctx context.Context, conn *pgx.Conn, m *schema.Mapping) error {
	for _, table := range []string{m.Session.SQL(), m.User.SQL()} {
		var kind string
		var partition bool
		if err := conn.QueryRow(ctx, "select relkind::text, relispartition from pg_class where oid = to_regclass($1)", table).Scan(&kind, &partition); err != nil {
			return fmt.Errorf("look at %s: %w", table, err)
		}
		switch {
		case kind == "p" || partition:
			return fmt.Errorf("%s is partitioned, and changes of its partitions fire no trigger: use --without-triggers, or a plain table", table)
		case kind != "r":
			return fmt.Errorf("%s is no plain table, so it can have no such trigger: use --without-triggers", table)
		}
	}
	return nil
}

func hasRights(ctx context.Context, conn *pgx.Conn, n names, role string) (bool, error) {
	var there bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", role).Scan(&there); err != nil {
		return false, fmt.Errorf("look up role %q: %w", role, err)
	}
	if !there {
		return false, fmt.Errorf("there is no role %q: create it, or name the one that the authority connects as", role)
	}
	var granted bool
	err := conn.QueryRow(ctx, `select to_regclass('sessiond.event') is not null and has_schema_privilege($1, 'sessiond', 'usage')
		and has_table_privilege($1, to_regclass('sessiond.event'), 'select, insert, delete') and has_table_privilege($1, to_regclass('sessiond.replica'), 'select, insert, update, delete')
		and has_table_privilege($1, to_regclass('sessiond.setting'), 'select') and has_table_privilege($1, to_regclass('sessiond.life'), 'select, insert')
		and has_table_privilege($1, to_regclass($2), 'delete')`, role, n.session).Scan(&granted)
	if err != nil {
		// A schema that is not there yet has no privileges to look up.
		return false, nil //nolint:nilerr // the grants are part of the plan then
	}
	return granted, nil
}

// installFailure names the remedy of what an installation meets.
func (s server) installFailure(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return s.unavailable(err)
	}
	switch pg.Code {
	case "42501":
		return fmt.Errorf("user %q lacks the rights: CREATE on the database for the schema, and ownership of the session and user tables for the triggers; run it as their owner, print it for him (--print), or leave the triggers out (--without-triggers)", s.user)
	case "25006":
		return fmt.Errorf("%s is read-only: connect to the primary", s)
	case "55P03":
		return fmt.Errorf("a lock was not had within 2 s, since a transaction of somebody else holds the tables; nothing was changed: try again at a quieter moment")
	}
	return fmt.Errorf("%s: SQLSTATE %s: %s", s, pg.Code, pg.Message)
}
