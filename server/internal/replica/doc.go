// Package replica keeps one authority current: it reads the feed, proves that it does, and knows the other replicas.
package replica
