package sessiondtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/sessiond/sessiond/server/internal/store/sqlite"
)

// template is an empty database with the issuer's tables, made once a process: a file
// is copied faster than a schema is made.
var template = sync.OnceValues(func() (content []byte, err error) {
	dir, err := os.MkdirTemp("", "sessiondtest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder of the system's temporary ones
	ctx, path := context.Background(), filepath.Join(dir, "template.sqlite")
	c := sqlite.Config{Path: path, Create: true}
	st, err := sqlite.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := st.Close(); err != nil {
		return nil, err
	}
	// The columns of the admin plugin, and one that marks deleted users.
	for _, column := range []string{"role text", "banned integer", "banReason text", "banExpires date", softDeletion + " date"} {
		if err := sqlite.Exec(ctx, path, "ALTER TABLE user ADD COLUMN "+column); err != nil {
			return nil, err
		}
	}
	plan, err := sqlite.PlanInstall(ctx, c, sqlite.InstallOptions{Bound: stalenessBound})
	if err != nil {
		return nil, err
	}
	if err := sqlite.Apply(ctx, c, plan.Statements); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// makeFile makes a database of the test's own.
func makeFile(path string) error {
	content, err := template()
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}
