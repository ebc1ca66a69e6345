/*
 * raw_read.c - the limit of reading: librdkafka consuming a topic's campaigns and doing nothing.
 *
 * Reads as read_committed and waits until the input is let go (feed.c holds it back), so that
 * the first fetch counts, as it does for the others. Prints the seconds from the line on stdin
 * until the last message.
 */
#include "tool.h"

#include <stdio.h>

enum { WAIT_MS = 60000 };

/* Takes the next of what comes. False: it was no message, but the end of a partition. */
static bool is_message(const struct options *options, rd_kafka_t *consumer)
{
    rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, WAIT_MS);
    if (!message)
        die(options->input, "nothing came for a minute");
    rd_kafka_resp_err_t code = message->err;
    if (code && code != RD_KAFKA_RESP_ERR__PARTITION_EOF)
        die(options->input, rd_kafka_message_errstr(message));
    rd_kafka_message_destroy(message);
    return !code;
}

int main(int argc, char **argv)
{
    struct options options = options_read(argc, argv);
    if (!options.input || !options.campaigns)
        die("raw_read", "give --input and --campaigns");
    rd_kafka_t *consumer = kafka_consumer(&options, options.input);
    for (uint64_t ends = 0; ends < options.partitions;)
        ends +=
            !is_message(&options, consumer); /* the end of a partition: it is there, and empty */
    ready_and_wait();
    double began = now(), first = 0;
    for (uint64_t n = 0; n < options.campaigns;)
        if (is_message(&options, consumer) && n++ == 0)
            first = now();
    double ended = now();
    printf("{\"began\": %.6f, \"ended\": %.6f, \"first\": %.6f}\n", began, ended, first);
    wait_for_the_end();
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
    return 0;
}
