/*
 * cli.c - from argv to a command: finds it, reads its options, runs it.
 *
 * Main thread. Owns the list of --set arguments while the command runs. Usage errors are one
 * sentence on stderr and MR_EXIT_USAGE. Must not know what a command does. Tests:
 * tests/spec/cli_spec.lua.
 */
#include "cli/cli.h"

#include "base/text.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* Which command takes which option. */
enum {
    TAKES_CONFIG = 1, /* -c, --set */
    TAKES_JSON = 2,
    TAKES_CONNECT = 4,
    TAKES_INIT = 8, /* --create-topics, --partitions, --replication */
    TAKES_DOCS = 16,
    TAKES_WORD = 32,
    TAKES_AUDIT = 64,   /* --since, --until */
    TAKES_REPAIR = 128, /* --topic, --partition, --all, --take */
    TAKES_PRINT = 256,
    TAKES_TRY = 512,   /* --now, --records, --against-live */
    TAKES_REST = 1024, /* all words as they are, for a program behind */
    TAKES_WATCH = 2048,
    TAKES_BENCH = 4096, /* --each, --messages, --seconds */
    TAKES_ROWS = 8192,
    TAKES_ALL = 1 << 30 /* --help */
};

static const struct command {
    const char *name;
    int (*run)(const struct mr_cli_args *args);
    int takes;
} commands[] = {
    {"run", mr_cli_run, TAKES_CONFIG | TAKES_WATCH},
    {"check", mr_cli_check, TAKES_CONFIG | TAKES_JSON | TAKES_CONNECT},
    {"init", mr_cli_init, TAKES_CONFIG | TAKES_INIT | TAKES_PRINT},
    {"try", mr_cli_try, TAKES_CONFIG | TAKES_TRY | TAKES_ROWS | TAKES_WORD | TAKES_JSON},
    {"bench", mr_cli_bench, TAKES_CONFIG | TAKES_BENCH | TAKES_ROWS | TAKES_JSON | TAKES_WORD},
    {"audit", mr_cli_audit, TAKES_CONFIG | TAKES_JSON | TAKES_AUDIT | TAKES_WORD},
    {"repair", mr_cli_repair, TAKES_CONFIG | TAKES_REPAIR | TAKES_PRINT | TAKES_WORD},
    {"test", mr_cli_test, TAKES_REST},
    {"config", mr_cli_config, TAKES_CONFIG | TAKES_JSON | TAKES_DOCS},
    {"version", mr_cli_version, TAKES_JSON},
    {"help", mr_cli_help, TAKES_WORD},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

enum {
    OPT_SET = 256,
    OPT_JSON,
    OPT_CONNECT,
    OPT_PRINT,
    OPT_CREATE_TOPICS,
    OPT_PARTITIONS,
    OPT_REPLICATION,
    OPT_DOCS,
    OPT_SINCE,
    OPT_UNTIL,
    OPT_TOPIC,
    OPT_PARTITION,
    OPT_ALL,
    OPT_TAKE,
    OPT_ROWS,
    OPT_NOW,
    OPT_RECORDS,
    OPT_AGAINST_LIVE,
    OPT_WATCH,
    OPT_EACH,
    OPT_MESSAGES,
    OPT_SECONDS
};

static const struct option_rule {
    const char *name;
    int has_arg, value, takes;
} rules[] = {
    {"config", required_argument, 'c', TAKES_CONFIG},
    {"set", required_argument, OPT_SET, TAKES_CONFIG},
    {"json", no_argument, OPT_JSON, TAKES_JSON},
    {"connect", no_argument, OPT_CONNECT, TAKES_CONNECT},
    {"print", no_argument, OPT_PRINT, TAKES_PRINT},
    {"create-topics", no_argument, OPT_CREATE_TOPICS, TAKES_INIT},
    {"partitions", required_argument, OPT_PARTITIONS, TAKES_INIT},
    {"replication", required_argument, OPT_REPLICATION, TAKES_INIT},
    {"docs", no_argument, OPT_DOCS, TAKES_DOCS},
    {"since", required_argument, OPT_SINCE, TAKES_AUDIT},
    {"until", required_argument, OPT_UNTIL, TAKES_AUDIT},
    {"topic", required_argument, OPT_TOPIC, TAKES_REPAIR},
    {"partition", required_argument, OPT_PARTITION, TAKES_REPAIR},
    {"all", no_argument, OPT_ALL, TAKES_REPAIR},
    {"take", required_argument, OPT_TAKE, TAKES_REPAIR},
    {"rows", required_argument, OPT_ROWS, TAKES_ROWS},
    {"now", required_argument, OPT_NOW, TAKES_TRY},
    {"records", no_argument, OPT_RECORDS, TAKES_TRY},
    {"against-live", no_argument, OPT_AGAINST_LIVE, TAKES_TRY},
    {"each", required_argument, OPT_EACH, TAKES_BENCH},
    {"messages", required_argument, OPT_MESSAGES, TAKES_BENCH},
    {"seconds", required_argument, OPT_SECONDS, TAKES_BENCH},
    {"watch", no_argument, OPT_WATCH, TAKES_WATCH},
    {"help", no_argument, 'h', TAKES_ALL},
};
enum { N_RULES = sizeof rules / sizeof *rules };

const char *mr_cli_nearest_command(const char *word)
{
    const char *names[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i].name;
    return mr_text_nearest(word, names, N_COMMANDS);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int no_command(const char *word)
{
    const char *near = mr_cli_nearest_command(word);
    if (*word == '-')
        fprintf(stderr, "millrace: expected a command before \"%s\", such as `millrace run`", word);
    else
        fprintf(stderr, "millrace: there is no command \"%s\"", word);
    if (near)
        fprintf(stderr, "; did you mean \"%s\"?", near);
    fputs(" (millrace help)\n", stderr);
    return MR_EXIT_USAGE;
}

/* The long options of one command, for getopt_long; ends with zeros. */
static void options_of(const struct command *command, struct option options[N_RULES + 1])
{
    size_t n = 0;
    for (size_t i = 0; i < N_RULES; i++)
        if (rules[i].takes & (command->takes | TAKES_ALL))
            options[n++] = (struct option){rules[i].name, rules[i].has_arg, NULL, rules[i].value};
    options[n] = (struct option){0};
}

/* `text`: the argument that getopt_long could not use. */
static bool wrong_option(const struct command *command, const struct option *options,
                         const char *text, int what)
{
    const char *names[N_RULES];
    size_t n = 0;
    for (; options[n].name; n++)
        names[n] = options[n].name;
    bool is_long = strncmp(text, "--", 2) == 0;
    size_t len = strcspn(text, "=");
    fprintf(stderr, "millrace %s: ", command->name);
    if (what == ':') {
        fprintf(stderr, "the option %.*s wants a value", (int)len, text);
    } else {
        char *name = mr_strndup(is_long ? text + 2 : "", is_long ? len - 2 : 0);
        const char *near = is_long ? mr_text_nearest(name, names, n) : NULL;
        bool exact = near && strcmp(near, name) == 0; /* --json=1 */
        if (exact)
            fprintf(stderr, "the option --%s takes no value", name);
        else
            fprintf(stderr, "there is no option %.*s", (int)len, text);
        if (near && !exact)
            fprintf(stderr, "; did you mean --%s?", near);
        free(name);
    }
    fprintf(stderr, " (millrace help %s)\n", command->name);
    return false;
}

static bool read_count(const struct command *command, const char *name, const char *text, int min,
                       int max, int *out)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end || n < min || n > max) {
        fprintf(stderr, "millrace %s: --%s: expected a number from %d to %d, got \"%s\"\n",
                command->name, name, min, max, text);
        return false;
    }
    *out = (int)n;
    return true;
}

