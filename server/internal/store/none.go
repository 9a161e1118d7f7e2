package store

import (
	"context"
	"fmt"
)

// None stands where a store would be for an issuer that has none: its sessions are in
// signed cookies alone. There is nothing to look up, and asking it finds nothing out.
type None struct{}

var _ Store = None{}

// Lookup implements [Store]. It is a mistake to call it.
func (None) Lookup(context.Context, Era, []string) ([]Record, error) {
	return nil, fmt.Errorf("%w: the issuer has none (store.driver=none)", ErrUnavailable)
}

// Clues implements [Store].
func (None) Clues(context.Context, string) (Clues, error) { return Clues{}, nil }

// Ready implements [Store]: what is needed is here.
func (None) Ready(context.Context) error { return nil }

// Describe implements [Store].
func (None) Describe() Description {
	return Description{Driver: "none", Location: "the issuer's signed cookies"}
}

// Close implements [Store].
func (None) Close() error { return nil }
