/*
 * tool.h - what the programs of the bench share: their arguments, the data, and how they are
 * started.
 *
 * A program is started by bench/run (stage.py), says "ready" when it is connected, waits for a line
 * on stdin, does its work, prints one line of JSON, and waits for the end of stdin, so that its CPU
 * time and its peak memory can still be read from /proc. Each is one thread unless it says so.
 *
 * The data. Campaign i is for restaurant i mod `restaurants`; every `active`-th one runs now, the
 * others are over. The subscribers of restaurant r are the clients r * each ... r * each + each
 * - 1. Ids are uuids made of the number and the seed, and can be taken back to the number.
 */
#ifndef BENCH_TOOL_H
#define BENCH_TOOL_H

#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UUID_SIZE = 37, TEXT_SIZE = 1024 };

struct options {
    const char *brokers, *dsn, *topic, *input, *group, *compression;
    uint64_t campaigns, active, restaurants, in_table, each, batch, partitions, seed, rate;
};

/* --name value ...; ends the program with a sentence where something is wrong. */
struct options options_read(int argc, char **argv);

/* Ends the program: exit status 69. */
_Noreturn void die(const char *what, const char *why);

/* --- the data --- */
enum { CAMPAIGN, RESTAURANT, CLIENT }; /* kinds of ids */
void id_format(char text[UUID_SIZE], int kind, uint64_t number, uint64_t seed);
/* The number that `text` stands for. False: not one of that kind. */
bool id_parse(const char *text, int kind, uint64_t seed, uint64_t *number);
/* The outputs that must come of the campaigns. */
uint64_t n_outputs(const struct options *options);
/* The message of campaign i on topic_in, as JSON, in `text`; returns its length. */
size_t campaign_format(char text[TEXT_SIZE], const struct options *options, uint64_t i,
                       int64_t now_s);
/* Texts and numbers that all campaigns share. */
#define CONTENT "two for one until the end of the week"
#define OWNER   "Ivanov Ivan Ivanovich"
#define CONTACT "iiivanov@restaurant_id"
enum { BEGAN_S = 1000, LASTS_S = 1000000, CREATED_S = 2000 };

/* --- clients --- */
rd_kafka_conf_t *kafka_conf(const struct options *options);
void kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value);
rd_kafka_t *kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf);
/* Ends the program if `error` is one. */
void kafka_check(const char *what, rd_kafka_error_t *error);
/* A transactional producer as the bench's: acks=all, delivery reports counted into *undelivered. */
rd_kafka_t *kafka_producer(const struct options *options, const char *transactional_id,
                           const char *linger_ms, uint64_t *undelivered);
/* One message, copied; waits while the queue is full. */
void kafka_send(rd_kafka_t *producer, rd_kafka_topic_t *topic, int32_t partition, const char *text,
                size_t len, const char *key, size_t key_len);
/* A read_committed consumer that is given all partitions of the topic, from their beginnings. */
rd_kafka_t *kafka_consumer(const struct options *options, const char *topic);
PGconn *pg_connect(const struct options *options);
void pg_do(PGconn *conn, const char *sql, ExecStatusType expected);

/* --- how it is started --- */
double now(void); /* CLOCK_MONOTONIC, seconds; the same clock as Python's time.monotonic */
void ready_and_wait(void);
void wait_for_the_end(void);

#endif
