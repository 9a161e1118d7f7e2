// Package catalogue holds the tests of explain: faults seeded one at a time, as users
// ran into them, and what explain says of each on the command line, over gRPC and in
// JSON. docs/faults.md is written from them.
package catalogue
