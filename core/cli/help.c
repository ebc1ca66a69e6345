/*
 * help.c - `millrace help [command]` and --help: examples first, then the options.
 *
 * Main thread; pure text. Options that are described here are read in cli.c. Tests:
 * tests/spec/cli_spec.lua, which runs each command's --help.
 */
#include "cli/cli.h"

#include <string.h>

static const char general[] =
    "Examples\n"
    "  millrace check                  is config.lua right, and the scripts it names?\n"
    "  millrace init                   create the tables that Millrace needs\n"
    "  millrace run                    the daemon, with config.lua from this directory\n"
    "  millrace run -c /etc/millrace/config.lua --set log.level=debug\n"
    "\n"
    "Commands\n"
    "  run      read messages, join, write: until SIGTERM\n"
    "  check    look for errors in configuration and scripts; --connect asks Kafka and Postgres "
    "too\n"
    "  init     create what pipelines and lookups need in Postgres and Kafka, or print it\n"
    "  try      the whole pipeline on standard input, without Kafka and Postgres\n"
    "  bench    how many messages and rows a second does a script leave of a core?\n"
    "  audit    compare the messages that were written with the rows that were written\n"
    "  repair   set where a halted pipeline goes on, as its last log line asks\n"
    "  test     run your specs of scripts and configuration: no broker, no database\n"
    "  config   print the configuration in force, defaults filled in\n"
    "  version  print the version of Millrace and of its libraries\n"
    "  help     print this, or more about one command: millrace help run\n"
    "\n"
    "Exit codes: 0 well, 1 something differs (audit, try --against-live) or a test failed (test),\n"
    "64 wrong command line, 65 bad data, 69 Kafka or Postgres away, 70 a bug, 75 try again,\n"
    "78 wrong configuration or script\n";

#define COMMON                                                                                     \
    "  -c, --config FILE   the configuration; config.lua unless given\n"                           \
    "      --set PATH=VALUE  change one option, before anything is checked; may come again\n"      \
    "  -h, --help          print this\n"

