package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/sessiond/sessiond/server/internal/store"
)

var errClosed = fmt.Errorf("%w: the store is closed", store.ErrUnavailable)

// unavailable says what is wrong in words of our own: a driver's text may hold values.
func unavailable(path string, err error) error {
	return fmt.Errorf("%w: %s", store.ErrUnavailable, reason(path, err))
}

// reason names what failed and the remedy, by SQLite's primary result code.
func reason(path string, err error) string {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return path + " cannot be read"
	}
	switch e.Code() & 0xff {
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
		return path + " is locked by another process: check for long transactions, or have the issuer use journal_mode=WAL"
	case codes.SQLITE_CANTOPEN, codes.SQLITE_PERM, codes.SQLITE_AUTH, codes.SQLITE_READONLY:
		return path + " cannot be opened: check store.path, and the permissions of the file and its folder"
	case codes.SQLITE_NOTADB:
		return path + " is not an SQLite database, or is encrypted: check store.path"
	case codes.SQLITE_CORRUPT:
		return path + " is damaged: restore it from a backup"
	case codes.SQLITE_FULL:
		return "no space left for " + path
	case codes.SQLITE_ERROR, codes.SQLITE_SCHEMA:
		return "a table or column of " + path + " that was there is gone: if the schema was migrated, restart"
	}
	return fmt.Sprintf("%s cannot be read: SQLite's result code is %d", path, e.Code())
}