/* Those of one command only. */
static bool take_own_option(const struct command *command, int value, struct mr_cli_args *args)
{
    switch (value) {
    case OPT_CREATE_TOPICS:
        args->create_topics = true;
        return true;
    case OPT_PARTITIONS:
        return read_count(command, "partitions", optarg, 1, 100000, &args->partitions);
    case OPT_REPLICATION:
        return read_count(command, "replication", optarg, 1, 1000, &args->replication);
    case OPT_SINCE:
        args->since = optarg;
        return true;
    case OPT_UNTIL:
        args->until = optarg;
        return true;
    case OPT_TOPIC:
        args->topic = optarg;
        return true;
    case OPT_PARTITION:
        return read_count(command, "partition", optarg, 0, 100000, &args->partition);
    case OPT_ALL:
        args->all = true;
        return true;
    case OPT_TAKE:
        args->take = optarg;
        return true;
    case OPT_ROWS:
        args->rows = optarg;
        return true;
    case OPT_NOW:
        args->now = optarg;
        return true;
    case OPT_RECORDS:
        args->records = true;
        return true;
    case OPT_AGAINST_LIVE:
        args->against_live = true;
        return true;
    case OPT_EACH:
        return read_count(command, "each", optarg, 1, 1000000000, &args->each);
    case OPT_MESSAGES:
        return read_count(command, "messages", optarg, 1, 1000000000, &args->messages);
    case OPT_SECONDS:
        return read_count(command, "seconds", optarg, 1, 3600, &args->seconds);
    case OPT_WATCH:
        args->watch = true;
        return true;
    default:
        args->docs = true;
        return true;
    }
}

