/*
 * millrace-mockkafka: a throw-away Kafka for the demo, made of librdkafka's mock cluster.
 *
 * Creates the topics that its arguments name (topic:partitions), prints the bootstrap servers on
 * stdout as one line, and serves them on loopback until SIGTERM, SIGINT or the death of its parent.
 * The mock has no transactions and keeps 5 MiB a partition: nothing that counts runs on it.
 *
 * One thread of ours, which only waits; librdkafka runs the cluster in its own. It is a tool: it
 * knows nothing of Millrace, and Millrace nothing of it. Tested by tools/demo --once.
 */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <unistd.h>

enum { MAX_PARTITIONS = 1000, MAX_TOPIC = 249 };

static bool create_topic(rd_kafka_mock_cluster_t *cluster, const char *spec)
{
    char topic[MAX_TOPIC + 1];
    const char *colon = strrchr(spec, ':');
    if (colon == NULL || colon == spec || colon - spec > MAX_TOPIC) {
        fprintf(stderr, "millrace-mockkafka: '%s': expected topic:partitions\n", spec);
        return false;
    }
    memcpy(topic, spec, (size_t)(colon - spec));
    topic[colon - spec] = '\0';

    char *end = NULL;
    const long partitions = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || partitions < 1 || partitions > MAX_PARTITIONS) {
        fprintf(stderr, "millrace-mockkafka: '%s': partitions must be 1 to %d\n", spec,
                MAX_PARTITIONS);
        return false;
    }
    const rd_kafka_resp_err_t code = rd_kafka_mock_topic_create(cluster, topic, (int)partitions, 1);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fprintf(stderr, "millrace-mockkafka: topic '%s': %s\n", topic, rd_kafka_err2str(code));
        return false;
    }
    return true;
}

/* Blocks the signals before librdkafka starts its threads, so that only sigwait() sees them. */
static bool prepare_signals(sigset_t *stop)
{
    const pid_t parent = getppid();
    sigemptyset(stop);
    sigaddset(stop, SIGTERM);
    sigaddset(stop, SIGINT);
    sigaddset(stop, SIGHUP);
    if (sigprocmask(SIG_BLOCK, stop, NULL) != 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) {
        perror("millrace-mockkafka");
        return false;
    }
    /* The parent may have died between the two calls: then nobody is left to send the signal. */
    return getppid() == parent;
}

int main(int argc, char **argv)
{
    int status = EX_UNAVAILABLE;
    rd_kafka_t *client = NULL;
    rd_kafka_mock_cluster_t *cluster = NULL;
    sigset_t stop;
    int signal_number = 0;
    char why[512];

    if (argc < 2) {
        fprintf(stderr, "usage: millrace-mockkafka topic:partitions...\n");
        return EX_USAGE;
    }
    if (!prepare_signals(&stop)) {
        goto out;
    }
    client = rd_kafka_new(RD_KAFKA_PRODUCER, NULL, why, sizeof(why));
    if (client == NULL) {
        fprintf(stderr, "millrace-mockkafka: %s\n", why);
        goto out;
    }
    cluster = rd_kafka_mock_cluster_new(client, 1);
    if (cluster == NULL) {
        fprintf(stderr, "millrace-mockkafka: librdkafka could not start its mock cluster\n");
        goto out;
    }
    for (int i = 1; i < argc; i++) {
        if (!create_topic(cluster, argv[i])) {
            status = EX_USAGE;
            goto out;
        }
    }
    if (printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster)) < 0 || fflush(stdout) != 0) {
        perror("millrace-mockkafka: stdout");
        goto out;
    }
    if (sigwait(&stop, &signal_number) == 0) {
        status = EX_OK;
    }
out:
    if (cluster != NULL) {
        rd_kafka_mock_cluster_destroy(cluster);
    }
    if (client != NULL) {
        rd_kafka_destroy(client);
    }
    return status;
}
