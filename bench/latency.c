/*
 * latency.c - how long a campaign takes: from its send to topic_in until a read_committed consumer
 * of topic_out has all its messages, and until all its rows can be seen in Postgres.
 *
 * Three threads: one sends `rate` campaigns a second at even distances; one consumes; one asks
 * Postgres each millisecond while something is awaited, so that a row's time is up to that much too
 * long. The first second does not count. Says ready when the topic has been met; prints p50, p99
 * and max of both in milliseconds, and how many campaigns were not whole within ten seconds of the
 * last.
 */
#include "times.h"
#include "tool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARM = 50, PATIENCE_S = 10, POLL_US = 1000, WINDOW = 300 };

struct probe {
    const struct options *options;
    rd_kafka_t *producer, *consumer;
    PGconn *conn;
    double *sent, *message, *row;                /* of campaign i; 0: not yet */
    uint32_t *messages;                          /* of campaign i, so far */
    _Atomic uint64_t n_sent, n_messages, n_rows; /* campaigns sent, and whole in each sink */
    _Atomic(double) give_up;                     /* when; 0: not before all have been sent */
};

static bool is_over(const struct probe *probe, const _Atomic uint64_t *n)
{
    double give_up = probe->give_up;
    return *n >= probe->options->campaigns || (give_up > 0 && now() > give_up);
}

static void pause_us(long us)
{
    nanosleep(&(struct timespec){0, us * 1000}, NULL);
}

static void *send_all(void *arg)
{
    struct probe *probe = arg;
    const struct options *options = probe->options;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(probe->producer, options->input, NULL);
    double began = now();
    for (uint64_t i = 0; i < options->campaigns; i++) {
        char text[TEXT_SIZE], key[UUID_SIZE];
        size_t len = campaign_format(text, options, i, time(NULL));
        id_format(key, CAMPAIGN, i, options->seed);
        double left = began + (double)i / (double)options->rate - now();
        if (left > 0)
            pause_us((long)(left * 1e6));
        probe->sent[i] = now();
        probe->n_sent = i + 1;
        kafka_send(probe->producer, topic, (int32_t)(i % options->partitions), text, len, key,
                   UUID_SIZE - 1);
        rd_kafka_poll(probe->producer, 0);
    }
    probe->give_up = now() + PATIENCE_S;
    rd_kafka_flush(probe->producer, PATIENCE_S * 1000);
    rd_kafka_topic_destroy(topic);
    return NULL;
}

static void take_message(struct probe *probe, const rd_kafka_message_t *message)
{
    static const char name[] = "\"adv_campaign_id\":\"";
    uint64_t i;
    const char *at = memmem(message->payload, message->len, name, sizeof name - 1);
    if (!at || at + sizeof name + UUID_SIZE > (const char *)message->payload + message->len ||
        !id_parse(at + sizeof name - 1, CAMPAIGN, probe->options->seed, &i) ||
        i >= probe->options->campaigns)
        die(probe->options->topic, "there is a message that is no output of this workload");
    if (++probe->messages[i] == probe->options->each) {
        probe->message[i] = now();
        probe->n_messages++;
    }
}

static void *consume_all(void *arg)
{
    struct probe *probe = arg;
    while (!is_over(probe, &probe->n_messages)) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(probe->consumer, 100);
        if (message && !message->err)
            take_message(probe, message);
        if (message)
            rd_kafka_message_destroy(message);
    }
    return NULL;
}

/* Which campaigns have all their rows among the last. Workers' ids may come in any order: WINDOW.
 */
static int64_t take_rows(struct probe *probe, int64_t last)
{
    char from[24];
    const char *values[] = {from};
    snprintf(from, sizeof from, "%lld", (long long)(last - WINDOW));
    PGresult *res = PQexecPrepared(probe->conn, "seen", 1, values, NULL, NULL, 0);
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        die("rows", PQerrorMessage(probe->conn));
    double at = now();
    for (int k = 0; k < PQntuples(res); k++) {
        uint64_t i, n = strtoull(PQgetvalue(res, k, 1), NULL, 10);
        int64_t id = strtoll(PQgetvalue(res, k, 2), NULL, 10);
        last = id > last ? id : last;
        if (id_parse(PQgetvalue(res, k, 0), CAMPAIGN, probe->options->seed, &i) &&
            i < probe->options->campaigns && n == probe->options->each && probe->row[i] == 0) {
            probe->row[i] = at;
            probe->n_rows++;
        }
    }
    PQclear(res);
    return last;
}

static void *watch_rows(void *arg)
{
    struct probe *probe = arg;
    PGresult *res = PQprepare(probe->conn, "seen",
                              "select adv_campaign_id, count(*), max(id) from subscribers_feedback "
                              "where id > $1::int8 group by 1",
                              1, NULL);
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        die("prepare", PQerrorMessage(probe->conn));
    PQclear(res);
    for (int64_t last = 0; !is_over(probe, &probe->n_rows); pause_us(POLL_US))
        if (probe->n_rows < probe->n_sent)
            last = take_rows(probe, last);
    return NULL;
}

static void *zeroes(uint64_t n, size_t size)
{
    void *at = calloc(n, size);
    if (!at)
        die("memory", "there is none left");
    return at;
}

static void report(const struct probe *probe)
{
    struct times messages = {0}, rows = {0};
    uint64_t lost = 0;
    for (uint64_t i = 0; i < probe->options->campaigns; i++) {
        bool whole = probe->message[i] > 0 && probe->row[i] > 0;
        lost += !whole;
        if (!whole || i < WARM)
            continue;
        times_add(&messages, probe->message[i] - probe->sent[i]);
        times_add(&rows, probe->row[i] - probe->sent[i]);
    }
    printf("{");
    times_print(&messages, "message", ", ");
    times_print(&rows, "row", ", ");
    printf("\"lost\": %llu}\n", (unsigned long long)lost);
}

static rd_kafka_t *sender(const struct options *options)
{
    rd_kafka_conf_t *conf = kafka_conf(options);
    kafka_set(conf, "enable.idempotence", "true");
    kafka_set(conf, "linger.ms", "0");
    return kafka_new(RD_KAFKA_PRODUCER, conf);
}

int main(int argc, char **argv)
{
    struct options options = options_read(argc, argv);
    if (!options.topic || !options.input || !options.campaigns)
        die("latency", "give --topic, --input and --campaigns");
    struct probe probe = {.options = &options,
                          .producer = sender(&options),
                          .consumer = kafka_consumer(&options, options.topic),
                          .conn = pg_connect(&options),
                          .sent = zeroes(options.campaigns, sizeof(double)),
                          .message = zeroes(options.campaigns, sizeof(double)),
                          .row = zeroes(options.campaigns, sizeof(double)),
                          .messages = zeroes(options.campaigns, sizeof(uint32_t))};
    void *(*const work[])(void *) = {send_all, consume_all, watch_rows};
    pthread_t threads[3];
    for (uint64_t ends = 0; ends < options.partitions;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(probe.consumer, PATIENCE_S * 1000);
        if (!message || message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
            die(options.topic, "it is not there, or not empty");
        rd_kafka_message_destroy(message);
        ends++;
    }
    ready_and_wait();
    for (size_t i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, work[i], &probe))
            die("threads", "they cannot be started");
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    report(&probe);
    wait_for_the_end();
    rd_kafka_consumer_close(probe.consumer);
    rd_kafka_destroy(probe.consumer);
    rd_kafka_destroy(probe.producer);
    PQfinish(probe.conn);
    free(probe.sent), free(probe.message), free(probe.row), free(probe.messages);
    return 0;
}
