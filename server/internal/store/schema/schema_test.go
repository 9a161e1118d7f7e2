package schema_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// table makes a table of columns "name:kind", where kind is t (text), d (an
// instant), b (boolean) or i (integer), with indexes on its first column and on
// token, whatever that is called.
func table(name string, columns ...string) schema.Table {
	t := schema.Table{Schema: "public", Name: name, Visible: true, Readable: true}
	for i, c := range columns {
		name, kind, _ := strings.Cut(c, ":")
		holds := map[string]schema.Holds{
			"t": schema.HoldsText | schema.HoldsToken, "d": schema.HoldsTime, "b": schema.HoldsBool, "i": schema.HoldsText,
		}[kind]
		t.Columns = append(t.Columns, schema.Column{Name: name, Type: "type " + kind, Holds: holds})
		if i == 0 || strings.Contains(strings.ToLower(name), "token") {
			t.Indexes = append(t.Indexes, schema.Index{Name: name + "_key", Column: name, Unique: true})
		}
	}
	return t
}

func session(name string, extra ...string) schema.Table {
	return table(name, append([]string{"id:t", "token:t", "userId:t", "expiresAt:d", "createdAt:d", "updatedAt:d", "ipAddress:t", "userAgent:t"}, extra...)...)
}

func user(name string, extra ...string) schema.Table {
	return table(name, append([]string{"id:t", "name:t", "email:t", "emailVerified:b", "image:t", "createdAt:d", "updatedAt:d"}, extra...)...)
}

// in puts t into another schema, off the search path.
func in(s string, t schema.Table) schema.Table {
	t.Schema, t.Visible = s, false
	return t
}

func without(t schema.Table, column string) schema.Table {
	t.Columns = slices.DeleteFunc(slices.Clone(t.Columns), func(c schema.Column) bool { return c.Name == column })
	return t
}

func as(t schema.Table, kind string) schema.Table {
	t.Kind = kind
	return t
}

func references(t schema.Table, column, table, refColumn string) schema.Table {
	t.ForeignKeys = append(t.ForeignKeys, schema.ForeignKey{Column: column, RefSchema: "public", RefTable: table, RefColumn: refColumn})
	return t
}

