package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiond/sessiond/server/internal/feed"
)

// deletes are the statements of Revoke. Each deletes as the issuer does and writes
// an event, be there a row or not (V1), and says whether the transaction's commit
// is durable, what it was and how much it deleted.
type deletes struct{ byToken, bySession, byUser string }

func newDeletes(n names) deletes {
	statement := func(where, event string) string {
		return fmt.Sprintf(`with gone as (delete from %s where %s returning 1),
  told as (insert into sessiond.event(kind, key, usr, urgent) values (%s, true) returning xid)
select told.xid::text, %s, (select count(*) from gone), %s from told`, n.session, where, event, eraSQL, durable)
	}
	return deletes{
		byToken:   statement(n.token+"::text = $1::text", `'k', sha256(convert_to($1::text, 'UTF8')), null`),
		bySession: statement(n.owner+"::text = $1::text and "+n.sessionID+"::text = $2::text", `'u', null, $1::text`),
		byUser:    statement(n.owner+"::text = $1::text and ($2::text = '' or "+n.sessionID+"::text is distinct from $2::text)", `'u', null, $1::text`),
	}
}

// Revoke implements [feed.Source].
func (f *Feed) Revoke(ctx context.Context, t feed.Target) (feed.Revoked, error) {
	sql, args := f.deletes.byUser, []any{t.User, t.Except}
	switch {
	case t.Token != "":
		sql, args = f.deletes.byToken, []any{t.Token}
	case t.Session != "":
		sql, args = f.deletes.bySession, []any{t.User, t.Session}
	}
	bounded, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	var out feed.Revoked
	var xid, sync string
	err := query(bounded, f.others, sql, args, func(r pgx.Rows) error {
		return r.Scan(&xid, (*string)(&out.Era), &out.Sessions, &sync)
	})
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == "42501":
		return feed.Revoked{}, fmt.Errorf("%w: user %q may not delete sessions in %s: sessiond feed install --role %s", feed.ErrNotInstalled, f.server.user, f.server, f.server.user)
	case isMissing(err):
		return feed.Revoked{}, f.failure(ctx, err)
	case err != nil && (isConnect(err) || errors.As(err, &pg) && pg.Code[:2] != "57" && pg.Code[:2] != "08"):
		return feed.Revoked{}, f.server.unavailable(err) // nothing was done
	case err != nil:
		return feed.Revoked{}, fmt.Errorf("%w: %w", feed.ErrRepeat, f.failure(ctx, err))
	}
	if t.Token != "" {
		out.Key = feed.KeyOf(t.Token)
	}
	out.Revision = f.revision(out.Era, "x", xid)
	return out, nil
}

// Revision implements [feed.Source].
func (f *Feed) Revision(ctx context.Context) (feed.Revision, error) {
	var snapshot, era string
	if err := f.other(ctx, revisionSQL, nil, func(r pgx.Rows) error { return r.Scan(&snapshot, &era) }); err != nil {
		return "", err
	}
	return f.revision(eraOf(era), "s", snapshot), nil
}
