/*
 * process.h - what the operating system says about this process, as metrics with the names that
 * every Prometheus client uses (process_*), and the build. Private to core/admin; the server's
 * thread.
 */
#ifndef MR_ADMIN_PROCESS_H
#define MR_ADMIN_PROCESS_H

/* Reads the present values into the metrics. What /proc does not tell keeps its last value. */
void mr_process_update(void);

#endif