func TestDiscover(t *testing.T) {
	for _, tt := range []struct {
		name          string
		tables        []schema.Table
		override      store.Schema
		session, user string            // the tables' SQL names
		fields        map[string]string // some of the session's
		userFields    map[string]string
		attributes    []string // "name=column" of the user
	}{
		{name: "camel case", tables: []schema.Table{session("session"), user("user")}, session: `"public"."session"`, user: `"public"."user"`,
			fields: map[string]string{"expiresAt": "expiresAt", "userAgent": "userAgent"}},
		{name: "snake case, plural", session: `"public"."sessions"`, user: `"public"."users"`,
			tables: []schema.Table{
				table("sessions", "id:t", "token:t", "user_id:t", "expires_at:d", "created_at:d", "updated_at:d"),
				table("users", "id:t", "name:t", "email:t", "email_verified:b", "created_at:d", "updated_at:d", "ban_expires:d"),
			},
			fields:     map[string]string{"userId": "user_id", "expiresAt": "expires_at"},
			userFields: map[string]string{"emailVerified": "email_verified", "banExpires": "ban_expires"},
			attributes: []string{"banExpires=ban_expires"}},
		{name: "columns with the table's name", session: `"public"."session"`, user: `"public"."user"`,
			tables: []schema.Table{
				table("session", "session_id:t", "session_token:t", "user_id:t", "expires:d", "created:d", "updated:d"),
				table("user", "user_id:t", "user_name:t", "user_email:t", "email_verified:b", "created_at:d", "updated_at:d"),
			},
			fields: map[string]string{"id": "session_id", "token": "session_token", "expiresAt": "expires"}},
		{name: "by structure", session: `"public"."logins"`, user: `"public"."people"`,
			tables: []schema.Table{
				references(table("logins", "id:t", "access_token:t", "owner:t", "expires_at:d", "created_at:d", "updated_at:d", "ip_address:t", "user_agent:t"), "owner", "people", "key"),
				table("people", "key:t", "name:t", "email:t", "email_verified:b", "created_at:d", "updated_at:d"),
				table("reset_tokens", "id:t", "token:t", "user_id:t", "expires_at:d", "created_at:d", "updated_at:d"),
			},
			fields:     map[string]string{"token": "access_token", "userId": "owner"},
			userFields: map[string]string{"id": "key"}},
		{name: "another table of the name", tables: []schema.Table{table("session", "sid:t", "sess:t", "expire:d"), session("auth_session"), user("auth_user")},
			session: `"public"."auth_session"`, user: `"public"."auth_user"`},
		{name: "the search path goes first", tables: []schema.Table{in("other", session("session")), session("auth_session"), in("other", user("user")), user("user")},
			session: `"public"."auth_session"`, user: `"public"."user"`},
		{name: "off the search path", tables: []schema.Table{in("auth", session("session")), in("auth", user("user"))},
			session: `"auth"."session"`, user: `"auth"."user"`},
		{name: "the users of the sessions' schema", tables: []schema.Table{in("auth", session("session")), in("auth", user("user")), in("zoo", user("user"))},
			session: `"auth"."session"`, user: `"auth"."user"`},
		{name: "a foreign key beats names", tables: []schema.Table{references(session("session"), "userId", "member", "id"), user("user"), user("member")},
			session: `"public"."session"`, user: `"public"."member"`},
		{name: "override of a table", tables: []schema.Table{session("session"), session("sessions"), user("user")},
			override: store.Schema{Session: store.Table{Name: "sessions"}}, session: `"public"."sessions"`, user: `"public"."user"`},
		{name: "override with a schema", tables: []schema.Table{session("session"), in("auth", session("session")), user("user")},
			override: store.Schema{Session: store.Table{Name: "auth.session"}}, session: `"auth"."session"`, user: `"public"."user"`},
		{name: "override of columns", tables: []schema.Table{session("session", "until:d"), user("user", "nick_name:t", "secret:t", "role:t", "plan:t")},
			override: store.Schema{
				Session: store.Table{Columns: map[string]string{"expiresAt": "until"}},
				User:    store.Table{Columns: map[string]string{"nickname": "nick_name"}, Hide: []string{"secret"}},
			},
			session: `"public"."session"`, user: `"public"."user"`,
			fields: map[string]string{"expiresAt": "until"}, userFields: map[string]string{"role": "role"},
			attributes: []string{"nickname=nick_name", "plan=plan"}},
		{name: "hidden optional field", tables: []schema.Table{session("session"), user("user", "role:t")},
			override: store.Schema{User: store.Table{Hide: []string{"role"}}}, session: `"public"."session"`, user: `"public"."user"`,
			userFields: map[string]string{"role": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := schema.Discover(schema.Catalog{Tables: tt.tables}, tt.override)
			if err != nil {
				t.Fatal(err)
			}
			if m.Session.SQL() != tt.session || m.User.SQL() != tt.user {
				t.Errorf("tables %s and %s, want %s and %s", m.Session.SQL(), m.User.SQL(), tt.session, tt.user)
			}
			for field, want := range tt.fields {
				if got := m.Session.Fields[field].Name; got != want {
					t.Errorf("session field %s is %q, want %q", field, got, want)
				}
			}
			for field, want := range tt.userFields {
				if got := m.User.Fields[field].Name; got != want {
					t.Errorf("user field %s is %q, want %q", field, got, want)
				}
			}
			if tt.attributes != nil {
				var got []string
				for _, a := range m.User.Attributes {
					got = append(got, a.Name+"="+a.Column.Name)
				}
				if diff := cmp.Diff(tt.attributes, got); diff != "" {
					t.Errorf("attributes (-want +got):\n%s", diff)
				}
			}
			if m.Session.TokenIndex == "" {
				t.Error("no token index")
			}
		})
	}
}

