package postgres

import (
	"fmt"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// cell is a column of the lookup's answer.
type cell struct {
	expr string
	kind store.Kind
	// local marks a timestamp without zone, to be read in the configured one.
	local bool
}

// statement is the lookup: its text, and how to read its answer, in which the
// token comes first and then a cell for each slot.
type statement struct {
	sql string
	// eraSQL is the same with the server's era before the token, in eraColumns
	// columns of text. At least one row comes back; without a token it is no session.
	eraSQL string
	slots  []schema.Slot
	cells  []cell
}

const eraColumns = 2

// newStatement builds the lookup. The error says which types cannot be joined.
func newStatement(c *catalog, m *schema.Mapping) (*statement, error) {
	s := &statement{slots: m.Slots()}
	token := m.Session.Fields["token"].Name
	exprs := []string{"s." + schema.Quote(token) + "::text"}
	for _, slot := range s.slots {
		table, alias := m.Session, "s."
		if slot.User {
			table, alias = m.User, "u."
		}
		cl := newCell(alias+schema.Quote(slot.Column.Name), slot.Want, c.typeOf(table, slot.Column.Name))
		s.cells = append(s.cells, cl)
		exprs = append(exprs, cl.expr)
	}
	join, err := joinOn(c, m)
	if err != nil {
		return nil, err
	}
	s.sql = fmt.Sprintf("SELECT %s FROM %s AS s LEFT JOIN %s AS u ON %s WHERE s.%s = ANY(%s)",
		strings.Join(exprs, ", "), m.Session.SQL(), m.User.SQL(), join, schema.Quote(token), tokenParam(c.typeOf(m.Session, token)))
	s.eraSQL = fmt.Sprintf("SELECT %s, COALESCE(%s, ''), found.* FROM (SELECT 1) AS one LEFT JOIN (%s) AS found ON true", timelineSQL, lifeSQL, s.sql)
	return s, nil
}

// localExpiry reports whether the session's expiry has no time zone of its own.
func (s *statement) localExpiry() bool {
	for i, slot := range s.slots {
		if !slot.User && slot.Field == "expiresAt" {
			return s.cells[i].local
		}
	}
	return false
}

// cluesSQL asks whether there are sessions, whether $1 is the id of one, and whether
// row-level security may hide some; an id that is no text is compared only where that
// needs no scan of the table.
func cluesSQL(c *catalog, m *schema.Mapping) string {
	id := m.Session.Fields["id"]
	isID := "false AND $1::text IS NULL"
	if c.typeOf(m.Session, id.Name).family() == textFamily {
		isID = fmt.Sprintf("EXISTS (SELECT 1 FROM %s WHERE %s = $1::text)", m.Session.SQL(), schema.Quote(id.Name))
	}
	hidden := func(t schema.MappedTable) string {
		return "row_security_active('" + strings.ReplaceAll(t.SQL(), "'", "''") + "'::regclass)"
	}
	return fmt.Sprintf("SELECT NOT EXISTS (SELECT 1 FROM %s), %s, %s OR %s", m.Session.SQL(), isID, hidden(m.Session), hidden(m.User))
}

// newCell says how to read column. Casts leave few types to decode, and none of
// them can fail for a value the column can hold: one bad row must not spoil the
// statement.
func newCell(column string, want schema.Holds, t columnType) cell {
	switch {
	case want&schema.HoldsText != 0:
		return cell{expr: column + "::text", kind: store.KindString}
	case t.name == "timestamp with time zone":
		return cell{expr: column + "::timestamptz", kind: store.KindTime}
	case t.isTime():
		return cell{expr: column + "::timestamp", kind: store.KindTime, local: true}
	case t.name == "boolean":
		return cell{expr: column + "::bool", kind: store.KindBool}
	case t.isInt():
		return cell{expr: column + "::int8", kind: store.KindInt}
	case t.name == "real", t.name == "double precision":
		return cell{expr: column + "::float8", kind: store.KindFloat}
	case t.name == "json", t.name == "jsonb":
		return cell{expr: column + "::text", kind: store.KindJSON}
	case t.category == "A":
		return cell{expr: "to_json(" + column + ")::text", kind: store.KindJSON}
	case t.name == "bytea":
		return cell{expr: column + "::bytea", kind: store.KindBytes}
	}
	return cell{expr: column + "::text", kind: store.KindString}
}

// tokenParam returns the parameter in the token column's own type: compared as
// any other, the index would not serve.
func tokenParam(t columnType) string {
	switch t.name {
	case "text", "character varying":
		return "$1::text[]"
	}
	return "$1::text[]::" + t.name + "[]"
}

// family is a set of types that compare with each other as they are.
type family int

const (
	textFamily family = iota + 1
	intFamily
	uuidFamily
)

func (t columnType) family() family {
	switch {
	case t.isText():
		return textFamily
	case t.isInt():
		return intFamily
	case t.name == "uuid":
		return uuidFamily
	}
	return 0
}

// joinOn compares the user's id with the session's user id, the latter cast
// where need be: the user's index must serve, and a value that is no id of that
// type must find nobody rather than fail the statement.
func joinOn(c *catalog, m *schema.Mapping) (string, error) {
	id, ref := m.User.Fields["id"], m.Session.Fields["userId"]
	idType, refType := c.typeOf(m.User, id.Name), c.typeOf(m.Session, ref.Name)
	left, right := "u."+schema.Quote(id.Name), "s."+schema.Quote(ref.Name)
	from, to := refType.family(), idType.family()
	switch {
	case from == to && (from != 0 || refType == idType):
	case to == textFamily:
		right += "::text"
	case from == textFamily && to == uuidFamily:
		right = fmt.Sprintf("CASE WHEN %[1]s::text ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN %[1]s::text::uuid END", right)
	case from == textFamily && to == intFamily:
		right = fmt.Sprintf("CASE WHEN %[1]s::text ~ '^-?[0-9]{1,18}$' THEN %[1]s::text::int8 END", right)
	default:
		return "", fmt.Errorf("%s of %s has type %s and cannot be compared with %s of %s, which has type %s: name the right columns in store.session_columns (userId=...) and store.user_columns (id=...)",
			schema.Quote(ref.Name), m.Session.SQL(), ref.Type, schema.Quote(id.Name), m.User.SQL(), id.Type)
	}
	return left + " = " + right, nil
}
