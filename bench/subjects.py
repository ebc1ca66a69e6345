"""What is compared: Millrace in its modes, the raw limits, the peers.

A subject is written name[:key=value]...: exactly_once:workers=3, at_least_once, raw, python:processes=2. Those of
Millrace take workers, processes, refresh (of the lookup), bin (another build's binary) and set (an option's path=value,
as for --set; may be given several times). All send with the stage's compression.

A subject starts, says when it is ready, works when its input is let go, tells when all is delivered, and stops.
"""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request

from stage import ROOT, Child, Failed, program, peak_mb, until

MODES = ("exactly_once", "at_least_once")
RAW = ("raw", "raw_read", "raw_latency")
VENV = os.path.join(ROOT, "build", "bench", "venv")


class Subject:
    """One that reads its input from a topic. `spec` is its name in the report."""

    has_input = True
    allowed = ()  # keys after the name

    def __init__(self, spec, stage, compression):
        self.spec, self.stage, self.compression = spec, stage, compression
        name, *pairs = spec.split(":")
        self.name = name
        self.keys, self.sets = {}, []
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals or key not in self.allowed:
                sys.exit(f"bench: {spec}: \"{key}\" is not a key of {name}; there are: {', '.join(self.allowed) or 'none'}")
            if key == "set":
                self.sets.append(value)
            else:
                self.keys[key] = value

    def number(self, key, default):
        return int(self.keys.get(key, default))

    def pids(self):
        return [child.pid for child in self.children]

    def peak_mb(self):
        return peak_mb(self.pids())

    def lookup_mb(self):
        """Of its peak, what the table in memory takes; None: not known."""
        return None

    def ended(self):
        """When its work was done, by its own clock; None: when `wait` came back."""
        return None


class Millrace(Subject):
    allowed = ("workers", "processes", "refresh", "bin", "set")

    def start(self, workload, source, sink, group):
        self.group, self.workload = group, workload
        binary = self.keys.get("bin", os.path.join(ROOT, "build/release/millrace"))
        sets = {
            "pipelines.promo.workers": self.number("workers", 2),
            "pipelines.promo.source.topics": f'{{"{source}"}}',
            "pipelines.promo.source.group": group,
            "pipelines.promo.sinks.kafka.topic": sink,
            'pipelines.promo.sinks.kafka.kafka["compression.type"]': self.compression,
            # As the others: the table is read once. `auto` would also make Postgres decode what is written.
            "lookups.subscribers.refresh": self.keys.get("refresh", "reload 1h"),
        }
        arguments = [f"{path}={value}" for path, value in sets.items()] + self.sets
        arguments = ["-c", "config.lua"] + [text for a in arguments for text in ("--set", a)]
        env = dict(os.environ, MILLRACE_ADMIN="127.0.0.1:0", MILLRACE_DELIVERY=self.name)
        made = subprocess.run([binary, "init", *arguments], cwd=ROOT, env=env, capture_output=True, text=True)
        if made.returncode:
            raise Failed(f"millrace init: {made.stderr}")
        self.children, self.logs = [], []
        for i in range(self.number("processes", 1)):
            log = self.stage.log(f"{self.name}-{i}")
            self.logs.append(log)
            with open(log, "w") as file:
                self.children.append(Child([binary, "run", *arguments], stderr=file, stdin=subprocess.DEVNULL,
                                           env=dict(env, MILLRACE_INSTANCE=f"bench{i}")))
        until(lambda: all(" ready: " in f" {text}" or '"ready: ' in text for text in map(read, self.logs)), 120,
              0.02, self.alive, "ready")
        # A second process takes partitions of the first: until each has some and none moves, nothing has begun.
        self.settle(workload.partitions)
        self.begun = self.phases()

    def settle(self, partitions):
        claimed = f"select count(*), count(distinct split_part(owner, '.', 3)) from millrace_ledger where grp = '{self.group}'"
        last = [None, 0.0]

        def quiet():
            text = self.stage.sql(claimed) + str([len(read(log)) for log in self.logs])
            if text != last[0]:
                last[:] = text, time.monotonic()
            return text.startswith(f"{partitions}|") and time.monotonic() - last[1] > 0.5

        until(quiet, 60, 0.05, self.alive, "a claim of all partitions")

    def alive(self):
        return all(child.process.poll() is None for child in self.children)

    def passed(self):
        """All messages taken, all outputs decided: by the counters, since what is dropped moves the ledger once a second."""
        texts = [self.metrics(log) for log in self.logs]
        count = lambda name: sum(float(v) for text in texts for v in re.findall(name + r"{[^}]*} (\S+)", text))
        return count("millrace_messages_total") >= self.workload.campaigns and count("millrace_rows_total") >= self.workload.outputs

    def wait(self):
        if self.workload.kind == "read":
            return until(self.passed, pause=0.02, alive=self.alive, what="the end of the input")
        # Partition by partition: behind the last campaign comes the marker of the feed's transaction, and an idle
        # worker's place in the ledger passes that too.
        ends = self.workload.ends()
        decided = ("select count(*) from millrace_ledger join (values " + ", ".join(f"({p}, {n})" for p, n in ends.items())
                   + f") wanted (part, n) using (part) where grp = '{self.group}' and next_offset >= n")
        until(lambda: int(self.stage.sql(decided)) >= len(ends), alive=self.alive, what="the end of the input")

    def metrics(self, log):
        admin = re.findall(r'http://127[^" \n]*', read(log))
        return urllib.request.urlopen(admin[-1] + "/metrics").read().decode() if admin else ""

    def lookup_mb(self):
        texts = map(self.metrics, self.logs)
        return sum(float(v) for text in texts for v in re.findall(r"millrace_lookup_bytes{[^}]*} (\S+)", text)) / 2**20

    def phases(self):
        """Seconds of all workers by phase, so far."""
        sums = {}
        for text in map(self.metrics, self.logs):
            for phase, value in re.findall(r'millrace_phase_seconds_total{[^}]*phase="(\w+)"} (\S+)', text):
                sums[phase] = sums.get(phase, 0) + float(value)
        return sums

    def notes(self):
        """Where the workers' time went."""
        spent = {phase: round(value - self.begun.get(phase, 0), 2) for phase, value in self.phases().items()}
        return {"phases": {phase: value for phase, value in spent.items() if value >= 0.05}}

    def stop(self):
        for child in self.children:
            child.process.terminate()
        codes = [child.end() for child in self.children]
        if any(codes):
            raise Failed(f"millrace ended with status {codes}; its log: {read(self.logs[0])[-2000:]}")


