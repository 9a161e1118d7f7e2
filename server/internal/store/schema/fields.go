package schema

// field is a field of Better Auth's core schema or of a plugin we know.
type field struct {
	name     string
	required bool
	holds    Holds
	// attribute marks a field that is returned as an attribute too.
	attribute bool
	// aliases are other normal names, tried when there is no column of the
	// field's own.
	aliases []string
}

// role is one of the two tables.
type role struct {
	name   string // as Better Auth names it
	fields []field
	// table, columns and hide are the settings that override discovery.
	table, columns, hide string
	// marks are the fields that make a table with them, but without others that
	// are required, a broken table of this role and not just another table.
	marks []string
	// structure are optional fields that a table must have to be taken for this
	// role whatever its name.
	structure []string
}

// sessionRole demands ipAddress and userAgent of a table with a foreign name,
// since tables of reset tokens or API keys look like sessions but for these.
var sessionRole = role{
	name:    "session",
	table:   "store.session_table",
	columns: "store.session_columns",
	hide:    "store.session_hide",
	fields: []field{
		{name: "id", required: true, holds: HoldsText},
		{name: "token", required: true, holds: HoldsToken},
		{name: "userId", required: true, holds: HoldsText},
		{name: "expiresAt", required: true, holds: HoldsTime, aliases: []string{"expires", "expiry", "expiration"}},
		{name: "createdAt", required: true, holds: HoldsTime, aliases: []string{"created"}},
		{name: "updatedAt", required: true, holds: HoldsTime, aliases: []string{"updated"}},
		{name: "ipAddress", holds: HoldsText},
		{name: "userAgent", holds: HoldsText},
		{name: "activeOrganizationId", holds: HoldsText},
		{name: "impersonatedBy", holds: HoldsText},
	},
	marks:     []string{"token", "expiresAt"},
	structure: []string{"ipAddress", "userAgent"},
}

// userRole's ban columns come from the admin plugin.
var userRole = role{
	name:    "user",
	table:   "store.user_table",
	columns: "store.user_columns",
	hide:    "store.user_hide",
	fields: []field{
		{name: "id", required: true, holds: HoldsText},
		{name: "name", required: true, holds: HoldsText},
		{name: "email", required: true, holds: HoldsText},
		{name: "emailVerified", required: true, holds: HoldsBool},
		{name: "image", holds: HoldsText},
		{name: "createdAt", required: true, holds: HoldsTime, aliases: []string{"created"}},
		{name: "updatedAt", required: true, holds: HoldsTime, aliases: []string{"updated"}},
		{name: "role", holds: HoldsText},
		{name: "banned", holds: HoldsBool, attribute: true},
		{name: "banExpires", holds: HoldsTime, attribute: true},
		{name: "banReason", holds: HoldsText, attribute: true},
	},
	marks: []string{"email", "emailVerified"},
}

// softDeleteSetting is the setting that names the soft-delete column.
const softDeleteSetting = "policy.soft_delete_column"

func (r role) field(name string) (field, bool) {
	for _, f := range r.fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// String names what a field wants, for messages.
func (h Holds) String() string {
	switch h {
	case HoldsText:
		return "text"
	case HoldsToken:
		return "text kept byte for byte"
	case HoldsTime:
		return "an instant"
	case HoldsBool:
		return "true or false"
	}
	return "a value"
}