static const struct {
    const char *command, *text;
} pages[] = {
    {"run",
     "Examples\n"
     "  millrace run\n"
     "  millrace run -c promo.lua --set pipelines.promo.workers=4\n"
     "  millrace run --set 'pipelines.promo.source.kafka[\"fetch.min.bytes\"]=1'\n"
     "  millrace run --watch            scripts and configuration are taken over when they are "
     "saved\n"
     "\n"
     "Runs the daemon: loads the lookups, joins the consumer groups, and works until SIGTERM or\n"
     "SIGINT. It then finishes what is in hand, within drain_timeout, and exits 0; a second "
     "signal\n"
     "ends it at once, which is safe. A log line that begins `ready: ` says that all workers have\n"
     "joined and all lookups are loaded.\n"
     "\n"
     "SIGHUP reloads configuration and scripts without a stop: no message is lost, doubled or "
     "handled\n"
     "half by each. With anything wrong, or changed that wants a restart, the old ones go on. A "
     "line\n"
     "that begins `reload` says which and why.\n"
     "\n"
     "Options\n" COMMON
     "      --watch         reload when a file of the configuration or a script changes\n"},
    {"check", "Examples\n"
              "  millrace check\n"
              "  millrace check --connect\n"
              "  millrace check --json | jq '.findings[] | select(.ok | not)'\n"
              "\n"
              "Looks at the configuration and loads each script. With --connect also asks Kafka "
              "for the topics,\n"
              "Postgres for the tables and columns, and loads the scripts against the real "
              "columns. All that is\n"
              "wrong is told at once.\n"
              "\n"
              "Options\n"
              "      --connect       reach Kafka and Postgres too; nothing is changed there\n"
              "      --json          findings as JSON on stdout\n" COMMON},
    {"init",
     "Examples\n"
     "  millrace init\n"
     "  millrace init --print > millrace.sql\n"
     "  millrace init --create-topics --partitions 12 --replication 3\n"
     "\n"
     "Creates Millrace's own tables (millrace_*) in the database of each Postgres sink. What is "
     "there\n"
     "already stays as it is: running it again does no harm. For each lookup it creates the\n"
     "publication that the logical feed reads, and, only if the lookup names a `changelog`, that\n"
     "table and the triggers that write it. Server settings are never touched: what somebody else\n"
     "must do is said.\n"
     "\n"
     "Options\n"
     "      --print         print the SQL instead of running it\n"
     "      --create-topics create the topics that pipelines read and write, as far as missing\n"
     "      --partitions N  of created topics; the broker's default unless given\n"
     "      --replication N replicas of created topics; the broker's default unless "
     "given\n" COMMON},
    {"try",
     "Examples\n"
     "  millrace try promo --rows subscribers.csv < campaigns.jsonl\n"
     "  millrace try --rows rows.jsonl --now 2026-11-22T12:00:00Z < in.jsonl | jq .message.value\n"
     "  millrace try < in.jsonl | jq 'select(.dead)'\n"
     "  kcat -C -b localhost -t topic_in -c 100 -e -J | millrace try --records --rows rows.csv\n"
     "  millrace try --against-live && kill -HUP $(pidof millrace)\n"
     "\n"
     "Runs each line of standard input, the JSON value of a message, through the whole pipeline "
     "and\n"
     "prints what would be sent and written, a JSON object a line, in the order of the input:\n"
     "  {\"line\":1,\"message\":{\"topic\":..,\"key\":..,\"headers\":[[name,value],..],"
     "\"value\":..},\"row\":{..}}\n"
     "  {\"line\":2,\"dropped\":\"the reason\"}\n"
     "  {\"line\":3,\"dead\":{\"class\":\"schema\",\"error\":\"..\"}}\n"
     "The script is the real one, and so is all that runs it; Kafka and Postgres are not asked. "
     "Rows are\n"
     "shown as the script made them: only the daemon and `millrace check --connect` know the "
     "table's\n"
     "columns. Everything else goes to standard error. Exits 0; 65 if a message would become a "
     "dead\n"
     "letter; 78 if configuration or script are wrong.\n"
     "\n"
     "With --against-live nothing is read: the running daemon rehearses what is on its disk now "
     "over the\n"
     "last messages it took, and what would differ is printed; nothing is applied. Exits 0 if "
     "nothing\n"
     "differs, 1 if something does, 78 if a reload would fail, 69 if no daemon answers.\n"
     "\n"
     "Options\n"
     "      --rows FILE     the lookup's table: CSV whose first line names the columns (\"id\" or\n"
     "                      \"price:numeric\"), or JSON lines; types that are not said are "
     "guessed\n"
     "      --now T         the time that the script sees: unix seconds, or "
     "2026-11-22T12:00:00Z\n"
     "      --records       a line is a whole message: {\"value\":.., \"key\":.., "
     "\"headers\":{..},\n"
     "                      \"timestamp\":ms, \"topic\":..}, or what kcat -J prints\n"
     "      --against-live  ask the daemon, at admin.listen, what a reload would change\n"
     "      --json          with --against-live: the whole report, as JSON\n" COMMON},
    {"bench",
     "Examples\n"
     "  millrace bench\n"
     "  millrace bench promo --rows 1000000 --each 100 < campaigns.jsonl\n"
     "  millrace bench --rows subscribers.csv --seconds 10 < campaigns.jsonl\n"
     "  millrace bench --json | jq .rows_per_s\n"
     "\n"
     "Runs a pipeline in memory, in one thread, and prints messages and rows a second of a core "
     "(an\n"
     "output is a message, a row, or both), and the shares of the time in Lua, in decoding JSON, "
     "and in\n"
     "looking up and stamping rows. Kafka and Postgres are not asked: what delivery adds, and its "
     "limit,\n"
     "is on the page docs/PERFORMANCE.md. Messages are the lines of standard input, again and "
     "again;\n"
     "without any, a thousand that are made up from the script's `fields`. Exits 0; 65 if a "
     "message would\n"
     "become a dead letter; 78 if configuration or script are wrong.\n"
     "\n"
     "Options\n"
     "      --rows N        rows of the lookup, made up for the keys that the messages ask for, "
     "then for\n"
     "                      others; 100000 unless given\n"
     "      --rows FILE     its rows from a file, as for millrace try\n"
     "      --each N        rows of a key that is made up; 10 unless given\n"
     "      --messages N    so many messages\n"
     "      --seconds N     so long; 2 unless given\n"
     "      --json          as JSON\n" COMMON},
    {"audit",
     "Examples\n"
     "  millrace audit\n"
     "  millrace audit promo --since 2h\n"
     "  millrace audit promo --since '2026-11-22 10:00' --until '2026-11-22 12:00'\n"
     "  millrace audit --json | jq '.examples[] | select(.kind == \"missing\")'\n"
     "\n"
     "Reads the topic that the pipeline writes (committed messages only), and compares it with "
     "the\n"
     "rows of its table, as pipelines.*.audit of the configuration says. Prints how many there "
     "are,\n"
     "and the first 20 of each kind:\n"
     "  missing     a row without a message\n"
     "  extra       a message without a row\n"
     "  differing   the time or a column of `audit.compare` is not equal in the two\n"
     "  doubled     more often in one sink than in the other\n"
     "  unreadable  a message that is no JSON, or whose field is no value of the column's type\n"
     "Exits 0 if there are none, 1 if there are. Postgres does the comparing, in temporary "
     "tables\n"
     "on its disk: the role of the dsn needs the rights to read the table and to make temporary\n"
     "tables. Nothing else is written anywhere.\n"
     "\n"
     "Options\n"
     "      --since T       from this time of `audit.time` on; all of it unless given\n"
     "      --until T       up to this time; 5 seconds before now unless given, since what is "
     "made\n"
     "                      at the moment may be in one sink only (stop the pipeline, or let its\n"
     "                      large campaigns end, for a comparison without that doubt)\n"
     "                      T: as Postgres reads times, or so long before now: 90s, 30m, 2h, 7d\n"
     "      --json          counts and examples as JSON\n" COMMON},
    {"repair",
     "Examples\n"
     "  millrace repair promo --topic topic_in --partition 3 --take ledger\n"
     "  millrace repair promo --all --take earliest --print\n"
     "\n"
     "Carries out what the last log line of a pipeline that has halted asks for. It sets where "
     "the\n"
     "group goes on, in Kafka and in the ledger, so that the two agree again; no message and no "
     "row\n"
     "is touched. All processes of the group must be stopped. Prints what was before and what is "
     "now.\n"
     "\n"
     "Options\n"
     "      --topic T       of the source; may be left out if it reads one only\n"
     "      --partition N   this partition\n"
     "      --all           all partitions, of that topic or of all\n"
     "      --take WHAT     ledger: go on where the ledger in Postgres stands\n"
     "                      kafka: go on at the group's committed offset in Kafka\n"
     "                      earliest: go on at the first message that the topic still has\n"
     "      --print         say what would be done, and do nothing\n" COMMON},
    {"test",
     "Examples\n"
     "  millrace test                        all *_spec.lua files in tests/spec, or in spec\n"
     "  millrace test spec/promo_spec.lua    one file\n"
     "  millrace test --filter 'expired'     only tests whose name matches\n"
     "  millrace test -o junit -Xoutput report.xml   for a build server\n"
     "\n"
     "Runs specs with busted inside this program: `require \"millrace.testing\"` opens a pipeline "
     "of\n"
     "config.lua on the real core, with a table made of Lua rows and a clock that the spec turns.\n"
     "Nothing is sent anywhere. Specs are ordinary Lua programs: run only those that you trust.\n"
     "How to write them: docs/TESTING.md. Run it where config.lua is.\n"
     "\n"
     "Exit codes: 0 all passed, 1 some did not, 64 wrong command line or no specs, 69 busted is "
     "not\n"
     "installed (apt-get install lua-busted)\n"
     "\n"
     "Options: those of busted\n"
     "      --filter PATTERN    only tests whose name matches the Lua pattern; --filter-out\n"
     "  -t, --tags TAGS         only tests with one of these #tags; --exclude-tags\n"
     "  -o, --output NAME       plainTerminal, utfTerminal, TAP, junit, json, gtest\n"
     "  -Xoutput ARGUMENT       for the output; of junit: the file to write\n"
     "  -p, --pattern PATTERN   which files of a directory are specs; _spec unless given\n"
     "      --shuffle --repeat N --seed N   another order, again and again\n"
     "  -l, --list              print the names of the tests\n"
     "  -v, --verbose           with a traceback\n"
     "  -h, --help              print this\n"},
    {"config",
     "Examples\n"
     "  millrace config\n"
     "  millrace config --json | jq .pipelines.promo.workers\n"
     "  millrace config --set log.level=debug > effective.lua\n"
     "\n"
     "Prints the configuration in force: environment and --set applied, defaults filled in and "
     "marked.\n"
     "Secrets are shown as ***; apart from them the output can serve as a configuration.\n"
     "\n"
     "Options\n"
     "      --json          as JSON\n"
     "      --docs          print the page about all options (docs/CONFIG.md) instead\n" COMMON},
    {"version", "Examples\n"
                "  millrace version\n"
                "  millrace version --json | jq -r .millrace\n"
                "\n"
                "Prints the version of Millrace and of the libraries that it was built with.\n"
                "\n"
                "Options\n"
                "      --json          as JSON\n"
                "  -h, --help          print this\n"},
    {"help", "Examples\n"
             "  millrace help\n"
             "  millrace help run\n"
             "\n"
             "Prints what Millrace does, or what one command does.\n"},
};

