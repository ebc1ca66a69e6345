/*
 * wire.h - from a loaded configuration to a running app: the one place that knows all rooms.
 *
 * Opens nothing by itself: it hands factories to the app, whose workers open their own parts in
 * their own threads. One thread.
 */
#ifndef MR_CLI_WIRE_H
#define MR_CLI_WIRE_H

#include "base/tree.h"
#include "cli/edition.h"
#include "stream/app.h"

struct mr_wiring;

/* Borrows the configuration until mr_wiring_free. Never NULL: what can be wrong was found at load;
 * a script that does not load halts the workers. */
struct mr_wiring *mr_wiring_new(const struct mr_node *config);
struct mr_app *mr_wiring_app(struct mr_wiring *wiring); /* freed by mr_app_join */
int64_t mr_wiring_drain_timeout_ms(struct mr_wiring *wiring);

/*
 * What is in force: the configuration, a pipeline's edition and its lookup (NULL: none). Any
 * thread; each reference is the caller's to release.
 */
struct mr_shared_config *mr_wiring_config(struct mr_wiring *wiring);
struct mr_edition *mr_wiring_edition(struct mr_wiring *wiring, const char *pipeline);
struct mr_lookup *mr_wiring_lookup(struct mr_wiring *wiring, const char *pipeline); /* borrowed */
/* The last messages of a pipeline; borrowed. */
struct mr_recent *mr_wiring_recent(struct mr_wiring *wiring, const char *pipeline);
/* Another configuration is in force, with these editions; acquires them. */
void mr_wiring_adopt(struct mr_wiring *wiring, struct mr_shared_config *config,
                     struct mr_edition *const *editions, size_t n);
/* After the app has been joined. */
void mr_wiring_free(struct mr_wiring *wiring);

#endif
