/*
 * produce.c - lines of stdin to a topic, each sent as soon as it is there (kcat waits for more).
 *
 *   produce BROKERS TOPIC      a line is: key, tab, value
 *
 * For tests in which a message must follow what was committed before it by as little as possible.
 * Exit status 1 if a message could not be delivered.
 */
#include <librdkafka/rdkafka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLUSH_MS = 20000 };

static int undelivered;

static void delivered(rd_kafka_t *producer, const rd_kafka_message_t *message, void *arg)
{
    (void)producer, (void)arg;
    undelivered += message->err != 0;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "produce: %s\n", why);
        exit(64);
    }
}

int main(int argc, char **argv)
{
    char why[256], *line = NULL;
    size_t room = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: produce BROKERS TOPIC\n");
        return 64;
    }
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", argv[1]);
    set(conf, "linger.ms", "0");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!producer) {
        fprintf(stderr, "produce: %s\n", why);
        return 69;
    }
    for (ssize_t len; (len = getline(&line, &room, stdin)) > 0; rd_kafka_poll(producer, 0)) {
        char *value = memchr(line, '\t', (size_t)len);
        if (!value)
            continue; /* an empty line */
        size_t n = (size_t)(line + len - ++value);
        n -= n && value[n - 1] == '\n';
        if (rd_kafka_producev(
                producer, RD_KAFKA_V_TOPIC(argv[2]),
                RD_KAFKA_V_KEY(line, (size_t)(value - 1 - line)), RD_KAFKA_V_VALUE(value, n),
                RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY | RD_KAFKA_MSG_F_BLOCK), RD_KAFKA_V_END))
            undelivered++;
    }
    free(line);
    undelivered += rd_kafka_flush(producer, FLUSH_MS) != 0;
    rd_kafka_destroy(producer);
    return undelivered != 0;
}
