/*
 * prefetch.c - how much is read ahead, and how librdkafka is kept reading.
 *
 * One worker's thread. Owns nothing. Once its queue is full, librdkafka 2.0.2 looks again only
 * after a second (later versions have fetch.queue.backoff.ms), in which a fast worker has long
 * emptied a queue that is small enough for our memory budget. So after each quarter of the queue
 * its threads are woken. Setting the credentials anew, to what they are, is the one public call
 * that wakes the threads of a consumer without touching what was read. Tests:
 * tests/unit/test_kafka_source.c.
 */
#include "kafka/consumer.h"

#include <stdlib.h>

static size_t number(const rd_kafka_conf_t *conf, const char *name)
{
    char text[24];
    mr_kafka_conf_get(conf, name, text, sizeof text);
    return (size_t)strtoull(text, NULL, 10);
}

void mr_kafka_prefetch_init(struct mr_kafka_prefetch *prefetch, const rd_kafka_conf_t *conf)
{
    size_t bytes = number(conf, "queued.max.messages.kbytes") * 1024;
    size_t messages = number(conf, "queued.min.messages");
    *prefetch = (struct mr_kafka_prefetch){.quarter = bytes / 4 + 1,
                                           .each = bytes / (messages ? messages : 1)};
}

void mr_kafka_prefetch_wake(struct mr_kafka_prefetch *prefetch, rd_kafka_t *rk)
{
    char user[1024], password[4096];
    prefetch->drained = 0;
    prefetch->wakes++;
    mr_kafka_conf_get(rd_kafka_conf(rk), "sasl.username", user, sizeof user);
    mr_kafka_conf_get(rd_kafka_conf(rk), "sasl.password", password, sizeof password);
    /* One that was cut would lock us out. */
    if (strlen(user) < sizeof user - 1 && strlen(password) < sizeof password - 1) {
        rd_kafka_error_t *error = rd_kafka_sasl_set_credentials(rk, user, password);
        if (error)
            rd_kafka_error_destroy(error);
    }
    explicit_bzero(password, sizeof password);
}
