"""bench/run: measures Millrace, the raw limits and a peer in turn, and prints one table.

This file is the order of things: arguments, what must be built, and then, inside the private services, run after run.
A pair (a round) is one run of each subject; the order is turned round each time (A B, B A, ...), so that what drifts
hits all of them. One round before, that does not count, warms the broker's JVM and the page cache.

The JSON file is written anew after each round. A run that fails is told, noted there and left out of its pair; one part's
failure leaves the figures of the others.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time

import budgets
import cache
import inmemory
import publish
import report
import subjects
import workloads
from stage import BUILD, DEADLINE, ROOT, Child, Failed, Stage, program, threads

KINDS = {"sink": ["exactly_once", "raw"], "read": ["exactly_once", "raw_read"], "latency": ["exactly_once", "raw_latency"],
         "cache": [], "each": [], "counts": []}
# Measured by other programs, each in its own way.
WITHOUT_STAGE = {"cache": cache.measure, "each": inmemory.each, "counts": inmemory.counts}
TARGETS = ["millrace", "bench", "lookup_volume", "measure_lookup", "perf_work"]
GIVEN_UP = 2  # runs of a subject that failed: it is left out of the rounds that follow


def arguments():
    parser = argparse.ArgumentParser(
        prog="bench/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures Millrace beside the raw limits of broker and database.",
        epilog="workloads:\n" + "\n".join(f"  {w.name}  {w.title}" for w in workloads.ALL)
        + "\n\nsubjects:\n  " + "\n  ".join(subjects.__doc__.split("\n\n")[1].splitlines())
        + "\n\nexamples:\n  bench/run --workload W1 --pairs 5\n"
        "  bench/run --workload W1 --subjects exactly_once,at_least_once,raw\n"
        "  bench/run --workload W2 --subjects exactly_once:workers=1,exactly_once:workers=2\n")
    parser.add_argument("--workload", action="append", choices=list(workloads.BY_NAME), metavar="W1..W6|each|counts",
                        help="one of them; may be given several times (default: all)")
    parser.add_argument("--pairs", type=int, help="rounds that count (default 5; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, one pair")
    parser.add_argument("--times", type=int, default=1, help="so many times the campaigns: longer runs")
    parser.add_argument("--subjects", help="instead of the workload's own: name[:key=value]...,...; ratios are over the last")
    parser.add_argument("--peers", choices=["python"], help="and this one beside them")
    parser.add_argument("--compression", default="lz4", choices=["none", "lz4", "zstd", "snappy", "gzip"],
                        help="of all that is sent to Kafka (default lz4)")
    parser.add_argument("--scaling", action="store_true",
                        help="instead of the workloads: workers, processes, fan-outs, sizes of the table")
    parser.add_argument("--publish", action="store_true", help="put tables and plots into docs/ too (later, from the JSON file: bench/publish.py)")
    parser.add_argument("--feedback", default="plain", choices=["plain", "partitioned"],
                        help="the table that all of them write: as it is, or in 4 partitions by hash")
    parser.add_argument("--churn", type=int, default=0, metavar="N", help="that many other subscriptions change each second, all the while")
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "bench"), help="where the JSON goes (default build/bench)")
    args = parser.parse_args()
    args.pairs = args.pairs or (1 if args.quick else 5)
    return args


def build():
    """Release; says nothing unless it fails."""
    os.makedirs(os.path.join(ROOT, "build", "bench"), exist_ok=True)
    log = os.path.join(ROOT, "build", "bench", "build.log")
    with open(log, "w") as file:
        for command in (["cmake", "--preset", "release"], ["cmake", "--build", BUILD, "--target", *TARGETS]):
            if subprocess.run(command, cwd=ROOT, stdout=file, stderr=file).returncode:
                with open(log) as text:
                    sys.exit(text.read()[-3000:] + f"bench: it does not build; all of it: {log}")


def venv(specs):
    """For the peer, and for nothing else. False, and a sentence, where it cannot be had."""
    stamp = os.path.join(subjects.VENV, "requirements.txt")
    pinned = open(os.path.join(ROOT, "bench", "requirements.txt")).read()
    if not any(spec.startswith("python") for spec in specs):
        return True
    if os.path.exists(stamp) and open(stamp).read() == pinned:
        return True
    log = os.path.join(ROOT, "build", "bench", "venv.log")
    with open(log, "w") as file:
        for command in ([sys.executable, "-m", "venv", "--clear", subjects.VENV],
                        [os.path.join(subjects.VENV, "bin", "pip"), "install", "-r", "bench/requirements.txt"]):
            if subprocess.run(command, cwd=ROOT, stdout=file, stderr=file).returncode:
                print(f"bench: the Python peer is left out: its packages cannot be installed ({log} says why)", file=sys.stderr)
                return False
    with open(stamp, "w") as file:
        file.write(pinned)
    return True


def complete(workload, sink, may_double):
    """Both sinks, pair by pair. A run that lost or doubled something gives no figure."""
    child = Child([program("complete"), *workload.arguments(), "--topic", sink], stdin=subprocess.DEVNULL)
    seen = child.answer()
    child.end()
    for name, counts in seen.items():
        doubles = counts["doubled"] if not (may_double and name == "messages") else 0
        if counts["missing"] or counts["foreign"] or doubles:
            raise Failed(f"{name} are not what they must be: {counts}")
    return seen


def run_once(stage, workload, subject):
    """One run: a dictionary of figures."""
    source, sink, group = stage.next_names()
    stage.topics(f"{source}:{workload.partitions}", f"{sink}:{workload.partitions}")
    stage.clear()
    feed = None
    if subject.has_input:
        feed = Child([program("feed"), *workload.arguments(), "--input", source])
        feed.wait_ready()
    subject.start(workload, source, sink, group)
    before = stage.used(subject.pids())
    began = time.monotonic()
    if subject.name.startswith("raw"):
        subject.go()
    if feed:
        feed.go()
        began = feed.answer()["began"]
    subject.wait()
    ended = subject.ended() or time.monotonic()
    run = {
        "subject": subject.spec,
        "threads": threads(subject.pids()),
        "seconds": ended - began,
        "cpu": used_since(stage, before, subject),
        "peak_mb": subject.peak_mb(),
        "lookup_mb": subject.lookup_mb(),
        **subject.notes(),
    }
    subject.stop()
    if feed:
        feed.end()
    if subject.name != "raw_read":
        run["complete"] = complete(workload, sink, subject.name == "at_least_once")
        run["outputs_per_s"] = workload.outputs / run["seconds"]
    run["outputs"] = workload.outputs
    run["campaigns_per_s"] = workload.campaigns / run["seconds"]
    stage.topics("--delete", source, sink)
    return run


def latency_once(stage, workload, subject):
    """One run at a steady rate: from the send of a campaign until its outputs can be seen."""
    source, sink, group = stage.next_names()
    stage.topics(f"{source}:{workload.partitions}", f"{sink}:{workload.partitions}")
    stage.clear()
    subject.start(workload, source, sink, group)
    probe = None
    if subject.name != "raw_latency":
        probe = Child([program("latency"), *workload.arguments(), "--input", source, "--topic", sink])
        probe.wait_ready()
    before = stage.used(subject.pids())
    (probe or subject).go()
    if probe:
        times = probe.answer()
        if times.pop("lost"):
            raise Failed(f"{subject.spec}: not all outputs came")
    else:
        subject.wait()
        times = subject.answer
    run = {"subject": subject.spec, "threads": threads(subject.pids()), "times": times, "cpu": used_since(stage, before, subject), "peak_mb": subject.peak_mb()}
    subject.stop()
    if probe:
        probe.end()
    run["complete"] = complete(workload, sink, subject.name == "at_least_once")
    stage.topics("--delete", source, sink)
    return run


def used_since(stage, before, subject):
    after = stage.used(subject.pids())
    cpu = {name: after[name] - before[name] for name in after}
    cpu["others"] = cpu.pop("machine") - sum(cpu.values())
    return cpu


def new_result(workload, specs, args):
    return {"workload": workload.name, "title": workload.title, "compression": args.compression, "kind": workload.kind,
            "outputs": workload.outputs, "campaigns": workload.campaigns, "subjects": specs, "base": specs[-1] if specs else None,
            "runs": [], "failures": []}


def attempt(stage, workload, subject, n, result):
    """One run into the result, or why there is none."""
    try:
        run = (latency_once if workload.kind == "latency" else run_once)(stage, workload if n else workload.warm(), subject)
    except (Failed, OSError, ValueError, KeyError, subprocess.SubprocessError) as why:
        print(f"  {str(n).ljust(5)}{subject.spec:<28} FAILED: {why}", flush=True)
        result["failures"].append({"subject": subject.spec, "pair": n, "why": str(why)})
        Child.kill_all()
        return
    run["pair"] = n
    report.line(workload, run)
    if n:
        result["runs"].append(run)


def rounds(stage, workload, specs, args, result, save):
    """All rounds of a workload."""
    if not specs:
        raise Failed("no subject is left")
    fill = Child([program("feed"), *workload.arguments()], stdin=subprocess.DEVNULL)
    if fill.end(DEADLINE):
        raise Failed("the table could not be filled")
    if args.churn:
        stage.churn(args.churn)
    made = [subjects.make(spec, stage, args.compression) for spec in specs]
    whole = bool(args.workload or args.scaling)
    last = args.pairs if whole else min(args.pairs, workload.pairs)
    # The series of --scaling follow each other: the first has warmed what there is.
    first = 0 if result.get("series", "workers") == "workers" else 1
    try:
        for n in range(first, last + 1):
            for subject in made if n % 2 == 0 else reversed(made):
                given_up = sum(failure["subject"] == subject.spec for failure in result["failures"]) >= GIVEN_UP
                if not given_up and (whole or subject.name != args.peers or n <= workload.peer_pairs):
                    attempt(stage, workload, subject, n, result)
            save()
    finally:
        if args.churn:
            stage.end_churn()


def parts(stage, args, save):
    """What is to be measured: (title, the result that it goes into, how)."""
    if args.scaling:
        for series, point, workload, specs in workloads.series(args.quick):
            result = {**new_result(workload, specs, args), "series": series, "point": point, "about": workloads.ABOUT[series]}
            yield f"{series}: {point}", result, lambda: rounds(stage, workload, specs, args, result, save)
        return
    for name in args.workload or list(workloads.BY_NAME):
        workload = workloads.BY_NAME[name]
        title = f"{workload.name} {workload.title}" + (" (a tenth of it)" if args.quick else "")
        workload = workload.quick() if args.quick else workload.times(args.times)
        alone = WITHOUT_STAGE.get(workload.kind)
        specs = [] if alone else specs_of(workload, args)
        result = new_result(workload, specs, args)
        if alone:
            yield title, result, lambda: alone(args, result, save)
        else:
            yield title, result, lambda: rounds(stage, workload, specs, args, result, save)


def measure(stage, args, results, save):
    """Part after part; the number of failures."""
    into = results["scaling" if args.scaling else "workloads"]
    for title, result, how in parts(stage, args, save):
        print(title, flush=True)
        into.append(result)
        began = time.monotonic()
        try:
            how()
        except (Failed, OSError, ValueError, subprocess.SubprocessError) as why:
            print(f"  FAILED: {why}", flush=True)
            result["failures"].append({"subject": "", "pair": 0, "why": str(why)})
            Child.kill_all()
        result["took_s"] = round(time.monotonic() - began, 1)
        save()
    return sum(len(result["failures"]) for result in into)


def specs_of(workload, args):
    if args.subjects:
        specs = args.subjects.split(",")
    else:
        peers = [args.peers] if args.peers else []
        specs = KINDS[workload.kind][:1] + peers + KINDS[workload.kind][1:]
    if os.environ.get("MILLRACE_BENCH") == "no-venv":
        specs = [spec for spec in specs if not spec.startswith("python")]
    return specs


def inside(args):
    stage = Stage()
    if args.feedback == "partitioned":
        stage.partition_feedback(4)
    results = {"began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "command": shlex.join(sys.argv[1:]), "pairs": args.pairs,
               "quick": args.quick, "feedback": args.feedback, "churn": args.churn, "compression": args.compression,
               "machine": report.machine(), "workloads": [], "scaling": []}
    path = os.path.join(args.out, time.strftime("%Y%m%dT%H%M%SZ.json", time.gmtime()))
    try:
        failed = measure(stage, args, results, lambda: report.write(results, path))
    except KeyboardInterrupt:
        report.write(results, path)
        print(f"\nbench: interrupted; what was measured until then: {os.path.relpath(path, ROOT)}", file=sys.stderr)
        return 130
    report.table(results)
    if results["workloads"]:
        print("\n" + "\n".join(budgets.table(results)))
    print(f"\nall of it: {os.path.relpath(path, ROOT)}")
    if args.publish:
        publish.publish([path])
    return 1 if failed else 0


def main():
    args = arguments()
    if os.environ.get("MILLRACE_BENCH"):
        sys.exit(inside(args))
    os.makedirs(args.out, exist_ok=True)
    build()
    wanted = [spec for name in args.workload or workloads.BY_NAME for spec in specs_of(workloads.BY_NAME[name], args)]
    os.environ["MILLRACE_BENCH"] = "inside" if venv(wanted) else "no-venv"
    services = os.path.join(ROOT, "tests/support/services")
    os.execv(services, [services, "--name", "bench", "--kafka", "--postgres", "--", os.path.join(ROOT, "bench/run"),
                        *sys.argv[1:]])


main()
