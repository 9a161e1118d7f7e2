// Package issued reads a session and its user as the issuer writes them in JSON: into
// secondary storage, and into its signed session_data cookie.
package issued

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Decoder makes records of the issuer's objects. The zero Decoder hides nothing.
type Decoder struct {
	// SoftDelete is the field of the user that marks deleted ones; empty: none.
	SoftDelete string
	// HideSession and HideUser are fields that are not returned.
	HideSession, HideUser map[string]bool
}

// Record reads a session and its user, nil where there is none. A field that cannot be
// read makes the record unreadable; the text does not repeat its value.
func (d Decoder) Record(session, user map[string]json.RawMessage) store.Record {
	unreadable := func(what string) store.Record { return store.Record{Found: true, Unreadable: what} }
	r := store.Record{Found: true}
	if err := d.session(&r.Session, session); err != nil {
		return unreadable("session." + err.Error())
	}
	if user == nil {
		return r
	}
	r.User = new(store.User)
	if err := d.user(r.User, user); err != nil {
		return unreadable("user." + err.Error())
	}
	return r
}

func (d Decoder) session(s *store.Session, fields map[string]json.RawMessage) error {
	for _, name := range sorted(fields) {
		raw := fields[name]
		var err error
		switch name {
		case "token": // never leaves the store
		case "id":
			s.ID = text(raw)
		case "userId":
			s.UserID = text(raw)
		case "createdAt":
			s.CreatedAt, err = instant(raw)
		case "updatedAt":
			s.UpdatedAt, err = instant(raw)
		case "expiresAt":
			s.ExpiresAt, err = instant(raw)
		case "ipAddress":
			s.IPAddress = optional(raw)
		case "userAgent":
			s.UserAgent = optional(raw)
		case "activeOrganizationId":
			s.ActiveOrganizationID = optional(raw)
		case "impersonatedBy":
			s.ImpersonatedBy = optional(raw)
		default:
			if !d.HideSession[name] {
				s.Attributes = append(s.Attributes, attribute(name, raw))
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	switch {
	case s.UserID == "":
		return errors.New("userId: is missing")
	case s.ExpiresAt.IsZero(), s.CreatedAt.IsZero(), s.UpdatedAt.IsZero():
		return errors.New("expiresAt, createdAt or updatedAt: is missing")
	}
	return nil
}

func (d Decoder) user(u *store.User, fields map[string]json.RawMessage) error {
	for _, name := range sorted(fields) {
		raw := fields[name]
		var err error
		known := true
		switch name {
		case "id":
			u.ID = text(raw)
		case "name":
			u.Name = text(raw)
		case "email":
			u.Email = text(raw)
		case "emailVerified":
			u.EmailVerified = truthy(raw)
		case "image":
			u.Image = optional(raw)
		case "createdAt":
			u.CreatedAt, err = instant(raw)
		case "updatedAt":
			u.UpdatedAt, err = instant(raw)
		case "role":
			u.Role = optional(raw)
		case "banned":
			known, u.Banned = false, truthy(raw)
		case "banExpires":
			known = false
			if !isNull(raw) {
				var t time.Time
				t, err = instant(raw)
				u.BanExpires = &t
			}
		default:
			known = false
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == d.SoftDelete && d.SoftDelete != "" {
			u.Deleted = !isNull(raw) && string(raw) != "false"
		}
		if !known && !d.HideUser[name] {
			u.Attributes = append(u.Attributes, attribute(name, raw))
		}
	}
	if u.ID == "" {
		return errors.New("id: is missing")
	}
	return nil
}

func sorted(fields map[string]json.RawMessage) []string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func isNull(raw json.RawMessage) bool { return bytes.Equal(raw, []byte("null")) }

// text is a string, or a number as it stands: ids of serial columns.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	if n := json.Number(""); json.Unmarshal(raw, &n) == nil {
		return n.String()
	}
	return ""
}

func optional(raw json.RawMessage) *string {
	if isNull(raw) {
		return nil
	}
	s := text(raw)
	return &s
}

// truthy is JavaScript's idea of a value in a condition.
func truthy(raw json.RawMessage) bool {
	switch string(raw) {
	case "null", "false", "0", `""`:
		return false
	}
	return true
}

var errDate = errors.New("is no date")

// instant reads a date as the issuer's JSON holds it: ISO 8601 text, or
// milliseconds. Anything else would be an invalid date there.
func instant(raw json.RawMessage) (time.Time, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return time.Time{}, errDate
		}
		return schema.Floor(t), nil
	}
	var ms float64
	if json.Unmarshal(raw, &ms) != nil || isNull(raw) || math.Abs(ms) > 8.64e15 {
		return time.Time{}, errDate
	}
	return time.UnixMilli(int64(ms)).UTC(), nil
}

// attribute reads an additional field. Text that is a date as the issuer writes
// dates is one: its own reader takes it for one too (core/src/utils/json.ts).
func attribute(name string, raw json.RawMessage) store.Attribute {
	a := store.Attribute{Name: name}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return a
	}
	switch v := v.(type) {
	case string:
		if t, err := time.Parse("2006-01-02T15:04:05.999999999Z", v); err == nil {
			a.Kind, a.Time = store.KindTime, schema.Floor(t)
			return a
		}
		a.Kind, a.Text = store.KindString, v
	case bool:
		a.Kind, a.Bool = store.KindBool, v
	case json.Number:
		if n, err := v.Int64(); err == nil {
			a.Kind, a.Int = store.KindInt, n
		} else if f, err := v.Float64(); err == nil {
			a.Kind, a.Float = store.KindFloat, f
		}
	case map[string]any, []any:
		a.Kind, a.Text = store.KindJSON, string(raw)
	}
	return a
}
