"""The stage: one private Kafka and PostgreSQL, on which everything that is compared runs in turn.

Each run has a topic for its input and one for its output, made anew, and an empty table; the servers stay
warm. CPU time and peak memory are read from /proc, of the servers and of the subject apart.
"""

import contextlib
import json
import os
import re
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "release")
TICK = os.sysconf("SC_CLK_TCK")
DEADLINE = 240  # seconds that a run may take


class Failed(Exception):
    """A run gave no figure; the text says why."""


def program(name):
    return os.path.join(BUILD, "bench", name)


def stat(pid):
    """The fields of /proc/PID/stat from the third on; [] when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1].split()
    except OSError:
        return []


def cpu_seconds(pids):
    return sum(int(f[11]) + int(f[12]) for f in map(stat, pids) if f) / TICK


def peak_mb(pids):
    """The largest that they have been, each for itself."""
    return sum(status(pid, "VmHWM") for pid in pids)


def status(pid, field):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        return int(re.search(field + r":\s+(\d+)", file.read()).group(1)) / 1024
    return 0


def threads(pids):
    """Their ids, for bench/profile."""
    return [int(tid) for pid in pids for tid in os.listdir(f"/proc/{pid}/task")]


def machine_seconds():
    """CPU time that anybody has used."""
    with open("/proc/stat") as file:
        f = list(map(int, file.readline().split()[1:9]))
    return (sum(f) - f[3] - f[4]) / TICK


class Child:
    """A program of ours: its lines, its answers."""

    living = set()  # those that have not been told to end

    def __init__(self, argv, **options):
        self.argv = argv
        options.setdefault("stdin", subprocess.PIPE)
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options)
        self.pid = self.process.pid
        self.living.add(self)

    @classmethod
    def kill_all(cls):
        """After a run that failed: nothing of it stays."""
        for child in list(cls.living):
            child.process.kill()
            child.process.wait()
            cls.living.discard(child)

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise Failed(f"{os.path.basename(self.argv[0])} ended with status {self.process.wait()}")
        return text.rstrip("\n")

    def wait_ready(self):
        while self.line() != "ready":
            pass

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.line())

    def end(self, seconds=60):
        self.living.discard(self)
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{os.path.basename(self.argv[0])} did not end")


class Psql:
    """A psql that stays: a question is a round trip, not a process."""

    def __init__(self, dsn):
        self.child = Child(["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", dsn], bufsize=1)
        Child.living.discard(self.child)  # it is of no single run

    def __call__(self, sql):
        self.child.process.stdin.write(sql + ";\n\\echo -- done\n")
        self.child.process.stdin.flush()
        lines = []
        while (line := self.child.line()) != "-- done":
            lines.append(line)
        return "\n".join(lines)


class Stage:
    def __init__(self):
        self.run_dir = os.environ["MILLRACE_RUN"]
        self.dsn = os.environ["MILLRACE_PG"]
        self.sql = Psql(self.dsn)
        self.n = 0
        self.servers = {name: self.noted(name) for name in ("kafka", "postgres")}

    def noted(self, name):
        with open(os.path.join(self.run_dir, "pids", name)) as file:
            return int(file.read().split()[0])

    def next_names(self):
        """Topics and group of one run, which no other has."""
        self.n += 1
        return f"in{self.n}", f"out{self.n}", f"g{self.n}"

    def topics(self, *arguments):
        subprocess.run([os.path.join(ROOT, "tests/support/topics"), *arguments], check=True)

    def partition_feedback(self, n):
        """The same columns, in n partitions by hash of the client. A partitioned table has no primary key of `id`."""
        self.sql("alter table subscribers_feedback rename to plain_feedback")
        self.sql("create table subscribers_feedback (like plain_feedback including defaults) partition by hash (client_id)")
        for i in range(n):
            self.sql(f"create table subscribers_feedback_{i} partition of subscribers_feedback "
                     f"for values with (modulus {n}, remainder {i})")
            self.sql(f"create index on subscribers_feedback_{i} (id)")

    def churn(self, rate):
        """Rows that no campaign reaches are inserted, updated and deleted, until end_churn."""
        with open(os.path.join(ROOT, "tests/lookup/churn.sql")) as file:
            self.sql(file.read().rstrip().rstrip(";"))
        self.churning = subprocess.Popen(["psql", "-qX", self.dsn, "-c", f"call churn(36000, {rate})"], stderr=subprocess.DEVNULL,
                                         env={**os.environ, "PGAPPNAME": "churn", "PGOPTIONS": "-c synchronous_commit=off"})
        until(lambda: self.sql("select exists (select from subscribers_restaurants where restaurant_id = 'churn1')") == "t",
              alive=lambda: self.churning.poll() is None, what="the churn")

    def end_churn(self):
        alive = self.churning.poll() is None
        self.sql("select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'churn'")
        self.churning.wait()
        if not alive:
            raise Failed("the churn ended before the runs did")

    def clear(self):
        """What a run before has left: dirty pages, rows."""
        self.sql("truncate subscribers_feedback")
        self.sql("checkpoint")

    def log(self, name):
        return os.path.join(self.run_dir, "logs", f"{name}.{self.n}.log")

    def used(self, pids):
        """CPU seconds so far: of the subject, Kafka, Postgres (with children that have ended), and all."""
        master = self.servers["postgres"]
        backends = [int(d) for d in os.listdir("/proc") if d.isdigit() and stat(d)[1:2] == [str(master)]]
        ended = sum(map(int, stat(master)[13:15])) / TICK
        return {
            "subject": cpu_seconds(pids),
            "kafka": cpu_seconds([self.servers["kafka"]]),
            "postgres": cpu_seconds([master, *backends]) + ended,
            "machine": machine_seconds(),
        }


def until(condition, seconds=DEADLINE, pause=0.01, alive=lambda: True, what="the end"):
    """Polls; a subject that has ended, or the deadline, is a failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        if not alive():
            raise Failed(f"the subject ended before {what}")
        if time.monotonic() > deadline:
            raise Failed(f"{what} was not reached within {seconds} s")
        time.sleep(pause)
