package sqlite

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// errForm means that a value cannot be what its column is read as.
var errForm = errors.New("has an unexpected form")

// declared is what a column was declared to be. SQLite keeps any value in any
// column, converted by the rules of https://www.sqlite.org/datatype3.html where
// that loses nothing.
type declared string

// has reports whether the declaration contains one of parts, in any case.
func (d declared) has(parts ...string) bool {
	up := strings.ToUpper(string(d))
	for _, p := range parts {
		if strings.Contains(up, p) {
			return true
		}
	}
	return false
}

func (d declared) isBool() bool { return d.has("BOOL") }
func (d declared) isTime() bool { return d.has("DATE", "TIME") }
func (d declared) isJSON() bool { return d.has("JSON") }

// holds says what a column so declared can be read as. A token needs a column
// that leaves text alone: one of numeric affinity makes 12 of "0012".
func (d declared) holds() schema.Holds {
	switch {
	case d.isBool():
		return schema.HoldsBool
	case d.isTime():
		return schema.HoldsTime
	case d.isJSON(), d.has("BLOB"):
		return 0
	case d.has("INT"):
		return schema.HoldsText | schema.HoldsTime | schema.HoldsBool
	case d == "", d.has("CHAR", "CLOB", "TEXT"):
		return schema.HoldsText | schema.HoldsToken | schema.HoldsTime | schema.HoldsBool
	case d.has("REAL", "FLOA", "DOUB"):
		return schema.HoldsTime
	}
	return schema.HoldsText | schema.HoldsTime | schema.HoldsBool
}

// decode reads v as slot wants it. A column that nothing is known about is read
// by its declaration, and where the value does not fit that, as it is stored.
func decode(slot schema.Slot, v any) (store.Attribute, error) {
	if v == nil {
		return store.Attribute{}, nil
	}
	if s, ok := v.(string); ok && !utf8.ValidString(s) {
		return store.Attribute{}, errForm
	}
	switch {
	case slot.Want&schema.HoldsText != 0:
		return decodeText(v)
	case slot.Want&schema.HoldsTime != 0:
		return decodeTime(v)
	case slot.Want&schema.HoldsBool != 0:
		return decodeBool(v)
	}
	d := declared(slot.Column.Type)
	var a store.Attribute
	err := errForm
	switch {
	case d.isBool():
		a, err = decodeBool(v)
	case d.isTime():
		a, err = decodeTime(v)
	case d.isJSON():
		a, err = decodeJSON(v)
	}
	if err != nil {
		return stored(v)
	}
	return a, nil
}

// stored returns v as SQLite has it.
func stored(v any) (store.Attribute, error) {
	switch v := v.(type) {
	case string:
		return store.Attribute{Kind: store.KindString, Text: v}, nil
	case int64:
		return store.Attribute{Kind: store.KindInt, Int: v}, nil
	case float64:
		return store.Attribute{Kind: store.KindFloat, Float: v}, nil
	case []byte:
		return store.Attribute{Kind: store.KindBytes, Bytes: v}, nil
	}
	return store.Attribute{}, errForm
}

func decodeText(v any) (store.Attribute, error) {
	switch v := v.(type) {
	case string:
		return store.Attribute{Kind: store.KindString, Text: v}, nil
	case int64:
		return store.Attribute{Kind: store.KindString, Text: strconv.FormatInt(v, 10)}, nil
	}
	return store.Attribute{}, errForm
}

func decodeBool(v any) (store.Attribute, error) {
	switch v {
	case int64(0), "false", "0":
		return store.Attribute{Kind: store.KindBool}, nil
	case int64(1), "true", "1":
		return store.Attribute{Kind: store.KindBool, Bool: true}, nil
	}
	return store.Attribute{}, errForm
}

func decodeJSON(v any) (store.Attribute, error) {
	a, err := decodeText(v)
	if err != nil || !json.Valid([]byte(a.Text)) {
		return store.Attribute{}, errForm
	}
	a.Kind = store.KindJSON
	return a, nil
}

const (
	// secondsBelow is the magnitude below which a number is seconds since 1970,
	// else milliseconds: 1e11 seconds is the year 5138, 1e11 ms is 1973.
	secondsBelow = 1e11
	// maxMillis is the end of JavaScript's dates, on both sides of 1970.
	maxMillis = 8.64e15
)

// layouts are the forms of text read as an instant: the issuer's, and those of
// SQLite's own date functions. Without a zone they are UTC. A fraction of a
// second is accepted wherever seconds are.
var layouts = []string{
	time.RFC3339,
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02T15:04:05",
	"2006-01-02 15:04:05",
	"2006-01-02",
}

func decodeTime(v any) (store.Attribute, error) {
	a := store.Attribute{Kind: store.KindTime}
	switch v := v.(type) {
	case string:
		for _, layout := range layouts {
			if t, err := time.Parse(layout, v); err == nil {
				a.Time = schema.Floor(t)
				return a, nil
			}
		}
	case int64:
		if f := math.Abs(float64(v)); f < secondsBelow {
			a.Time = time.Unix(v, 0).UTC()
			return a, nil
		} else if f <= maxMillis {
			a.Time = time.UnixMilli(v).UTC()
			return a, nil
		}
	case float64:
		ms := v
		if math.Abs(v) < secondsBelow {
			ms *= 1000
		}
		if math.Abs(ms) <= maxMillis {
			a.Time = time.UnixMilli(int64(math.Floor(ms))).UTC()
			return a, nil
		}
	}
	return store.Attribute{}, errForm
}
