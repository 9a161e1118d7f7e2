// Package archtest holds the tests that keep the module's packages apart: who
// may import whom, which modules a worker links by using the public packages,
// and what must not reach a production binary. It has no code of its own.
package archtest
