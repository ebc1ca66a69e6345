/*
 * fault.c - the fault build's deaths: see fault.h. Compiled into millrace-fault and the simulator's
 * mutants only.
 *
 * Any thread. Owns a parsed copy of MILLRACE_FAULT. Must not be linked into what users run. Tests:
 * tests/fault.
 */
#include "base/fault.h"

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RULES_MAX = 64 };

static struct rule {
    int signal;
    char point[48], what[24]; /* "" is any */
    int left;                 /* passings until it strikes; 0: done */
    int permille;             /* instead, at any point */
} rules[RULES_MAX];
static size_t n_rules;
static unsigned short seed[3];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void parse_rule(const char *text)
{
    struct rule *rule = &rules[n_rules];
    char verb[8];
    *rule = (struct rule){.left = 1};
    if (sscanf(text, "%7[a-z]~%d", verb, &rule->permille) != 2) {
        char place[80];
        if (sscanf(text, "%7[a-z]:%79[^:]:%d", verb, place, &rule->left) < 2) {
            fprintf(stderr, "MILLRACE_FAULT: \"%s\" is not <verb>:<point>[/<what>][:<n>]\n", text);
            _exit(64);
        }
        char *slash = strchr(place, '/');
        if (slash) {
            *slash++ = '\0';
            snprintf(rule->what, sizeof rule->what, "%.23s", slash);
        }
        snprintf(rule->point, sizeof rule->point, "%.47s", place);
    }
    rule->signal = strcmp(verb, "stop") == 0 ? SIGSTOP : SIGKILL;
    n_rules++;
}

static void parse(void)
{
    const char *text = getenv("MILLRACE_FAULT"), *number = getenv("MILLRACE_FAULT_SEED");
    uint64_t bits = number ? strtoull(number, NULL, 10) : (uint64_t)mr_clock_random63();
    for (int i = 0; i < 3; i++)
        seed[i] = (unsigned short)(bits >> (16 * i));
    char *copy = strdup(text ? text : ""), *rest = NULL;
    for (char *one = strtok_r(copy, ",", &rest); one && n_rules < RULES_MAX;
         one = strtok_r(NULL, ",", &rest))
        parse_rule(one);
    free(copy);
}

void mr_fault_point(const char *name, const char *what)
{
    int signal = 0;
    pthread_once(&once, parse);
    if (!n_rules)
        return;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n_rules && !signal; i++) {
        struct rule *rule = &rules[i];
        if (rule->permille) {
            if (nrand48(seed) % 1000 < rule->permille)
                signal = rule->signal;
        } else if (rule->left && strcmp(rule->point, name) == 0 &&
                   (!rule->what[0] || strcmp(rule->what, what) == 0) && !--rule->left) {
            signal = rule->signal;
        }
    }
    pthread_mutex_unlock(&lock);
    if (!signal)
        return;
    fprintf(stderr, "FAULT %s %s/%s\n", signal == SIGKILL ? "kill" : "stop", name, what);
    raise(signal); /* to this thread: it goes no step further */
}

bool mr_fault_mutant(const char *name)
{
    const char *mutant = getenv("MILLRACE_MUTANT");
    return mutant && strcmp(mutant, name) == 0;
}
