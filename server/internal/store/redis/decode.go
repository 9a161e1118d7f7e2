package redis

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/issued"
)

// decoder reads the issuer's values.
type decoder struct{ issued.Decoder }

// value is what the issuer keeps under a token.
type value struct {
	Session map[string]json.RawMessage `json:"session"`
	User    map[string]json.RawMessage `json:"user"`
}

// record reads a value. One that is no session makes the record unreadable; its text
// does not repeat the value.
func (d decoder) record(text string) store.Record {
	unreadable := func(what string) store.Record { return store.Record{Found: true, Unreadable: what} }
	var v value
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(&v); err != nil {
		return unreadable("the key's value is not JSON of a session")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return unreadable("the key's value has something after its JSON")
	}
	if v.Session == nil {
		return unreadable("the key's value holds no session")
	}
	return d.Record(v.Session, v.User)
}

// number is JavaScript's Number(text) for what can be in a mark; not ok: not a
// number, with which every comparison fails.
func number(text string) (float64, bool) {
	text = strings.TrimSpace(text)
	switch text {
	case "":
		return 0, true
	case "Infinity", "+Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	if strings.ContainsAny(text, "_pPiInN") {
		return 0, false // forms of Go's that JavaScript does not know
	}
	if len(text) > 2 && text[0] == '0' && strings.ContainsRune("xXoObB", rune(text[1])) {
		n, err := strconv.ParseUint(text, 0, 63)
		return float64(n), err == nil
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil || errors.Is(err, strconv.ErrRange)
}
