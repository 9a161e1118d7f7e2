package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store"
)

// match is a table read as one of the two roles.
type match struct {
	table    Table
	fields   map[string]Column
	unclear  []string // fields with several columns
	attrs    []Attribute
	problems []string // none: the table fits
}

// resembles reports whether the table is one of this role, if perhaps a broken one.
func (m match) resembles(r role) bool {
	for _, f := range r.marks {
		if _, ok := m.fields[f]; !ok && !slices.Contains(m.unclear, f) {
			return false
		}
	}
	return true
}

// has reports whether all of fields have a column.
func (m match) has(fields []string) bool {
	for _, f := range fields {
		if _, ok := m.fields[f]; !ok {
			return false
		}
	}
	return true
}

// matcher maps the columns of one table.
type matcher struct {
	match
	role     role
	catalog  Catalog
	override store.Table
	claimed  map[string]string // column to the name it is read under
}

// matchTable maps t's columns as those of r. idColumn, where not empty, is known
// to be the column of the field id, from a foreign key.
func matchTable(c Catalog, r role, t Table, override store.Table, idColumn string) match {
	m := &matcher{
		match:   match{table: t, fields: make(map[string]Column)},
		role:    r,
		catalog: c, override: override,
		claimed: make(map[string]string),
	}
	for _, name := range override.Hide {
		if _, ok := t.column(name); !ok {
			m.problem("%s names %q, but %s has no such column (columns: %s)", r.hide, name, t.SQL(), columnNames(t))
		}
	}
	m.overridden()
	if _, ok := m.fields["id"]; !ok && idColumn != "" {
		if col, ok := t.column(idColumn); ok {
			m.claim("id", col)
		}
	}
	for _, f := range r.fields {
		if _, ok := override.Columns[f.name]; ok {
			continue
		}
		if _, ok := m.fields[f.name]; !ok {
			m.discover(f)
		}
	}
	m.checkTypes()
	m.additional()
	return m.match
}

func (m *matcher) problem(format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

// claim gives col to the field name, if nothing else has it.
func (m *matcher) claim(name string, col Column) {
	if other, ok := m.claimed[col.Name]; ok {
		m.problem("column %q of %s is read as both %s and %s: correct %s", col.Name, m.table.SQL(), other, name, m.role.columns)
		return
	}
	m.claimed[col.Name] = name
	if _, ok := m.role.field(name); ok {
		m.fields[name] = col
	}
}

// overridden claims the columns that the settings name.
func (m *matcher) overridden() {
	for _, name := range slices.Sorted(maps.Keys(m.override.Columns)) {
		column := m.override.Columns[name]
		col, ok := m.table.column(column)
		switch {
		case !ok:
			m.problem("%s maps %s to %q, but %s has no such column (columns: %s)",
				m.role.columns, name, column, m.table.SQL(), columnNames(m.table))
		case m.hidden(column):
			m.problem("%s maps %s to %q, which %s hides: take it out of one of them", m.role.columns, name, column, m.role.hide)
		default:
			m.claim(name, col)
		}
	}
}

// discover finds the column of f by its name, else by structure.
func (m *matcher) discover(f field) {
	want := normal(f.name)
	found := m.free(func(c Column) bool { return normal(c.Name) == want })
	if len(found) == 0 {
		found = m.free(func(c Column) bool { return normal(c.Name) == m.role.name+want })
	}
	if len(found) == 0 {
		found = m.free(func(c Column) bool { return slices.Contains(f.aliases, normal(c.Name)) })
	}
	if len(found) == 0 && m.role.name == "session" {
		switch f.name {
		case "token":
			found = m.free(m.isToken)
		case "userId":
			found = m.free(m.isUserReference)
		}
	}
	switch {
	case len(found) == 1:
		m.claim(f.name, found[0])
	case len(found) > 1:
		m.unclear = append(m.unclear, f.name)
		var names []string
		for _, c := range found {
			names = append(names, fmt.Sprintf("%q", c.Name))
		}
		m.problem("%s has several columns for the field %s: %s; name the right one in %s (%s=...)",
			m.table.SQL(), f.name, strings.Join(names, ", "), m.role.columns, f.name)
	case f.required:
		m.problem("%s has no column for the field %s: name it in %s (%s=...); columns: %s",
			m.table.SQL(), f.name, m.role.columns, f.name, columnNames(m.table))
	}
}

// isToken reports whether c is unique text with a token in its name.
func (m *matcher) isToken(c Column) bool {
	i, ok := m.table.index(c.Name)
	return ok && i.Unique && c.Holds&HoldsToken != 0 && strings.Contains(normal(c.Name), "token")
}

// isUserReference reports whether c refers to a table with an email.
func (m *matcher) isUserReference(c Column) bool {
	k, ok := m.table.foreignKey(c.Name)
	if !ok {
		return false
	}
	t, ok := m.catalog.table(k.RefSchema, k.RefTable)
	return ok && slices.ContainsFunc(t.Columns, func(c Column) bool { return normal(c.Name) == "email" })
}

// free returns the columns that are neither hidden nor claimed and satisfy f.
func (m *matcher) free(f func(Column) bool) []Column {
	var found []Column
	for _, c := range m.table.Columns {
		if _, taken := m.claimed[c.Name]; !taken && !m.hidden(c.Name) && f(c) {
			found = append(found, c)
		}
	}
	return found
}

func (m *matcher) hidden(column string) bool { return slices.Contains(m.override.Hide, column) }

func (m *matcher) checkTypes() {
	for _, f := range m.role.fields {
		c, ok := m.fields[f.name]
		if !ok || c.Holds&f.holds != 0 {
			continue
		}
		remedy := "name another column in " + m.role.columns
		if !f.required {
			remedy += ", or hide this one in " + m.role.hide
		}
		m.problem("column %q of %s has type %s, which cannot be the field %s (%s): %s",
			c.Name, m.table.SQL(), c.Type, f.name, f.holds, remedy)
	}
}

// additional makes attributes of the columns that are no field's, and of the
// fields that are both.
func (m *matcher) additional() {
	for _, c := range m.table.Columns {
		if m.hidden(c.Name) {
			continue
		}
		name, claimed := m.claimed[c.Name]
		if !claimed {
			name = c.Name
		}
		f, known := m.role.field(name)
		known = known && claimed // a column may have a field's name without being it
		if known && !f.attribute {
			continue
		}
		a := Attribute{Name: name, Column: c}
		if known {
			a.Want = f.holds
		}
		m.attrs = append(m.attrs, a)
	}
	slices.SortFunc(m.attrs, func(a, b Attribute) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(m.attrs); i++ {
		if a, b := m.attrs[i-1], m.attrs[i]; a.Name == b.Name {
			m.problem("columns %q and %q of %s would both be returned as %q: correct %s, or hide one in %s",
				a.Column.Name, b.Column.Name, m.table.SQL(), a.Name, m.role.columns, m.role.hide)
		}
	}
}

func columnNames(t Table) string {
	var names []string
	for _, c := range t.Columns {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}
