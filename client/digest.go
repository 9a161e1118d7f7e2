package client

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// digest names a credential in memory: 128 bits of SipHash-2-4 under a key that
// this process made up (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
// with the 128-bit output of the authors' reference code). Without the key nobody
// can make two credentials of one digest, and a digest tells nothing of a
// credential, which is itself never kept.
type digest [2]uint64

// digester makes digests. It is safe for concurrent use.
type digester struct{ k0, k1 uint64 }

func newDigester() digester {
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	return digester{k0: binary.LittleEndian.Uint64(key[:8]), k1: binary.LittleEndian.Uint64(key[8:])}
}

// of returns the digest of a narrowed credential: its form and the lengths of its
// parts come first, so that no two credentials are the same bytes.
func (d digester) of(c Credential) digest {
	second := c.authorization
	if c.form != formHeaders {
		second = c.value
	}
	return d.begin().word(uint64(c.form)<<62 | uint64(len(c.cookie))<<31 | uint64(len(second))).
		text(c.cookie).text(second).sum(words(c.cookie) + words(second) + 1)
}

// words is how many words a text is filled up to.
func words(t string) int { return (len(t) + 7) / 8 }

// sip is the state. It is passed by value, so that it stays in registers.
type sip struct{ v0, v1, v2, v3 uint64 }

func (d digester) begin() sip {
	return sip{
		v0: d.k0 ^ 0x736f6d6570736575,
		v1: d.k1 ^ 0x646f72616e646f6d ^ 0xee,
		v2: d.k0 ^ 0x6c7967656e657261,
		v3: d.k1 ^ 0x7465646279746573,
	}
}

func (s sip) round() sip {
	s.v0 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v2 = bits.RotateLeft64(s.v2, 32)
	return s
}

func (s sip) word(w uint64) sip {
	s.v3 ^= w
	s = s.round().round()
	s.v0 ^= w
	return s
}

// text takes in a string, filled up with zeros to whole words. The lengths that
// went before it keep that unambiguous. It is word for each word, in variables that
// the compiler keeps in registers: this loop is a third of the time of a hit.
func (s sip) text(t string) sip {
	b := unsafe.Slice(unsafe.StringData(t), len(t)) // read only, and not kept
	v0, v1, v2, v3 := s.v0, s.v1, s.v2, s.v3
	for ; len(b) >= 8; b = b[8:] {
		w := binary.LittleEndian.Uint64(b)
		v3 ^= w
		v0 += v1
		v2 += v3
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 = bits.RotateLeft64(v0, 32) + v3
		v2 += v1
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32) + v3
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 = bits.RotateLeft64(v0, 32) + v3
		v2 += v1
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
		v0 ^= w
	}
	s = sip{v0, v1, v2, v3}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		s = s.word(binary.LittleEndian.Uint64(last[:]))
	}
	return s
}

// sum ends a message of whole words.
func (s sip) sum(words int) digest {
	s = s.word(uint64(words) * 8 << 56)
	s.v2 ^= 0xee
	s = s.round().round().round().round()
	var d digest
	d[0] = s.v0 ^ s.v1 ^ s.v2 ^ s.v3
	s.v1 ^= 0xdd
	s = s.round().round().round().round()
	d[1] = s.v0 ^ s.v1 ^ s.v2 ^ s.v3
	return d
}
