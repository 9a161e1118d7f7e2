// Package storetest is the suite that every session store passes, on a real
// database.
package storetest

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Fixture is a database to open a store on.
type Fixture struct {
	// Tables are to be made and filled, in order.
	Tables []Table
	// Schema is to be given to the store.
	Schema store.Schema
}

// Table is a table with its rows.
type Table struct {
	Name    string
	Columns []Column
	// Rows are the values, in the order of the columns: nil, string, bool, int,
	// float64, []byte, time.Time or Raw.
	Rows [][]any
	// Index is a column to make a plain index on; empty: none.
	Index string
}

// Column is a column of a table. Constraint is added as it is.
type Column struct {
	Name       string
	Type       Type
	Constraint string
}

// Type is a type, whatever a database calls it.
type Type int

// The types.
const (
	Text Type = iota
	// CaselessText compares without regard to case.
	CaselessText
	UUID
	Int
	Float
	Bool
	Time
	JSON
	Bytes
)

// Raw is a value as SQL, by dialect.
type Raw struct{ Postgres, SQLite string }

// Dialect is a database's way to spell a fixture.
type Dialect struct {
	types    map[Type]string
	prologue string
	postgres bool
}

// Postgres returns the dialect of PostgreSQL.
func Postgres() Dialect {
	return Dialect{
		postgres: true,
		prologue: "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);\n",
		types: map[Type]string{
			Text: "text", CaselessText: "text COLLATE caseless", UUID: "uuid", Int: "integer", Float: "double precision",
			Bool: "boolean", Time: "timestamptz", JSON: "jsonb", Bytes: "bytea",
		},
	}
}

// SQLite returns the dialect of SQLite, with the types that the issuer uses.
func SQLite() Dialect {
	return Dialect{types: map[Type]string{
		Text: "text", CaselessText: "text COLLATE NOCASE", UUID: "text", Int: "integer", Float: "real",
		Bool: "boolean", Time: "date", JSON: "json", Bytes: "blob",
	}}
}

// SQL returns the statements that make the fixture.
func (f Fixture) SQL(d Dialect) string {
	var b strings.Builder
	b.WriteString(d.prologue)
	for _, t := range f.Tables {
		var columns []string
		for _, c := range t.Columns {
			columns = append(columns, schema.Quote(c.Name)+" "+d.types[c.Type]+" "+c.Constraint)
		}
		fmt.Fprintf(&b, "CREATE TABLE %s (%s);\n", schema.Quote(t.Name), strings.Join(columns, ", "))
		if t.Index != "" {
			fmt.Fprintf(&b, "CREATE INDEX plain_index ON %s (%s);\n", schema.Quote(t.Name), schema.Quote(t.Index))
		}
		for _, row := range t.Rows {
			var values []string
			for _, v := range row {
				values = append(values, d.literal(v))
			}
			fmt.Fprintf(&b, "INSERT INTO %s VALUES (%s);\n", schema.Quote(t.Name), strings.Join(values, ", "))
		}
	}
	return b.String()
}

func (d Dialect) literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	case bool:
		if d.postgres {
			return strconv.FormatBool(v)
		}
		return map[bool]string{false: "0", true: "1"}[v]
	case int:
		return strconv.Itoa(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []byte:
		if d.postgres {
			return `'\x` + hex.EncodeToString(v) + "'"
		}
		return "x'" + hex.EncodeToString(v) + "'"
	case time.Time:
		return "'" + v.UTC().Format("2006-01-02T15:04:05.000000Z") + "'"
	case Raw:
		if d.postgres {
			return v.Postgres
		}
		return v.SQLite
	}
	return fmt.Sprintf("no literal for %T", v) // fails as SQL, and says why
}