class Raw(Subject):
    """A program of bench/*.c: the limit."""

    def __init__(self, spec, stage, compression):
        super().__init__(spec, stage, compression)
        self.has_input = self.name == "raw_read"

    def start(self, workload, source, sink, group):
        binary = program("raw_sink" if self.name == "raw" else self.name)
        self.children = [Child([binary, *workload.arguments(), "--topic", sink, "--input", source, "--group", group,
                                "--compression", self.compression])]
        self.children[0].wait_ready()

    def go(self):
        self.children[0].go()

    def wait(self):
        self.answer = self.children[0].answer()

    def ended(self):
        return self.answer.get("ended")

    def notes(self):
        return {k: v for k, v in self.answer.items() if k.endswith("_seconds")}

    def stop(self):
        self.children[0].end()


class Python(Subject):
    """bench/peer.py: what one would write by hand."""

    allowed = ("processes", "way")

    def start(self, workload, source, sink, group):
        self.campaigns = workload.campaigns
        self.children = [
            Child([os.path.join(VENV, "bin", "python"), os.path.join(ROOT, "bench", "peer.py"), "--input", source, "--topic", sink,
                   "--group", group, "--compression", self.compression, "--way", self.keys.get("way", "dumps")])
            for _ in range(self.number("processes", 1))
        ]
        for child in self.children:
            child.wait_ready()

    def follow(self, child):
        with contextlib.suppress(Failed, ValueError):
            while True:
                self.done[child.pid] = int(child.line())

    def wait(self):
        """Each tells on its stdout how many campaigns it has committed so far."""
        self.done = {}
        for child in self.children:
            threading.Thread(target=self.follow, args=[child], daemon=True).start()
        until(lambda: sum(self.done.values()) >= self.campaigns, alive=self.alive, what="the end of the input")

    def alive(self):
        return all(child.process.poll() is None for child in self.children)

    def notes(self):
        return {}

    def stop(self):
        for child in self.children:
            child.end()


def read(path):
    with open(path) as file:
        return file.read()


def make(spec, stage, compression):
    name = spec.split(":")[0]
    kind = Millrace if name in MODES else Raw if name in RAW else Python if name == "python" else None
    if not kind:
        sys.exit(f"bench: there is no subject \"{name}\"; there are: {', '.join(MODES + RAW)}, python")
    return kind(spec, stage, compression)
