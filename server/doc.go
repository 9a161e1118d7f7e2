// Package server puts sessiond's parts together: listener, authority, store,
// metrics. [New] wires, [Server.Run] serves until its context ends, then drains.
//
// It is the program's wiring and not a library for workers; those import
// package client and package interceptors.
package server
