// Package history checks histories of real processes: authorities, workers and an
// issuer over PostgreSQL with a standby, while links are cut, held up and delayed,
// processes are stopped and killed, and the store is restarted, crashed and
// replaced. It is a module of its own, so that what it needs stays out of the others.
//
// A run ([Run]) has users sign in, workers call about their sessions without an
// end, and sessions end in every way there is: by Revoke and by SQL. Each session's
// history, from every worker, is judged as soon as nobody calls about it any more
// (package check). What the store itself has lost, in a crash or a failover, it is
// asked for afterwards: nobody can hold to a commit that is gone. At the end true
// histories are made false, and the run counts only if the checker notices.
//
// All instants are readings of CLOCK_MONOTONIC, which the processes of a machine
// share. A run needs Linux and PostgreSQL's programs.
package history
