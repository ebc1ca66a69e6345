/*
 * raw_sink.c - the limit: the outputs of a workload sent to Kafka and copied into Postgres, and
 * nothing else. No Lua, no join, no ledger, no input.
 *
 * Two threads that know nothing of each other: one has a transactional producer and sends each
 * message with its own call, `batch` a transaction; the other copies the same rows, binary, over
 * one connection, `batch` a transaction. Each formats what it sends, as a program must; nothing is
 * shared, nothing waits for the other. Both sinks whole, but no tie between them: after a crash
 * they differ. Prints the seconds until both were done, and each one's own.
 */
#include "tool.h"

#include <arpa/inet.h>
#include <endian.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLL_EACH = 1000, COPY_CHUNK = 60000, N_FIELDS = 11 };

struct sink {
    const struct options *options;
    int64_t now_s;
    double seconds;
    PGconn *conn;
    rd_kafka_t *producer;
    uint64_t undelivered;
};

/* Output n of the workload: its campaign, restaurant and client. */
static void ids(const struct options *options, uint64_t n, char campaign[UUID_SIZE],
                char restaurant[UUID_SIZE], char client[UUID_SIZE])
{
    uint64_t i = n / options->each * options->active, r = i % options->restaurants;
    id_format(campaign, CAMPAIGN, i, options->seed);
    id_format(restaurant, RESTAURANT, r, options->seed);
    id_format(client, CLIENT, r * options->each + n % options->each, options->seed);
}

/* --- Kafka --- */

static int message(char text[TEXT_SIZE], const struct sink *sink, uint64_t n,
                   char client[UUID_SIZE])
{
    char campaign[UUID_SIZE], restaurant[UUID_SIZE];
    ids(sink->options, n, campaign, restaurant, client);
    return snprintf(text, TEXT_SIZE,
                    "{\"restaurant_id\":\"%s\",\"adv_campaign_id\":\"%s\","
                    "\"adv_campaign_content\":\"" CONTENT "\",\"adv_campaign_owner\":\"" OWNER
                    "\",\"adv_campaign_owner_contact\":\"" CONTACT
                    "\",\"adv_campaign_datetime_start\":%" PRId64
                    ",\"adv_campaign_datetime_end\":%" PRId64 ",\"datetime_created\":%" PRId64
                    ",\"client_id\":\"%s\",\"trigger_datetime_created\":%" PRId64 "}",
                    restaurant, campaign, sink->now_s - BEGAN_S, sink->now_s + LASTS_S,
                    sink->now_s - CREATED_S, client, sink->now_s);
}

static void *to_kafka(void *arg)
{
    struct sink *sink = arg;
    const struct options *options = sink->options;
    uint64_t n = n_outputs(options);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(sink->producer, options->topic, NULL);
    double began = now();
    for (uint64_t i = 0; i < n; i++) {
        char text[TEXT_SIZE], client[UUID_SIZE];
        if (i % options->batch == 0)
            kafka_check("begin", rd_kafka_begin_transaction(sink->producer));
        int len = message(text, sink, i, client);
        kafka_send(sink->producer, topic, RD_KAFKA_PARTITION_UA, text, (size_t)len, client,
                   UUID_SIZE - 1);
        if (i % POLL_EACH == 0)
            rd_kafka_poll(sink->producer, 0);
        if (i % options->batch == options->batch - 1 || i == n - 1)
            kafka_check("commit", rd_kafka_commit_transaction(sink->producer, -1));
    }
    sink->seconds = now() - began;
    rd_kafka_topic_destroy(topic);
    return NULL;
}

/* --- Postgres --- */

static char *put_length(char *at, int32_t len)
{
    uint32_t wire = htonl((uint32_t)len);
    memcpy(at, &wire, sizeof wire);
    return at + sizeof wire;
}

static char *put_text(char *at, const char *text, size_t len)
{
    at = put_length(at, (int32_t)len);
    memcpy(at, text, len);
    return at + len;
}

static char *put_int8(char *at, int64_t value)
{
    uint64_t wire = htobe64((uint64_t)value);
    at = put_length(at, sizeof wire);
    memcpy(at, &wire, sizeof wire);
    return at + sizeof wire;
}

