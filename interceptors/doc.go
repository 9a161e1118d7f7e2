// Package interceptors guards gRPC and net/http servers with sessiond sessions.
package interceptors
