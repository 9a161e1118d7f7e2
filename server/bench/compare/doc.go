// Command compare measures sessiond against what its users would otherwise run,
// and writes one line a figure of the performance budget.
//
//	go run . -out ../compare.json    all rows
//	go run . -rows hit,unary -short  some of them, quickly; such figures mean little
//	go run . -signout                sign-outs at a real issuer, and what the feed costs it
//
// Two sides of a row are measured in one run, in turns (A B A B …), so that a
// machine that slows down slows both. What is compared are the medians over the
// rounds, with the least and the greatest ratio of any round beside them.
// Everything is real: the built server in a process of its own, PostgreSQL with
// fsync on, Redis, Better Auth on Node.js. All of it is started here, on loopback,
// and ended here. A program that is missing is an error that names its package.
//
// A row that did not measure what it is named after (a "hit" that reached the
// authority) fails and says so in its note. The program exits with 1 when a row
// misses its bar and with 2 when it could not measure. It needs Linux: processor
// time and memory of the processes are read from /proc.
package main
