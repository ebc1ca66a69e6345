"""A death at every named crash point of the daemon, in every circumstance: see tests/fault/run.

The table below names them all; a point that stands in core and not here is an error. Each lane has
a stage of its own and goes through its share: a daemon starts that is to die at the point, is fed
what leads there, dies, and is followed by the next one, which recovers and is to die elsewhere. At
the end one without a fault finishes, and the checker compares. The same with daemons that stop there
and go on when another one has done their work.
"""

import random
import re
import signal
import sys
import time

import checker
import lanes
from stage import ROOT, Daemon, Failure, Stage

DELIVERED = ("unit", "chunk", "dead")
EXACTLY_ONCE = {
    "built": DELIVERED,
    "produced": (*DELIVERED, "redo"),
    "swapped": (*DELIVERED, "advance"),
    "copied": DELIVERED,
    "flushed": (*DELIVERED, "redo"),
    "offsets": (*DELIVERED, "redo", "mark"),
    "decided": (*DELIVERED, "advance"),
    "committed": (*DELIVERED, "redo", "mark"),
    "tried": ("unit",),
    "fenced": ("claim",),
    "claimed": ("claim",),
    "read": ("claim",),
    "adopted": ("claim",),
    "assigned": ("rebalance",),
    "revoked": ("rebalance",),
}
AT_LEAST_ONCE = {
    "built": DELIVERED,
    "swapped": (*DELIVERED, "advance"),
    "copied": DELIVERED,
    "produced": DELIVERED,
    "flushed": DELIVERED,
    "decided": (*DELIVERED, "advance"),
    "marked": DELIVERED,
    "claimed": ("claim",),
    "read": ("claim",),
}
LANES, DEATHS = 5, 3  # lanes; deaths in a row before a daemon may finish in peace
FEED = {"unit": "sss", "chunk": "b", "dead": "jp", "advance": "x", "redo": "", "claim": "s", "mark": "s",
        "rebalance": "s"}


def check_names():
    """Every point that the source names stands in the table, and the other way round."""
    known = set(EXACTLY_ONCE) | set(AT_LEAST_ONCE)
    found = set()
    for path in (ROOT / "core").rglob("*.c"):
        if path.name == "fault.c":
            continue
        found |= set(re.findall(r'\b(?:mr_fault_point|passed)\([^"()]*"(\w+)"', path.read_text()))
    if found != known:
        raise Failure(f"tests/fault/points.py does not know the crash points {sorted(found - known)}, "
                      f"and {sorted(known - found)} are not in core any more")


def plan(points, choice):
    """Who adopts must be the first; the others in any order."""
    pairs = [(point, what) for point, whats in points.items() for what in whats]
    choice.shuffle(pairs)
    return sorted(pairs, key=lambda pair: pair[0] != "adopted")


class Lane:
    def __init__(self, name, delivery, pairs):
        self.name, self.delivery, self.pairs = name, delivery, pairs

    def __call__(self):
        self.stage = Stage(self.name, self.delivery, partitions=1, session=1500)
        self.daemon = Daemon(self.stage, self.name)
        self.helper = Daemon(self.stage, self.name + "-helper")
        for i, (point, what) in enumerate(self.pairs):
            if i % DEATHS == DEATHS - 1:
                self.finish()
            if what == "redo":
                self.die("decided", "unit")
            self.die(point, what)
        self.finish()
        report = checker.check(self.stage)
        if not report.is_exact():
            raise Failure(f"{report}; the log is {self.daemon.path}")
        return f"{len(self.pairs)} deaths, EXACT: " + " ".join("/".join(pair) for pair in self.pairs)

    def finish(self):
        self.daemon.start()
        self.stage.flush()
        self.stage.wait_done([self.daemon])
        self.daemon.wait_log("ready: ")  # it has claimed: what was decided by the one before has its mark
        self.daemon.stop()

    def die(self, point, what):
        """Feeds what leads to the point until the daemon is dead."""
        self.daemon.start(fault=f"kill:{point}/{what}:1")
        begin, fed = time.monotonic(), 0.0
        while self.daemon.status() is None:
            now = time.monotonic()
            if now - begin > 40:
                raise Failure(f"{point}/{what} was not reached within 40 s; the log ends with\n{self.daemon.tail()}")
            if now - fed > 2 and (fed == 0 or what != "redo"):
                self.lead(what, again=fed != 0)
                fed = now
            time.sleep(0.02)  # poll
        self.end_helper()
        if self.daemon.status() != -signal.SIGKILL or f"FAULT kill {point}/{what}" not in self.daemon.log():
            raise Failure(f"{point}/{what}: the daemon ended with {self.daemon.status()}; its log ends with\n"
                          f"{self.daemon.tail()}")

    def lead(self, what, again):
        for kind in FEED[what]:
            self.stage.feed(kind)
        self.stage.flush()
        if what == "rebalance" and (again or "claimed" in self.daemon.log()):
            # A second member comes, and takes the partition or not: everything is revoked first.
            if self.helper.process is None or self.helper.status() is not None:
                self.helper.start()

    def end_helper(self):
        if self.helper.process is not None and self.helper.status() is None:
            self.helper.stop()


