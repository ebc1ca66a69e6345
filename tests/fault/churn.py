"""A seeded run under faults: see tests/fault/run.

Daemons work while they are killed, stopped and restarted, while Postgres and the broker crash and
while the proxies lose and delay single messages. Then all of that ends, the daemons finish, and the
checker compares. The choices follow from the seed; their effect depends on the machine's speed.
"""

import argparse
import collections
import heapq
import itertools
import random
import re
import signal
import subprocess
import sys
import threading
import time

import checker
from stage import LOGS, ROOT, Daemon, Failure, Stage

SESSION = 3  # seconds, as in the config
ALL = ("kill stop term points stops postgres broker terminate lock drop-commit cut-postgres half-postgres "
       "drop-endtxn delay-endtxn hold-endtxn cut-kafka half-kafka").split()
# Only when asked for: every start chooses its delivery, and the checker asks for what at_least_once promises.
SWITCH = "switch"
AT_START = ("points", "stops", SWITCH)
HEAVY = {"postgres": 0.4, "broker": 0.25, "stop": 0.4, "stops": 0.3, "half-postgres": 0.4, "half-kafka": 0.4}
# Another process of this name still holds the lock: its server session has not noticed yet that it is dead.
NAME_TAKEN = (75, "another process with instance name")


class Feeder(threading.Thread):
    """Keeps the daemons busy, never far ahead of them, at no more than `rate` outputs a second."""

    def __init__(self, stage, seed, rate, ahead=80):
        super().__init__(daemon=True)
        self.stage, self.rate, self.ahead = stage, rate, ahead
        self.choice = random.Random(f"{seed} feeder")
        self.over = threading.Event()
        self.error = None

    def run(self):
        kinds, weights = "sbvxnjpqt", (60, 6, 10, 8, 4, 3, 3, 1, 3)
        begin = time.monotonic()
        try:
            while not self.over.is_set():
                done = self.stage.done()
                while done is not None and self.stage.sent - done[0] < self.ahead and \
                        self.stage.outputs < self.rate * (time.monotonic() - begin):
                    self.stage.feed(self.choice.choices(kinds, weights)[0])
                if done is not None:
                    self.stage.move(self.choice)
                self.over.wait(0.2)
            self.stage.flush()
        except Exception as error:  # told by whoever waits for this thread
            self.error = error

    def end(self):
        self.over.set()
        self.join(90)
        if self.error:
            raise self.error


