package pgtest

import (
	"strings"
	"sync"
)

// outputLimit is how much of a program's output is kept, in bytes.
const outputLimit = 64 << 10

// output keeps the beginning of a program's output for error texts. It is safe
// for concurrent use.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write keeps p as far as there is room. It never fails.
func (o *output) Write(p []byte) (int, error) {
	o.WriteString(string(p))
	return len(p), nil
}

// WriteString keeps s as far as there is room.
func (o *output) WriteString(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.WriteString(s[:min(len(s), outputLimit-o.text.Len())])
}

// String returns what was kept.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
