package schema

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store"
)

// Discover finds the session and user tables and their columns.
//
// What override names is used and checked; everything else is found. A table is
// found by its name (session, sessions; then auth_session and the like), and if
// there is none of that name by its columns. Tables on the search path go
// before others. The user table is the one that the session's user id refers
// to, and only without a foreign key is it found as the session table is.
// Columns are found by name, whatever its case and separators.
//
// Discover never guesses between candidates: where there are several it says
// which, and which setting decides. The error is an [*Error] with all problems
// at once.
func Discover(catalog Catalog, override store.Schema) (*Mapping, error) {
	d := &discovery{catalog: catalog}

	session, sessionOK := d.find(sessionRole, override.Session, func(t Table) bool { return t.Visible })
	var user match
	var userOK bool
	if key, ok := d.userKey(session, sessionOK, override.User); ok {
		user, userOK = d.referred(session, key, override.User)
	} else {
		near := func(t Table) bool { return t.Visible || sessionOK && t.Schema == session.table.Schema }
		user, userOK = d.find(userRole, override.User, near)
	}

	m := &Mapping{}
	if sessionOK {
		m.Session = mapped(session)
		m.Session.TokenIndex = d.index(session, "token")
	}
	if userOK {
		m.User = mapped(user)
		d.index(user, "id")
		m.SoftDelete = d.softDelete(user, override)
	}
	if len(d.problems) > 0 {
		return nil, &Error{Problems: d.problems}
	}
	return m, nil
}

type discovery struct {
	catalog  Catalog
	problems []string
}

func (d *discovery) problem(format string, args ...any) {
	d.problems = append(d.problems, fmt.Sprintf(format, args...))
}

// DiscoverUser finds the user table alone, where there are no rows of sessions.
func DiscoverUser(catalog Catalog, override store.Schema) (MappedTable, error) {
	d := &discovery{catalog: catalog}
	user, ok := d.find(userRole, override.User, func(t Table) bool { return t.Visible })
	if !ok {
		return MappedTable{}, &Error{Problems: d.problems}
	}
	return mapped(user), nil
}

func mapped(m match) MappedTable {
	t := MappedTable{Schema: m.table.Schema, Name: m.table.Name, Fields: m.fields, Attributes: m.attrs}
	for _, c := range m.table.Columns {
		t.order = append(t.order, c.Name)
	}
	return t
}

// find returns the table of r. Where it returns false it has noted a problem.
func (d *discovery) find(r role, override store.Table, near func(Table) bool) (match, bool) {
	if override.Name != "" {
		t, ok := d.catalog.named(override.Name)
		if !ok {
			d.problem("%s names %q, but there is no such table: correct it, or leave it empty to have the table found", r.table, override.Name)
			return match{}, false
		}
		return d.use(r, matchTable(d.catalog, r, t, override, ""))
	}

	for _, tier := range d.tiers(r, near) {
		var fit, broken []match
		for _, t := range tier.tables {
			m := matchTable(d.catalog, r, t, override, "")
			switch {
			case tier.anyName && !m.has(r.structure):
			case len(m.problems) == 0:
				fit = append(fit, m)
			case !tier.anyName && m.resembles(r):
				broken = append(broken, m)
			}
		}
		switch {
		case len(fit) == 1:
			return fit[0], true
		case len(fit) > 1:
			d.problem("several tables could be Better Auth's %s table: %s; name the right one in %s", r.name, matchNames(fit), r.table)
			return match{}, false
		case len(broken) > 0:
			// Going on to less likely tables would hide what is wrong with this one.
			for _, m := range broken {
				d.problems = append(d.problems, m.problems...)
			}
			if len(broken) > 1 {
				d.problem("several tables resemble Better Auth's %s table: %s; name the right one in %s", r.name, matchNames(broken), r.table)
			}
			return match{}, false
		}
	}
	d.notFound(r)
	return match{}, false
}

// use returns m, the table that was asked for, unless it cannot be used.
func (d *discovery) use(r role, m match) (match, bool) {
	if reason := unusable(m.table, r); reason != "" {
		d.problem("%s", reason)
		return m, false
	}
	d.problems = append(d.problems, m.problems...)
	return m, len(m.problems) == 0
}

