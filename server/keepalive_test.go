package server

import (
	"testing"

	"github.com/sessiond/sessiond/client"
)

// TestKeepalivePresetsMatch: a client that pings more often than the server
// allows is cut off with ENHANCE_YOUR_CALM after its third ping.
func TestKeepalivePresetsMatch(t *testing.T) {
	if client.KeepaliveTime < 2*keepaliveMinTime {
		t.Errorf("clients ping every %s, the server allows one in %s", client.KeepaliveTime, keepaliveMinTime)
	}
}
