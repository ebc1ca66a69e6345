/*
 * wire.h - from a loaded configuration to a running app: the one place that knows all rooms.
 *
 * Opens nothing by itself: it hands factories to the app, whose workers open their own parts in
 * their own threads. One thread.
 */
#ifndef MR_CLI_WIRE_H
#define MR_CLI_WIRE_H

#include "base/tree.h"
#include "stream/app.h"

struct mr_wiring;

/* Borrows the configuration until mr_wiring_free. Never NULL: what can be wrong was found at load.
 */
struct mr_wiring *mr_wiring_new(const struct mr_node *config);
struct mr_app *mr_wiring_app(struct mr_wiring *wiring); /* freed by mr_app_join */
int64_t mr_wiring_drain_timeout_ms(const struct mr_wiring *wiring);
/* After the app has been joined. */
void mr_wiring_free(struct mr_wiring *wiring);

#endif
