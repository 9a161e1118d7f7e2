package client

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// TestSipHash: the reference code's vectors (github.com/veorq/SipHash, vectors.h,
// vectors_sip128) whose messages are whole words: key and message are 00 01 02 ….
func TestSipHash(t *testing.T) {
	d := digester{k0: 0x0706050403020100, k1: 0x0f0e0d0c0b0a0908}
	for length, want := range map[int]string{
		0:  "a3817f04ba25a8e66df67214c7550293",
		8:  "3b62a9ba6258f5610f83e264f31497b4",
		16: "6ee2a4ca67b054bbfd3315bf85230577",
		56: "1938f2cf72d54ee97e94166fa91d2a36",
	} {
		message := make([]byte, length)
		for i := range message {
			message[i] = byte(i)
		}
		sum := d.begin().text(string(message)).sum(length / 8)
		var out [16]byte
		binary.LittleEndian.PutUint64(out[:8], sum[0])
		binary.LittleEndian.PutUint64(out[8:], sum[1])
		if got := hex.EncodeToString(out[:]); got != want {
			t.Errorf("%d bytes: got %s, want %s", length, got, want)
		}
	}
}
