package client

import (
	"strings"
	"testing"
)

var testRules = []cookieRule{{name: "s"}, {name: "data", chunked: true}}

func TestFilterCookies(t *testing.T) {
	for _, c := range []struct{ name, header, want string }{
		{"empty", "", ""},
		{"nothing of ours", "a=1; b=2", ""},
		{"only ours", "s=1", "s=1"},
		{"first", "s=1; b=2", "s=1"},
		{"last, without a space", "a=1;s=1", "s=1"},
		{"side by side", "a=1; s=1; data=2; b=3", "s=1; data=2"},
		{"apart", "s=1; a=1; data=2", "s=1; data=2"},
		{"apart three times", "s=1;a;s=2;b;s=3", "s=1; s=2; s=3"},
		{"order and duplicates are kept", "data=2; s=b; x=1; s=a; s=b", "data=2; s=b; s=a; s=b"},
		{"case counts", "S=1", ""},
		{"whole name", "xs=1; sx=1; s.0=1", ""},
		{"chunks", "data.0=a; data.10=b", "data.0=a; data.10=b"},
		{"no chunks", "data.=a; data.x=b; data0=c; data.0x=d", ""},
		{"space in JavaScript's sense", "\t s\v\f =1", "s\v\f =1"},
		{"0xA0 is space", "\xa0s\xa0=1", "s\xa0=1"},
		{"0x85 is not", "\x85s=1", ""},
		{"no equals sign, no cookie", "s; s=1", "s=1"},
		{"empty value", "s=; a=1", "s="},
		{"comma is no separator", "a=1, s=1", ""},
		{"quotes do not protect", `a="x; s=1; y"`, "s=1"},
		{"value holds a pair", "a=s=1", ""},
		{"value holds equals signs", "s=a==; b=1", "s=a=="},
		{"stray semicolons", ";;s=1;;", "s=1"},
		{"bytes that are not UTF-8", "a=\xff; s=\xfe", "s=\xfe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := filterCookies(c.header, testRules); got != c.want {
				t.Errorf("filterCookies(%q) = %q, want %q", c.header, got, c.want)
			}
		})
	}
}

func TestFilterCookiesAllocates(t *testing.T) {
	for _, c := range []struct {
		name, header string
		most         float64
	}{
		{"side by side", browserJar, 0},
		{"apart", browserJar + "; s=2", 1},
	} {
		if got := testing.AllocsPerRun(100, func() { filterCookies(c.header, testRules) }); got > c.most {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.most)
		}
	}
}

// FuzzFilterCookies checks against the plain way to do it, and that filtering
// twice changes nothing.
func FuzzFilterCookies(f *testing.F) {
	for _, seed := range []string{"", "s=1", "a; s = 2 ;data.3=x;;s=", "\xa0s=1; \x85s=2", browserJar} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		var want []string
		for part := range strings.SplitSeq(header, ";") {
			name, _, ok := strings.Cut(part, "=")
			name = strings.Trim(string(latin1(name)), "\t\n\v\f\r \u00a0")
			digits := strings.TrimPrefix(name, "data.")
			if ok && (name == "s" || name == "data" || digits != name && digits != "" && strings.Trim(digits, "0123456789") == "") {
				want = append(want, strings.Trim(string(latin1(part)), "\t\n\v\f\r \u00a0"))
			}
		}
		got := filterCookies(header, testRules)
		var parts []string
		for part := range strings.SplitSeq(got, ";") {
			parts = append(parts, strings.Trim(string(latin1(part)), "\t\n\v\f\r \u00a0"))
		}
		if got == "" {
			parts = nil
		}
		if strings.Join(parts, ";") != strings.Join(want, ";") {
			t.Errorf("filterCookies(%q) = %q, want the cookies %q", header, got, want)
		}
		if again := filterCookies(got, testRules); again != got {
			t.Errorf("filtered again: %q became %q", got, again)
		}
	})
}

// latin1 reads bytes as Node reads a header.
func latin1(s string) []rune {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return runes
}

func TestSendable(t *testing.T) {
	for b := range 256 {
		want := b >= 0x20 && b != 0x7F || b == '\t'
		if got := sendable("a=" + string([]byte{byte(b)}) + "; s=1"); got != want {
			t.Errorf("byte %#x: sendable = %t, want %t", b, got, want)
		}
	}
}

// browserJar is what a browser sends to a site with the usual third parties.
var browserJar = "_ga=GA1.1.1234567890.1700000000; _gid=GA1.2.987654321.1700000000; theme=dark; lang=en-GB; " +
	"consent={\"ads\":false,\"stats\":true}; s=" + strings.Repeat("t", 32) + "." + strings.Repeat("g", 44) +
	"; data.0=" + strings.Repeat("x", 400) + "; csrf=" + strings.Repeat("c", 64) + "; ab=" + strings.Repeat("1,", 100)

func BenchmarkFilterCookies(b *testing.B) {
	for _, c := range []struct{ name, header string }{
		{"browser jar", browserJar},
		{"apart", browserJar + "; s=2"},
		{"miss", strings.ReplaceAll(browserJar, "; s=", "; r=")},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.header)))
			for b.Loop() {
				filterCookies(c.header, testRules)
			}
		})
	}
}
