package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// issuerSchema is what Better Auth's own migration makes.
//
//go:embed schema.sql
var issuerSchema string

// create makes the file and its tables where there are none.
func create(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("create the session store: %w", err)
	}
	return write(ctx, path, func(conn *sql.Conn) error {
		var tables int
		if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil || tables > 0 {
			return err
		}
		// The mode cannot be changed in a transaction; it stays with the file.
		if _, err := conn.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err != nil {
			return err
		}
		return inTransaction(ctx, conn, func() error {
			// Another process may have come first while we waited for the lock.
			if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil || tables > 0 {
				return err
			}
			_, err := conn.ExecContext(ctx, issuerSchema)
			return err
		})
	})
}

// write calls f with a connection that may write the file at path.
func write(ctx context.Context, path string, f func(*sql.Conn) error) (err error) {
	if path, err = filepath.Abs(path); err != nil { // a URI's path is absolute
		return fmt.Errorf("path of the session store: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path, "rw")+"&_pragma=foreign_keys(1)")
	if err != nil {
		return unavailable(path, err)
	}
	defer func() {
		if e := db.Close(); e != nil && err == nil {
			err = unavailable(path, e)
		}
	}()
	conn, err := db.Conn(ctx)
	if err != nil {
		return unavailable(path, err)
	}
	defer conn.Close()
	if err := f(conn); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("write %s: %w", path, ctx.Err())
		}
		return unavailable(path, err)
	}
	return nil
}

// inTransaction calls f between BEGIN IMMEDIATE, which waits for other writers,
// and COMMIT.
func inTransaction(ctx context.Context, conn *sql.Conn, f func() error) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := f(); err != nil {
		// The context may be over; the rollback must happen all the same.
		_, e := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return errors.Join(err, e)
	}
	_, err := conn.ExecContext(ctx, "COMMIT")
	return err
}

// Seed writes a session, and its user unless there is one of that id, into a
// file made by [Open] with Create, as Better Auth would. Attributes and the
// fields of plugins are not written. It is for demonstrations and tests.
func Seed(ctx context.Context, path string, user store.User, session store.Session, token string) error {
	return write(ctx, path, func(conn *sql.Conn) error {
		return inTransaction(ctx, conn, func() error {
			_, err := conn.ExecContext(ctx,
				`INSERT INTO "user" ("id", "name", "email", "emailVerified", "image", "createdAt", "updatedAt")
				VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT ("id") DO NOTHING`,
				user.ID, user.Name, user.Email, boolean(user.EmailVerified), user.Image, date(user.CreatedAt), date(user.UpdatedAt))
			if err != nil {
				return err
			}
			_, err = conn.ExecContext(ctx,
				`INSERT INTO "session" ("id", "expiresAt", "token", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId")
				VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
				session.ID, date(session.ExpiresAt), token, date(session.CreatedAt), date(session.UpdatedAt),
				session.IPAddress, session.UserAgent, session.UserID)
			return err
		})
	})
}

// Exec runs a statement on a file, as its owner would. It is for tests.
func Exec(ctx context.Context, path, statement string, args ...any) error {
	return write(ctx, path, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, statement, args...)
		return err
	})
}

// boolean returns b as Better Auth stores it.
func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// date returns t as Better Auth stores it: as JavaScript's toISOString prints it.
func date(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
