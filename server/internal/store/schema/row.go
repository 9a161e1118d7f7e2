package schema

import "slices"

// The order in which the issuer's adapter returns the fields of its own schema. The
// additional ones follow, and the id is the last (transformOutput in
// packages/core/src/db/adapter/factory.ts).
var (
	sessionOrder = []string{"expiresAt", "token", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId"}
	userOrder    = []string{"name", "email", "emailVerified", "image", "createdAt", "updatedAt"}
)

// SessionRow returns the columns of a row of the session table, in the order in which
// the issuer's adapter returns them.
func (m *Mapping) SessionRow() []Attribute { return m.Session.row(sessionRole, sessionOrder) }

// UserRow is as [Mapping.SessionRow], for the user table.
func (t MappedTable) UserRow() []Attribute { return t.row(userRole, userOrder) }

// row orders additional columns as the table does: the issuer's migrations add them in
// the order of its options.
func (t MappedTable) row(r role, leading []string) []Attribute {
	byColumn := make(map[string]Attribute)
	for _, a := range t.Attributes {
		byColumn[a.Column.Name] = a
	}
	for _, f := range r.fields {
		if c, ok := t.Fields[f.name]; ok {
			want := f.holds
			if want == HoldsToken {
				want = HoldsText
			}
			byColumn[c.Name] = Attribute{Name: f.name, Column: c, Want: want}
		}
	}
	var first, additional, last []Attribute
	for _, column := range t.order {
		a, ok := byColumn[column]
		switch {
		case !ok: // hidden
		case a.Name == "id":
			last = append(last, a)
		case slices.Contains(leading, a.Name):
			first = append(first, a)
		default:
			additional = append(additional, a)
		}
	}
	slices.SortFunc(first, func(a, b Attribute) int { return slices.Index(leading, a.Name) - slices.Index(leading, b.Name) })
	return slices.Concat(first, additional, last)
}
