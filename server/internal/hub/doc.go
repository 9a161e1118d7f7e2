// Package hub tells every watcher what has ended, lends leases, and knows who has acknowledged what.
package hub
