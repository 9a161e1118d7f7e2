package sessioncookie

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"unicode/utf8"
)

const (
	// signatureChars is the length of a signature in a cookie: 43 characters of
	// base64 for 32 bytes, and one "=".
	signatureChars = 44
	unpaddedChars  = signatureChars - 1

	noSecret = -1

	// keptScratch bounds the buffer that goes back to the pool, so that one large
	// header does not stay in memory.
	keptScratch = 4 << 10
)

// scratch is the state of one reading: a keyed MAC per secret and a buffer for
// the decoded value. It is pooled, because keying a MAC costs more than using it.
type scratch struct {
	macs []hash.Hash // Config.Secrets, then Config.Retired
	buf  []byte
	sum  [sha256.Size]byte
	want [sha256.Size]byte
}

func newScratch(secrets, retired []string) *scratch {
	s := &scratch{buf: make([]byte, 0, 512)}
	for _, list := range [][]string{secrets, retired} {
		for _, secret := range list {
			s.macs = append(s.macs, hmac.New(sha256.New, []byte(secret)))
		}
	}
	return s
}

// signer returns the index of the MAC that gives signature over message, or
// noSecret. Signatures are compared in constant time; that the search ends at
// the first match tells only which secret an already valid credential is of.
func (s *scratch) signer(message []byte, signature *[sha256.Size]byte) int {
	for i, mac := range s.macs {
		mac.Reset()
		mac.Write(message) // a hash never returns an error
		if hmac.Equal(mac.Sum(s.sum[:0]), signature[:]) {
			return i
		}
	}
	return noSecret
}

// open verifies a decoded cookie value and fills in what it says about the
// credential; source and name are the caller's.
func (r *Reader) open(s *scratch, value []byte) Reading {
	dot := bytes.LastIndexByte(value, '.')
	if dot < 1 {
		return refused(ErrMalformed)
	}
	token, signature := value[:dot], value[dot+1:]
	if !signatureShaped(signature) {
		return refused(ErrMalformed)
	}
	if !decodeSignature(&s.want, signature[:unpaddedChars], base64.RawStdEncoding) {
		return refused(ErrBadSignature)
	}
	secret := s.signer(token, &s.want)
	if err := r.judge(secret); err != nil {
		return refused(err)
	}
	return Reading{Token: string(token), Secret: secret, Signed: true}
}

// judge turns the index that signer found into the sentinel it stands for.
func (r *Reader) judge(secret int) error {
	switch {
	case secret == noSecret:
		return ErrBadSignature
	case secret >= r.accepted:
		return ErrRetiredSecret
	default:
		return nil
	}
}

// signatureShaped reports whether s has 44 characters, counted in UTF-16 units
// as the issuer does, and ends in "=". A shape that passes with characters that
// are not base64 is a bad signature, not a malformed credential.
func signatureShaped(s []byte) bool {
	// No character is longer than three bytes per UTF-16 unit.
	if len(s) < signatureChars || len(s) > 3*signatureChars || s[len(s)-1] != '=' {
		return false
	}
	units := 0
	for len(s) > 0 {
		c, size := utf8.DecodeRune(s)
		units++
		if c > 0xFFFF {
			units++
		}
		s = s[size:]
	}
	return units == signatureChars
}

// decodeSignature decodes 43 characters of base64 into 32 bytes. The two unused
// bits of the last character may be anything.
func decodeSignature(dst *[sha256.Size]byte, s []byte, enc *base64.Encoding) bool {
	// The decoder skips line ends, which leaves the result short.
	n, err := enc.Decode(dst[:], s)
	return err == nil && n == sha256.Size
}

func refused(err error) Reading {
	return Reading{Err: err, Secret: noSecret}
}