static bool take_option(const struct command *command, int value, const char **sets,
                        struct mr_cli_args *args, bool *help)
{
    switch (value) {
    case 'c':
        args->config = optarg;
        return true;
    case 'h':
        *help = true;
        return true;
    case OPT_SET:
        sets[args->n_sets++] = optarg;
        return true;
    case OPT_JSON:
        args->json = true;
        return true;
    case OPT_CONNECT:
        args->connect = true;
        return true;
    case OPT_PRINT:
        args->print = true;
        return true;
    default:
        return take_own_option(command, value, args);
    }
}

/* argv[0] is the command. */
static bool read_options(const struct command *command, int argc, char **argv, const char **sets,
                         struct mr_cli_args *args, bool *help)
{
    struct option options[N_RULES + 1];
    options_of(command, options);
    const char *letters = command->takes & TAKES_CONFIG ? ":c:h" : ":h";
    opterr = 0;
    optind = 0;
    for (;;) {
        int before = optind ? optind : 1;
        int value = getopt_long(argc, argv, letters, options, NULL);
        if (value == -1)
            break;
        if (value == '?' || value == ':') {
            const char *text = optind > before ? argv[optind - 1] : argv[before];
            return wrong_option(command, options, text, value);
        }
        if (!take_option(command, value, sets, args, help))
            return false;
    }
    if (optind < argc && command->takes & TAKES_WORD)
        args->word = argv[optind++];
    if (optind < argc) {
        fprintf(stderr, "millrace %s: \"%s\" is one word too many (millrace help %s)\n",
                command->name, argv[optind], command->name);
        return false;
    }
    return true;
}

int mr_cli_main(int argc, char **argv)
{
    if (argc < 2) {
        mr_cli_help_text(NULL, stderr);
        return MR_EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        word = "help";
    else if (strcmp(word, "--version") == 0)
        word = "version";
    const struct command *command = find_command(word);
    if (!command)
        return no_command(word);

    int code = MR_EXIT_USAGE;
    bool help = false;
    const char **sets = mr_calloc((size_t)argc, sizeof *sets);
    struct mr_cli_args args = {.config = "config.lua", .sets = sets, .partition = -1};
    if (command->takes & TAKES_REST) {
        args.argc = argc - 2;
        args.argv = argv + 2;
    } else if (!read_options(command, argc - 1, argv + 1, sets, &args, &help)) {
        goto out;
    }
    if (help) {
        mr_cli_help_text(command->name, stdout);
        code = MR_EXIT_OK;
    } else {
        code = command->run(&args);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("millrace: the output could not be written\n", stderr);
        code = code ? code : MR_EXIT_UNREACHABLE;
    }
out:
    free(sets);
    return code;
}
