/*
 * visit.h - a client that lives for one question, for this room: opened, asked, closed by one
 * thread.
 */
#ifndef MR_KAFKA_VISIT_H
#define MR_KAFKA_VISIT_H

#include "kafka/client.h"

struct mr_kafka_visit {
    rd_kafka_t *rk;
    struct mr_kafka_contact contact;
};

/* Settings as for mr_kafka_conf_build. No network yet. The visit must not move while it is open;
 * zeroed at first, so that close may come without it. */
MR_MUSTCHECK bool mr_kafka_visit_open(struct mr_kafka_visit *visit, rd_kafka_type_t type,
                                      enum mr_kafka_role role,
                                      const struct mr_kafka_property *properties, size_t n,
                                      const struct mr_kafka_setting *defaults, size_t n_defaults,
                                      const struct mr_kafka_setting *fixed, size_t n_fixed,
                                      struct mr_error *err);
void mr_kafka_visit_close(struct mr_kafka_visit *visit);

#endif
