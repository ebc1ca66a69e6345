"""What the fault tests believe: reads the input, both sinks, the dead letters, the ledger and the
group's offsets with clients that are not Millrace's, and compares.

What is expected follows from the messages on the input topic alone. Pairs of campaign and client
are sorted in files and compared in one pass, so that any number of them takes little memory.
"""

import collections
import heapq
import itertools
import json
import re
import struct
import subprocess
import tempfile
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

import stage as stages

SORT = ["sort", "-S", "64M", "--parallel=2"]


def open_consumer(isolation):
    return Consumer({
        "bootstrap.servers": stages.BROKER, "group.id": "checker", "enable.auto.commit": False,
        "isolation.level": isolation, "enable.partition.eof": True, "auto.offset.reset": "earliest", "log_level": 2})


def written_ends(topic):
    """partition -> where it ends, with what belongs to transactions that are still open."""
    consumer = open_consumer("read_uncommitted")
    try:
        found = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        return {part: consumer.get_watermark_offsets(TopicPartition(topic, part), timeout=20)[1] for part in found}
    finally:
        consumer.close()


def read_topic(topic, isolation="read_committed", past_open=False):
    """Every message of a topic up to its end, which is the first transaction that is still open; `past_open`: it is
    waited for, since it is somebody else's."""
    ends = written_ends(topic)
    consumer = open_consumer(isolation)
    try:
        consumer.assign([TopicPartition(topic, part, 0) for part in ends])
        left, since = set(ends), time.monotonic()
        while left:
            batch = consumer.consume(5000, timeout=0.3)
            if batch:
                since = time.monotonic()
            elif time.monotonic() - since > 90:  # Kafka ends an open transaction after 60 s
                raise stages.Failure(f"reading {topic}: nothing for 90 s, and the end is not reached")
            for message in batch:
                if message.error() is None:
                    yield message
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    if not past_open or message.offset() >= ends[message.partition()]:
                        left.discard(message.partition())
                else:
                    raise stages.Failure(f"reading {topic}: {message.error()}")
    finally:
        consumer.close()


class Sorted:
    """Lines go in, sorted lines come out."""

    def __init__(self, directory):
        self.file = tempfile.NamedTemporaryFile(dir=directory)

    def add(self, line):
        self.file.write(line.encode() + b"\n")

    def __iter__(self):
        self.file.flush()
        with subprocess.Popen([*SORT, "-T", str(stages.RUN), self.file.name], stdout=subprocess.PIPE,
                              env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}) as process:
            for line in process.stdout:
                yield line.rstrip(b"\n").split(b" ")


class Report:
    def __init__(self):
        self.counts = collections.Counter()
        self.differences = collections.Counter()
        self.examples = collections.defaultdict(list)

    def differ(self, what, example, n=1):
        self.differences[what] += n
        if len(self.examples[what]) < 4:
            self.examples[what].append(example)

    def is_exact(self):
        return not self.differences

    def __str__(self):
        if self.is_exact():
            return "EXACT"
        return "NOT EXACT: " + "; ".join(
            f"{n} {what} ({', '.join(self.examples[what])})" for what, n in sorted(self.differences.items()))


def read_input(stage, expected):
    """Fills `expected`; gives the dead letters that there must be, and of each partition the end, and the end
    of what was not dropped."""
    dead, ends, settled, n = {}, collections.Counter(), collections.Counter(), 0
    pairs, classes = {"s": stages.CLIENTS, "b": stages.BIG, "v": stages.STEADY}, set(stages.CLASSES)
    if "postgres" not in stage.sinks:  # then nobody rejects anything
        pairs.update(p=stages.CLIENTS, q=stages.BIG)
        classes.remove("rejected")
    for message in read_topic(stage.topic_in):
        n += 1
        name = message.key().decode()
        ends[message.partition()] = max(ends[message.partition()], message.offset() + 1)
        result = stages.KINDS[name[0]]
        if not result.startswith("dropped"):
            settled[message.partition()] = max(settled[message.partition()], message.offset() + 1)
        if result in classes:
            dead[(message.partition(), message.offset())] = result
        for client in range(1, pairs.get(name[0], 0) + 1):
            expected.add(f"{name} c{client}")
    if n != stage.sent:
        raise stages.Failure(f"the input has {n} messages, {stage.sent} were sent: the feeder is at fault")
    return dead, ends, settled


