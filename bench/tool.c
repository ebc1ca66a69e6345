/*
 * tool.c - arguments, data, clients and start of the bench's programs.
 */
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(69);
}

/* --- arguments --- */

static const char **text_of(struct options *options, const char *name)
{
    struct {
        const char *name, **at;
    } const texts[] = {{"brokers", &options->brokers}, {"dsn", &options->dsn},
                       {"topic", &options->topic},     {"input", &options->input},
                       {"group", &options->group},     {"compression", &options->compression}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(name, texts[i].name) == 0)
            return texts[i].at;
    return NULL;
}

static uint64_t *number_of(struct options *options, const char *name)
{
    struct {
        const char *name;
        uint64_t *at;
    } const numbers[] = {{"campaigns", &options->campaigns},
                         {"active", &options->active},
                         {"restaurants", &options->restaurants},
                         {"in-table", &options->in_table},
                         {"each", &options->each},
                         {"batch", &options->batch},
                         {"partitions", &options->partitions},
                         {"seed", &options->seed},
                         {"rate", &options->rate}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(name, numbers[i].name) == 0)
            return numbers[i].at;
    return NULL;
}

struct options options_read(int argc, char **argv)
{
    struct options options = {.compression = "lz4",
                              .active = 1,
                              .restaurants = 1,
                              .each = 1,
                              .batch = 10000,
                              .partitions = 4,
                              .rate = 50};
    options.brokers = getenv("KAFKA_BROKERS");
    options.dsn = getenv("MILLRACE_PG");
    for (int i = 1; i < argc; i += 2) {
        const char *name = strncmp(argv[i], "--", 2) == 0 ? argv[i] + 2 : "";
        const char **text = text_of(&options, name);
        uint64_t *number = number_of(&options, name);
        char *end = "";
        if (i + 1 == argc || (!text && !number))
            die(argv[i], "not an argument of the bench's programs (bench/tool.c names them), or "
                         "without a value");
        if (text)
            *text = argv[i + 1];
        else
            *number = strtoull(argv[i + 1], &end, 10);
        if (*end)
            die(argv[i], "a whole number was expected");
    }
    if (!options.active || !options.restaurants || !options.batch || !options.rate)
        die("arguments", "--active, --restaurants, --batch and --rate are at least 1");
    if (!options.in_table)
        options.in_table = options.restaurants;
    return options;
}

/* --- the data --- */

/* Odd, so that multiplying modulo 2^32 can be undone: ids look random, and none comes twice. */
#define SPREAD UINT32_C(2654435761)
#define GATHER UINT32_C(244002641)
_Static_assert((uint32_t)(SPREAD *(uint64_t)GATHER) == 1, "GATHER undoes SPREAD");

static const char *const tails[] = {[CAMPAIGN] = "-e89b-12d3-a456-426614174003",
                                    [RESTAURANT] = "-e89b-12d3-a456-426614174001",
                                    [CLIENT] = "-e89b-12d3-a456-426614174000"};

void id_format(char text[UUID_SIZE], int kind, uint64_t number, uint64_t seed)
{
    uint32_t value = ((uint32_t)number * SPREAD) ^ (uint32_t)seed;
    for (int i = 7; i >= 0; i--, value >>= 4)
        text[i] = "0123456789abcdef"[value & 15];
    memcpy(text + 8, tails[kind], UUID_SIZE - 8);
}

bool id_parse(const char *text, int kind, uint64_t seed, uint64_t *number)
{
    uint32_t value = 0;
    for (int i = 0; i < 8; i++) {
        const char *digits = "0123456789abcdef";
        const char *at = text[i] ? strchr(digits, text[i]) : NULL;
        if (!at)
            return false;
        value = value << 4 | (uint32_t)(at - digits);
    }
    *number = (value ^ (uint32_t)seed) * GATHER;
    return strncmp(text + 8, tails[kind], UUID_SIZE - 9) == 0;
}

uint64_t n_outputs(const struct options *options)
{
    return (options->campaigns + options->active - 1) / options->active * options->each;
}

