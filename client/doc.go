// Package client asks a sessiond authority whether a session is good.
package client