static char *row(char *at, const struct sink *sink, uint64_t n)
{
    char campaign[UUID_SIZE], restaurant[UUID_SIZE], client[UUID_SIZE];
    ids(sink->options, n, campaign, restaurant, client);
    *at++ = 0;
    *at++ = N_FIELDS;
    at = put_text(at, restaurant, UUID_SIZE - 1);
    at = put_text(at, campaign, UUID_SIZE - 1);
    at = put_text(at, CONTENT, strlen(CONTENT));
    at = put_text(at, OWNER, strlen(OWNER));
    at = put_text(at, CONTACT, strlen(CONTACT));
    at = put_int8(at, sink->now_s - BEGAN_S);
    at = put_int8(at, sink->now_s + LASTS_S);
    at = put_int8(at, sink->now_s - CREATED_S);
    at = put_text(at, client, UUID_SIZE - 1);
    at = put_length(at, 4);
    at = put_length(at, (int32_t)sink->now_s); /* an int4, in the wire's order */
    return put_text(at, "", 0);
}

static const char copy[] =
    "begin; copy subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, "
    "adv_campaign_owner, adv_campaign_owner_contact, adv_campaign_datetime_start, "
    "adv_campaign_datetime_end, datetime_created, client_id, trigger_datetime_created, feedback) "
    "from stdin (format binary)";
/* Signature, flags, length of the header's extension. */
static const char copy_head[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0";

static void send_rows(PGconn *conn, const char *rows, size_t len)
{
    if (PQputCopyData(conn, rows, (int)len) != 1)
        die("COPY", PQerrorMessage(conn));
}

static void end_copy(PGconn *conn)
{
    PGresult *res;
    if (PQputCopyEnd(conn, NULL) != 1)
        die("COPY", PQerrorMessage(conn));
    while ((res = PQgetResult(conn))) {
        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die("COPY", PQerrorMessage(conn));
        PQclear(res);
    }
    pg_do(conn, "commit", PGRES_COMMAND_OK);
}

static void *to_postgres(void *arg)
{
    struct sink *sink = arg;
    const struct options *options = sink->options;
    uint64_t n = n_outputs(options);
    static char rows[COPY_CHUNK + TEXT_SIZE];
    char *at = rows;
    double began = now();
    for (uint64_t i = 0; i < n; i++) {
        bool ends = i % options->batch == options->batch - 1 || i == n - 1;
        if (i % options->batch == 0) {
            pg_do(sink->conn, copy, PGRES_COPY_IN);
            memcpy(rows, copy_head, sizeof copy_head - 1);
            at = rows + sizeof copy_head - 1;
        }
        at = row(at, sink, i);
        if (ends) {
            memset(at, 0xff, 2); /* the trailer: -1 fields */
            at += 2;
        }
        if (ends || at - rows > COPY_CHUNK) {
            send_rows(sink->conn, rows, (size_t)(at - rows));
            at = rows;
        }
        if (ends)
            end_copy(sink->conn);
    }
    sink->seconds = now() - began;
    return NULL;
}

int main(int argc, char **argv)
{
    struct options options = options_read(argc, argv);
    struct sink kafka = {.options = &options, .now_s = time(NULL)}, postgres = kafka;
    pthread_t threads[2];
    if (!options.topic || !options.campaigns)
        die("raw_sink", "give --topic and --campaigns");
    kafka.producer = kafka_producer(&options, "raw_sink", "5", &kafka.undelivered);
    postgres.conn = pg_connect(&options);
    ready_and_wait();
    double began = now();
    if (pthread_create(&threads[0], NULL, to_kafka, &kafka) ||
        pthread_create(&threads[1], NULL, to_postgres, &postgres))
        die("threads", "they cannot be started");
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    double ended = now();
    if (kafka.undelivered)
        die("Kafka", "there are messages that it did not take");
    printf("{\"began\": %.6f, \"ended\": %.6f, \"kafka_seconds\": %.3f, \"postgres_seconds\": "
           "%.3f}\n",
           began, ended, kafka.seconds, postgres.seconds);
    wait_for_the_end();
    PQfinish(postgres.conn);
    rd_kafka_destroy(kafka.producer);
    return 0;
}
