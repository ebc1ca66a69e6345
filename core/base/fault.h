/*
 * fault.h - places where the fault build dies or stalls on request, and wrong turns that it can
 * take.
 *
 * In every other build all of this is nothing. In the fault build (target millrace-fault,
 * tests/fault) MILLRACE_FAULT says where to die, and MILLRACE_MUTANT which rule of the protocol to
 * break, so that the tests prove that they would notice. Any thread.
 */
#ifndef MR_BASE_FAULT_H
#define MR_BASE_FAULT_H

#include <stdbool.h>

#ifdef MR_FAULTS
/*
 * Passes the point `name` in the circumstance `what` (unit, chunk, redo, dead, rebalance, ...).
 * MILLRACE_FAULT is a list, separated by commas, of
 *     kill:<point>[/<what>][:<n>]      SIGKILL at the n-th passing (default 1) of this process
 *     stop:<point>[/<what>][:<n>]      SIGSTOP
 *     kill~<permille>, stop~<permille> at any point, with that chance; MILLRACE_FAULT_SEED
 * and each that strikes writes one line to stderr first: "FAULT kill <point>/<what>".
 */
void mr_fault_point(const char *name, const char *what);
/* Is MILLRACE_MUTANT that name? */
bool mr_fault_mutant(const char *name);
#else
static inline void mr_fault_point(const char *name, const char *what)
{
    (void)name;
    (void)what;
}
static inline bool mr_fault_mutant(const char *name)
{
    (void)name;
    return false;
}
#endif

#endif
