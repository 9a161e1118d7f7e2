package schema

import (
	"errors"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// ErrNull means that a column is NULL where a session cannot do without it.
var ErrNull = errors.New("is NULL")

// Slot is one column that a lookup reads.
type Slot struct {
	// User tells the user table's columns from the session table's.
	User bool
	// Field is the issuer's name of the field; empty for an additional column.
	Field  string
	Column Column
	// Want is what the value is to be read as: HoldsText as KindString,
	// HoldsTime as KindTime, HoldsBool as KindBool. Zero: go by the column's type.
	Want Holds

	required bool
	// additional marks a column no decision depends on. What cannot be read of it
	// is left out as NULL, as the issuer prints it; the session stays good.
	additional bool
	set        func(*store.Record, store.Attribute)
}

// Slots returns the columns to read, token excluded. The user's id is the first
// of the user's.
func (m *Mapping) Slots() []Slot {
	slots := fieldSlots(sessionRole, m.Session, false, sessionSetters)
	for _, a := range m.Session.Attributes {
		slots = append(slots, Slot{Column: a.Column, Want: a.Want, additional: true, set: func(r *store.Record, v store.Attribute) {
			v.Name = a.Name
			r.Session.Attributes = append(r.Session.Attributes, v)
		}})
	}
	slots = append(slots, fieldSlots(userRole, m.User, true, userSetters)...)
	if m.SoftDelete.Name != "" {
		slots = append(slots, Slot{User: true, Column: m.SoftDelete, set: func(r *store.Record, v store.Attribute) {
			r.User.Deleted = v.Kind != store.KindNull && (v.Kind != store.KindBool || v.Bool)
		}})
	}
	for _, a := range m.User.Attributes {
		slots = append(slots, Slot{User: true, Column: a.Column, Want: a.Want, additional: true, set: func(r *store.Record, v store.Attribute) {
			v.Name = a.Name
			r.User.Attributes = append(r.User.Attributes, v)
		}})
	}
	return slots
}

// setter says what to do with a field's value.
type setter struct {
	// required marks fields that must not be NULL. The user's name and the like
	// may be, as they may for the issuer: no session is refused for them.
	required bool
	set      func(*store.Record, store.Attribute)
}

// sessionSetters and userSetters are read only.
var (
	sessionSetters = map[string]setter{
		"id":                   {true, func(r *store.Record, v store.Attribute) { r.Session.ID = v.Text }},
		"userId":               {true, func(r *store.Record, v store.Attribute) { r.Session.UserID = v.Text }},
		"expiresAt":            {true, func(r *store.Record, v store.Attribute) { r.Session.ExpiresAt = v.Time }},
		"createdAt":            {true, func(r *store.Record, v store.Attribute) { r.Session.CreatedAt = v.Time }},
		"updatedAt":            {true, func(r *store.Record, v store.Attribute) { r.Session.UpdatedAt = v.Time }},
		"ipAddress":            {false, func(r *store.Record, v store.Attribute) { r.Session.IPAddress = text(v) }},
		"userAgent":            {false, func(r *store.Record, v store.Attribute) { r.Session.UserAgent = text(v) }},
		"activeOrganizationId": {false, func(r *store.Record, v store.Attribute) { r.Session.ActiveOrganizationID = text(v) }},
		"impersonatedBy":       {false, func(r *store.Record, v store.Attribute) { r.Session.ImpersonatedBy = text(v) }},
	}
	userSetters = map[string]setter{
		"id":            {true, func(r *store.Record, v store.Attribute) { r.User.ID = v.Text }},
		"name":          {false, func(r *store.Record, v store.Attribute) { r.User.Name = v.Text }},
		"email":         {false, func(r *store.Record, v store.Attribute) { r.User.Email = v.Text }},
		"emailVerified": {false, func(r *store.Record, v store.Attribute) { r.User.EmailVerified = v.Bool }},
		"image":         {false, func(r *store.Record, v store.Attribute) { r.User.Image = text(v) }},
		"createdAt":     {false, func(r *store.Record, v store.Attribute) { r.User.CreatedAt = v.Time }},
		"updatedAt":     {false, func(r *store.Record, v store.Attribute) { r.User.UpdatedAt = v.Time }},
		"role":          {false, func(r *store.Record, v store.Attribute) { r.User.Role = text(v) }},
		"banned":        {false, func(r *store.Record, v store.Attribute) { r.User.Banned = v.Bool }},
		"banExpires":    {false, func(r *store.Record, v store.Attribute) { r.User.BanExpires = instant(v) }},
	}
)

func fieldSlots(r role, t MappedTable, user bool, setters map[string]setter) []Slot {
	var slots []Slot
	for _, f := range r.fields {
		s, wanted := setters[f.name]
		if c, ok := t.Fields[f.name]; ok && wanted {
			slots = append(slots, Slot{User: user, Field: f.name, Column: c, Want: f.holds, required: s.required, set: s.set})
		}
	}
	return slots
}

func text(v store.Attribute) *string {
	if v.Kind == store.KindNull {
		return nil
	}
	return &v.Text
}

func instant(v store.Attribute) *time.Time {
	if v.Kind == store.KindNull {
		return nil
	}
	return &v.Time
}

// Assemble makes the record of a row. read returns the value of slots[i], or an
// error whose text does not repeat it; the row is then unreadable.
func Assemble(slots []Slot, read func(i int) (store.Attribute, error)) store.Record {
	r := store.Record{Found: true}
	for i, s := range slots {
		v, err := read(i)
		if err != nil && s.additional {
			v, err = store.Attribute{}, nil
		}
		if s.User && r.User == nil {
			if err == nil && v.Kind == store.KindNull {
				return r // no row of the user table joined
			}
			r.User = new(store.User)
		}
		if err == nil && s.required && v.Kind == store.KindNull {
			err = ErrNull
		}
		if err != nil {
			table := "session"
			if s.User {
				table = "user"
			}
			return store.Record{Found: true, Unreadable: fmt.Sprintf("column %q of the %s table: %v", s.Column.Name, table, err)}
		}
		s.set(&r, v)
	}
	return r
}

// Floor returns t in UTC without what is below the millisecond, which the
// issuer's dates cannot hold.
func Floor(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }
