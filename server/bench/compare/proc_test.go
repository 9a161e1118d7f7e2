package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	// The name may hold spaces and parentheses.
	got, err := parseStat([]byte("42 (postgres: a) b) S 7 42 42 0 -1 4194304 1 2 3 4 150 50 9 9 20 0 1 0 100 1 1"))
	if err != nil || got.parent != 7 || got.cpu != 2*time.Second {
		t.Errorf("%+v, %v; want parent 7 and 2s", got, err)
	}
	for _, line := range []string{"", "42", "42 (x) S 7", "42 (x) S y 42 42 0 -1 4194304 1 2 3 4 150 50 9"} {
		if _, err := parseStat([]byte(line)); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}

func TestProcessorTimeOfThisProcess(t *testing.T) {
	used, err := cpuUsed(os.Getpid(), func() error {
		for start := time.Now(); time.Since(start) < 100*time.Millisecond; {
		}
		return nil
	})
	if err != nil || used < 2*tick {
		t.Errorf("100ms of work took %v of processor time, %v", used, err)
	}
	if bytes, err := residentBytes(os.Getpid()); err != nil || bytes < 1<<20 {
		t.Errorf("this process has %v bytes resident, %v", bytes, err)
	}
}

func TestMetric(t *testing.T) {
	const text = `# HELP a_total Things.
a_total{verdict="good",reason="NO NE"} 2
a_total{verdict="refused",reason="x"} 3.5
a_total_more 100
bare 7e+06
`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	a := &authority{admin: strings.TrimPrefix(srv.URL, "http://")}
	for name, want := range map[string]float64{"a_total": 5.5, "bare": 7e6} {
		if got, err := a.metric(t.Context(), name); err != nil || got != want {
			t.Errorf("metric(%s) = %v, %v; want %v", name, got, err, want)
		}
	}
	if _, err := a.metric(t.Context(), "absent"); err == nil {
		t.Error("a metric that is not there is no error")
	}
	if err := get(t.Context(), srv.URL+"/elsewhere", nil); err == nil {
		t.Error("a status other than 200 is no error")
	}
}