class Churn:
    def __init__(self, stage, options):
        self.stage, self.options = stage, options
        self.choice = random.Random(options.seed)
        self.daemons = [Daemon(stage, f"{stage.name}-{i + 1}", workers=1 + i % 2) for i in range(options.processes)]
        self.counts = collections.Counter()
        self.deaths = self.restarts = 0
        self.agenda, self.serial = [], itertools.count()
        self.busy = {}  # service -> the process that crashes and restarts it
        self.due = set()  # daemons that are to be started again
        self.terminated = set()
        self.faulty = True
        self.origin = time.monotonic()

    def say(self, text):
        with open(LOGS / "churn.log", "a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {time.monotonic() - self.origin:7.2f} {text}\n")

    def later(self, seconds, action, *words):
        heapq.heappush(self.agenda, (time.monotonic() + seconds, next(self.serial), action, words))

    # --- daemons ---

    def start(self, daemon):
        self.due.discard(daemon)
        fault = seed = None
        chance = self.choice.random()
        if self.faulty and "points" in self.options.faults and chance < 0.35:
            fault, seed = f"kill~{self.choice.choice((3, 10, 40))}", self.choice.randrange(1 << 30)
        elif self.faulty and "stops" in self.options.faults and chance < 0.45:
            fault, seed = "stop~5", self.choice.randrange(1 << 30)
        delivery = None
        if SWITCH in self.options.faults:
            delivery = self.choice.choice(("exactly_once", "at_least_once"))
            self.counts[SWITCH] += 1
        daemon.start(fault=fault, seed=seed, delivery=delivery)
        self.terminated.discard(daemon)
        self.restarts += daemon.lives > 1

    def look_after(self, daemon):
        if daemon in self.due:
            return
        status = daemon.status()
        if status is None:
            if daemon.is_stopped() and not getattr(daemon, "wakes", False):
                # At a crash point, by itself.
                daemon.wakes = True
                self.counts["stops"] += 1
                self.say(f"{daemon.name} has stopped itself: {daemon.log().rpartition('FAULT')[2].strip()[:60]}")
                self.later(SESSION + self.choice.uniform(1, 4), self.wake, daemon)
            return
        if status == -signal.SIGKILL:
            self.deaths += 1
            for point in re.findall(r"FAULT kill (\S+)", daemon.log()):
                self.counts["points"] += 1
                self.say(f"{daemon.name} died at {point}")
        elif status in (0, -signal.SIGTERM) and daemon in self.terminated:
            pass  # the signal itself ends one that has not got as far as taking it
        elif status == NAME_TAKEN[0] and NAME_TAKEN[1] in daemon.log():
            self.counts["(name still taken)"] += 1
        else:
            raise Failure(f"{daemon.name} ended by itself with {status}; its log is {daemon.path}:\n{daemon.tail()}")
        daemon.wakes = False
        self.due.add(daemon)
        self.later(self.choice.choice((0, 0.3, 1, 3)) if self.faulty else 0, self.start, daemon)

    def wake(self, daemon):
        daemon.wakes = False
        daemon.signal(signal.SIGCONT)
        self.say(f"{daemon.name} goes on")

    def one(self):
        """A daemon that works, if there is one."""
        living = [d for d in self.daemons if d not in self.due and d.status() is None and not getattr(d, "wakes", False)]
        return self.choice.choice(living) if living else None

    # --- faults ---

    def strike(self, kind):
        """False: not now."""
        daemon = self.one()
        if kind in ("kill", "stop", "term"):
            if not daemon:
                return False
            self.say(f"{kind} {daemon.name}")
        if kind == "kill":
            daemon.signal(signal.SIGKILL)
        elif kind == "stop":
            daemon.wakes = True
            daemon.signal(signal.SIGSTOP)
            self.later(SESSION + self.choice.uniform(1, 4), self.wake, daemon)
        elif kind == "term":
            self.terminated.add(daemon)
            daemon.signal(signal.SIGTERM)
        elif kind in ("postgres", "broker"):
            return self.crash(kind)
        elif kind == "terminate":
            self.say(kind)
            return self.stage.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like "
                                   f"'millrace/%' and datname = '{self.stage.name}' order by random() limit 1",
                                   check=False) is not None
        elif kind == "lock":
            self.say(kind)
            return self.lock()
        else:
            self.order(kind)
        return True

    def crash(self, service):
        if service in self.busy:
            return False
        line = "postgres crash" if service == "postgres" else "kafka kill && tests/support/kafka start"
        self.say(f"crash of {service}")
        with open(LOGS / "services.log", "ab") as log:
            self.busy[service] = subprocess.Popen(["sh", "-c", f"tests/support/{line}"], cwd=ROOT, stdout=log, stderr=log,
                                                  stdin=subprocess.DEVNULL)
        return True

    def lock(self):
        """Somebody else holds the ledger for a while."""
        if "lock" in self.busy:
            return False
        seconds = self.choice.choice((1, 3, 7))
        # The server ends the idle transaction, and with it the lock, when the time is over.
        process = subprocess.Popen(["psql", "-qX", self.stage.dsn], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, text=True)
        process.stdin.write("begin; lock table millrace_ledger in exclusive mode;\n")
        process.stdin.flush()
        self.later(seconds, process.stdin.close)
        self.busy["lock"] = process
        return True

    def order(self, kind):
        what, _, where = kind.partition("-")
        proxy = self.stage.kafka if where in ("kafka", "endtxn") else self.stage.pg
        if what == "cut":
            proxy.order("cut")
        elif what == "half":
            proxy.order(f"half-open {self.choice.choice((500, 2000, 4000))}")
        elif what == "drop":
            proxy.order(f"drop-reply {where}")
        else:
            proxy.order(f"{what} endtxn {self.choice.choice((200, 1500, 5000))}")
        self.say(kind)

    def next_fault(self):
        if not self.faulty:
            return
        kinds = [kind for kind in self.options.faults if kind not in AT_START]
        if kinds:
            kind = self.choice.choices(kinds, [HEAVY.get(kind, 1) for kind in kinds])[0]
            if self.strike(kind):
                self.counts[kind] += 1
        self.later(self.choice.expovariate(1 / self.options.pause), self.next_fault)

    # --- the run ---

    def turn(self):
        now = time.monotonic()
        while self.agenda and self.agenda[0][0] <= now:
            _, _, action, words = heapq.heappop(self.agenda)
            action(*words)
        for service, process in list(self.busy.items()):
            if process.poll() is not None:
                if process.returncode and service != "lock":
                    raise Failure(f"{service} did not come back: see services.log")
                del self.busy[service]
        for daemon in self.daemons:
            self.look_after(daemon)

    def spin(self, condition):
        while not condition():
            self.turn()
            time.sleep(0.03)  # poll

    def run(self):
        feeder = Feeder(self.stage, self.options.seed, self.options.rate)
        for daemon in self.daemons:
            self.start(daemon)
        feeder.start()
        self.later(3, self.next_fault)
        end = self.origin + self.options.seconds
        self.spin(lambda: time.monotonic() >= end or feeder.error)
        self.calm()
        feeder.end()
        self.finish()

    def calm(self):
        """No more faults; whoever has one in it is started without."""
        self.say("calm")
        self.faulty = False
        for proxy in (self.stage.kafka, self.stage.pg):
            proxy.order("forget")
        self.spin(lambda: not self.busy)
        for daemon in self.daemons:
            daemon.signal(signal.SIGCONT)
            daemon.wakes = False
            if daemon.status() is None and "fault=None" not in daemon.log()[:80]:
                daemon.signal(signal.SIGKILL)
        self.spin(lambda: not self.due and all(d.status() is None for d in self.daemons))

    def finish(self):
        last, since = None, time.monotonic()
        while not self.stage.is_done():
            done = self.stage.done()
            if done != last:
                last, since = done, time.monotonic()
            if time.monotonic() - since > 60:
                tails = "\n".join(f"{d.name}: {d.path}\n{d.tail()}" for d in self.daemons)
                raise Failure(f"no progress for 60 s; settled, fan-outs, units: {last} of {self.stage.sent} messages\n{tails}")
            self.turn()
            time.sleep(0.1)  # poll
        # They have claimed: what was decided by the one before has its mark. One that was still ending starts again.
        end = time.monotonic() + 60
        self.spin(lambda: time.monotonic() > end or not self.due and all(
            daemon.status() is None and "ready: " in daemon.log() for daemon in self.daemons))
        for daemon in self.daemons:
            daemon.wait_log("ready: ")
        for daemon in self.daemons:
            daemon.stop()

    def struck(self):
        """What has really happened, by kind: of the proxies' faults, only those that met a message."""
        counts = collections.Counter(self.counts)
        for kind, proxy, text in (("drop-commit", self.stage.pg, "drop-reply commit"),
                                  ("drop-endtxn", self.stage.kafka, "drop-reply endtxn"),
                                  ("delay-endtxn", self.stage.kafka, "delay endtxn"),
                                  ("hold-endtxn", self.stage.kafka, "hold endtxn")):
            counts[kind] = proxy.struck(text)
        return ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items()) if n)


