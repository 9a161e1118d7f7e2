package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// WithIndexes returns the catalog as if every column had an index, so that what
// else is wrong can be told where the one on the token is missing.
func WithIndexes(c Catalog) Catalog {
	out := c
	out.Tables = make([]Table, len(c.Tables))
	for i, t := range c.Tables {
		indexes := append([]Index(nil), t.Indexes...)
		for _, column := range t.Columns {
			if _, ok := t.index(column.Name); !ok {
				indexes = append(indexes, Index{Name: Missing, Column: column.Name})
			}
		}
		t.Indexes = indexes
		out.Tables[i] = t
	}
	return out
}

// Columns says which column holds which field, with its type.
func (t MappedTable) Columns() string {
	var parts []string
	for _, field := range slices.Sorted(maps.Keys(t.Fields)) {
		c := t.Fields[field]
		parts = append(parts, fmt.Sprintf("%s in %s (%s)", field, c.Name, c.Type))
	}
	for _, a := range t.Attributes {
		if _, known := t.Fields[a.Name]; !known {
			parts = append(parts, fmt.Sprintf("%s (%s) is additional", a.Column.Name, a.Column.Type))
		}
	}
	return t.SQL() + ": " + strings.Join(parts, ", ")
}

// Missing is the name of the indexes that WithIndexes adds.
const Missing = "(none)"
