-- options.lua - the one table of options: everything that config.lua may say.
--
-- It drives loading, checks, defaults, `millrace config`, `--set` and docs/CONFIG.md; a new option is one
-- entry here and the code that uses it. Pure data: embedded into the binary, read by config_check.lua and
-- config_print.lua. Fields of an entry:
--   path        dotted; "*" stands for any name that the user chooses (`name_pattern`, `name_text`)
--   type        table string integer boolean duration size enum list pairs properties any refresh share
--   values      of an enum, in the order in which they are documented
--   default     as the user would write it; `default_text` describes one that is computed
--   min, max    range, written like a value; `pattern`, `pattern_text`: what a string must look like
--   required    must be there; `required_when` says when, for the reader (config_rules.lua does it)
--   optional    of a table: without it there is none, whereas other tables are filled with defaults
--   format      more checks: column, topic (config_types.lua); script; dsn, relation, listen (other rooms)
--   one         of a list: a single string will do; `min_items` of a list or table
--   secret_ok   may be given as secret "..."
--   side, needs of properties: source or sink, and those that must be there
--   reloadable  may change without a restart
--   later       known, but not built yet: refused with this sentence
--   doc         sentences for docs/CONFIG.md; the first one also ends the message "required: ..."
-- Tests: tests/spec/config_spec.lua.

local NAME = "^[%a_][%w_%-]*$"
local NAME_TEXT = "a name of letters, digits, '_' and '-' that does not begin with a digit"

