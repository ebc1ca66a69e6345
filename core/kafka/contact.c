/*
 * contact.c - what librdkafka's error codes mean for the caller, the state of a connection, and
 * librdkafka's log lines.
 *
 * A contact belongs to one client and the thread that polls it; mr_kafka_log runs in librdkafka's
 * threads. Owns nothing on the heap. Must not know source or sink. One outage is reported once,
 * with its cause, however often librdkafka repeats it. Tests: tests/unit/test_kafka_source.c,
 * test_kafka_sink.c.
 */
#include "kafka/client.h"

#include "base/log.h"

#include <stdio.h>

void mr_kafka_contact_init(struct mr_kafka_contact *contact, const rd_kafka_conf_t *conf)
{
    *contact = (struct mr_kafka_contact){0};
    mr_kafka_conf_get(conf, "bootstrap.servers", contact->brokers, sizeof contact->brokers);
    mr_kafka_conf_get(conf, "sasl.username", contact->principal, sizeof contact->principal);
}

void mr_kafka_contact_made(struct mr_kafka_contact *contact)
{
    if (contact->down)
        mr_log(MR_INFO, "Kafka at %s is back", contact->brokers);
    contact->connected = true;
    contact->down = false;
    contact->pending = RD_KAFKA_RESP_ERR_NO_ERROR;
    contact->last_code = RD_KAFKA_RESP_ERR_NO_ERROR;
    contact->last[0] = '\0';
}

/* Did the broker turn us away, or we it? A broken handshake may be a broker that is just stopping;
 * an untrusted certificate is not. */
static bool is_refusal(rd_kafka_resp_err_t code, const char *reason)
{
    return code == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
           code == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED ||
           (code == RD_KAFKA_RESP_ERR__SSL && strstr(reason, "certificate"));
}

/* Without librdkafka's own statistics: "... (after 3ms in state CONNECT, 1 identical error(s)
 * suppressed)". */
static void put_reason(char *out, size_t size, const char *reason)
{
    const char *end = strstr(reason, " (after ");
    snprintf(out, size, "%.*s", end ? (int)(end - reason) : (int)strlen(reason), reason);
}

void mr_kafka_contact_error(struct mr_kafka_contact *contact, rd_kafka_resp_err_t code,
                            const char *reason)
{
    bool report = false;
    switch (code) {
    case RD_KAFKA_RESP_ERR__FATAL:
        report = true;
        break;
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        /* After a login that was refused it is only the consequence. */
        report = !contact->down && !is_refusal(contact->last_code, contact->last);
        contact->down = true;
        break;
    default:
        report = is_refusal(code, reason);
        break;
    }
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        contact->last_code = code;
        put_reason(contact->last, sizeof contact->last, reason);
    }
    if (!report || (contact->pending && code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN))
        return;
    contact->pending = code;
    put_reason(contact->pending_text, sizeof contact->pending_text, reason);
}

bool mr_kafka_contact_take(struct mr_kafka_contact *contact, struct mr_error *err)
{
    if (!contact->pending)
        return false;
    rd_kafka_resp_err_t code = contact->pending;
    contact->pending = RD_KAFKA_RESP_ERR_NO_ERROR;
    bool down = code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
    mr_kafka_contact_fail(contact, code, NULL, NULL, down ? contact->last : contact->pending_text,
                          err);
    return true;
}

static bool refused(const struct mr_kafka_contact *contact, const char *kind, const char *name,
                    const char *detail, struct mr_error *err)
{
    const char *user = contact->principal;
    return mr_error_set(err, contact->connected ? MR_RETRY : MR_STOP, MR_EXIT_CONFIG,
                        "Kafka at %s gives %s%s%s no right to %s%s: %s; have the ACLs of this "
                        "principal checked",
                        contact->brokers, user[0] ? "user \"" : "",
                        user[0] ? user : "an anonymous client", user[0] ? "\"" : "",
                        name ? kind : "what was asked", name ? name : "", detail);
}

