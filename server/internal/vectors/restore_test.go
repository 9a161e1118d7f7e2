package vectors_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // dumps are loaded with the driver itself

	"github.com/sessiond/sessiond/server/internal/pgtest"
)

// restore loads a dump into an empty database and returns where it is: a DSN, or
// a file's path.
func restore(t *testing.T, s *suite, d dataset, source string) (string, error) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, source))
	if err != nil {
		return "", err
	}
	switch {
	case d.Backend == "postgres":
		return restorePostgres(t, string(content))
	case source == d.Files.SQLiteFile:
		path := filepath.Join(t.TempDir(), "db.sqlite")
		return path, os.WriteFile(path, content, 0o600)
	default:
		return restoreSQLite(t, string(content))
	}
}

func restorePostgres(t *testing.T, dump string) (dsn string, err error) {
	t.Helper()
	dsn = pgtest.Start(t).NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		return "", err
	}
	_, err = conn.PgConn().Exec(t.Context(), dump).ReadAll()
	if err = errors.Join(err, conn.Close(t.Context())); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	return dsn, nil
}

func restoreSQLite(t *testing.T, dump string) (path string, err error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "db.sqlite")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return "", err
	}
	_, err = db.ExecContext(t.Context(), dump)
	if err = errors.Join(err, db.Close()); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	return path, nil
}
