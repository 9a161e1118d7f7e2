// Package cache holds what was read of the store for as long as it is surely true: entries, the stamps that end them, and the lookups on their way.
package cache
