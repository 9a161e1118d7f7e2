// Package schema finds Better Auth's session and user tables in a database's
// catalog. It knows names, types, indexes and foreign keys, but no database:
// the stores read the catalog and run the statements.
package schema

import "strings"

// Catalog is what a database says about its tables.
type Catalog struct {
	// Tables are all relations an ordinary user may have made.
	Tables []Table
	// CreateIndex begins the statement that makes a unique index, for advice.
	CreateIndex string
}

// Table is a relation of the catalog.
type Table struct {
	// Schema is empty where the database has no schemas.
	Schema string
	Name   string
	// Kind is empty for a table, partitioned ones included; else it says what
	// the relation is ("view"), and that its indexes cannot be checked.
	Kind string
	// Visible reports whether the name is found without its schema.
	Visible bool
	// Readable reports whether we have the right to read it.
	Readable    bool
	Columns     []Column
	Indexes     []Index
	ForeignKeys []ForeignKey
}

// Column is a column of a table.
type Column struct {
	Name string
	// Type is the type as the database names it.
	Type string
	// Holds says what its values can be read as.
	Holds Holds
}

// Holds is a set of the things a column's values can be read as.
type Holds uint8

// The members of Holds.
const (
	// HoldsText is for a faithful text, as a number, a uuid or an address has one.
	HoldsText Holds = 1 << iota
	// HoldsToken is for text that is kept byte for byte.
	HoldsToken
	// HoldsTime is for an instant.
	HoldsTime
	// HoldsBool is for true and false.
	HoldsBool
)

// Index is an index that serves an equality on its first column: it is valid,
// covers all rows, and that column is not an expression.
type Index struct {
	Name string
	// Column is the first column.
	Column string
	// Unique reports whether the first column alone is unique.
	Unique bool
}

// ForeignKey is a foreign key of one column.
type ForeignKey struct {
	Column    string
	RefSchema string
	RefTable  string
	RefColumn string
}

// SQL returns the table's name, quoted, with its schema.
func (t Table) SQL() string { return tableSQL(t.Schema, t.Name) }

func (t Table) column(name string) (Column, bool) {
	for _, c := range t.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return Column{}, false
}

// index returns the index to find column by, a unique one if there is one.
func (t Table) index(column string) (Index, bool) {
	var found Index
	for _, i := range t.Indexes {
		if i.Column == column && (found.Name == "" || i.Unique && !found.Unique) {
			found = i
		}
	}
	return found, found.Name != ""
}

// foreignKey returns the only foreign key on column.
func (t Table) foreignKey(column string) (ForeignKey, bool) {
	var found []ForeignKey
	for _, k := range t.ForeignKeys {
		if k.Column == column {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		return ForeignKey{}, false
	}
	return found[0], true
}

// Quote returns name as an SQL identifier.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func tableSQL(schema, name string) string {
	if schema == "" {
		return Quote(name)
	}
	return Quote(schema) + "." + Quote(name)
}

// normal returns name in lower case without separators, so that expires_at,
// expiresAt and EXPIRESAT are one.
func normal(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '_', '-', ' ', '.':
			return -1
		}
		return r
	}, strings.ToLower(name))
}
