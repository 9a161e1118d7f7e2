package schema

import (
	"fmt"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store"
)

// Mapping says where in a database Better Auth's fields are.
type Mapping struct {
	Session, User MappedTable
	// SoftDelete is the user table's soft-delete column; its Name is empty
	// where none is configured.
	SoftDelete Column
}

// MappedTable is a table with its columns mapped.
type MappedTable struct {
	Schema string
	Name   string
	// Fields are the columns of the fields Better Auth defines, by field.
	// Optional fields without a column are absent.
	Fields map[string]Column
	// Attributes are the columns returned as attributes, ordered by name.
	Attributes []Attribute
	// TokenIndex is the index on the session's token; empty for users.
	TokenIndex string

	order []string // all columns, as the table has them
}

// Attribute is a column that is returned under a name.
type Attribute struct {
	Name   string
	Column Column
	// Want is what the column is known to hold; zero: go by its type.
	Want Holds
}

// SQL returns the table's name, quoted, with its schema.
func (t MappedTable) SQL() string { return tableSQL(t.Schema, t.Name) }

// Describe returns what [store.Description] says about the table.
func (t MappedTable) Describe() store.TableDescription {
	d := store.TableDescription{Name: t.SQL(), Columns: make(map[string]string), TokenIndex: t.TokenIndex}
	for field, c := range t.Fields {
		d.Columns[field] = c.Name
	}
	for _, a := range t.Attributes {
		d.Columns[a.Name] = a.Column.Name
		d.Attributes = append(d.Attributes, a.Name)
	}
	return d
}

// Error lists everything that keeps the tables from being used, each with its
// remedy.
type Error struct {
	Problems []string
}

// Error returns the problems, one a line where there are several.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0]
	}
	return fmt.Sprintf("%d problems with the session and user tables:\n- %s", len(e.Problems), strings.Join(e.Problems, "\n- "))
}
