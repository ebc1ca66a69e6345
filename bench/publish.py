#!/usr/bin/python3
"""Puts what bench/run has measured into docs/: the tables of PERFORMANCE.md, between their marks, and the plots.

    bench/publish.py build/bench/latest.json

A run of the workloads fills the marks `budgets` and `workloads` (what it left out then stands there as not measured), one
with --scaling the mark `scaling`. Each table says when, where and with which command it was measured.
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
    command = "bench/run " + " ".join(word for word in results["command"] if word != "--publish")
    return (f"Measured {results['began'][:10]} with `{command.strip()}`: {results['pairs']} pair{'s' * (results['pairs'] != 1)}, "
            f"{results['compression']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
            f"Linux {machine['kernel']}." + (" **A tenth of the work: a look, no figure.**" if results["quick"] else ""))


def cells(*values):
    return "| " + " | ".join(values) + " |"


def middle(result, spec, value):
    return report.spread([value(run) for run in result["runs"] if run["subject"] == spec])[1]


def cpu(result, spec):
    """Median CPU seconds of subject, Kafka and Postgres, for a million outputs (campaigns, where those are counted)."""
    per = (result["campaigns"] if result["kind"] == "read" else result["outputs"]) / 1e6
    return " / ".join(f"{middle(result, spec, lambda r: r['cpu'][who] / per):.1f}" for who in ("subject", "kafka", "postgres"))


def spreads(kind, values):
    return " - ".join(report.shown(kind, v) for v in (values[0], values[2])), report.shown(kind, values[1])


def row(result, name, spec):
    kind = result["kind"]
    around, median = spreads(kind, report.spread([report.figure(kind, r) for r in result["runs"] if r["subject"] == spec]))
    ratio = () if spec == result["base"] else report.spread(report.ratios(result, spec, result["base"], lambda r: report.figure(kind, r)))
    return cells(name, spec, f"{median} {report.UNITS[kind]}", around, " ".join(f"{r:.2f}" for r in ratio), cpu(result, spec),
                 f"{middle(result, spec, lambda r: r['peak_mb']):.0f}")


HEAD = ["| | subject | median | min - max | over the limit in the same pair: min median max | CPU s of it / Kafka / Postgres a million | peak MB |",
        "|---|---|---|---|---|---|---|"]


def workloads(results):
    return HEAD + [row(result, result["workload"], spec) for result in results["workloads"] if "subjects" in result
                   for spec in result["subjects"]]


def scaling(results):
    return HEAD + [row(result, f"{result['series']}: {result['point']}", spec) for result in results["scaling"]
                   for spec in result["subjects"]]


def fill(text, mark, lines):
    pattern = re.compile(rf"(<!-- {mark}: .*?-->\n).*?(<!-- end -->)", re.S)
    if not pattern.search(text):
        sys.exit(f"publish: docs/PERFORMANCE.md has no mark `{mark}`")
    return pattern.sub(lambda found: found.group(1) + "\n".join(lines) + "\n" + found.group(2), text, count=1)


def publish(results):
    path = os.path.join(DOCS, "PERFORMANCE.md")
    with open(path) as file:
        text = file.read()
    plots = [f"![{name[:-4]}]({name})" for name in plot.draw(results, DOCS)]
    if results["workloads"]:
        text = fill(text, "budgets", [origin(results), "", *budgets.table(results)])
        text = fill(text, "workloads", [origin(results), "", *workloads(results), "", *plots])
    if results.get("scaling"):
        text = fill(text, "scaling", [origin(results), "", *scaling(results), "", *plots])
    with open(path, "w") as file:
        file.write(text)
    print(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: bench/publish.py FILE.json")
    with open(sys.argv[1]) as measured:
        publish(json.load(measured))
