/*
 * main.c - runs schedules: sim --mix NAME --schedules N --seed S [--mutant NAME] [--verbose].
 *
 * Each seed is a schedule; one that fails is printed with the command that replays it. Ends with
 * how often what happened, and fails when something that the mix is about never did. With --mutant
 * (sim-fault only) it is the other way round: the mutant must be found, within N schedules, and the
 * same schedules must hold without it. One thread.
 */
#include "sim.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct sim_mix mixes[] = {
    /* name        sink   store  exactly at_least killers lax */
    {"both", true, true, 10, 0, false, false},         {"kafka", true, false, 10, 0, false, false},
    {"postgres", false, true, 5, 5, false, false},     {"plain", true, true, 0, 10, false, false},
    {"plain-kafka", true, false, 0, 10, false, false}, {"switch", true, true, 5, 5, false, false},
    {"switch-kafka", true, false, 5, 5, false, false}, {"killers", true, true, 8, 2, true, false},
    {"lax", true, true, 10, 0, false, true},
};
enum { N_MIXES = sizeof mixes / sizeof *mixes };

struct options {
    const struct sim_mix *list[N_MIXES];
    int n_mixes;
    uint64_t schedules, seed, failures; /* after so many it stops */
    const char *mutant, *program;
};

static char abort_line[300];

/* An assertion of the engine: which schedule was it? */
static void on_abort(int signal_)
{
    (void)signal_;
    ssize_t n = write(STDERR_FILENO, abort_line, strlen(abort_line));
    (void)n;
}

static void print_replay(const struct options *options, const struct sim_mix *mix, uint64_t seed)
{
    snprintf(abort_line, sizeof abort_line,
             "\nreplay: %s --mix %s --seed %" PRIu64 " --schedules 1 --verbose%s%s\n",
             options->program, mix->name, seed, options->mutant ? " --mutant " : "",
             options->mutant ? options->mutant : "");
}

static const struct sim_mix *mix_of(const struct options *options, uint64_t i)
{
    return options->list[i % (uint64_t)options->n_mixes];
}

static bool run_one(const struct options *options, uint64_t i)
{
    const struct sim_mix *mix = mix_of(options, i);
    uint64_t seed = options->seed + i / (uint64_t)options->n_mixes;
    print_replay(options, mix, seed);
    return sim_run(mix, seed);
}

struct count {
    const char *name;
    size_t offset;
    unsigned of; /* ALWAYS, SINK, STORE, EXACTLY: mixes in which it must happen; 0: may */
};
enum { ALWAYS = 1, SINK = 2, STORE = 4, EXACTLY = 8, KILLERS = 16, SWITCHES = 32 };
#define COUNT(name, of)                                                                            \
    {                                                                                              \
#name, offsetof(struct sim_counts, name), of                                               \
    }

static const struct count counts[] = {
    COUNT(crashes, ALWAYS),
    COUNT(zombies, ALWAYS),
    COUNT(expelled, ALWAYS),
    COUNT(rebalances, ALWAYS),
    COUNT(stops, ALWAYS),
    COUNT(swaps, ALWAYS),
    COUNT(lost_requests, ALWAYS),
    COUNT(lost_replies, ALWAYS),
    COUNT(broker_restarts, ALWAYS),
    COUNT(fenced, ALWAYS),
    COUNT(dead, ALWAYS),
    COUNT(marks, ALWAYS),
    COUNT(outputs, SINK),
    COUNT(refusals, ALWAYS),
    COUNT(rows, STORE),
    COUNT(chunks, STORE),
    COUNT(adopts, STORE),
    COUNT(in_doubt, STORE),
    COUNT(late_commits, STORE),
    COUNT(sessions_lost, STORE),
    COUNT(blockers_ended, STORE),
    COUNT(pg_restarts, STORE),
    COUNT(swaps_lost, STORE),
    COUNT(attempts, STORE),
    COUNT(redo_reads, STORE | SINK | EXACTLY),
    COUNT(delayed_ends, SINK | EXACTLY),
    COUNT(ghosts, SINK | EXACTLY),
    COUNT(txn_timeouts, SINK | EXACTLY),
    COUNT(unstable, SINK | EXACTLY),
    COUNT(switches, SWITCHES),
    COUNT(crash_loops, KILLERS),
};

