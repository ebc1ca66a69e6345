/*
 * worker_open.c - opens a worker's source, sink, store and script, and closes them.
 *
 * The worker's thread. Until the services are there it tries again; what only a person can mend
 * halts. Must not know which adapters they are. Tests: tests/unit/test_stream.c,
 * tests/integration/outage_spec.lua.
 */
#include "stream/worker_state.h"

static void free_columns(struct mr_worker *worker)
{
    mr_lookup_schema_free(worker->script_columns);
    worker->script_columns = NULL;
}

bool mr_worker_open_script(struct mr_worker *worker, struct mr_error *err)
{
    const struct mr_row_schema *rows =
        worker->store ? worker->store->ops->schema(worker->store) : NULL;
    struct mr_pin pin = {0};
    bool ok = true;
    if (worker->options.lookup) {
        worker->awaits_lookup = !mr_lookup_pin(worker->options.lookup, &pin);
        if (worker->awaits_lookup)
            return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                                "waiting for the lookup's first load");
    }
    const struct mr_table *table = pin.table;
    if (!worker->script || rows != worker->script_rows ||
        (table && !mr_lookup_schema_equal(worker->script_columns, mr_table_schema(table)))) {
        mr_worker_close_beside(worker);
        mr_pipeline_unpin(&worker->pipeline); /* it may be of the old shape; the unit is empty */
        if (worker->script)
            worker->script->ops->close(worker->script);
        worker->script = NULL;
        free_columns(worker);
        worker->script_columns = table ? mr_lookup_schema_copy(mr_table_schema(table)) : NULL;
        worker->script_rows = rows;
        ok = worker->options.factory.script(worker->options.factory.arg, worker->options.index,
                                            worker->edition, worker->script_columns, rows,
                                            &worker->script, err);
        worker->pipeline.script = worker->script;
        worker->pipeline.rows = rows;
        mr_recent_set_rows(worker->options.recent, rows);
    }
    if (table)
        mr_lookup_unpin(worker->options.lookup, &pin);
    return ok;
}

static bool open_parts(struct mr_worker *worker, struct mr_error *err)
{
    const struct mr_worker_factory *factory = &worker->options.factory;
    int index = worker->options.index;
    if (factory->store && !worker->store &&
        !factory->store(factory->arg, index, &worker->store, err))
        return false;
    if (worker->store && !worker->store->ops->connect(worker->store, err))
        return false;
    if (!mr_worker_open_script(worker, err))
        return false;
    if (factory->sink && !worker->sink && !factory->sink(factory->arg, index, &worker->sink, err))
        return false;
    if (!worker->source && !factory->source(factory->arg, index, &worker->source, err))
        return false;
    worker->pipeline.source = worker->source;
    worker->delivery.source = worker->source;
    worker->delivery.sink = worker->sink;
    worker->delivery.store = worker->store;
    return true;
}

bool mr_worker_open_all(struct mr_worker *worker)
{
    struct mr_error err;
    while (!mr_worker_stopping(worker)) {
        mr_worker_heed_offer(worker);
        mr_worker_swap_if_due(worker);
        worker->awaits_lookup = false;
        mr_watch_enter(&worker->watch, MR_PHASE_OPEN);
        if (open_parts(worker, &err)) {
            worker->failures = 0;
            worker->trouble = (struct mr_log_trouble){0};
            return true;
        }
        if (err.action == MR_STOP) {
            mr_worker_halt(worker, &err);
            return false;
        }
        mr_worker_set_status(worker, false, err.msg);
        if (worker->awaits_lookup) { /* a long load is followed at once */
            mr_log(MR_DEBUG, "%s", err.msg);
            worker->failures = 0;
        } else {
            mr_log_trouble(&worker->trouble, MR_WARN, "%s; trying again", err.msg);
        }
        mr_worker_wait_backoff(worker);
    }
    return false;
}

void mr_worker_close_all(struct mr_worker *worker)
{
    if (worker->source)
        mr_worker_reset_unit(worker);
    mr_worker_drop_parts(worker);
    if (worker->source) {
        mr_unit_fini(&worker->unit, worker->source);
        worker->source->ops->close(worker->source);
    }
    if (worker->sink)
        worker->sink->ops->close(worker->sink);
    mr_worker_forget_offers(worker);
    if (worker->script)
        worker->script->ops->close(worker->script);
    mr_edition_release(worker->edition);
    if (worker->store)
        worker->store->ops->close(worker->store);
    free_columns(worker);
    mr_span_free(worker->pipeline.span);
    mr_delivery_fini(&worker->delivery);
}
