// Package e2e holds tests that run the program as its users do: as processes,
// beside a real issuer and a real database.
package e2e
