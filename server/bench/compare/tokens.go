package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// verifier is a worker that trusts JSON Web Tokens instead of asking.
type verifier struct {
	name   string
	tokens []string
	parser *jwt.Parser
	key    any // that verifies
}

// claims is what such tokens usually carry.
type claims struct {
	jwt.RegisteredClaims
	SessionID string `json:"sid"`
	Email     string `json:"email"`
}

// newVerifiers returns a verifier for each common algorithm, with n tokens.
func newVerifiers(n int) ([]*verifier, error) {
	shared := make([]byte, 32)
	if _, err := rand.Read(shared); err != nil {
		return nil, err
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	out := []*verifier{}
	for _, v := range []struct {
		method          jwt.SigningMethod
		private, public any
	}{
		{jwt.SigningMethodHS256, shared, shared},
		{jwt.SigningMethodEdDSA, edPrivate, edPublic},
		{jwt.SigningMethodES256, ec, &ec.PublicKey},
	} {
		made := &verifier{name: v.method.Alg(), key: v.public, parser: jwt.NewParser(jwt.WithValidMethods([]string{v.method.Alg()}))}
		now := time.Now()
		for i := range n {
			signed, err := jwt.NewWithClaims(v.method, claims{
				RegisteredClaims: jwt.RegisteredClaims{
					Issuer: "https://auth.example.com", Subject: fmt.Sprintf("u%d", i),
					IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(24 * time.Hour)),
				},
				SessionID: fmt.Sprintf("s%d", i), Email: fmt.Sprintf("u%d@example.com", i),
			}).SignedString(v.private)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", made.name, err)
			}
			made.tokens = append(made.tokens, signed)
		}
		out = append(out, made)
	}
	return out, nil
}

// verify verifies one token, as a worker does for each call.
func (v *verifier) verify(i int) error {
	_, err := v.parser.ParseWithClaims(v.tokens[i%len(v.tokens)], &claims{}, func(*jwt.Token) (any, error) { return v.key, nil })
	if err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	return nil
}
