package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Replicas implements [feed.Source].
func (f *Feed) Replicas(ctx context.Context, own string, acked int64) (feed.Registry, error) {
	var registry feed.Registry
	mine := false
	err := f.inLife(ctx, "reading the registry", func(ctx context.Context, conn *pgxpool.Conn) (origin, error) {
		registry, mine = feed.Registry{}, false
		rows, err := conn.Query(ctx, replicasSQL)
		if err != nil {
			return origin{}, err
		}
		var (
			o                 origin
			id, done, doneEra *string // NULL: there are none
			beat              *int64
		)
		_, err = pgx.ForEachRow(rows, append(o.targets(), &id, &beat, &done, &doneEra), func() error {
			if id == nil {
				return nil
			}
			mine = mine || *id == own && *beat >= acked
			registry.Replicas = append(registry.Replicas, feed.Replica{ID: *id, Beat: *beat, Done: feed.Position(*done), DoneEra: store.Era(*doneEra)})
			return nil
		})
		registry.Era = o.era()
		return o, err
	})
	switch {
	case err != nil:
		return feed.Registry{}, err
	case !mine:
		return feed.Registry{}, feed.ErrLostPlace
	}
	return registry, nil
}

// Exclude implements [feed.Source]. A server of another era than the last that was
// heard of is left alone: its registry is not the one that was watched.
func (f *Feed) Exclude(ctx context.Context, id string, beat int64) (bool, error) {
	var removed int64
	err := f.onSide(ctx, "excluding a replica", func(ctx context.Context, conn *pgxpool.Conn) error {
		tag, err := conn.Exec(ctx, excludeSQL, id, beat, string(f.lastEra()))
		removed = tag.RowsAffected()
		return err
	})
	return err == nil && removed == 1, err
}

// cleanBatch is how many events one statement removes: few enough to end in time.
const cleanBatch = 10_000

// Clean implements [feed.Source]. What has gathered while no replica ran takes
// several transactions; those that were committed before an error stay.
func (f *Feed) Clean(ctx context.Context) error {
	for {
		var removed int64
		err := f.onSide(ctx, "cleaning up", func(ctx context.Context, conn *pgxpool.Conn) error {
			tag, err := conn.Exec(ctx, cleanSQL, cleanBatch)
			removed = tag.RowsAffected()
			return err
		})
		if err != nil || removed < cleanBatch {
			return err
		}
	}
}

// Revision implements [feed.Source].
func (f *Feed) Revision(ctx context.Context) (feed.Revision, error) {
	var revision feed.Revision
	err := f.inLife(ctx, "reading the revision", func(ctx context.Context, conn *pgxpool.Conn) (origin, error) {
		var o origin
		var system string
		err := conn.QueryRow(ctx, f.statements.revision).Scan(append(o.targets(), &system)...)
		revision = revisionAt(system, o.era(), string(o.position))
		return o, err
	})
	if err != nil {
		return "", err
	}
	return revision, nil
}

// inLife runs a read on one of the other connections. Where the server's life was
// not begun it begins it and reads again. A connection to a server of another era
// than the line's is not kept: one of the two is out of date.
func (f *Feed) inLife(ctx context.Context, op string, read func(context.Context, *pgxpool.Conn) (origin, error)) error {
	return f.onSide(ctx, op, func(ctx context.Context, conn *pgxpool.Conn) error {
		for range lifeTries {
			o, err := read(ctx, conn)
			if err != nil {
				return err
			}
			if o.life != "" {
				f.compare(ctx, conn, o.era())
				return nil
			}
			if _, err := conn.Exec(ctx, beginLifeSQL); err != nil {
				return err
			}
		}
		return errNoLife
	})
}

// compare ends a connection whose server is of another era than the line's.
func (f *Feed) compare(ctx context.Context, conn *pgxpool.Conn, era store.Era) {
	if last := f.lastEra(); last != "" && last != era {
		hangUp(ctx, conn.Conn())
	}
}