static const char *page_of(const char *command)
{
    for (size_t i = 0; command && i < sizeof pages / sizeof *pages; i++)
        if (strcmp(pages[i].command, command) == 0)
            return pages[i].text;
    return NULL;
}

void mr_cli_help_text(const char *command, FILE *out)
{
    const char *page = page_of(command);
    if (page)
        fprintf(out, "Usage: millrace %s%s\n\n%s", command,
                strcmp(command, "help") == 0 ? " [COMMAND]"
                : strcmp(command, "audit") == 0 || strcmp(command, "repair") == 0 ||
                        strcmp(command, "try") == 0 || strcmp(command, "bench") == 0
                    ? " [PIPELINE] "
                      "[OPTION]..."
                    : " [OPTION]...",
                page);
    else
        fprintf(out,
                "Usage: millrace COMMAND [OPTION]...\n\n"
                "Millrace joins messages from Kafka with a table from Postgres, as a Lua script "
                "says, and\n"
                "writes one output per joined row to Kafka and to Postgres.\n\n%s",
                general);
}

int mr_cli_help(const struct mr_cli_args *args)
{
    if (args->word && !page_of(args->word)) {
        const char *near = mr_cli_nearest_command(args->word);
        fprintf(stderr, "millrace help: there is no command \"%s\"", args->word);
        fprintf(stderr, near ? "; did you mean \"%s\"?\n" : "\n", near);
        return MR_EXIT_USAGE;
    }
    mr_cli_help_text(args->word, stdout);
    return MR_EXIT_OK;
}