static unsigned about(const struct options *options)
{
    unsigned all = ALWAYS;
    for (int i = 0; i < options->n_mixes; i++) {
        const struct sim_mix *mix = options->list[i];
        all |= (mix->sink ? SINK : 0) | (mix->store ? STORE : 0) |
               (mix->sink && mix->store && mix->exactly ? EXACTLY : 0) |
               (mix->killers ? KILLERS : 0) | (mix->exactly && mix->at_least ? SWITCHES : 0);
    }
    return all;
}

/* False: something that the schedules are about never happened. */
static bool report(const struct options *options, bool demand)
{
    unsigned wanted = about(options);
    bool ok = true;
    printf("%" PRIu64 " schedules, %" PRIu64 " steps", sim_counts.schedules, sim_counts.steps);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint64_t n;
        memcpy(&n, (const char *)&sim_counts + counts[i].offset, sizeof n);
        printf(", %s %" PRIu64, counts[i].name, n);
        if (!n && demand && (counts[i].of & wanted) == counts[i].of) {
            ok = false;
            fprintf(stderr, "never happened: %s\n", counts[i].name);
        }
    }
    printf("\n");
    return ok;
}

enum { COVERED = 5000, FAILURES = 10 }; /* schedules after which all must have happened */

static int run_all(const struct options *options)
{
    uint64_t failures = 0;
    for (uint64_t i = 0; i < options->schedules && failures < options->failures; i++)
        if (!run_one(options, i)) {
            failures++;
            printf("FAILED: %s%s", sim.failure, abort_line);
        }
    bool covered = report(options, options->schedules >= COVERED);
    return failures || !covered ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Is the mutant found, and only the mutant? */
static int find_mutant(const struct options *options)
{
    uint64_t i = 0;
    setenv("MILLRACE_MUTANT", options->mutant, 1);
    sim_outcome_only = true;
    while (i < options->schedules && (run_one(options, i) || sim.wrong != SIM_OUTCOME))
        i++;
    if (i == options->schedules) {
        printf("FAILED: %" PRIu64 " schedules do not find the mutant %s\n", i, options->mutant);
        report(options, false);
        return EXIT_FAILURE;
    }
    printf("mutant %s found by schedule %" PRIu64 ": %s%s", options->mutant, i, sim.failure,
           abort_line);
    unsetenv("MILLRACE_MUTANT");
    sim_outcome_only = false;
    for (uint64_t j = 0; j <= i; j++)
        if (!run_one(options, j)) {
            printf("FAILED without the mutant: %s%s", sim.failure, abort_line);
            return EXIT_FAILURE;
        }
    return EXIT_SUCCESS;
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--mix NAME]... [--schedules N] [--seed S] [--failures N] [--mutant NAME] "
            "[--verbose]\n"
            "mixes:",
            program);
    for (int i = 0; i < N_MIXES; i++)
        fprintf(stderr, " %s", mixes[i].name);
    fprintf(stderr, "\n");
    return MR_EXIT_USAGE;
}

static bool add_mix(struct options *options, const char *name)
{
    for (int i = 0; i < N_MIXES && options->n_mixes < N_MIXES; i++)
        if (strcmp(mixes[i].name, name) == 0) {
            options->list[options->n_mixes++] = &mixes[i];
            return true;
        }
    return false;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"mix", required_argument, NULL, 'm'},
                                          {"schedules", required_argument, NULL, 'n'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"failures", required_argument, NULL, 'f'},
                                          {"mutant", required_argument, NULL, 'x'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    struct options options = {
        .schedules = 1000, .seed = 1, .failures = FAILURES, .program = argv[0]};
    for (int opt; (opt = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (opt == 'm' && add_mix(&options, optarg))
            continue;
        if (opt == 'n')
            options.schedules = strtoull(optarg, NULL, 10);
        else if (opt == 's')
            options.seed = strtoull(optarg, NULL, 10);
        else if (opt == 'f')
            options.failures = strtoull(optarg, NULL, 10);
        else if (opt == 'x')
            options.mutant = optarg;
        else if (opt == 'v')
            sim_verbose = true;
        else
            return usage(argv[0]);
    }
    if (!options.n_mixes)
        for (int i = 0; i < N_MIXES; i++)
            options.list[options.n_mixes++] = &mixes[i];
    signal(SIGABRT, on_abort);
    sim_setup();
    int code = options.mutant ? find_mutant(&options) : run_all(&options);
    return code;
}
