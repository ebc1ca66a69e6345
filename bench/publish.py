#!/usr/bin/python3
"""Puts what bench/run has measured into docs/: the tables of PERFORMANCE.md, between their marks, and the plots.

    bench/publish.py build/bench/latest.json
    bench/publish.py build/bench/20260101T000000Z.json build/bench/20260101T013000Z.json

Nothing is measured: a text can be made anew from the file at any time, and a file of which only some parts gave figures
gives those. Of several files the later ones' parts replace those of the earlier ones, point by point. Parts that no file
has leave their marks as they are, but for the budgets: what has no figure stands there as not measured. Each table says
when, where and with which command it was measured.
"""

import json
import os
import re
import sys

import budgets
import plot
import report

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCS = os.path.join(ROOT, "docs")


def origin(results):
    machine = results["machine"]
    command = results["command"].replace(" --publish", "").replace("--publish", "")
    kept = "".join(f" {word}." for word in (results["feedback"] != "plain" and "The feedback table in 4 partitions",
                                           results["churn"] and f"{results['churn']} changes a second of the lookup") if word)
    return (f"Measured {results['began'][:10]} with `{('bench/run ' + command).strip()}`: {results['pairs']} pair{'s' * (results['pairs'] != 1)}, "
            f"{results['compression']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
            f"Linux {machine['kernel']}.{kept}" + (" **A tenth of the work: a look, no figure.**" if results["quick"] else ""))


def merged(paths):
    """One set of results of several files."""
    parts = {"workloads": {}, "scaling": {}}
    for path in paths:
        with open(path) as file:
            results = json.load(file)
        for kind in parts:
            for part in results[kind]:
                key = part["workload"] if kind == "workloads" else (part["series"], part["point"])
                part["origin"] = origin(results)
                # Where a part failed altogether the earlier file's figures stay.
                if has_figures(part) or key not in parts[kind]:
                    parts[kind][key] = part
    return {kind: list(of.values()) for kind, of in parts.items()}


def has_figures(part):
    return any(part.get(name) for name in ("runs", "loads", "keys", "counts"))


def origins(parts):
    """Where the parts come from: a line, or one for each command."""
    of = {}
    for part in parts:
        of.setdefault(part["origin"], []).append(part.get("point") or part["workload"])
    if len(of) == 1:
        return [*of, ""]
    return [line for text, names in of.items() for line in (f"{', '.join(names)}: {text}", "")]


def failures(parts):
    lines = [f"- {part.get('point') or part['workload']}: {failure['subject'] or 'all of it'}, "
             + (f"round {failure['pair']}" if failure["subject"] else "") + f": {one_line(failure['why'])}"
             for part in parts for failure in part["failures"]]
    return ["", "Runs that failed, and count in no figure:", "", *lines] if lines else []


def one_line(text):
    return " ".join(text.split())[:200]


def cells(*values):
    return "| " + " | ".join(values) + " |"


def heading(*names):
    return [cells(*names), "|" + "---|" * len(names)]


def middle(result, spec, value):
    return report.spread([value(run) for run in report.runs_of(result, spec)])[1]


def cpu(result, spec):
    """Median CPU seconds of subject, Kafka and Postgres, for a million outputs (campaigns, where those are counted)."""
    per = (result["campaigns"] if result["kind"] == "read" else result["outputs"]) / 1e6
    return " / ".join(f"{middle(result, spec, lambda r: r['cpu'][who] / per):.2f}" for who in ("subject", "kafka", "postgres"))


def measured(parts, kinds):
    """(result, subject) for each that has a figure."""
    return [(part, spec) for part in parts if part["kind"] in kinds for spec in part["subjects"] if report.runs_of(part, spec)]


def rates(parts, name):
    """Outputs or campaigns a second."""
    lines = []
    for result, spec in measured(parts, ("sink", "read")):
        kind = result["kind"]
        low, median, high = (report.shown(kind, v) for v in report.spread([report.figure(kind, r) for r in report.runs_of(result, spec)]))
        ratio = () if spec == result["base"] else report.spread(report.ratios(result, spec, result["base"], lambda r: report.figure(kind, r)))
        lines.append(cells(name(result), spec, f"{median} {report.UNITS[kind]}", f"{low} - {high}", str(len(report.runs_of(result, spec))), " ".join(f"{r:.2f}" for r in ratio),
                           cpu(result, spec), f"{middle(result, spec, lambda r: r['peak_mb']):.0f}",
                           f"{middle(result, spec, lambda r: r['lookup_mb']):.0f}" if report.runs_of(result, spec)[0]["lookup_mb"] else ""))
    head = heading("", "subject", "median", "min - max", "runs", "over the limit in the same pair: min median max",
                   "CPU s of it / Kafka / Postgres a million", "peak MB", "of that the lookup")
    return head + lines if lines else []


def latencies(parts):
    """Medians of all pairs, and the worst of all."""
    lines = []
    for result, spec in measured(parts, ("latency",)):
        runs = report.runs_of(result, spec)
        for what in runs[0]["times"]:
            spreads = [report.spread([run["times"][what][of] for run in runs]) for of in ("p50", "p99")]
            lines.append(cells(result["workload"], spec, what.replace("_", " "),
                               *(f"{median:.2f} ({low:.2f} - {high:.2f})" for low, median, high in spreads),
                               f"{max(run['times'][what]['max'] for run in runs):.1f}", str(len(runs))))
    head = heading("", "subject", "time until, or of", "p50 ms: median (min - max)", "p99 ms: median (min - max)", "max ms of all", "runs")
    return ["", *head, *lines] if lines else []


