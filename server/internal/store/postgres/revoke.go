package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// revokeStatements delete sessions as the issuer does and write an urgent event, be
// there a row or not (V1), in one statement. An answer that was not received is the
// only doubt that can be left.
type revokeStatements struct {
	deleting, ending, past removal
}

// removal are the statements of one way to end rows.
type removal struct{ byToken, bySession, byUser string }

// newRevokeStatements: zone is that of columns without one.
func newRevokeStatements(c *catalog, m *schema.Mapping, system string, zone *time.Location) revokeStatements {
	table, expires := m.Session.SQL(), m.Session.Fields["expiresAt"].Name
	now := "date_trunc('milliseconds', clock_timestamp())"
	if c.typeOf(m.Session, expires).name == "timestamp without time zone" {
		now += " AT TIME ZONE " + literal(zoneName(zone))
	}
	// Rows that are over already stay as they are, as the issuer leaves them.
	set := func(end string) string {
		return fmt.Sprintf("UPDATE %s AS s SET %s = %s, %s = %s WHERE s.%s > %s AND ", table,
			schema.Quote(expires), end, schema.Quote(m.Session.Fields["updatedAt"].Name), now, schema.Quote(expires), end)
	}
	return revokeStatements{
		deleting: newRemoval(c, m, system, "DELETE FROM "+table+" AS s WHERE "),
		ending:   newRemoval(c, m, system, set(now)),
		past:     newRemoval(c, m, system, set(fmt.Sprintf("%s - interval '%d seconds'", now, int(feed.PastBy.Seconds())))),
	}
}

func zoneName(zone *time.Location) string {
	if zone == nil {
		return "UTC"
	}
	return zone.String()
}

// newRemoval: end is the beginning of the statement that ends rows, up to its condition.
func newRemoval(c *catalog, m *schema.Mapping, system, end string) removal {
	column := func(field string) string { return "s." + schema.Quote(m.Session.Fields[field].Name) }
	is := func(field string, parameter int) string {
		return equals(column(field), c.typeOf(m.Session, m.Session.Fields[field].Name), parameter)
	}
	exact := func(field string) string { return column(field) + `::text COLLATE "C"` }
	digest := `sha256(convert_to(` + column("token") + `::text, 'UTF8'))`
	statement := func(where, event string) string {
		return fmt.Sprintf(`WITH gone AS (
  %s%s
  RETURNING %s AS key, %s::text AS usr),
told AS (
  INSERT INTO sessiond.event(kind, key, usr, urgent) %s
  RETURNING xid, key, %s AS durable)
SELECT %s, %s, told.xid::text, told.key, told.durable, (SELECT count(*) FROM gone)
FROM told`, end, where, digest, column("userId"), event, durableSQL, originSQL, system)
	}
	return removal{
		// $1 the token, $2 its digest.
		byToken: statement(is("token", 1),
			`SELECT 'k'::"char", $2::bytea, (SELECT min(usr) FROM gone), true`),
		// $1 the user, $2 the session, NULL: none. Without a digest the event is by user.
		bySession: statement(is("userId", 1)+" AND "+is("id", 2),
			`SELECT (CASE WHEN k.key IS NULL THEN 'u' ELSE 'k' END)::"char", k.key, $1::text, true FROM (SELECT (SELECT key FROM gone LIMIT 1) AS key) AS k`),
		// $1 the user, NULL: none that the store can hold; $2 the session that stays.
		byUser: statement(is("userId", 1)+" AND ("+exact("id")+" = $2::text) IS NOT TRUE",
			`SELECT (CASE WHEN $1::text IS NULL THEN 'a' ELSE 'u' END)::"char", NULL::bytea, $1::text, true`),
	}
}

// equals compares a column with a text parameter byte for byte, whatever the
// column's collation, in a way that its index serves. A value that the type cannot
// hold is equal to none, rather than an error.
func equals(column string, t columnType, parameter int) string {
	exact := fmt.Sprintf(`%s::text COLLATE "C" = $%d::text`, column, parameter)
	typed := ""
	switch t.family() {
	case textFamily:
		typed = fmt.Sprintf("$%d::text::%s", parameter, t.name)
	case uuidFamily:
		typed = fmt.Sprintf("CASE WHEN $%[1]d::text ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN $%[1]d::text::uuid END", parameter)
	case intFamily:
		typed = fmt.Sprintf("CASE WHEN $%[1]d::text ~ '^-?[0-9]{1,18}$' THEN $%[1]d::text::int8 END", parameter)
	default:
		return "(" + exact + ")"
	}
	return fmt.Sprintf("(%s = %s AND %s)", column, typed, exact)
}

// Revoke implements [feed.Source].
func (f *Feed) Revoke(ctx context.Context, t feed.Target) (feed.Revoked, error) {
	sql, args, err := f.statements.revoke.choose(t)
	if err != nil {
		return feed.Revoked{}, err
	}
	var (
		o                    origin
		system, xid, durable string
		key                  []byte
		out                  feed.Revoked
		unknown              bool
	)
	err = f.onSide(ctx, "revoking", func(ctx context.Context, conn *pgxpool.Conn) error {
		unknown = false
		err := conn.QueryRow(ctx, sql, args...).Scan(append(o.targets(), &system, &xid, &key, &durable, &out.Sessions)...)
		if err != nil {
			unknown = outcomeUnknown(err)
			return err
		}
		if o.life == "" {
			// The commit is of no era that could be compared later: begin one, and do it again.
			unknown = true
			if _, err := conn.Exec(ctx, beginLifeSQL); err != nil {
				return err
			}
			return errNoLife
		}
		f.compare(ctx, conn, o.era())
		return nil
	})
	switch {
	case err != nil && unknown:
		return feed.Revoked{}, fmt.Errorf("%w: %w", feed.ErrRepeat, err)
	case err != nil:
		return feed.Revoked{}, err
	}
	out.Era = o.era()
	out.Revision = revisionOf(system, out.Era, xid)
	if len(key) == len(out.Key) {
		out.Key = feed.Key(key)
	}
	return out, nil
}

// errTarget means a mistake of the caller's.
var errTarget = errors.New("name a token, a user and a session, or a user")

// choose picks the statement of a target. Text that the database cannot hold names
// nobody, and is not sent.
func (s revokeStatements) choose(t feed.Target) (string, []any, error) {
	end := s.deleting
	switch t.Ending {
	case feed.EndNow:
		end = s.ending
	case feed.EndPast:
		end = s.past
	}
	param := func(text string) any {
		if !schema.Storable(text) {
			return nil
		}
		return text
	}
	switch {
	case t.Token != "" && t.User == "" && t.Session == "" && t.Except == "":
		key := feed.KeyOf(t.Token)
		return end.byToken, []any{param(t.Token), key[:]}, nil
	case t.Token == "" && t.User != "" && t.Session != "" && t.Except == "" && schema.Storable(t.User):
		return end.bySession, []any{t.User, param(t.Session)}, nil
	case t.Token == "" && t.User != "" && (t.Session == "" || t.Except == ""):
		return end.byUser, []any{param(t.User), param(t.Except)}, nil
	}
	return "", nil, errTarget
}
