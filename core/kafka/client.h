/*
 * client.h - what the files of this room share: librdkafka configurations, the state of the
 * connection, and the meaning of librdkafka's error codes. Private to core/kafka.
 */
#ifndef MR_KAFKA_CLIENT_H
#define MR_KAFKA_CLIENT_H

#include "kafka/kafka.h"

#include <librdkafka/rdkafka.h>

enum mr_kafka_role { MR_KAFKA_SOURCE, MR_KAFKA_SINK, MR_KAFKA_ASK };

/* A setting of ours: a default (the user's own value wins), or one that the user cannot change. */
struct mr_kafka_setting {
    const char *name, *value;
};

/*
 * What is known of the connection of one client. Filled by librdkafka's error callback, which runs
 * in the thread that polls: no lock. Embedded in source and sink.
 */
struct mr_kafka_contact {
    char brokers[256], principal[128];
    const char *transactional_id; /* NULL: none; lives as long as the client */
    bool connected;               /* ever */
    bool down;                    /* all brokers are, and that was reported */
    rd_kafka_resp_err_t pending;  /* to be reported by the next poll or flush; 0: none */
    char pending_text[512];
    rd_kafka_resp_err_t last_code; /* newest reason of a lost connection: the cause behind */
    char last[512];                /* "all brokers are down" */
};

/* conf.c */
/* Defaults, then the user's properties as far as they are for this role, then `fixed`. Logs the
 * switching off of certificate checks, once a process. */
MR_MUSTCHECK bool mr_kafka_conf_build(enum mr_kafka_role role,
                                      const struct mr_kafka_property *properties, size_t n,
                                      const struct mr_kafka_setting *defaults, size_t n_defaults,
                                      const struct mr_kafka_setting *fixed, size_t n_fixed,
                                      rd_kafka_conf_t **out, struct mr_error *err);
/* The effective value; "" if unset. */
void mr_kafka_conf_get(const rd_kafka_conf_t *conf, const char *name, char *value, size_t size);

/* contact.c */
/* Sets the error and log callbacks; `contact` is found as the client's opaque through `of`. */
void mr_kafka_contact_init(struct mr_kafka_contact *contact, const rd_kafka_conf_t *conf);
void mr_kafka_contact_error(struct mr_kafka_contact *contact, rd_kafka_resp_err_t code,
                            const char *reason);
/* Something came back from a broker. */
void mr_kafka_contact_made(struct mr_kafka_contact *contact);
/* What the error callback left, once: true if there was something, *err says what. */
bool mr_kafka_contact_take(struct mr_kafka_contact *contact, struct mr_error *err);
/* `what` failed with `code`: fills err with action, exit code and a sentence; returns false.
 * `topic` may be NULL. Login failures stop before the first contact and are retried after it. */
bool mr_kafka_contact_fail(const struct mr_kafka_contact *contact, rd_kafka_resp_err_t code,
                           const char *what, const char *topic, const char *detail,
                           struct mr_error *err);
/* offsets.c, for the other files that talk about offsets */
/* For librdkafka; the caller destroys it. */
rd_kafka_topic_partition_list_t *mr_kafka_offsets_list(const struct mr_mark *marks, size_t n,
                                                       bool with_metadata);
/* The committed offset of one partition in the group of the consumer `rk`. */
rd_kafka_resp_err_t mr_kafka_offsets_fetch(rd_kafka_t *rk, const struct mr_partition *at,
                                           int timeout_ms, struct mr_committed *out);
/* Waits for the answer of a commit: _TIMED_OUT if it does not come. */
rd_kafka_resp_err_t
mr_kafka_offsets_send(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *list, int timeout_ms);

/* leave.c */
/* From now on mr_kafka_left_behind is true. */
void mr_kafka_leave_behind(void);

/* contact.c */
/* Log callback for any client: levels, and no floods. */
void mr_kafka_log(const rd_kafka_t *rk, int level, const char *facility, const char *text);

#endif
