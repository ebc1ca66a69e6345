#!/usr/bin/python3
"""Plots of what bench/run has measured, as SVG: bench/plot.py build/bench/latest.json docs/

One file a kind: throughput.svg (a bar a subject, with the least and the most of all pairs), latency.svg, and with
--scaling's figures workers.svg, fanout.svg, table.svg. Nothing is drawn for what the file does not have.
"""

import html
import json
import os
import sys

import report

WIDTH, LEFT, RIGHT, BAR, GAP = 760, 270, 90, 18, 8
INK, PALE = "#23395b", "#8fa9c9"


def svg(width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(body)}</svg>\n')


def text(x, y, words, anchor="start", weight="normal"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="#222">{html.escape(words)}</text>'


def bars(groups, unit):
    """groups: (title, [(label, low, median, high)])."""
    most = max(row[3] for _, rows in groups for row in rows) or 1
    scale = (WIDTH - LEFT - RIGHT) / most
    body, y = [], 24
    for title, rows in groups:
        body.append(text(10, y, title, weight="bold"))
        y += 10
        for label, low, median, high in rows:
            body.append(text(LEFT - 8, y + 13, label, "end"))
            body.append(f'<rect x="{LEFT}" y="{y}" width="{median * scale:.1f}" height="{BAR}" fill="{PALE}"/>')
            body.append(f'<path d="M{LEFT + low * scale:.1f} {y + BAR / 2}H{LEFT + high * scale:.1f}" stroke="{INK}" stroke-width="2"/>')
            body.append(text(LEFT + max(median, high) * scale + 6, y + 13, f"{median:,.0f}" if median >= 100 else f"{median:.2f}"))
            y += BAR + GAP
        y += 22
    body.append(text(WIDTH - 10, y - 12, unit, "end"))
    return svg(WIDTH, y, body)


def measured(result, value):
    """(subject, least, median, most) of those that have a figure."""
    return [(spec, *report.spread([value(run) for run in report.runs_of(result, spec)]))
            for spec in result["subjects"] if report.runs_of(result, spec)]


def pairs(results):
    n = max((run["pair"] for result in results for run in result["runs"] if "pair" in run), default=0)
    return f"{n} pair{'s' * (n != 1)}"


def throughput(results):
    groups = []
    for result in results["workloads"]:
        rows = measured(result, lambda r: report.figure(result["kind"], r) / 1000) if result["kind"] in ("sink", "read") else []
        if rows:
            groups.append((f"{result['workload']}  {result['title']} ({report.UNITS[result['kind']]})", rows))
    return bars(groups, f"thousands a second; median, least and most of {pairs(results['workloads'])}") if groups else None


def latency(results):
    groups = []
    for result in results["workloads"]:
        for percentile in ("p50", "p99") if result["kind"] == "latency" else ():
            rows = measured(result, lambda r: report.seen(r)[percentile])
            if rows:
                groups.append((f"{result['workload']} {percentile}, ms", rows))
    return bars(groups, f"milliseconds; median, least and most of {pairs(results['workloads'])}") if groups else None


def scaling(results, name, unit, value):
    """One series of --scaling: a bar a point."""
    points = [r for r in results["scaling"] if r["series"] == name]
    rows = [(point["point"] if len(point["subjects"]) == 1 else row[0], *row[1:]) for point in points for row in measured(point, value)]
    return bars([(points[0]["about"], rows)], f"{unit}; median, least and most of {pairs(points)}") if rows else None


def micros(run):
    return run["cpu"]["subject"] / run["outputs"] * 1e6


def draw(results, into):
    plots = {
        "throughput.svg": throughput(results),
        "latency.svg": latency(results),
        "workers.svg": scaling(results, "workers", "thousands of outputs a second", lambda r: r["outputs_per_s"] / 1000),
        "fanout.svg": scaling(results, "fanout", "CPU microseconds of the daemon an output", micros),
        "table.svg": scaling(results, "table", "CPU microseconds of the daemon an output", micros),
    }
    drawn = [name for name, image in plots.items() if image]
    for name in drawn:
        with open(os.path.join(into, name), "w") as file:
            file.write(plots[name])
    return drawn


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: bench/plot.py FILE.json DIRECTORY")
    with open(sys.argv[1]) as measured:
        print(*draw(json.load(measured), sys.argv[2]))