def parse(words):
    parser = argparse.ArgumentParser(prog="tests/fault/run", description="Runs daemons under faults and checks both sinks.")
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--delivery", default="exactly_once", choices=("exactly_once", "at_least_once"))
    parser.add_argument("--faults", default=",".join(ALL), help=f"of {','.join(ALL)},{SWITCH} (default: all but {SWITCH})")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--static", choices=("yes", "no"), help="static membership; else the seed decides")
    parser.add_argument("--sinks", choices=("both", "kafka", "postgres"), default="both")
    parser.add_argument("--rate", type=float, default=3000, help="outputs a second, at most")
    parser.add_argument("--pause", type=float, default=1, help="seconds between two faults, on average")
    options = parser.parse_args(words)
    options.seconds = options.seconds + 60 * options.minutes or 60
    options.faults = [kind for kind in options.faults.split(",") if kind]
    options.static = options.static or ("yes" if options.seed % 2 else "no")
    unknown = set(options.faults) - {*ALL, SWITCH}
    if unknown:
        parser.error(f"unknown faults: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}, {SWITCH}")
    if SWITCH in options.faults:
        options.delivery = "at_least_once"
    options.sinks = ("kafka", "postgres") if options.sinks == "both" else (options.sinks,)
    return options


def main():
    options = parse(sys.argv[1:])
    print(f"seed {options.seed}, {options.seconds:g} s, {options.delivery}, sinks: {' and '.join(options.sinks)}, {options.processes} processes, "
          f"{options.partitions} partitions, static membership: {options.static}, faults: {', '.join(options.faults)}", flush=True)
    stage = Stage("churn", options.delivery, options.partitions, static=options.static == "yes",
                  sinks=options.sinks)
    churn = Churn(stage, options)
    result, failed = "", False
    report = checker.Report()
    try:
        churn.run()
    except Failure as failure:
        result, failed = f"FAILED: {failure}", True
        for daemon in churn.daemons:
            daemon.kill()
    else:
        report = checker.check(stage)
        result, failed = str(report), not report.is_exact()
    redos = sum(len(re.findall(r"\bredo\b", d.log(False))) for d in churn.daemons if d.lives)
    print(f"faults: {churn.struck() or 'none'}")
    print(f"seed {options.seed}: {options.seconds / 60:g} minutes, {churn.deaths} deaths, {churn.restarts} restarts, "
          f"{redos} redos, {stage.sent} campaigns, " + ", ".join(f"{n} {what}" for what, n in report.counts.items()))
    if failed:
        print(f"the logs of the daemons: {', '.join(str(d.path) for d in churn.daemons)}")
    print(f"result: {result}")
    return 1 if failed else 0


sys.exit(main())
