package sessioncookie

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
)

// bearerUnlessCookie is the bearer plugin up to 1.4: it appends its cookie to the
// header, so a cookie of the name that is there already wins, good or bad.
func (r *Reader) bearerUnlessCookie(cookie, authorization string) Reading {
	if best, _ := r.find(cookie); best < len(r.names) {
		return r.fromCookies(cookie)
	}
	// The scheme is cut out wherever it stands, in this spelling only.
	credential := strings.Replace(strings.Trim(authorization, " \t"), "Bearer ", "", 1)
	if credential == "" || strings.EqualFold(credential, "Bearer") || strings.ContainsAny(credential, " \t") {
		return refused(ErrNoCredential)
	}
	s := r.pool.Get().(*scratch)
	defer r.release(s)
	if strings.IndexByte(credential, '.') < 0 {
		return r.bare(s, credential)
	}
	// The first "=" is dropped before decoding: a value that was not URL-encoded
	// loses its padding here, and fails below.
	credential = strings.Replace(credential, "=", "", 1)
	decoded, ok := appendUnescaped(s.buf[:0], credential)
	s.buf = decoded
	if !ok {
		return r.asBearer(refused(ErrMalformed))
	}
	if err := r.screen(s, s.buf); err != nil {
		return r.asBearer(refused(err))
	}
	value, _, _ := strings.Cut(credential, ";")
	if value = unquote(trim(value)); value == "" {
		return r.asBearer(refused(ErrMalformed))
	}
	s.buf = appendDecoded(s.buf[:0], value)
	return r.asBearer(r.open(s, s.buf))
}

// bearerOverCookie is the bearer plugin from 1.6 on: a bearer whose MAC is right
// replaces the cookie, and spoils a good one when it is not acceptable itself;
// any other bearer leaves the cookie in force.
func (r *Reader) bearerOverCookie(cookie, authorization string) Reading {
	const scheme = "Bearer "
	authorization = strings.Trim(authorization, " \t")
	if len(authorization) < len(scheme) || !strings.EqualFold(authorization[:len(scheme)], scheme) {
		return r.fromCookies(cookie)
	}
	credential := trim(authorization[len(scheme):])
	if credential == "" {
		return r.fromCookies(cookie)
	}
	reading, decided := r.openBearer(credential)
	if decided {
		return reading
	}
	if fallback := r.fromCookies(cookie); !errors.Is(fallback.Err, ErrNoCredential) {
		return fallback
	}
	return reading
}

// openBearer reads the part of Authorization after the scheme, for 1.6 and
// later. decided is false if the issuer would go on as if it were not there.
func (r *Reader) openBearer(credential string) (reading Reading, decided bool) {
	s := r.pool.Get().(*scratch)
	defer r.release(s)
	if strings.IndexByte(credential, '.') < 0 {
		reading = r.bare(s, credential)
		return reading, reading.Err == nil
	}
	s.buf = appendDecoded(s.buf[:0], credential)
	if err := r.screen(s, s.buf); err != nil {
		return r.asBearer(refused(err)), false
	}
	return r.asBearer(r.open(s, s.buf)), true
}

// bare accepts a token without a signature: the plugin signs it itself.
func (r *Reader) bare(s *scratch, token string) Reading {
	if r.requireSignature {
		return r.asBearer(refused(ErrUnsigned))
	}
	s.buf = appendLatin1(s.buf[:0], token)
	return r.asBearer(Reading{Token: string(s.buf), Secret: noSecret})
}

// screen is the plugin's own check, which is not the cookie's: it takes what
// stands before the first dot for the token, and what stands between that and
// the next dot or "=" for the signature, in either alphabet of base64.
func (r *Reader) screen(s *scratch, decoded []byte) error {
	token, rest, _ := bytes.Cut(decoded, []byte("."))
	signature, _, _ := bytes.Cut(rest, []byte("."))
	enc := base64.RawStdEncoding
	if bytes.ContainsAny(signature, "-_") {
		enc = base64.RawURLEncoding
	}
	signature, _, _ = bytes.Cut(signature, []byte("="))
	if len(signature) != unpaddedChars || !decodeSignature(&s.want, signature, enc) {
		return ErrMalformed
	}
	return r.judge(s.signer(token, &s.want))
}

func (r *Reader) asBearer(reading Reading) Reading {
	reading.Source, reading.Name = SourceBearer, r.names[0]
	return reading
}