class Zombies(Lane):
    """The same, but the daemon does not die: it stops, another one takes its partition over and decides
    more, then the first goes on where it was. It must do no harm, and not end by itself."""

    def __call__(self):
        self.stage = Stage(self.name, self.delivery, partitions=1, session=1500)
        self.daemon = Daemon(self.stage, self.name)
        self.other = Daemon(self.stage, self.name + "-other")
        self.finish()
        for point, what in self.pairs:
            if what == "redo":
                self.helper = self.other
                self.die("decided", "unit")
            self.stop_at(point, what)
        self.finish()
        report = checker.check(self.stage)
        if not report.is_exact():
            raise Failure(f"{report}; the log is {self.daemon.path}")
        return f"{len(self.pairs)} zombies, EXACT: " + " ".join("/".join(pair) for pair in self.pairs)

    def stop_at(self, point, what):
        self.daemon.start(fault=f"stop:{point}/{what}:1")
        begin = time.monotonic()
        for kind in FEED[what]:
            self.stage.feed(kind)
        self.stage.flush()
        while not self.daemon.is_stopped():
            if time.monotonic() - begin > 40 or self.daemon.status() is not None:
                raise Failure(f"{point}/{what}: the daemon did not stop; its log ends with\n{self.daemon.tail()}")
            time.sleep(0.02)  # poll
        self.other.start()
        for _ in range(2):
            self.stage.feed("s")
            self.stage.flush()
            self.stage.wait_done([self.other], idle=50)
        stopped_at = self.daemon.path.stat().st_size - self.daemon.born_at
        self.daemon.signal(signal.SIGCONT)
        begin = time.monotonic()
        while "assigned" not in self.daemon.log()[stopped_at:]:
            if time.monotonic() - begin > 40 or self.daemon.status() is not None:
                raise Failure(f"{point}/{what}: the daemon that went on ended with {self.daemon.status()}; its log "
                              f"ends with\n{self.daemon.tail()}")
            time.sleep(0.02)  # poll
        self.other.stop()
        self.stage.feed("s")
        self.stage.flush()
        self.stage.wait_done([self.daemon], idle=50)
        self.daemon.stop()


def main():
    check_names()
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}", flush=True)
    choice = random.Random(seed)
    jobs = []
    for delivery, points, n in (("exactly_once", EXACTLY_ONCE, LANES - 1), ("at_least_once", AT_LEAST_ONCE, LANES - 2)):
        pairs = plan(points, choice)
        for i in range(n):
            name = f"points_{'eo' if delivery == 'exactly_once' else 'al'}{i + 1}"
            jobs.append((name, Lane(name, delivery, pairs[i::n])))
    pairs = [(point, what) for point, whats in EXACTLY_ONCE.items() for what in whats
             if what in ("unit", "redo", "claim") and point != "adopted"]
    choice.shuffle(pairs)
    for i in range(LANES - 1):
        jobs.append((f"zombies_{i + 1}", Zombies(f"zombies_{i + 1}", "exactly_once", pairs[i::LANES - 1])))
    failed = lanes.run(jobs, LANES)
    lanes.end(len(jobs), failed, "lanes of crash points")


main()
