package client

import (
	"encoding/json"
	"time"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// Attribute is the value of an additional column of the session or user table.
// The zero Attribute is NULL. The accessors return false for every other kind.
type Attribute struct{ value any }

// Kind is the type of an Attribute.
type Kind uint8

// The kinds.
const (
	KindNull Kind = iota
	KindText
	KindInt
	KindFloat
	KindBool
	KindTime
	KindJSON
	KindBytes
)

// AttributeOf returns an Attribute with a value.
func AttributeOf[T string | int64 | float64 | bool | time.Time | json.RawMessage | []byte](value T) Attribute {
	return Attribute{value: value}
}

// Kind returns the type of the value.
func (a Attribute) Kind() Kind {
	switch a.value.(type) {
	case string:
		return KindText
	case int64:
		return KindInt
	case float64:
		return KindFloat
	case bool:
		return KindBool
	case time.Time:
		return KindTime
	case json.RawMessage:
		return KindJSON
	case []byte:
		return KindBytes
	default:
		return KindNull
	}
}

// size is the memory of the value, in bytes.
func (a Attribute) size() int {
	switch v := a.value.(type) {
	case string:
		return len(v)
	case json.RawMessage:
		return len(v)
	case []byte:
		return len(v)
	default:
		return 24 // at most a time.Time
	}
}

// Text returns a text, or a value of a type without a kind of its own in the
// database's text form.
func (a Attribute) Text() (string, bool) { return attributeValue[string](a) }

// Int returns an integer.
func (a Attribute) Int() (int64, bool) { return attributeValue[int64](a) }

// Float returns a floating point number.
func (a Attribute) Float() (float64, bool) { return attributeValue[float64](a) }

// Bool returns a truth value.
func (a Attribute) Bool() (value, ok bool) { return attributeValue[bool](a) }

// Time returns an instant on the issuer's clock.
func (a Attribute) Time() (time.Time, bool) { return attributeValue[time.Time](a) }

// JSON returns a JSON document. The caller must not change it.
func (a Attribute) JSON() (json.RawMessage, bool) { return attributeValue[json.RawMessage](a) }

// Bytes returns raw bytes. The caller must not change them.
func (a Attribute) Bytes() ([]byte, bool) { return attributeValue[[]byte](a) }

func attributeValue[T any](a Attribute) (T, bool) {
	value, ok := a.value.(T)
	return value, ok
}

func attributesFromProto(in map[string]*sessiondv1.Attribute) map[string]Attribute {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]Attribute, len(in))
	for name, attribute := range in {
		out[name] = attributeFromProto(attribute)
	}
	return out
}

func attributeFromProto(in *sessiondv1.Attribute) Attribute {
	switch kind := in.GetKind().(type) {
	case *sessiondv1.Attribute_StringValue:
		return AttributeOf(kind.StringValue)
	case *sessiondv1.Attribute_IntValue:
		return AttributeOf(kind.IntValue)
	case *sessiondv1.Attribute_DoubleValue:
		return AttributeOf(kind.DoubleValue)
	case *sessiondv1.Attribute_BoolValue:
		return AttributeOf(kind.BoolValue)
	case *sessiondv1.Attribute_TimestampValue:
		return AttributeOf(timeFromProto(kind.TimestampValue))
	case *sessiondv1.Attribute_JsonValue:
		return AttributeOf(json.RawMessage(kind.JsonValue))
	case *sessiondv1.Attribute_BytesValue:
		return AttributeOf(kind.BytesValue)
	default:
		return Attribute{}
	}
}
