package clienttest_test

import (
	"testing"

	"github.com/sessiond/sessiond/client/clienttest"
)

func TestAuthorityKeepsTheContract(t *testing.T) {
	clienttest.RunContract(t, func(tb testing.TB) clienttest.Subject { return clienttest.New(tb) })
}
