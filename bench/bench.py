"""bench/run: measures Millrace, the raw limits and a peer in turn, and prints one table.

This file is the order of things: arguments, what must be built, and then, inside the private services, run after run.
A pair (a round) is one run of each subject; the order is turned round each time (A B, B A, ...), so that what drifts
hits all of them. One round before, that does not count, warms the broker's JVM and the page cache.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import budgets
import cache
import each
import publish
import report
import subjects
import workloads
from stage import BUILD, ROOT, Child, Failed, Stage, program

KINDS = {"sink": ["exactly_once", "raw"], "read": ["exactly_once", "raw_read"], "latency": ["exactly_once", "raw_latency"], "cache": [], "each": []}


# Measured by other programs, each in its own way.
WITHOUT_STAGE = {"cache": cache.measure, "each": each.measure}


def arguments():
    parser = argparse.ArgumentParser(
        prog="bench/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures Millrace beside the raw limits of broker and database.",
        epilog="workloads:\n" + "\n".join(f"  {w.name}  {w.title}" for w in workloads.ALL)
        + "\n\nsubjects:\n  " + "\n  ".join(subjects.__doc__.split("\n\n")[1].splitlines())
        + "\n\nexamples:\n  bench/run --workload W1 --pairs 5\n"
        "  bench/run --workload W1 --subjects exactly_once,at_least_once,raw\n"
        "  bench/run --workload W2 --subjects exactly_once:workers=1,exactly_once:workers=2\n")
    parser.add_argument("--workload", action="append", choices=list(workloads.BY_NAME), metavar="W1..W6|each",
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
    parser.add_argument("--publish", action="store_true", help="put tables and plots into docs/ too (later: bench/publish.py)")
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
        for command in (["cmake", "--preset", "release"], ["cmake", "--build", BUILD, "--target", "millrace", "bench", "lookup_volume", "measure_lookup"]):
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
    run = {"subject": subject.spec, "times": times, "cpu": used_since(stage, before, subject), "peak_mb": subject.peak_mb()}
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


def rounds(stage, workload, specs, args):
    """All rounds of a workload; a run that fails is told and left out of its pair."""
    if not specs:
        raise Failed("no subject is left")
    fill = Child([program("feed"), *workload.arguments()], stdin=subprocess.DEVNULL)
    if fill.end():
        raise Failed("the table could not be filled")
    if args.churn:
        stage.churn(args.churn)
    made = [subjects.make(spec, stage, args.compression) for spec in specs]
    runs = []
    once = latency_once if workload.kind == "latency" else run_once
    for n in range(args.pairs + 1):
        for subject in made if n % 2 == 0 else reversed(made):
            run = once(stage, workload, subject)
            run["pair"] = n
            report.line(workload, run)
            if n:
                runs.append(run)
    if args.churn:
        stage.end_churn()
    return {"workload": workload.name, "title": workload.title, "compression": args.compression, "kind": workload.kind, "outputs": workload.outputs,
            "campaigns": workload.campaigns, "base": specs[-1], "subjects": specs, "runs": runs}


def scaling(stage, args):
    """Each point of each series, as a workload of its own."""
    results = []
    for name, point, workload, specs in workloads.series(args.quick):
        print(f"{name}: {point}", flush=True)
        result = rounds(stage, workload, specs, args)
        results.append({**result, "series": name, "point": point, "about": workloads.ABOUT[name]})
    return results


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
    results = {"began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "command": sys.argv[1:], "pairs": args.pairs, "quick": args.quick, "feedback": args.feedback, "churn": args.churn,
               "compression": args.compression, "machine": report.machine(), "workloads": []}
    path = os.path.join(args.out, time.strftime("%Y%m%dT%H%M%SZ.json", time.gmtime()))
    failed = 0
    try:
        if args.scaling:
            results["scaling"] = scaling(stage, args)
    except Failed as why:
        print(f"  FAILED: {why}", flush=True)
        failed += 1
    for name in [] if args.scaling else args.workload or list(workloads.BY_NAME):
        workload = workloads.BY_NAME[name]
        print(f"{workload.name} {workload.title}" + (" (a tenth of it)" if args.quick else ""), flush=True)
        workload = workload.quick() if args.quick else workload.times(args.times)
        try:
            results["workloads"].append(WITHOUT_STAGE[workload.kind](args) if workload.kind in WITHOUT_STAGE
                                        else rounds(stage, workload, specs_of(workload, args), args))
        except Failed as why:
            print(f"  FAILED: {why}", flush=True)
            failed += 1
        report.write(results, path)
    report.write(results, path)
    report.table(results)
    if not args.scaling:
        print("\n" + "\n".join(budgets.table(results)))
    print(f"\nall of it: {os.path.relpath(path, ROOT)}")
    if args.publish:
        publish.publish(results)
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
