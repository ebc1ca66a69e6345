/*
 * raw_latency.c - the limit of latency: what one unit of `each` rows and messages costs, alone.
 *
 * `rate` times a second: the messages into a Kafka transaction, the rows copied into a Postgres
 * transaction, the flush, the offset into Kafka's transaction, Postgres's COMMIT, Kafka's commit.
 * That is the least that both sinks with an offset can take, without reading anything and without a
 * ledger. Delivery reports are taken by a callback: without one, a flush of librdkafka sleeps in
 * steps of 10 ms. Prints the time from begin to end, and those of its parts.
 */
#include "output.h"
#include "times.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TIMEOUT_MS = 30000, WARM = 50 };

struct parts {
    struct times all, rows, flush, offsets, decide, commit;
};

static void sleep_until(double at)
{
    double left = at - now();
    if (left > 0)
        nanosleep(&(struct timespec){(time_t)left, (long)((left - (double)(time_t)left) * 1e9)},
                  NULL);
}

static void send_offset(rd_kafka_t *producer, const struct options *options, int64_t offset)
{
    rd_kafka_consumer_group_metadata_t *group =
        rd_kafka_consumer_group_metadata_new(options->group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, options->input, 0)->offset = offset;
    kafka_check("offsets", rd_kafka_send_offsets_to_transaction(producer, list, group, TIMEOUT_MS));
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_group_metadata_destroy(group);
}

/* Unit i, and when each of its parts was over: 6 moments. */
static void unit(const struct options *options, rd_kafka_t *producer, rd_kafka_topic_t *topic,
                 struct copy *copy, uint64_t i, double at[6])
{
    char text[TEXT_SIZE], client[UUID_SIZE];
    int64_t now_s = time(NULL);
    at[0] = now();
    kafka_check("begin", rd_kafka_begin_transaction(producer));
    for (uint64_t k = 0; k < options->each; k++) {
        size_t len = output_message(text, options, i * options->each + k, now_s, client);
        kafka_send(producer, topic, RD_KAFKA_PARTITION_UA, text, len, client, UUID_SIZE - 1);
    }
    pg_do(copy->conn, "begin", PGRES_COMMAND_OK);
    copy_begin(copy);
    for (uint64_t k = 0; k < options->each; k++)
        copy_row(copy, options, i * options->each + k, now_s);
    copy_end(copy);
    at[1] = now();
    if (rd_kafka_flush(producer, TIMEOUT_MS))
        die("flush", "Kafka did not take all messages");
    at[2] = now();
    send_offset(producer, options, (int64_t)i);
    at[3] = now();
    pg_do(copy->conn, "commit", PGRES_COMMAND_OK);
    at[4] = now();
    kafka_check("commit", rd_kafka_commit_transaction(producer, -1));
    at[5] = now();
}

int main(int argc, char **argv)
{
    struct options options = options_read(argc, argv);
    if (!options.topic || !options.input || !options.group || !options.campaigns)
        die("raw_latency", "give --topic, --input, --group and --campaigns");
    uint64_t undelivered = 0;
    static struct copy copy;
    struct parts parts = {0};
    rd_kafka_t *producer = kafka_producer(&options, "raw_latency", "0", &undelivered);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, options.topic, NULL);
    copy.conn = pg_connect(&options);
    ready_and_wait();
    double began = now();
    for (uint64_t i = 0; i < options.campaigns; i++) {
        double at[6];
        sleep_until(began + (double)i / (double)options.rate);
        unit(&options, producer, topic, &copy, i, at);
        if (i < WARM)
            continue;
        times_add(&parts.all, at[5] - at[0]);
        times_add(&parts.rows, at[1] - at[0]);
        times_add(&parts.flush, at[2] - at[1]);
        times_add(&parts.offsets, at[3] - at[2]);
        times_add(&parts.decide, at[4] - at[3]);
        times_add(&parts.commit, at[5] - at[4]);
    }
    printf("{");
    times_print(&parts.all, "unit", ", ");
    times_print(&parts.rows, "rows", ", ");
    times_print(&parts.flush, "flush", ", ");
    times_print(&parts.offsets, "offsets", ", ");
    times_print(&parts.decide, "postgres_commit", ", ");
    times_print(&parts.commit, "kafka_commit", "}\n");
    wait_for_the_end();
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(producer);
    PQfinish(copy.conn);
    return 0;
}