// unusable says why t cannot be read as r whatever its columns; empty: it can.
func unusable(t Table, r role) string {
	switch {
	case t.Kind != "":
		return fmt.Sprintf("%s is a %s, whose indexes cannot be checked: name the table behind it in %s", t.SQL(), t.Kind, r.table)
	case !t.Readable:
		return fmt.Sprintf("no right to read %s: GRANT SELECT ON %s to the role of the connection (and USAGE on its schema)", t.SQL(), t.SQL())
	}
	return ""
}

// tier is a set of equally likely tables.
type tier struct {
	tables []Table
	// anyName marks tables whose name says nothing.
	anyName bool
}

// tiers returns the usable tables, the likeliest first.
func (d *discovery) tiers(r role, near func(Table) bool) []tier {
	var tiers [6]tier
	for _, t := range d.catalog.Tables {
		if unusable(t, r) != "" {
			continue
		}
		i := likeness(r, t)
		if !near(t) {
			i += 3
		}
		tiers[i].tables = append(tiers[i].tables, t)
	}
	tiers[2].anyName, tiers[5].anyName = true, true
	return tiers[:]
}

// likeness is 0 for a table with the role's name, 1 for one whose name ends in
// it, else 2.
func likeness(r role, t Table) int {
	name := strings.TrimSuffix(normal(t.Name), "s")
	switch {
	case name == r.name:
		return 0
	case strings.HasSuffix(name, r.name):
		return 1
	}
	return 2
}

// notFound says that there is no table of r, and why those of its name do not count.
func (d *discovery) notFound(r role) {
	var reasons []string
	for _, t := range d.catalog.Tables {
		if reason := unusable(t, r); reason != "" && likeness(r, t) < 2 {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) > 0 {
		d.problems = append(d.problems, reasons...)
		return
	}
	d.problem("no table looks like Better Auth's %s table: check that this is the issuer's database and that its migrations ran, or name the table in %s (and its columns in %s)", r.name, r.table, r.columns)
}

// userKey returns the foreign key that leads from the sessions to the users,
// unless the user table is named.
func (d *discovery) userKey(session match, ok bool, override store.Table) (ForeignKey, bool) {
	if !ok || override.Name != "" {
		return ForeignKey{}, false
	}
	return session.table.foreignKey(session.fields["userId"].Name)
}

// referred returns the user table that key refers to.
func (d *discovery) referred(session match, key ForeignKey, override store.Table) (match, bool) {
	t, ok := d.catalog.table(key.RefSchema, key.RefTable)
	if !ok {
		d.problem("%s of %s refers to %s, which does not exist: name the user table in %s",
			Quote(key.Column), session.table.SQL(), tableSQL(key.RefSchema, key.RefTable), userRole.table)
		return match{}, false
	}
	return d.use(userRole, matchTable(d.catalog, userRole, t, override, key.RefColumn))
}

// index returns the name of the index on field, or notes that there is none.
func (d *discovery) index(m match, field string) string {
	column := m.fields[field].Name
	i, ok := m.table.index(column)
	if !ok {
		d.problem("%s has no index that begins with %s, so that each lookup would read the whole table: %s ON %s (%s)",
			m.table.SQL(), Quote(column), d.catalog.CreateIndex, m.table.SQL(), Quote(column))
	}
	return i.Name
}

func (d *discovery) softDelete(user match, override store.Schema) Column {
	name := override.SoftDeleteColumn
	if name == "" {
		return Column{}
	}
	c, ok := user.table.column(name)
	switch {
	case !ok:
		d.problem("%s names %q, but %s has no such column (columns: %s)", softDeleteSetting, name, user.table.SQL(), columnNames(user.table))
	case slices.Contains(override.User.Hide, name):
		d.problem("%s names %q, which %s hides and so is never read: take it out of one of them", softDeleteSetting, name, userRole.hide)
	}
	return c
}

// table returns the table with that very schema and name.
func (c Catalog) table(schema, name string) (Table, bool) {
	for _, t := range c.Tables {
		if t.Schema == schema && t.Name == name {
			return t, true
		}
	}
	return Table{}, false
}

// named returns the table that a setting names: a visible one of that name, else
// the one that schema.name means.
func (c Catalog) named(name string) (Table, bool) {
	for _, t := range c.Tables {
		if t.Visible && t.Name == name {
			return t, true
		}
	}
	for _, t := range c.Tables {
		if t.Schema != "" && t.Schema+"."+t.Name == name {
			return t, true
		}
	}
	return Table{}, false
}

func matchNames(ms []match) string {
	var names []string
	for _, m := range ms {
		names = append(names, m.table.SQL())
	}
	return strings.Join(names, ", ")
}
