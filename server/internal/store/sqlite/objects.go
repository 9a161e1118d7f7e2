package sqlite

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// outboxVersion is the version of the objects below.
const outboxVersion = 1

// bulk is how many events one read of the feed takes; more are one "forget all".
const bulk = 1000

var tablesDDL = []string{
	`CREATE TABLE IF NOT EXISTS sessiond_setting (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	version INTEGER NOT NULL,
	bound_ms INTEGER NOT NULL,
	coverage TEXT NOT NULL,
	life TEXT NOT NULL,
	objects TEXT NOT NULL)`,
	// AUTOINCREMENT: an id is never used again, so the last one is a position.
	`CREATE TABLE IF NOT EXISTS sessiond_event (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	kind TEXT NOT NULL CHECK (kind IN ('k', 'u', 'a')),
	key BLOB,
	usr TEXT,
	urgent INTEGER NOT NULL DEFAULT 0)`,
}

// triggersDDL makes the triggers (S1, X5). They run in the issuer's process, where
// there is no SHA-256: they name users. REPLACE deletes rows without firing DELETE
// triggers unless recursive_triggers is on, so an INSERT that will replace a row
// says so before.
func triggersDDL(c schema.Catalog, m *schema.Mapping) []string {
	session, user := m.Session, m.User
	q := schema.Quote
	id, token, owner, expiry := q(session.Fields["id"].Name), q(session.Fields["token"].Name), q(session.Fields["userId"].Name), q(session.Fields["expiresAt"].Name)
	userID := q(user.Fields["id"].Name)
	tell := func(who string) string {
		return "INSERT INTO sessiond_event(kind, usr) VALUES (CASE WHEN " + who + " IS NULL THEN 'a' ELSE 'u' END, CAST(" + who + " AS TEXT));"
	}
	trigger := func(name, when, table, condition, body string) string {
		if condition != "" {
			condition = " WHEN " + condition
		}
		return fmt.Sprintf("CREATE TRIGGER %s %s ON %s FOR EACH ROW%s BEGIN %s END", name, when, q(table), condition, body)
	}
	return []string{
		trigger("sessiond_session_delete", "AFTER DELETE", session.Name, "", tell("OLD."+owner)),
		trigger("sessiond_session_update", "AFTER UPDATE", session.Name,
			fmt.Sprintf("(NEW.%[1]s >= OLD.%[1]s AND typeof(NEW.%[1]s) = typeof(OLD.%[1]s)) IS NOT 1", expiry)+differs(c, session, "expiresAt", "updatedAt"), tell("OLD."+owner)),
		trigger("sessiond_session_replace", "BEFORE INSERT", session.Name,
			fmt.Sprintf("EXISTS (SELECT 1 FROM %s WHERE %s = NEW.%s OR %s = NEW.%s)", q(session.Name), token, token, id, id),
			fmt.Sprintf("INSERT INTO sessiond_event(kind, usr) SELECT 'u', CAST(%s AS TEXT) FROM %s WHERE %s = NEW.%s OR %s = NEW.%s;", owner, q(session.Name), token, token, id, id)),
		trigger("sessiond_user_delete", "AFTER DELETE", user.Name, "", tell("OLD."+userID)),
		trigger("sessiond_user_update", "AFTER UPDATE", user.Name, "0"+differs(c, user, "updatedAt"), tell("OLD."+userID)),
		trigger("sessiond_user_replace", "BEFORE INSERT", user.Name,
			fmt.Sprintf("EXISTS (SELECT 1 FROM %s WHERE %s = NEW.%s)", q(user.Name), userID, userID), tell("NEW."+userID)),
	}
}

var triggerNames = []string{
	"sessiond_session_delete", "sessiond_session_update", "sessiond_session_replace",
	"sessiond_user_delete", "sessiond_user_update", "sessiond_user_replace",
}

// differs is true where a column other than those of some fields changed.
func differs(c schema.Catalog, t schema.MappedTable, unwatched ...string) string {
	skip := map[string]bool{}
	for _, field := range unwatched {
		skip[t.Fields[field].Name] = true
	}
	var b strings.Builder
	for _, table := range c.Tables {
		if table.Name != t.Name {
			continue
		}
		for _, column := range table.Columns {
			if !skip[column.Name] {
				fmt.Fprintf(&b, " OR NEW.%[1]s IS NOT OLD.%[1]s", schema.Quote(column.Name))
			}
		}
	}
	return b.String()
}

func dropTriggersDDL() []string {
	var out []string
	for _, name := range triggerNames {
		out = append(out, "DROP TRIGGER IF EXISTS "+name)
	}
	return out
}

// objectsSQL is a row with everything that writes events and every column that
// they have to cover, as the file has it now.
const objectsSQL = `SELECT coalesce((SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'sessiond\_%' ESCAPE '\' ORDER BY name)), '')
	|| coalesce((SELECT group_concat(name, ',') FROM pragma_table_xinfo(?1)), '-') || '|' || coalesce((SELECT group_concat(name, ',') FROM pragma_table_xinfo(?2)), '-')`

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
