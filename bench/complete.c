/*
 * complete.c - are both sinks whole: each expected pair of campaign and client once in the topic
 * (as read_committed) and once in the table, and nothing else. Exact, in a bit a pair.
 *
 *   complete --campaigns N --restaurants N --each N ... --topic TOPIC
 *
 * Prints, for each sink, how many there are, distinct, missing, doubled and foreign (of no pair
 * that was expected). Its exit status is 0 in any case: whether doubles are right is for the caller
 * to say.
 */
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 30000 };

struct seen {
    const struct options *options;
    uint8_t *bits;
    uint64_t total, distinct, doubled, foreign;
};

static struct seen seen_new(const struct options *options)
{
    struct seen seen = {.options = options, .bits = calloc(n_outputs(options) / 8 + 1, 1)};
    if (!seen.bits)
        die("memory", "there is none left");
    return seen;
}

static void see(struct seen *seen, const char *campaign, const char *client)
{
    const struct options *options = seen->options;
    uint64_t i, c;
    seen->total++;
    bool known = campaign && client && id_parse(campaign, CAMPAIGN, options->seed, &i) &&
                 id_parse(client, CLIENT, options->seed, &c) && i < options->campaigns &&
                 i % options->active == 0 && c / options->each == i % options->restaurants;
    if (!known) {
        seen->foreign++;
        return;
    }
    uint64_t pair = i / options->active * options->each + c % options->each;
    uint8_t bit = (uint8_t)(1 << pair % 8);
    if (seen->bits[pair / 8] & bit)
        seen->doubled++;
    else
        seen->distinct++;
    seen->bits[pair / 8] |= bit;
}

/* The string that stands behind a name in a message; NULL: none. Good enough for ids. */
static const char *field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    at = at ? strchr(at + strlen(name), '"') : NULL;
    return at && strlen(at) > UUID_SIZE ? at + 1 : NULL;
}

static void see_message(struct seen *seen, const rd_kafka_message_t *message)
{
    static char text[1 << 16];
    size_t len = message->len < sizeof text - 1 ? message->len : sizeof text - 1;
    memcpy(text, message->payload, len);
    text[len] = 0;
    see(seen, field(text, "\"adv_campaign_id\":"), field(text, "\"client_id\":"));
}

/* Where each partition ends, whatever is committed. A transaction's markers are written after its
 * commit has been answered: until then a read_committed reader meets an end that is none. */
static int64_t *find_ends(const struct options *options)
{
    int64_t low, *ends = calloc(options->partitions, sizeof *ends);
    rd_kafka_conf_t *conf = kafka_conf(options);
    kafka_set(conf, "isolation.level", "read_uncommitted");
    rd_kafka_t *asker = kafka_new(RD_KAFKA_CONSUMER, conf);
    if (!ends)
        die("memory", "there is none left");
    for (uint64_t i = 0; i < options->partitions; i++) {
        rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
            asker, options->topic, (int32_t)i, &low, &ends[i], WAIT_MS);
        if (code)
            die(options->topic, rd_kafka_err2str(code));
    }
    rd_kafka_destroy(asker);
    return ends;
}

static void read_topic(struct seen *seen)
{
    const struct options *options = seen->options;
    int64_t *ends = find_ends(options);
    rd_kafka_t *consumer = kafka_consumer(options, options->topic);
    for (uint64_t done = 0; done < options->partitions;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, WAIT_MS);
        if (!message)
            die(options->topic, "it cannot be read to its end");
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            int64_t *end = &ends[message->partition];
            done += *end >= 0 && message->offset >= *end;
            *end = message->offset >= *end ? -1 : *end;
        } else if (message->err) {
            die(options->topic, rd_kafka_message_errstr(message));
        } else {
            see_message(seen, message);
        }
        rd_kafka_message_destroy(message);
    }
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
    free(ends);
}

static void read_table(struct seen *seen)
{
    PGconn *conn = pg_connect(seen->options);
    char *line;
    int len;
    pg_do(conn, "copy (select adv_campaign_id, client_id from subscribers_feedback) to stdout",
          PGRES_COPY_OUT);
    while ((len = PQgetCopyData(conn, &line, 0)) > 0) {
        char *tab = strchr(line, '\t');
        see(seen, line, tab && strlen(tab) >= UUID_SIZE ? tab + 1 : NULL);
        PQfreemem(line);
    }
    if (len == -2)
        die("COPY", PQerrorMessage(conn));
    PQfinish(conn);
}

static void report(const struct seen *seen, const char *name, const char *end)
{
    printf("\"%s\": {\"total\": %" PRIu64 ", \"distinct\": %" PRIu64 ", \"missing\": %" PRIu64
           ", \"doubled\": %" PRIu64 ", \"foreign\": %" PRIu64 "}%s",
           name, seen->total, seen->distinct, n_outputs(seen->options) - seen->distinct,
           seen->doubled, seen->foreign, end);
}

int main(int argc, char **argv)
{
    struct options options = options_read(argc, argv);
    if (!options.topic || !options.campaigns)
        die("complete", "give --topic and --campaigns");
    struct seen messages = seen_new(&options), rows = seen_new(&options);
    read_topic(&messages);
    read_table(&rows);
    printf("{");
    report(&messages, "messages", ", ");
    report(&rows, "rows", "}\n");
    free(messages.bits);
    free(rows.bits);
    return 0;
}
