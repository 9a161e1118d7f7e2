package pgtest

import "syscall"

// dieWithParent has the kernel end the program when the test binary dies,
// however it dies. SIGQUIT is PostgreSQL's immediate shutdown.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