def read_topic_out(stage, seen):
    for message in read_topic(stage.topic_out):
        value = json.loads(message.value())
        seen.add(f"{value['adv_campaign_id']} {value['client_id']} {value['trigger_datetime_created']}")


def read_table(stage, seen):
    query = "copy (select adv_campaign_id, client_id, trigger_datetime_created from subscribers_feedback) to stdout (delimiter ' ')"
    with subprocess.Popen(["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", stage.dsn, "-c", query],
                          stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            seen.add(line.rstrip("\n"))
    if process.returncode:
        raise stages.Failure("psql could not read subscribers_feedback")


def tag(i, source):
    for fields in source:
        yield tuple(fields[:2]), i, fields[2:]


def compare_pairs(stage, report, expected, topic, table):
    """One pass over three sorted files."""
    exactly_once = stage.delivery == "exactly_once"
    both = len(stage.sinks) == 2
    tagged = [tag(i, source) for i, source in enumerate((expected, topic, table))]
    campaign, triggers = None, {}
    for pair, group in itertools.groupby(heapq.merge(*tagged), key=lambda item: item[0]):
        name = b" ".join(pair).decode()
        found = ([], [], [])
        for _, i, rest in group:
            found[i].append(rest[0] if rest else b"")
        wanted, sent, rows = found
        optional = pair[0][:1] == b"v" and pair[1][:1] == b"m"
        report.counts["in Kafka"] += len(sent)
        report.counts["in Postgres"] += len(rows)
        for where, seen, may_double in (("Kafka", sent, not exactly_once), ("Postgres", rows, False)):
            if where.lower() not in stage.sinks:
                continue
            if wanted and not seen:
                report.differ(f"missing in {where}", name)
            if len(seen) > 1 and not may_double:
                report.differ(f"doubled in {where}", name, len(seen) - 1)
            if seen and not wanted and not optional:
                report.differ(f"unexpected in {where}", name)
        if len(sent) > 1:
            report.counts["doubled in Kafka"] += len(sent) - 1
        if not both:
            pass
        elif bool(sent) != bool(rows) and (exactly_once or rows):
            report.differ("on one side only", name)
        elif rows and not set(rows) <= set(sent) or exactly_once and set(sent) != set(rows):
            report.differ("of different trigger times in the sinks", name)
        if pair[0] != campaign:
            campaign, triggers = pair[0], {}
        for where, seen in (("Kafka", sent if exactly_once else []), ("Postgres", rows)):
            if seen and triggers.setdefault(where, seen[0]) != seen[0]:
                report.differ(f"of a second trigger time in {where}", name)


def read_dead(stage):
    if "postgres" in stage.sinks:
        text = stage.psql(f"select part, src_offset, class from millrace_dead where grp = '{stage.name}'")
        yield from (line.split("|") for line in text.splitlines())
        return
    for message in read_topic(stage.topic_dead):
        headers = {name: value.decode() for name, value in message.headers() if name.startswith("millrace-")}
        yield headers["millrace-partition"], headers["millrace-offset"], headers["millrace-class"]


def compare_dead(stage, report, dead):
    found = collections.Counter()
    for part, offset, kind in read_dead(stage):
        found[(int(part), int(offset))] += 1
        if dead.get((int(part), int(offset)), kind) != kind:
            report.differ("dead letters of another class", f"{part}@{offset} {kind}")
    report.counts["dead letters"] = sum(found.values())
    for place in dead:
        if place not in found:
            report.differ("dead letters missing", f"{place} {dead[place]}")
    for place, n in found.items():
        if place not in dead:
            report.differ("dead letters unexpected", str(place))
        elif n > 1 and ("postgres" in stage.sinks or stage.delivery == "exactly_once"):
            report.differ("dead letters doubled", str(place), n - 1)


def committed_marks(stage):
    """partition -> (offset, metadata) as the broker has them: the group's records in its own topic, in order.
    A unit number that goes back is told at once."""
    marks, backwards = {}, []
    for message in read_topic("__consumer_offsets", past_open=True):  # other groups are in the same partition
        key, value = message.key(), message.value()
        if key is None or struct.unpack_from(">h", key)[0] > 1:
            continue
        at, words = 2, []
        for _ in range(2):
            (length,) = struct.unpack_from(">h", key, at)
            words.append(key[at + 2:at + 2 + length].decode())
            at += 2 + length
        if words != [stage.name, stage.topic_in]:
            continue
        (part,) = struct.unpack_from(">i", key, at)
        if value is None:
            marks.pop(part, None)
            continue
        version, offset = struct.unpack_from(">hq", value)
        at = 14 if version >= 3 else 10
        (length,) = struct.unpack_from(">h", value, at)
        metadata = value[at + 2:at + 2 + max(length, 0)].decode()
        if part in marks and (unit_of(metadata), offset) < (unit_of(marks[part][1]), marks[part][0]):
            backwards.append(f"{part}: {marks[part]} -> {offset} {metadata}")
        marks[part] = (offset, metadata)
    return marks, backwards


def unit_of(metadata):
    found = re.search(r";u=(\d+)", metadata)
    return int(found.group(1)) if found else -1


def compare_ledger(stage, report, ends, settled):
    """Kafka's visible offset may lag behind by messages that were dropped, never by others."""
    marks, backwards = committed_marks(stage)
    for example in backwards:
        report.differ("marks that went back", example)
    if "postgres" not in stage.sinks:
        for part in range(stage.partitions):
            if not settled[part] <= marks.get(part, (0,))[0] <= ends[part]:
                report.differ("mark not at the end of the input", f"{part}: {marks.get(part)} of {ends[part]}")
        return
    rows = stage.psql("select part, unit, next_offset, job_keys is not null, left(ledger_id::text, 8) "
                      f"from millrace_ledger, millrace_meta where grp = '{stage.name}'")
    ledger = {int(row.split("|")[0]): row.split("|")[1:] for row in rows.splitlines()}
    for part in range(stage.partitions):
        unit, next_offset, job, ledger_id = ledger.get(part, ("-1", "-1", "f", ""))
        offset, metadata = marks.get(part, (-1, ""))
        if int(next_offset) != ends[part]:
            report.differ("ledger not at the end of the input", f"{part}: {next_offset} of {ends[part]}")
        if job != "f":
            report.differ("fan-outs never ended", str(part))
        if not re.match(f"mr1;l={ledger_id};u={unit}(;|$)", metadata):
            report.differ("ledger and mark apart", f"{part}: ledger unit {unit}, mark '{metadata}'")
        if not settled[part] <= offset <= ends[part]:
            report.differ("mark not at the end of the input", f"{part}: {offset} of {ends[part]}")
    if stage.psql("select to_regclass('millrace_redo') is not null") == "t":
        ahead = stage.psql("select count(*) from millrace_redo r join millrace_ledger l using (grp, topic, part) "
                           f"where r.unit > l.unit and grp = '{stage.name}'")
        if ahead != "0":
            report.differ("redo ahead of the ledger", ahead)


def check(stage):
    """Only at rest: the daemons have ended."""
    report = Report()
    expected, topic, table = (Sorted(stages.RUN) for _ in range(3))
    dead, ends, settled = read_input(stage, expected)
    if "kafka" in stage.sinks:
        read_topic_out(stage, topic)
    if "postgres" in stage.sinks:
        read_table(stage, table)
    compare_pairs(stage, report, expected, topic, table)
    compare_dead(stage, report, dead)
    compare_ledger(stage, report, ends, settled)
    return report