def phases(parts):
    """Where the time of the workers went, and that of the raw sink's two threads."""
    lines = []
    for result, spec in measured(parts, ("sink", "read")):
        of = [run.get("phases") or {k.removesuffix("_seconds"): v for k, v in run.items() if k.endswith("_seconds")}
              for run in report.runs_of(result, spec)]
        names = sorted({name for one in of for name in one}, key=lambda name: -report.spread([one.get(name, 0) for one in of])[1])
        if names:
            lines.append(cells(result["workload"], spec, f"{middle(result, spec, lambda r: r['seconds']):.2f}",
                               ", ".join(f"{name} {report.spread([one.get(name, 0) for one in of])[1]:.2f}" for name in names)))
    return [*heading("", "subject", "seconds of a run", "seconds of its workers (threads) by phase, medians"), *lines] if lines else []


def model(parts):
    """What a core of each takes, from the CPU seconds of Millrace's own runs."""
    lines = []
    for result, spec in measured(parts, ("sink",)):
        if spec != "exactly_once":
            continue
        us = [middle(result, spec, lambda r: r["cpu"][who] / r["outputs"] * 1e6) for who in ("subject", "kafka", "postgres")]
        if all(us):
            lines.append(cells(result["workload"], *(f"{1e3 / one:,.0f}" for one in us), f"{us[0] / us[2]:.1f} and {us[1] / us[2]:.1f}",
                               f"{8e3 / us[2]:,.0f}"))
    head = heading("", "thousands of outputs/s of a core of Millrace", "of a core of Kafka", "of a core of Postgres",
                   "cores of Millrace and of Kafka that one core of Postgres keeps busy", "thousands of outputs/s that 8 cores of Postgres bound")
    return [*head, *lines] if lines else []


def cache(part):
    lines = [cells(f"{one['rows']:,}", str(one["each"]), one["feed"], *(f"{report.spread(one[name])[1]:.2f}" for name in ("load_s", "copy_s")),
                   " ".join(f"{r:.2f}" for r in report.spread(one["ratios"])), f"{one['bytes_a_row']:.1f}", f"{one['rss_a_row']:.1f}",
                   f"{one['peak_over_table']:.2f}") for one in part.get("loads", [])]
    if lines:
        lines = ["", *heading("W6: rows", "rows a key", "feed", "load s", "bare COPY s", "ratio: min median max", "bytes a row, own account",
                              "bytes a row, RSS", "peak of a second load, in tables"), *lines]
    keys = [cells(f"{one['rows']:,}", str(one["each"]), f"{one['ns_a_key']:.0f}", f"{one['hash_table_ns_a_key']:.0f}", f"{one['ns_a_row']:.1f}")
            for one in part.get("keys", [])]
    if keys:
        lines += ["", *heading("W6: rows", "rows a key", "ns a random key, with its first row", "ns a key of a plain hash table",
                               "ns a row, all rows read"), *keys]
    return lines


def in_memory(parts):
    lines = []
    for part in parts:
        if part["kind"] == "each" and part["runs"]:
            low, median, high = report.spread([run["rows_per_s"] for run in part["runs"]])
            shares = " / ".join(f"{report.spread([run['share'][of] for run in part['runs']])[1]:.0%}" for of in ("lua", "decode", "stamp"))
            lines += ["", *heading("each: rows/s of one worker", "min - max", "share of Lua / decode / stamp"),
                      cells(f"{median:,.0f}", f"{low:,.0f} - {high:,.0f}", shares)]
        if part.get("counts"):
            lines += ["", *heading("instructions of one", "counted", "held by tests/perf")]
            lines += [cells(what, f"{n['counted']:,}", f"{n['held']:,}") for what, n in part["counts"].items()]
    return lines


def workloads(parts):
    lines = rates(parts, lambda result: result["workload"]) + latencies(parts)
    for part in parts:
        if part["kind"] == "cache":
            lines += cache(part)
    return lines + in_memory(parts)


def fill(text, mark, lines):
    pattern = re.compile(rf"(<!-- {mark}: .*?-->\n).*?(<!-- end -->)", re.S)
    if not pattern.search(text):
        sys.exit(f"publish: docs/PERFORMANCE.md has no mark `{mark}`")
    return pattern.sub(lambda found: found.group(1) + "\n".join(lines) + "\n" + found.group(2), text, count=1)


def pictures(drawn, wanted):
    return ["", *(f"![{name.removesuffix('.svg')}]({name})" for name in drawn if name in wanted)]


def publish(paths):
    results = merged(paths)
    drawn = plot.draw(results, DOCS)
    path = os.path.join(DOCS, "PERFORMANCE.md")
    with open(path) as file:
        text = file.read()
    parts, points = results["workloads"], results["scaling"]
    if parts:
        text = fill(text, "budgets", [*origins(parts), *budgets.table(results), *failures(parts)])
        text = fill(text, "workloads", [*origins(parts), *workloads(parts), *pictures(drawn, ("throughput.svg", "latency.svg"))])
        for mark, made in (("phases", phases), ("model", model)):
            if made(parts):
                text = fill(text, mark, [*origins(parts), *made(parts)])
    if points:
        text = fill(text, "scaling", [*origins(points), *rates(points, lambda result: f"{result['series']}: {result['point']}"), *failures(points),
                                      *pictures(drawn, ("workers.svg", "fanout.svg", "table.svg"))])
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)
    print(path)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.split("\n\n", 1)[1].rstrip())
    publish(sys.argv[1:])
