/*
 * visit.c - a client that lives for one question: what ask.c, group.c and audit_read.c have in
 * common.
 *
 * The caller's thread. Must not know what is asked. Tests: tests/unit/test_kafka_source.c,
 * tests/unit/test_kafka_transactions.c.
 */
#include "kafka/visit.h"

static void on_client_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    struct mr_kafka_visit *visit = opaque;
    mr_kafka_contact_error(&visit->contact, (rd_kafka_resp_err_t)code, reason);
}

bool mr_kafka_visit_open(struct mr_kafka_visit *visit, rd_kafka_type_t type,
                         enum mr_kafka_role role, const struct mr_kafka_property *properties,
                         size_t n, const struct mr_kafka_setting *defaults, size_t n_defaults,
                         const struct mr_kafka_setting *fixed, size_t n_fixed, struct mr_error *err)
{
    rd_kafka_conf_t *conf = NULL;
    char why[512];
    *visit = (struct mr_kafka_visit){0};
    if (!mr_kafka_conf_build(role, properties, n, defaults, n_defaults, fixed, n_fixed, &conf, err))
        return false;
    mr_kafka_contact_init(&visit->contact, conf);
    if (!visit->contact.brokers[0]) {
        rd_kafka_conf_destroy(conf);
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "\"bootstrap.servers\" is missing: name the brokers, as \"host:9092\"");
    }
    rd_kafka_conf_set_opaque(conf, visit);
    rd_kafka_conf_set_error_cb(conf, on_client_error);
    visit->rk = rd_kafka_new(type, conf, why, sizeof why);
    if (visit->rk)
        return true;
    rd_kafka_conf_destroy(conf);
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "Kafka client: %s", why);
}

void mr_kafka_visit_close(struct mr_kafka_visit *visit)
{
    if (visit->rk)
        rd_kafka_destroy_flags(visit->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    visit->rk = NULL;
}