func TestDiscoverRefuses(t *testing.T) {
	unindexed := session("session")
	unindexed.Indexes = nil
	unreadable := session("session")
	unreadable.Readable = false
	for _, tt := range []struct {
		name     string
		tables   []schema.Table
		override store.Schema
		want     [][]string // what each problem must say
	}{
		{name: "empty database", want: [][]string{
			{"no table looks like Better Auth's session table", "store.session_table"},
			{"no table looks like Better Auth's user table", "store.user_table"},
		}},
		{name: "two sessions tables", tables: []schema.Table{session("session"), session("sessions"), user("user")}, want: [][]string{
			{`"public"."session", "public"."sessions"`, "store.session_table"},
		}},
		{name: "several things at once", tables: []schema.Table{without(without(unindexed, "updatedAt"), "userId"), without(user("user"), "email")},
			override: store.Schema{SoftDeleteColumn: "gone"},
			want: [][]string{
				{"no column for the field userId", "store.session_columns"},
				{"no column for the field updatedAt"},
				{"no table looks like Better Auth's user table"},
			}},
		{name: "no index", tables: []schema.Table{unindexed, user("user")}, want: [][]string{
			{"no index", `CREATE UNIQUE INDEX ON "public"."session" ("token")`},
		}},
		{name: "a broken table is not passed over", tables: []schema.Table{without(session("session"), "createdAt"), session("old_session"), user("user")}, want: [][]string{
			{`"public"."session"`, "createdAt"},
		}},
		{name: "two columns for a field", tables: []schema.Table{session("session", "expires_at:d"), user("user")}, want: [][]string{
			{`"expiresAt", "expires_at"`, "store.session_columns"},
		}},
		{name: "wrong types", tables: []schema.Table{
			table("session", "id:t", "token:t", "userId:t", "expiresAt:b", "createdAt:d", "updatedAt:d"), user("user", "banned:d"),
		}, want: [][]string{
			{`"expiresAt"`, "type b", "an instant"},
			{`"banned"`, "type d", "store.user_hide"},
		}},
		{name: "token that is a number", tables: []schema.Table{table("session", "id:t", "token:i", "userId:t", "expiresAt:d", "createdAt:d", "updatedAt:d"), user("user")},
			want: [][]string{{`"token"`, "byte for byte"}}},
		{name: "view", tables: []schema.Table{as(session("session"), "view"), user("user")}, want: [][]string{
			{`"public"."session" is a view`, "store.session_table"},
		}},
		{name: "view that is asked for", tables: []schema.Table{as(session("v"), "view"), session("session"), user("user")},
			override: store.Schema{Session: store.Table{Name: "v"}}, want: [][]string{{`"public"."v" is a view`}}},
		{name: "no right", tables: []schema.Table{unreadable, user("user")}, want: [][]string{{"GRANT SELECT"}}},
		{name: "overrides of what is not there", tables: []schema.Table{session("session"), user("user")},
			override: store.Schema{
				Session:          store.Table{Name: "nowhere"},
				User:             store.Table{Name: "user", Columns: map[string]string{"email": "mail", "nick": "nick"}, Hide: []string{"secret"}},
				SoftDeleteColumn: "gone",
			},
			want: [][]string{
				{"store.session_table", `"nowhere"`},
				{"store.user_hide", `"secret"`},
				{"store.user_columns", `"mail"`},
				{"store.user_columns", `"nick"`},
			}},
		{name: "soft delete of what is not there", tables: []schema.Table{session("session"), user("user")},
			override: store.Schema{SoftDeleteColumn: "gone"}, want: [][]string{{"policy.soft_delete_column", `"gone"`}}},
		{name: "soft delete by a hidden column", tables: []schema.Table{session("session"), user("user", "gone:d")},
			override: store.Schema{SoftDeleteColumn: "gone", User: store.Table{Hide: []string{"gone"}}}, want: [][]string{{"policy.soft_delete_column", "store.user_hide"}}},
		{name: "hidden and mapped", tables: []schema.Table{session("session"), user("user")},
			override: store.Schema{Session: store.Table{Name: "session", Columns: map[string]string{"token": "token"}, Hide: []string{"token"}}},
			want:     [][]string{{"store.session_columns", "store.session_hide"}}},
		{name: "one column for two fields", tables: []schema.Table{session("session"), user("user")},
			override: store.Schema{Session: store.Table{Name: "session", Columns: map[string]string{"createdAt": "createdAt", "updatedAt": "createdAt"}}},
			want:     [][]string{{`"createdAt"`, "both createdAt and updatedAt"}}},
		{name: "two attributes of one name", tables: []schema.Table{session("session"), user("user", "plan:t", "tier:t")},
			override: store.Schema{User: store.Table{Name: "user", Columns: map[string]string{"plan": "tier"}}},
			want:     [][]string{{`"plan"`, `"tier"`, "store.user_columns"}}},
		{name: "only reset tokens", tables: []schema.Table{
			table("reset_tokens", "id:t", "token:t", "user_id:t", "expires_at:d", "created_at:d", "updated_at:d"), user("user"),
		}, want: [][]string{{"no table looks like Better Auth's session table"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := schema.Discover(schema.Catalog{Tables: tt.tables, CreateIndex: "CREATE UNIQUE INDEX"}, tt.override)
			var e *schema.Error
			if !errors.As(err, &e) {
				t.Fatalf("mapping %+v, error %v: want a *schema.Error", m, err)
			}
			if len(e.Problems) != len(tt.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(e.Problems), len(tt.want), err)
			}
			for i, parts := range tt.want {
				for _, part := range parts {
					if !strings.Contains(e.Problems[i], part) {
						t.Errorf("problem %d does not say %q: %s", i, part, e.Problems[i])
					}
				}
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	m, err := schema.Discover(schema.Catalog{Tables: []schema.Table{session("session"), user("user", "role:t", "banned:b", "nick_name:t")}},
		store.Schema{User: store.Table{Columns: map[string]string{"nickname": "nick_name"}}})
	if err != nil {
		t.Fatal(err)
	}
	d := m.User.Describe()
	want := []string{"banned", "createdAt", "email", "emailVerified", "id", "image", "name", "nickname", "role", "updatedAt"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(d.Columns))); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"banned", "nickname"}, d.Attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if got := m.Session.Describe().TokenIndex; got != "token_key" {
		t.Errorf("token index %q", got)
	}
}
