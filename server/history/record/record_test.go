package record_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/sessiond/sessiond/server/history/record"
)

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	want := []record.Record{
		{
			Kind: record.Call, Outcome: record.Refused, Source: record.FromAuthority, Way: record.AtLeast,
			Session: 1<<32 - 1, UserVersion: 7, SessionVersion: -1, Start: 1<<62 + 3, End: 1<<62 + 9,
		},
		{Kind: record.Dropped, Session: 2},
	}
	var b []byte
	for _, r := range want {
		b = r.Append(b)
	}
	from := bytes.NewReader(b)
	for i, w := range want {
		got, err := record.Read(from)
		if err != nil || got != w {
			t.Errorf("record %d is %+v, %v, want %+v", i, got, err, w)
		}
	}
	if _, err := record.Read(from); !errors.Is(err, io.EOF) {
		t.Errorf("after the last record: %v, want io.EOF", err)
	}
	if _, err := record.Read(bytes.NewReader(b[:5])); !errors.Is(err, io.EOF) {
		t.Errorf("a torn record: %v, want io.EOF", err)
	}
}

func TestClockGoesOn(t *testing.T) {
	if err := record.CheckClock(); err != nil {
		t.Fatal(err)
	}
	if first, second := record.Now(), record.Now(); first <= 0 || second < first {
		t.Errorf("readings %d and %d", first, second)
	}
}
