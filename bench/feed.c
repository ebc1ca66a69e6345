/*
 * feed.c - makes a workload's data: subscriptions for the table, campaigns for the topic.
 *
 *   feed ... --dsn DSN       fills subscribers_restaurants, in_table restaurants of `each` clients
 *   feed ... --input TOPIC   sends the campaigns in one open transaction, says ready, and commits
 * it when a line comes on stdin
 *
 * An open transaction shows nothing to readers, so that a subject can start, load its table and
 * have its partitions; the commit then lets go of all its input at once, and is where the clock
 * starts. Prints that moment.
 */
#include "tool.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { POLL_EACH = 1000, CHUNK = 60000, FLUSH_MS = 120000 };

static void fill_table(const struct options *options)
{
    PGconn *conn = pg_connect(options);
    static char lines[CHUNK + 2 * UUID_SIZE];
    size_t len = 0;
    char restaurant[UUID_SIZE], client[UUID_SIZE];
    pg_do(conn, "truncate subscribers_restaurants restart identity", PGRES_COMMAND_OK);
    pg_do(conn, "copy subscribers_restaurants (client_id, restaurant_id) from stdin",
          PGRES_COPY_IN);
    uint64_t n = options->in_table * options->each;
    for (uint64_t i = 0; i < n; i++) {
        id_format(client, CLIENT, i, options->seed);
        id_format(restaurant, RESTAURANT, i / options->each, options->seed);
        memcpy(lines + len, client, UUID_SIZE - 1);
        lines[len + UUID_SIZE - 1] = '\t';
        memcpy(lines + len + UUID_SIZE, restaurant, UUID_SIZE - 1);
        lines[len + 2 * UUID_SIZE - 1] = '\n';
        len += 2 * UUID_SIZE;
        if (len >= CHUNK || i == n - 1) {
            if (PQputCopyData(conn, lines, (int)len) != 1)
                die("COPY", PQerrorMessage(conn));
            len = 0;
        }
    }
    if (PQputCopyEnd(conn, NULL) != 1)
        die("COPY", PQerrorMessage(conn));
    for (PGresult *res; (res = PQgetResult(conn)); PQclear(res))
        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die("COPY", PQerrorMessage(conn));
    pg_do(conn, "vacuum analyze subscribers_restaurants", PGRES_COMMAND_OK);
    PQfinish(conn);
}

static void send_campaigns(const struct options *options)
{
    uint64_t undelivered = 0;
    int64_t now_s = time(NULL);
    rd_kafka_t *producer = kafka_producer(options, "feed", "20", &undelivered);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, options->input, NULL);
    kafka_check("begin", rd_kafka_begin_transaction(producer));
    for (uint64_t i = 0; i < options->campaigns; i++) {
        char text[TEXT_SIZE], key[UUID_SIZE];
        size_t len = campaign_format(text, options, i, now_s);
        id_format(key, CAMPAIGN, i, options->seed);
        /* The active ones in turn over the partitions: all workers have the same to do. */
        kafka_send(producer, topic,
                   (int32_t)((i / options->active + i % options->active) % options->partitions),
                   text, len, key, UUID_SIZE - 1);
        if (i % POLL_EACH == 0)
            rd_kafka_poll(producer, 0);
    }
    if (rd_kafka_flush(producer, FLUSH_MS) || undelivered)
        die(options->input, "not all campaigns could be sent");
    ready_and_wait();
    double began = now();
    kafka_check("commit", rd_kafka_commit_transaction(producer, -1));
    printf("{\"began\": %.6f, \"committed\": %.6f}\n", began, now());
    fflush(stdout);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(producer);
}

int main(int argc, char **argv)
{
    struct options options = options_read(argc, argv);
    if (options.input)
        send_campaigns(&options);
    else
        fill_table(&options);
    return 0;
}
