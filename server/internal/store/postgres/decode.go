package postgres

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// The reasons why a value cannot be read. They do not repeat the value.
var (
	errInfinite = errors.New("is infinite")
	errForm     = errors.New("has an unexpected form")
)

// postgresEpoch is the origin of binary timestamps, in seconds of Unix time.
const postgresEpoch = 946_684_800

// reader reads the values of one row.
type reader struct {
	types *pgtype.Map // the connection's; for the text format
	zone  *time.Location
}

// value decodes raw, which is nil for NULL. Formats: binary where the protocol
// allows it, text under the simple protocol.
func (r reader) value(c cell, oid uint32, format int16, raw []byte) (store.Attribute, error) {
	if raw == nil {
		return store.Attribute{}, nil
	}
	v := store.Attribute{Kind: c.kind}
	var err error
	switch c.kind {
	case store.KindString, store.KindJSON:
		if !utf8.Valid(raw) { // possible where the database's encoding is SQL_ASCII
			err = errForm
		}
		v.Text = string(raw)
	case store.KindTime:
		v.Time, err = r.instant(c, oid, format, raw)
	case store.KindBool:
		switch {
		case format == pgtype.BinaryFormatCode && len(raw) == 1:
			v.Bool = raw[0] != 0
		default:
			err = r.types.Scan(oid, format, raw, &v.Bool)
		}
	case store.KindInt:
		switch {
		case format == pgtype.BinaryFormatCode && len(raw) == 8:
			v.Int = int64(binary.BigEndian.Uint64(raw))
		default:
			err = r.types.Scan(oid, format, raw, &v.Int)
		}
	case store.KindFloat:
		err = r.types.Scan(oid, format, raw, &v.Float)
	case store.KindBytes:
		err = r.types.Scan(oid, format, raw, &v.Bytes)
	default:
		err = errForm
	}
	if err != nil && !errors.Is(err, errInfinite) {
		err = errForm // the driver's text may repeat the value
	}
	return v, err
}

// instant decodes a timestamp, with or without zone, to the millisecond.
func (r reader) instant(c cell, oid uint32, format int16, raw []byte) (time.Time, error) {
	var t time.Time
	if format == pgtype.BinaryFormatCode && len(raw) == 8 {
		us := int64(binary.BigEndian.Uint64(raw))
		if us == math.MaxInt64 || us == math.MinInt64 {
			return time.Time{}, errInfinite
		}
		t = time.Unix(us/1e6+postgresEpoch, us%1e6*1e3).UTC()
	} else {
		var finite pgtype.InfinityModifier
		var err error
		if c.local {
			var ts pgtype.Timestamp
			err = r.types.Scan(oid, format, raw, &ts)
			t, finite = ts.Time, ts.InfinityModifier
		} else {
			var ts pgtype.Timestamptz
			err = r.types.Scan(oid, format, raw, &ts)
			t, finite = ts.Time, ts.InfinityModifier
		}
		if err != nil {
			return time.Time{}, err
		}
		if finite != pgtype.Finite {
			return time.Time{}, errInfinite
		}
	}
	if c.local {
		t = inZone(t.UTC(), r.zone)
	}
	return schema.Floor(t), nil
}

// inZone returns the instant at which clocks in zone show what wall, in UTC,
// shows. Where that happens twice or never, the offset before the change counts,
// as it does for JavaScript's dates, with which the issuer reads the column.
func inZone(wall time.Time, zone *time.Location) time.Time {
	const day = 24 * time.Hour
	offset := func(t time.Time) time.Duration {
		_, seconds := t.In(zone).Zone()
		return time.Duration(seconds) * time.Second
	}
	before, after := offset(wall.Add(-day)), offset(wall.Add(day))
	if t := wall.Add(-before); before == after || offset(t) == before {
		return t
	}
	if t := wall.Add(-after); offset(t) == after {
		return t
	}
	return wall.Add(-before)
}
