"""A daemon that breaks one rule of the protocol is found out on real services: see tests/fault/run.

For each mutant a scenario that leads straight to the hole. It runs twice, with the mutant and
without: with it the checker must find a difference (or the daemon must end by itself), without it
everything must be exact, so that it is the mutant that is found and not the scenario.
"""

import re
import signal
import sys
import time

import checker
import lanes
from stage import Daemon, Failure, Stage, wait

LANES = 4


class Scene:
    def __init__(self, mutant, on, delivery):
        self.mutant = mutant if on else None
        self.stage = Stage(f"{mutant}_{'on' if on else 'off'}", delivery, partitions=1, session=1500)
        self.daemons = []

    def daemon(self, name):
        self.daemons.append(Daemon(self.stage, f"{self.stage.name}-{name}"))
        return self.daemons[-1]

    def start(self, daemon, fault=None):
        return daemon.start(fault=fault, mutant=self.mutant)

    def feed(self, kinds):
        for kind in kinds:
            self.stage.feed(kind)
        self.stage.flush()

    def settle(self, daemon):
        self.start(daemon)
        self.feed("s")
        self.stage.wait_done([daemon], idle=60)

    def wait_stopped(self, daemon, place):
        wait(40, lambda: f"{daemon.name} to stop at {place}; its log ends with\n{daemon.tail()}", daemon.is_stopped)

    def check(self):
        for daemon in self.daemons:
            daemon.stop()
        return checker.check(self.stage)


def die_and_go_on(scene, place, kinds="ss", between=None, first=True):
    """A unit goes through (if `first`), the next one dies at `place`, a new process goes on."""
    daemon = scene.daemon("a")
    if first:
        scene.settle(daemon)
        daemon.stop()
    scene.start(daemon, fault=f"kill:{place}:1")
    scene.feed(kinds)
    if daemon.wait_end() != -signal.SIGKILL:
        raise Failure(f"{daemon.name} did not die at {place}:\n{daemon.tail()}")
    if between:
        between(scene.stage)
    scene.settle(daemon)


def table_changes(stage):
    stage.psql("delete from subscribers_restaurants where restaurant_id = 'moving' and client_id like 'm%'; "
               "insert into subscribers_restaurants (client_id, restaurant_id) "
               "select 'm' || c, 'moving' from generate_series(1, 50) c")


def zombie(scene, place, meanwhile):
    """One process stops at `place` until another has taken its partition over and done its work."""
    one, other = scene.daemon("a"), scene.daemon("b")
    scene.settle(one)
    one.stop()
    scene.start(one, fault=f"stop:{place}:1")
    scene.feed("s")
    scene.wait_stopped(one, place)
    scene.start(other)
    for _ in range(meanwhile):
        scene.feed("s")
        scene.stage.wait_done([other], idle=40)
    one.signal(signal.SIGCONT)
    # It has noticed when it has a say again, whatever it was about to do.
    end = time.monotonic() + 30
    while one.status() is None and one.log().count("assigned") < 2 and time.monotonic() < end:
        time.sleep(0.05)  # poll
    if one.status() is not None:
        raise Failure(f"{one.name} ended by itself with {one.status()}:\n{one.tail()}")
    scene.feed("s")
    scene.stage.wait_done([one, other], idle=60)


# mutant: delivery, scenario, how it must be found.
SCENARIOS = {
    "no_redo": ("exactly_once", lambda scene: die_and_go_on(scene, "decided/unit"), "missing in Kafka"),
    "kafka_first": ("exactly_once", lambda scene: die_and_go_on(scene, "committed/unit"), "doubled in Kafka"),
    # The first unit of all: a later one would halt, since the redo of the one before is gone.
    "commit_without_offsets": ("exactly_once", lambda scene: die_and_go_on(scene, "committed/unit", first=False),
                               "doubled in Kafka"),
    "redo_recomputed": ("exactly_once", lambda scene: die_and_go_on(scene, "decided/unit", "v", table_changes),
                        "different trigger times|on one side only"),
    "no_cas": ("at_least_once", lambda scene: zombie(scene, "built/unit", 1), "doubled in Postgres"),
    # The broker refuses the offsets of a member of the past, so that nothing is doubled even then; but
    # what was read before the fence does not fit what was read after it.
    "read_before_fence": ("exactly_once", lambda scene: zombie(scene, "read/claim", 3), "ended by itself with 65"),
}


def play(mutant, on):
    delivery, scenario, finding = SCENARIOS[mutant]
    scene = Scene(mutant, on, delivery)
    try:
        scenario(scene)
        report = scene.check()
        found = None if report.is_exact() else str(report)
    except Failure as failure:
        found = str(failure)
        for daemon in scene.daemons:
            daemon.kill()
    if on and found is None:
        raise Failure("this broken daemon was not found out")
    if on and not re.search(finding, found):
        raise Failure(f"found as {found!r}, and not as {finding!r}")
    if not on and found is not None:
        raise Failure(f"without the mutant it is not exact either: {found}")
    return found.splitlines()[0] if on else "without the mutant: EXACT"


def main():
    names = sys.argv[1:] or list(SCENARIOS)
    jobs = [(f"{name}{'' if on else ' off'}", lambda name=name, on=on: play(name, on))
            for name in names for on in (True, False)]
    failed = lanes.run(jobs, LANES)
    lanes.end(len(jobs), failed, "runs")


main()