size_t campaign_format(char text[TEXT_SIZE], const struct options *options, uint64_t i,
                       int64_t now_s)
{
    char campaign[UUID_SIZE], restaurant[UUID_SIZE];
    id_format(campaign, CAMPAIGN, i, options->seed);
    id_format(restaurant, RESTAURANT, i % options->restaurants, options->seed);
    bool active = i % options->active == 0;
    int len =
        snprintf(text, TEXT_SIZE,
                 "{\"restaurant_id\": \"%s\", \"adv_campaign_id\": \"%s\", "
                 "\"adv_campaign_content\": \"" CONTENT "\", \"adv_campaign_owner\": \"" OWNER
                 "\", \"adv_campaign_owner_contact\": \"" CONTACT
                 "\", \"adv_campaign_datetime_start\": %" PRId64
                 ", \"adv_campaign_datetime_end\": %" PRId64 ", \"datetime_created\": %" PRId64 "}",
                 restaurant, campaign, now_s - BEGAN_S, active ? now_s + LASTS_S : now_s - 1,
                 now_s - CREATED_S);
    return (size_t)len;
}

/* --- Kafka --- */

void kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[512];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        die(name, why);
}

rd_kafka_conf_t *kafka_conf(const struct options *options)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (!options->brokers)
        die("brokers", "give --brokers, or set KAFKA_BROKERS");
    kafka_set(conf, "bootstrap.servers", options->brokers);
    kafka_set(conf, "log_level", "3"); /* a coordinator that is not there yet is asked again */
    return conf;
}

rd_kafka_t *kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    char why[512];
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
    if (!rk)
        die("Kafka", why);
    return rk;
}

void kafka_check(const char *what, rd_kafka_error_t *error)
{
    if (error)
        die(what, rd_kafka_error_string(error));
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    uint64_t *undelivered = opaque;
    *undelivered += message->err != 0;
}

rd_kafka_t *kafka_producer(const struct options *options, const char *transactional_id,
                           const char *linger_ms, uint64_t *undelivered)
{
    rd_kafka_conf_t *conf = kafka_conf(options);
    kafka_set(conf, "acks", "all");
    kafka_set(conf, "transactional.id", transactional_id);
    kafka_set(conf, "transaction.timeout.ms", "600000");
    kafka_set(conf, "linger.ms", linger_ms);
    kafka_set(conf, "compression.type", options->compression);
    kafka_set(conf, "queue.buffering.max.messages", "2000000");
    kafka_set(conf, "queue.buffering.max.kbytes", "1048576");
    kafka_set(conf, "batch.num.messages", "100000");
    kafka_set(conf, "batch.size", "1000000");
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_conf_set_opaque(conf, undelivered);
    rd_kafka_t *rk = kafka_new(RD_KAFKA_PRODUCER, conf);
    kafka_check("init_transactions", rd_kafka_init_transactions(rk, 30000));
    return rk;
}

void kafka_send(rd_kafka_t *producer, rd_kafka_topic_t *topic, int32_t partition, const char *text,
                size_t len, const char *key, size_t key_len)
{
    while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)text, len,
                            key, key_len, NULL) == -1) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(producer, 5);
    }
}

rd_kafka_t *kafka_consumer(const struct options *options, const char *topic)
{
    rd_kafka_conf_t *conf = kafka_conf(options);
    kafka_set(conf, "group.id", "bench");
    kafka_set(conf, "enable.auto.commit", "false");
    kafka_set(conf, "isolation.level", "read_committed");
    kafka_set(conf, "enable.partition.eof", "true");
    kafka_set(conf, "queued.min.messages", "1000000"); /* a full queue is left alone for a second */
    kafka_set(conf, "queued.max.messages.kbytes", "2097151");
    kafka_set(conf, "fetch.wait.max.ms", "10");
    rd_kafka_t *rk = kafka_new(RD_KAFKA_CONSUMER, conf);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)options->partitions);
    for (int32_t i = 0; i < (int32_t)options->partitions; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_resp_err_t code = rd_kafka_assign(rk, list);
    if (code)
        die(topic, rd_kafka_err2str(code));
    rd_kafka_topic_partition_list_destroy(list);
    return rk;
}

/* --- Postgres --- */

PGconn *pg_connect(const struct options *options)
{
    PGconn *conn = PQconnectdb(options->dsn ? options->dsn : "");
    if (PQstatus(conn) != CONNECTION_OK)
        die("Postgres", PQerrorMessage(conn));
    return conn;
}

void pg_do(PGconn *conn, const char *sql, ExecStatusType expected)
{
    PGresult *res = PQexec(conn, sql);
    if (PQresultStatus(res) != expected)
        die(sql, PQerrorMessage(conn));
    PQclear(res);
}

/* --- how it is started --- */

double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

void ready_and_wait(void)
{
    puts("ready");
    fflush(stdout);
    int c;
    while ((c = getchar()) != '\n')
        if (c == EOF)
            exit(0); /* whoever started it has gone */
}

void wait_for_the_end(void)
{
    fflush(stdout);
    while (getchar() != EOF)
        ;
}
