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
#include "output.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

enum { POLL_EACH = 1000 };

struct sink {
    const struct options *options;
    int64_t now_s;
    double seconds;
    PGconn *conn;
    rd_kafka_t *producer;
    uint64_t undelivered;
};

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
        size_t len = output_message(text, options, i, sink->now_s, client);
        kafka_send(sink->producer, topic, RD_KAFKA_PARTITION_UA, text, len, client, UUID_SIZE - 1);
        if (i % POLL_EACH == 0)
            rd_kafka_poll(sink->producer, 0);
        if (i % options->batch == options->batch - 1 || i == n - 1)
            kafka_check("commit", rd_kafka_commit_transaction(sink->producer, -1));
    }
    sink->seconds = now() - began;
    rd_kafka_topic_destroy(topic);
    return NULL;
}

static void *to_postgres(void *arg)
{
    struct sink *sink = arg;
    const struct options *options = sink->options;
    static struct copy copy;
    copy.conn = sink->conn;
    uint64_t n = n_outputs(options);
    double began = now();
    for (uint64_t i = 0; i < n; i++) {
        if (i % options->batch == 0) {
            pg_do(sink->conn, "begin", PGRES_COMMAND_OK);
            copy_begin(&copy);
        }
        copy_row(&copy, options, i, sink->now_s);
        if (i % options->batch == options->batch - 1 || i == n - 1) {
            copy_end(&copy);
            pg_do(sink->conn, "commit", PGRES_COMMAND_OK);
        }
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
