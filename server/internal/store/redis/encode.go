package redis

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// member is a member of a JSON object. Objects are kept as lists of them, since the
// issuer's have an order.
type member struct {
	name  string
	value json.RawMessage
}

type object []member

// set gives a member a value: where it stands, or at the end.
func (o object) set(name string, value json.RawMessage) object {
	for i := range o {
		if o[i].name == name {
			o[i].value = value
			return o
		}
	}
	return append(o, member{name, value})
}

func (o object) get(name string) json.RawMessage {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// MarshalJSON implements [json.Marshaler].
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(marshal(m.name))
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

var errNoObject = errors.New("is no JSON object")

// UnmarshalJSON implements [json.Unmarshaler].
func (o *object) UnmarshalJSON(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return errNoObject
	}
	*o = object{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return errNoObject
		}
		text, ok := name.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil || !ok {
			return errNoObject
		}
		*o = o.set(text, value)
	}
	return nil
}

// marshal writes what cannot fail to be written, without Go's escapes for HTML.
func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return json.RawMessage("null")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// date is an instant as JSON.stringify writes one.
func date(t time.Time) json.RawMessage { return marshal(t.UTC().Format("2006-01-02T15:04:05.000Z")) }

// objectOf writes a row as the issuer's JSON has it.
func objectOf(row store.Row) object {
	var o object
	for _, a := range row {
		o = append(o, member{a.Name, valueOf(a)})
	}
	return o
}

func valueOf(a store.Attribute) json.RawMessage {
	switch a.Kind {
	case store.KindString:
		return marshal(a.Text)
	case store.KindInt:
		return marshal(a.Int)
	case store.KindFloat:
		return marshal(a.Float) // NaN and the infinities are null, as with JSON.stringify
	case store.KindBool:
		return marshal(a.Bool)
	case store.KindTime:
		return date(a.Time)
	case store.KindJSON:
		var b bytes.Buffer
		if json.Compact(&b, []byte(a.Text)) == nil {
			return b.Bytes()
		}
	case store.KindBytes:
		// A Buffer of Node's.
		numbers := make([]int, len(a.Bytes))
		for i, n := range a.Bytes {
			numbers[i] = int(n)
		}
		return marshal(struct {
			Type string `json:"type"`
			Data []int  `json:"data"`
		}{"Buffer", numbers})
	}
	return json.RawMessage("null")
}

// newSession is the session of a value where the issuer makes it of what it was asked
// for, and not of a row.
func (w *Writer) newSession(s store.NewSession) object {
	var o object
	if w.cfg.Release >= Release16 {
		o = append(o, member{"id", marshal(s.ID)})
	}
	return append(o,
		member{"ipAddress", marshal(s.IPAddress)}, member{"userAgent", marshal(s.UserAgent)}, member{"expiresAt", date(s.ExpiresAt)},
		member{"userId", marshal(s.UserID)}, member{"token", marshal(s.Token)}, member{"createdAt", date(s.CreatedAt)}, member{"updatedAt", date(s.CreatedAt)})
}

// value is the value of a key. Up to 1.3 it was written with the cookie, the user first.
func (w *Writer) value(session object, user json.RawMessage) string {
	if user == nil {
		user = json.RawMessage("null")
	}
	o := object{{"session", marshal(session)}, {"user", user}}
	if w.cfg.Release < Release14 {
		o[0], o[1] = o[1], o[0]
	}
	return string(marshal(o))
}

// extended is a value with its session's expiry moved; was is what it expired at. not
// ok: there is no session in it.
func (w *Writer) extended(text string, row store.Row, expires, updated time.Time) (value, user string, was time.Time, ok bool) {
	record := decoder{}.record(text)
	var parts object
	if record.Unreadable != "" || json.NewDecoder(strings.NewReader(text)).Decode(&parts) != nil {
		return "", "", time.Time{}, false
	}
	session := objectOf(row)
	if row == nil {
		if session.UnmarshalJSON(parts.get("session")) != nil {
			return "", "", time.Time{}, false
		}
		session = session.set("expiresAt", date(expires)).set("createdAt", date(record.Session.CreatedAt)).set("updatedAt", date(updated))
	}
	return w.value(session, parts.get("user")), record.Session.UserID, record.Session.ExpiresAt, true
}

// errUnwritable is for a value of another form than the issuer's.
func errUnwritable(what string) error { return fmt.Errorf("%w: %s", store.ErrNotWritable, what) }
