/*
 * output.c - what the raw programs send: the same messages and rows as the workload's outputs.
 *
 * Formatted field by field, as a program must that makes them; no copy of a finished buffer.
 */
#include "output.h"

#include <arpa/inet.h>
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { N_FIELDS = 11 };

/* Output n of the workload: its campaign, restaurant and client. */
static void ids(const struct options *options, uint64_t n, char campaign[UUID_SIZE],
                char restaurant[UUID_SIZE], char client[UUID_SIZE])
{
    uint64_t i = n / options->each * options->active, r = i % options->restaurants;
    id_format(campaign, CAMPAIGN, i, options->seed);
    id_format(restaurant, RESTAURANT, r, options->seed);
    id_format(client, CLIENT, r * options->each + n % options->each, options->seed);
}

size_t output_message(char text[TEXT_SIZE], const struct options *options, uint64_t n,
                      int64_t now_s, char client[UUID_SIZE])
{
    char campaign[UUID_SIZE], restaurant[UUID_SIZE];
    ids(options, n, campaign, restaurant, client);
    int len = snprintf(
        text, TEXT_SIZE,
        "{\"restaurant_id\":\"%s\",\"adv_campaign_id\":\"%s\","
        "\"adv_campaign_content\":\"" CONTENT "\",\"adv_campaign_owner\":\"" OWNER
        "\",\"adv_campaign_owner_contact\":\"" CONTACT "\",\"adv_campaign_datetime_start\":%" PRId64
        ",\"adv_campaign_datetime_end\":%" PRId64 ",\"datetime_created\":%" PRId64
        ",\"client_id\":\"%s\",\"trigger_datetime_created\":%" PRId64 "}",
        restaurant, campaign, now_s - BEGAN_S, now_s + LASTS_S, now_s - CREATED_S, client, now_s);
    return (size_t)len;
}

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

static const char into[] =
    "copy subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, "
    "adv_campaign_owner, adv_campaign_owner_contact, adv_campaign_datetime_start, "
    "adv_campaign_datetime_end, datetime_created, client_id, trigger_datetime_created, feedback) "
    "from stdin (format binary)";
/* Signature, flags, length of the header's extension. */
static const char copy_head[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0";

void copy_begin(struct copy *copy)
{
    pg_do(copy->conn, into, PGRES_COPY_IN);
    copy->len = sizeof copy_head - 1;
    memcpy(copy->rows, copy_head, copy->len);
}

static void send_rows(struct copy *copy)
{
    if (PQputCopyData(copy->conn, copy->rows, (int)copy->len) != 1)
        die("COPY", PQerrorMessage(copy->conn));
    copy->len = 0;
}

void copy_row(struct copy *copy, const struct options *options, uint64_t n, int64_t now_s)
{
    char campaign[UUID_SIZE], restaurant[UUID_SIZE], client[UUID_SIZE],
        *at = copy->rows + copy->len;
    ids(options, n, campaign, restaurant, client);
    *at++ = 0;
    *at++ = N_FIELDS;
    at = put_text(at, restaurant, UUID_SIZE - 1);
    at = put_text(at, campaign, UUID_SIZE - 1);
    at = put_text(at, CONTENT, strlen(CONTENT));
    at = put_text(at, OWNER, strlen(OWNER));
    at = put_text(at, CONTACT, strlen(CONTACT));
    at = put_int8(at, now_s - BEGAN_S);
    at = put_int8(at, now_s + LASTS_S);
    at = put_int8(at, now_s - CREATED_S);
    at = put_text(at, client, UUID_SIZE - 1);
    at = put_length(at, 4);
    at = put_length(at, (int32_t)now_s); /* an int4, in the wire's order */
    at = put_text(at, "", 0);
    copy->len = (size_t)(at - copy->rows);
    if (copy->len > COPY_CHUNK)
        send_rows(copy);
}

void copy_end(struct copy *copy)
{
    PGresult *res;
    memset(copy->rows + copy->len, 0xff, 2); /* the trailer: -1 fields */
    copy->len += 2;
    send_rows(copy);
    if (PQputCopyEnd(copy->conn, NULL) != 1)
        die("COPY", PQerrorMessage(copy->conn));
    while ((res = PQgetResult(copy->conn))) {
        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die("COPY", PQerrorMessage(copy->conn));
        PQclear(res);
    }
}