return {
  { path = "instance", type = "string", reloadable = false,
    default_text = "the environment's `MILLRACE_INSTANCE`, else the host name",
    pattern = "^[%w%._%-]+$", pattern_text = "a name of letters, digits, '.', '_' and '-'",
    doc = "Name of this process among all that share a consumer group. It is part of Kafka's client id and "
      .. "must differ between processes that run at the same time." },

  { path = "log", type = "table", doc = "What is logged, and how. Log lines go to stderr." },
  { path = "log.level", type = "enum", values = { "debug", "info", "warn", "error" }, default = "info",
    reloadable = true, doc = "Lines below this level are left out." },
  { path = "log.format", type = "enum", values = { "auto", "text", "json" }, default = "auto",
    reloadable = false, doc = "`auto` is text on a terminal and JSON lines otherwise." },

  { path = "admin", type = "table", doc = "The port for health checks and metrics." },
  { path = "admin.listen", type = "string", format = "listen", may_be_empty = true,
    default = "127.0.0.1:9469", reloadable = false,
    doc = "Address and port of `/livez`, `/readyz` and `/metrics`, and of `/rehearse`, which only answers programs on "
      .. "the same machine (`millrace try --against-live`). `\"off\"` or an empty string: no port. "
      .. "An IPv6 address stands in brackets: `\"[::1]:9469\"`." },

  { path = "reload", type = "table",
    doc = "What a reload (SIGHUP, `millrace run --watch`) does before new scripts are taken into use." },
  { path = "reload.rehearse", type = "integer", default = 200, min = 0, max = 10000, reloadable = true,
    doc = "So many of the last messages of each pipeline are kept (of 16 MB at most), and a reload runs them through "
      .. "the old and the new script first; nothing is sent or written. What differs is told in the log, or "
      .. "by `millrace try --against-live`. `0`: no rehearsal." },
  { path = "reload.block_if", type = "table", optional = true,
    doc = "When the rehearsal ends with more than this, the reload is refused and the old scripts stay. A number, or "
      .. "a share: `block_if = { errors = 0, dropped = \"20%\" }`. Without it a rehearsal only tells." },
  { path = "reload.block_if.errors", type = "share", default_text = "no limit", reloadable = true,
    doc = "Messages that become dead letters with the new script and did not with the old one; a share of the "
      .. "messages that were rehearsed." },
  { path = "reload.block_if.dropped", type = "share", default_text = "no limit", reloadable = true,
    doc = "Outputs that the old script makes and the new one does not; a share of the old one's outputs." },

  { path = "lookups", type = "table", doc = "Postgres tables that are held in memory, by a name of your choice." },
  { path = "lookups.*", type = "table", name_pattern = NAME, name_text = NAME_TEXT,
    doc = "One table. A pipeline refers to it by this name." },
  { path = "lookups.*.dsn", type = "string", required = true, secret_ok = true, format = "dsn", reloadable = false,
    doc = "Where the table is: a libpq connection string, as a URI or as `name=value` pairs. What it leaves out "
      .. "comes from where libpq always takes it: `PGPASSWORD`, `~/.pgpass`, `service=`." },
  { path = "lookups.*.table", type = "string", format = "relation", reloadable = false,
    required_when = "there is no `query`",
    doc = "The table or view, with its schema if it is not in `public`: `\"shop.subscribers\"`." },
  { path = "lookups.*.query", type = "string", reloadable = false, default_text = "none",
    doc = "A SELECT in place of a table: its columns are the lookup's. It is read whole at an interval "
      .. "(`refresh`)." },
  { path = "lookups.*.key", type = "list", one = true, required = true, min_items = 1, format = "column",
    reloadable = false,
    doc = "The column, or the list of columns, by which a message finds its rows. Rows with a NULL there "
      .. "are left out." },
  { path = "lookups.*.columns", type = "list", one = true, min_items = 1, format = "column", reloadable = false,
    default_text = "all columns",
    doc = "The columns that scripts see as `col.<name>`. Few columns make a small table; the key "
      .. "columns are there as well." },
  { path = "lookups.*.refresh", type = "refresh", default = "auto", reloadable = false,
    doc = "How the table in memory follows Postgres. `\"logical\"`: logical replication, milliseconds behind. "
      .. "`\"changelog\"`: triggers that `millrace init` makes write what changes into the table `changelog`. "
      .. "`\"reload 60s\"`: the whole table is read again at that interval (at least `1s`), beside the one in use. "
      .. "`\"auto\"`: the first of these that the server allows, looked at again while it runs; reloads each 60 s. "
      .. "The log says which and why. What each needs: docs/LOOKUPS.md." },
  { path = "lookups.*.publication", type = "string", pattern = "^%g+$", pattern_text = "a name without spaces",
    reloadable = false, default_text = "`millrace_` and the lookup's name",
    doc = "The publication that the logical feed reads; `millrace init` makes it." },
  { path = "lookups.*.changelog", type = "string", format = "relation", reloadable = false, default_text = "none",
    doc = "The table that the triggers of the change-log feed write. Only with it does `millrace init` put triggers "
      .. "on the lookup's table." },
  { path = "lookups.*.max_staleness", type = "duration", default = "30s", min = "2s", max = "30d",
    reloadable = false,
    doc = "The table is stale when it was not known to equal Postgres's for longer than this (with reloads: longer "
      .. "than this beyond the interval)." },
  { path = "lookups.*.on_stale", type = "enum", values = { "serve", "pause" }, default = "serve", reloadable = false,
    doc = "What a stale table does: `serve` goes on with the rows there are, and says so; `pause` takes no messages "
      .. "until the table follows Postgres again." },
  { path = "lookups.*.consistency", type = "enum", values = { "eventual", "strict" }, default = "eventual",
    reloadable = false,
    doc = "`strict`: before each unit of work Postgres is asked how far it is, and the table waits to be there: what "
      .. "was committed before is always seen. It costs a round trip a unit, and while Postgres is away nothing is "
      .. "processed. Only with a feed that follows changes." },
  { path = "lookups.*.distinct", type = "boolean", default = true, reloadable = false,
    doc = "Rows that are equal in all columns count once." },
  { path = "lookups.*.max_bytes", type = "size", min = "64KB", reloadable = false, default_text = "no bound",
    doc = "The table in memory may not become larger; a table that would is not loaded, changes "
      .. "that would make it so are not taken. Not counted: old memory that a reader still holds, and the second "
      .. "table while one is read or put in order beside the other." },

  { path = "pipelines", type = "table", required = true, min_items = 1,
    doc = "Streams from source to sinks, by a name of your choice." },
  { path = "pipelines.*", type = "table", name_pattern = NAME, name_text = NAME_TEXT,
    doc = "One stream. The name stands in log lines, metrics and dead letters." },

  { path = "pipelines.*.source", type = "table", required = true, doc = "Where messages come from." },
  { path = "pipelines.*.source.topics", type = "list", one = true, required = true, min_items = 1,
    format = "topic", reloadable = false, doc = "The topics to read." },
  { path = "pipelines.*.source.group", type = "string", required = true, pattern = "^%g+$",
    pattern_text = "text without spaces", reloadable = false,
    doc = "The consumer group. Two pipelines may not share one: each would take partitions from the other." },
  { path = "pipelines.*.source.start", type = "enum", values = { "earliest", "latest" }, default = "earliest",
    reloadable = false,
    doc = "Where a group that has no position yet begins. `earliest` loses nothing that was sent before. With "
      .. "`latest` a partition that is added later begins at its end too: what arrived there before Millrace saw it "
      .. "is skipped." },
  { path = "pipelines.*.source.static_membership", type = "boolean", default = false, reloadable = false,
    doc = "The workers are static members of the group, named by `instance`: a process that is started again under "
      .. "the same `instance` within the session time-out (10 s) has its partitions back at once, and nobody else's "
      .. "move. The price: partitions of a process that was stopped for good wait for the session time-out." },
  { path = "pipelines.*.source.kafka", type = "properties", required = true, side = "source", reloadable = false,
    needs = { "bootstrap.servers" },
    doc = "Properties that go to librdkafka unchanged, by librdkafka's own names: `[\"bootstrap.servers\"]` and what "
      .. "the broker asks for. Those on which the delivery guarantee rests are refused." },

  { path = "pipelines.*.lookup", type = "string", reloadable = false, default_text = "none",
    doc = "The lookup, by its name in `lookups`. Without one the script's `map` makes the output." },
  { path = "pipelines.*.script", type = "string", required = true, format = "script", reloadable = true,
    doc = "The Lua file with the functions of this pipeline, relative to config.lua." },
  { path = "pipelines.*.vars", type = "any", reloadable = true, default_text = "empty",
    doc = "A table of your own, which scripts see as `ctx.vars`. No secrets here: a script may print them." },
  { path = "pipelines.*.workers", type = "integer", default = 1, min = 1, max = 64, reloadable = false,
    doc = "Threads, each with its own consumer, producer, Postgres connection and Lua state. More than the topic "
      .. "has partitions are of no use." },
  { path = "pipelines.*.linger", type = "duration", default = "100ms", min = "0ms", max = "2s", reloadable = true,
    doc = "Under load: how long a unit waits for more before it commits. With nothing queued it commits at once." },
  { path = "pipelines.*.drain_timeout", type = "duration", default = "10s", min = "100ms", max = "10m",
    reloadable = true,
    doc = "After SIGTERM: how long the work in hand may take to finish before it is undone." },
  { path = "pipelines.*.max_message", type = "size", default = "1MB", min = "1KB", max = "1GB", reloadable = true,
    doc = "A larger incoming message becomes a dead letter (`too_large`)." },

  { path = "pipelines.*.limits", type = "table", doc = "What a script may use up for one message." },
  { path = "pipelines.*.limits.time", type = "duration", default = "1s", min = "1ms", max = "10m",
    reloadable = true, doc = "Time of one call. Past it: dead letter (`script_timeout`), and a fresh Lua state." },
  { path = "pipelines.*.limits.memory", type = "size", default = "64MB", min = "1MB", max = "64GB",
    reloadable = true,
    doc = "Memory of a worker's Lua state. Past it: dead letter (`script_memory`), and a fresh state." },
  { path = "pipelines.*.limits.output", type = "size", default = "16MB", min = "1KB", max = "1GB",
    reloadable = true, doc = "Bytes that `map` or `project` may make of one message, before rows are filled in." },

  { path = "pipelines.*.unit", type = "table",
    doc = "How much is committed at once. A unit closes at the first bound." },
  { path = "pipelines.*.unit.outputs", type = "integer", default = 20000, min = 1, max = 1000000,
    reloadable = true, doc = "Outputs in a unit." },
  { path = "pipelines.*.unit.bytes", type = "size", default = "7MB", min = "64KB", max = "256MB",
    reloadable = true, doc = "Bytes of messages in a unit." },

  { path = "pipelines.*.sinks", type = "table", required = true,
    doc = "Where outputs go: `kafka`, `postgres` or both." },
  { path = "pipelines.*.sinks.kafka", type = "table", optional = true, doc = "One message for each output." },
  { path = "pipelines.*.sinks.kafka.topic", type = "string", required = true, format = "topic",
    reloadable = false, doc = "The topic to write. It must exist: `millrace init --create-topics` makes it." },
  { path = "pipelines.*.sinks.kafka.kafka", type = "properties", required = true, side = "sink",
    reloadable = false, needs = { "bootstrap.servers" },
    doc = "Properties that go to librdkafka unchanged, as in `source.kafka`." },
  { path = "pipelines.*.sinks.kafka.bundle_header", type = "boolean", default = true, reloadable = true,
    doc = "Each message carries the header `millrace-bundle`, which names the version of the script that made it." },
  { path = "pipelines.*.sinks.kafka.allowed_topics", type = "list", one = true, min_items = 1, format = "topic",
    reloadable = false, default_text = "only `topic`",
    doc = "More topics to which the script may send: the fourth result of `shape` names one. They must exist: "
      .. "`millrace init --create-topics` makes them. `topic` is always allowed, and taken where `shape` names none." },
  { path = "pipelines.*.sinks.postgres", type = "table", optional = true, doc = "One row for each output." },
  { path = "pipelines.*.sinks.postgres.dsn", type = "string", required = true, secret_ok = true, format = "dsn",
    reloadable = false,
    doc = "A libpq connection string. Millrace's own tables (`millrace_*`) live in the same database." },
  { path = "pipelines.*.sinks.postgres.table", type = "string", required = true, format = "relation",
    reloadable = false, doc = "The table that takes the rows, with its schema if it is not in `public`." },
  { path = "pipelines.*.sinks.postgres.columns", type = "list", one = true, min_items = 1, format = "column",
    reloadable = false, default_text = "all columns",
    doc = "The columns that scripts may fill. The others keep their defaults." },

  { path = "pipelines.*.delivery", type = "enum", values = { "exactly_once", "at_least_once" },
    default = "exactly_once", reloadable = false,
    doc = "`exactly_once`: each output once in Kafka (for readers with `isolation.level=read_committed`) and once in "
      .. "Postgres, whatever dies. It needs a broker with transactions (Apache Kafka, not a mock), and source and sink "
      .. "in one cluster. Without a Postgres sink keep `instance` stable: only a process of the same name can end what "
      .. "a dead one left open, others wait for its time-out in Kafka (20 s). `at_least_once`: "
      .. "Postgres is exact; after a crash messages may come twice in Kafka. A change takes effect with a restart, "
      .. "and loses and doubles nothing." },
  { path = "pipelines.*.dead_letters", type = "table",
    doc = "Where messages go that cannot be processed. One of the two:" },
  { path = "pipelines.*.dead_letters.table", type = "string", format = "relation", reloadable = false,
    default_text = "`\"millrace_dead\"` with a Postgres sink and no `topic`",
    doc = "A table that `millrace init` creates, in the database of the Postgres sink." },
  { path = "pipelines.*.dead_letters.topic", type = "string", format = "topic", reloadable = false,
    default_text = "none", required_when = "there is no Postgres sink",
    doc = "A topic, written in the cluster of the Kafka sink, or of the source if there is none." },

  { path = "pipelines.*.audit", type = "table", optional = true,
    doc = "How `millrace audit` finds, for each message of `sinks.kafka.topic`, its row in the table of the Postgres "
      .. "sink. A field is named by its way through the message's JSON value, `\"payload.client_id\"`; `\"@key\"` is "
      .. "the message's key. Fields are read as values of the column's type, so that `1` and `1.0` are one number. "
      .. "Topic and table are taken to hold the outputs of this pipeline only." },
  { path = "pipelines.*.audit.key", type = "pairs", required = true, min_items = 1, reloadable = true,
    doc = "What tells one output from another: the fields, and the columns in which they stand." },
  { path = "pipelines.*.audit.compare", type = "pairs", reloadable = true, default_text = "none",
    doc = "More fields and columns, which must be equal in a message and its row." },
  { path = "pipelines.*.audit.time", type = "string", format = "column", reloadable = true, default_text = "none",
    doc = "The column that says when an output was made, which `--since` and `--until` go by. Its type is a number "
      .. "(see `time_unit`), `timestamptz`, `timestamp` or `date`. Without it everything is compared, which is right "
      .. "only while the pipeline is stopped." },
  { path = "pipelines.*.audit.time_field", type = "string", format = "field", reloadable = true,
    default_text = "the name of the column",
    doc = "The field in which that time stands; the two must be equal. `\"@timestamp\"`: the message has none but "
      .. "Kafka's own timestamp, which is somewhat later." },
  { path = "pipelines.*.audit.time_unit", type = "enum", values = { "s", "ms", "us" }, default = "s",
    reloadable = true,
    doc = "What a time that is a number counts since 1970: seconds, milliseconds or microseconds." },

  { path = "pipelines.*.hold", type = "table",
    later = "holding campaigns until they start comes with a later release" },
}
