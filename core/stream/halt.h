/*
 * halt.h - the sentences of a claim that only a person can help with, each with the command that
 * resolves it. Private to the engine.
 */
#ifndef MR_STREAM_HALT_H
#define MR_STREAM_HALT_H

#include "stream/delivery.h"
#include "stream/part.h"

/* What `millrace repair --take` can go by. */
enum mr_take { MR_TAKE_LEDGER, MR_TAKE_KAFKA, MR_TAKE_EARLIEST };

/* "topic_in/3 of group millrace-promo", for sentences. */
const char *mr_halt_name(const struct mr_delivery *delivery, const struct mr_part *part,
                         char text[256]);

/* All return false, *err is MR_STOP. */
/* The group's offset carries another ledger's mark, or that of a row which this one does not have.
 */
bool mr_halt_other_ledger(const struct mr_delivery *delivery, const struct mr_part *part, bool ours,
                          struct mr_error *err);
/* The group's offset was moved, or deleted, by another program. kafka_offset -1: deleted. */
bool mr_halt_moved(const struct mr_delivery *delivery, const struct mr_part *part,
                   int64_t kafka_offset, struct mr_error *err);
/* Kafka is ahead of Postgres. */
bool mr_halt_lost_commits(const struct mr_delivery *delivery, const struct mr_part *part,
                          int64_t kafka_unit, struct mr_error *err);
/* The messages of the unit in flight cannot be sent again: `why`. */
bool mr_halt_no_redo(const struct mr_delivery *delivery, const struct mr_part *part,
                     const char *why, struct mr_error *err);
/* The position is not in the topic any more: retention, or a topic that was made again. */
bool mr_halt_input_gone(const struct mr_delivery *delivery, const struct mr_part *part, int64_t low,
                        int64_t high, struct mr_error *err);
/* The broker threw an offset away that came with a transaction. */
bool mr_halt_no_transactions(const struct mr_delivery *delivery, struct mr_error *err);

#endif
