package vectors_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// The comparison is by what Better Auth printed as JSON: dates as ISO text with
// milliseconds, ids as text, an absent field like null.

func compareSession(d dataset, want map[string]any, r store.Record) []string {
	s := r.Session
	got := attributes(s.Attributes)
	got["id"], got["userId"] = s.ID, s.UserID
	got["createdAt"], got["updatedAt"], got["expiresAt"] = iso(s.CreatedAt), iso(s.UpdatedAt), iso(s.ExpiresAt)
	got["ipAddress"], got["userAgent"] = text(s.IPAddress), text(s.UserAgent)
	got["activeOrganizationId"], got["impersonatedBy"] = text(s.ActiveOrganizationID), text(s.ImpersonatedBy)
	if s.ID == "" {
		got["id"] = nil // some versions leave it out of secondary storage
	}
	want = maps.Clone(want)
	delete(want, "token") // the token never leaves the store
	return differences("session", d.Options.Session, want, got)
}

func compareUser(d dataset, want map[string]any, u *store.User) []string {
	got := attributes(u.Attributes)
	got["id"], got["name"], got["email"], got["emailVerified"] = u.ID, u.Name, u.Email, u.EmailVerified
	got["image"], got["role"] = text(u.Image), text(u.Role)
	got["createdAt"], got["updatedAt"] = iso(u.CreatedAt), iso(u.UpdatedAt)
	return differences("user", d.Options.User, want, got)
}

func differences(row string, m modelOptions, want, got map[string]any) []string {
	var out []string
	names := slices.Collect(maps.Keys(want))
	for name := range got {
		if _, both := want[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		w, g := want[name], got[name]
		if !same(m.AdditionalFields[name].Type, w, g) {
			out = append(out, fmt.Sprintf("%s.%s: the issuer printed %v, the store says %v", row, name, w, g))
		}
	}
	return out
}

// same compares what was printed with what the database has. SQLite has neither
// booleans nor arrays: there a field of such a type is the integer, or the JSON
// text, that stands for it.
func same(fieldType string, want, got any) bool {
	switch {
	case fieldType == "boolean":
		if n, ok := got.(float64); ok {
			got = n != 0
		}
	case strings.HasSuffix(fieldType, "[]"):
		if s, ok := got.(string); ok {
			var list any
			if json.Unmarshal([]byte(s), &list) == nil {
				got = list
			}
		}
	}
	return reflect.DeepEqual(want, got)
}

func attributes(list []store.Attribute) map[string]any {
	out := make(map[string]any)
	for _, a := range list {
		switch a.Kind {
		case store.KindNull:
			out[a.Name] = nil
		case store.KindString:
			out[a.Name] = a.Text
		case store.KindJSON:
			var v any
			if err := json.Unmarshal([]byte(a.Text), &v); err != nil {
				v = "not JSON: " + a.Text
			}
			out[a.Name] = v
		case store.KindInt:
			out[a.Name] = float64(a.Int)
		case store.KindFloat:
			out[a.Name] = a.Float
		case store.KindBool:
			out[a.Name] = a.Bool
		case store.KindTime:
			out[a.Name] = iso(a.Time)
		case store.KindBytes:
			out[a.Name] = string(a.Bytes)
		}
	}
	return out
}

func text(s *string) any {
	if s == nil {
		return nil
	}
	return *s
}

func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
