// Package record holds what a worker says of each of its calls, the form in which
// it says so, and the clock that all processes of the machine share.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kind says what a record is about.
type Kind uint8

// The kinds.
const (
	// Call is one validation, from before the call to after its return.
	Call Kind = 1 + iota
	// Dropped says that the worker calls no more about the session, and that no
	// call about it is under way: it is the last record of the session.
	Dropped
)

// Outcome is how a call ended.
type Outcome uint8

// The outcomes.
const (
	// Accepted: the session is good.
	Accepted Outcome = 1 + iota
	// Refused: it is not.
	Refused
	// Undecided: nobody could say. Nothing follows from it.
	Undecided
)

// String returns the outcome's name.
func (o Outcome) String() string {
	return name(int(o), "accepted", "refused", "undecided")
}

// Source is who answered.
type Source uint8

// The sources.
const (
	// FromLocal: the client, without knowledge of its own.
	FromLocal Source = 1 + iota
	// FromAuthority: an authority was asked.
	FromAuthority
	// FromCache: the client's memory.
	FromCache
)

// String returns the source's name.
func (s Source) String() string {
	return name(int(s), "local", "authority", "cache")
}

// Way is how the question was put.
type Way uint8

// The ways.
const (
	// Plain is a call without options.
	Plain Way = 1 + iota
	// Batch is one of the calls of a batch.
	Batch
	// Strict is a call that has the store read.
	Strict
	// AtLeast is a call that asks for a revision which was read first; it begins
	// before that reading.
	AtLeast
)

// Fresh reports whether an answer has to know all that was committed before the
// call began.
func (w Way) Fresh() bool { return w == Strict || w == AtLeast }

// String returns the way's name.
func (w Way) String() string {
	return name(int(w), "plain", "batch", "strict", "at least")
}

func name(n int, names ...string) string {
	if n < 1 || n > len(names) {
		return fmt.Sprintf("unknown (%d)", n)
	}
	return names[n-1]
}

// Record is one line of a worker's report.
type Record struct {
	Kind    Kind
	Outcome Outcome
	Source  Source
	Way     Way
	// Session is the session's number in this run.
	Session uint32
	// UserVersion and SessionVersion are the versions of the user's and the
	// session's row that an accepted call returned.
	UserVersion, SessionVersion int32
	// Start is before the call, End after it, as [Now] counts.
	Start, End int64
}

// size is the length of an encoded record, in bytes.
const size = 32

// Append encodes r after b.
func (r Record) Append(b []byte) []byte {
	b = append(b, byte(r.Kind), byte(r.Outcome), byte(r.Source), byte(r.Way))
	b = binary.LittleEndian.AppendUint32(b, r.Session)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.UserVersion))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.SessionVersion))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Start))
	return binary.LittleEndian.AppendUint64(b, uint64(r.End))
}

// Read reads the next record. The error is io.EOF at the end of the stream, also
// where that is in the midst of a record, as a killed process leaves it.
func Read(from io.Reader) (Record, error) {
	var b [size]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return Record{}, io.EOF
		}
		return Record{}, err
	}
	return Record{
		Kind: Kind(b[0]), Outcome: Outcome(b[1]), Source: Source(b[2]), Way: Way(b[3]),
		Session:        binary.LittleEndian.Uint32(b[4:]),
		UserVersion:    int32(binary.LittleEndian.Uint32(b[8:])),
		SessionVersion: int32(binary.LittleEndian.Uint32(b[12:])),
		Start:          int64(binary.LittleEndian.Uint64(b[16:])),
		End:            int64(binary.LittleEndian.Uint64(b[24:])),
	}, nil
}
