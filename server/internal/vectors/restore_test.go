package vectors_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
	_ "modernc.org/sqlite" // dumps are loaded with the driver itself

	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
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

// restoreRedis loads a dump's keys into a server of its own and returns its URL. No
// key is given the time that it had to live when it was recorded.
func restoreRedis(t *testing.T, s *suite, d dataset) (url string, err error) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, d.Files.Redis))
	if err != nil {
		return "", err
	}
	var dump struct{ Keys []struct{ Key, Value string } }
	if err := json.Unmarshal(content, &dump); err != nil {
		return "", err
	}
	server := redistest.Start(t)
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Address}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		return "", err
	}
	defer client.Close()
	for _, k := range dump.Keys {
		if err := client.Do(t.Context(), client.B().Set().Key(k.Key).Value(k.Value).Build()).Error(); err != nil {
			return "", err
		}
	}
	return server.URL(), nil
}