static bool login_failed(const struct mr_kafka_contact *contact, const char *detail,
                         struct mr_error *err)
{
    return mr_error_set(err, contact->connected ? MR_RETRY : MR_STOP, MR_EXIT_CONFIG,
                        "Kafka at %s refused the login of user \"%s\": %s; check sasl.username, "
                        "sasl.password and sasl.mechanisms",
                        contact->brokers, contact->principal, detail);
}

static bool no_topic(const struct mr_kafka_contact *contact, const char *topic,
                     struct mr_error *err)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_CONFIG,
                        "topic %s does not exist at %s; create it, or run `millrace init "
                        "--create-topics`",
                        topic ? topic : "(unnamed)", contact->brokers);
}

bool mr_kafka_contact_fail(const struct mr_kafka_contact *contact, rd_kafka_resp_err_t code,
                           const char *what, const char *topic, const char *detail,
                           struct mr_error *err)
{
    if (!detail || !detail[0])
        detail = rd_kafka_err2str(code);
    const char *colon = what ? ": " : "";
    what = what ? what : "";
    switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
        return login_failed(contact, detail, err);
    case RD_KAFKA_RESP_ERR__SSL:
        return mr_error_set(err, contact->connected ? MR_RETRY : MR_STOP, MR_EXIT_CONFIG,
                            "the TLS connection to Kafka at %s could not be trusted: %s; check "
                            "ssl.ca.location and the host name",
                            contact->brokers, detail);
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        return refused(contact, "topic ", topic, detail, err);
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return refused(contact, "transactional id ", contact->transactional_id, detail, err);
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        return no_topic(contact, topic, err);
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
    case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                            "%s%sthe consumer group has moved on: %s", what, colon, detail);
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR__STATE:
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "%s%s%s", what, colon, detail);
    case RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
        return mr_error_set(err, MR_STOP, MR_EXIT_UNREACHABLE, "%s%sKafka at %s: %s", what, colon,
                            contact->brokers, detail);
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "Kafka at %s cannot be reached: %s",
                            contact->brokers, detail);
    default:
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "%s%sKafka at %s: %s%s%s%s", what,
                            colon, contact->brokers, detail, contact->last[0] ? " (" : "",
                            contact->last, contact->last[0] ? ")" : "");
    }
}

/*
 * What is told in a sentence of its own, or passes by itself: the connection to a bootstrap server
 * or to the coordinator, which is a broker like the others; a session that timed out; the
 * producer's number, asked for while the broker still starts; and what brokers older than 0.11 (and
 * the mock) make it say at every request for metadata.
 */
static bool is_said_elsewhere(const char *facility, const char *text)
{
    if (strcmp(facility, "FAIL") == 0)
        return strstr(text, "/bootstrap: ") || strstr(text, "GroupCoordinator");
    if (strcmp(facility, "GETPID") == 0)
        return strstr(text, "retrying");
    return strcmp(facility, "AUTOCREATE") == 0 || strcmp(facility, "SESSTMOUT") == 0;
}

void mr_kafka_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    /* Syslog's levels. librdkafka calls errors what passes by itself, such as a broker that is
     * away; it says so at every attempt. A thread serves one broker. */
    static _Thread_local struct mr_log_trouble trouble;
    enum mr_level ours = level <= 2   ? MR_ERROR
                         : level <= 4 ? MR_WARN
                         : level <= 6 ? MR_INFO
                                      : MR_DEBUG;
    if (is_said_elsewhere(facility, text))
        ours = MR_DEBUG;
    else if (strcmp(facility, "FAIL") == 0 && ours > MR_DEBUG)
        ours = MR_INFO; /* one broker of several; when all are away the contact warns */
    const char *client = rk ? rd_kafka_name(rk) : "";
    if (ours == MR_DEBUG) { /* asked for: all of it */
        mr_log(ours, "librdkafka %s: %s: %s", client, facility, text);
    } else if (mr_log_enabled(ours)) {
        char reason[900];
        put_reason(reason, sizeof reason, text);
        mr_log_trouble(&trouble, ours, "librdkafka %s: %s: %s", client, facility, reason);
    }
}
