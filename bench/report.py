"""What was measured, in words: a line a run, the table with the budgets, the JSON file."""

import json
import os
import statistics


def machine():
    """What the figures depend on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) // 2**20
    return {"cpu": model, "cores": os.cpu_count(), "memory_gb": memory, "kernel": os.uname().release.split("-")[0]}


def write(results, path):
    text = json.dumps(results, indent=1)
    for name in (path, os.path.join(os.path.dirname(path), "latest.json")):
        with open(name + ".new", "w") as file:
            file.write(text + "\n")
        os.replace(name + ".new", name)


def seen(run):
    """The times of what W4 is about: of the message, or of the raw unit."""
    return run["times"].get("message") or run["times"]["unit"]


def figure(kind, run):
    """The one figure of a run that the subjects are compared by."""
    if kind == "latency":
        return seen(run)["p50"]
    return run["campaigns_per_s" if kind == "read" else "outputs_per_s"]


UNITS = {"latency": "ms", "read": "campaigns/s", "sink": "outputs/s"}


def shown(kind, value):
    return f"{value:.2f}" if kind == "latency" else f"{value:,.0f}"


def line(workload, run):
    cpu = run["cpu"]
    text = f"{run.get('seconds', 0):6.2f} s"
    if workload.kind == "latency":
        text = "; ".join(f"{name} p50 {t['p50']:.2f} p99 {t['p99']:.2f} max {t['max']:.1f}" for name, t in run["times"].items())
    print(f"  {'warm ' if not run['pair'] else str(run['pair']).ljust(5)}{run['subject']:<28} "
          f"{shown(workload.kind, figure(workload.kind, run)):>9} {UNITS[workload.kind]}  {text}  CPU s: subject {cpu['subject']:.2f}, "
          f"Kafka {cpu['kafka']:.2f}, Postgres {cpu['postgres']:.2f}, others {cpu['others']:.2f}  "
          f"peak {run['peak_mb']:.0f} MB" + (f" (lookup {run['lookup_mb']:.0f})" if run.get("lookup_mb") else "")
          + ("  " + ", ".join(f"{k} {v}" for k, v in run["phases"].items()) if run.get("phases") else ""), flush=True)


def spread(values):
    """min, median, max."""
    values = sorted(values)
    return (values[0], statistics.median(values), values[-1]) if values else (0, 0, 0)


def runs_of(result, spec):
    return [run for run in result["runs"] if run["subject"] == spec]


def ratios(result, spec, base, figure):
    """The same pair's figure of both, divided."""
    of = {(run["subject"], run["pair"]): figure(run) for run in result["runs"]}
    pairs = sorted({run["pair"] for run in result["runs"]})
    return [of[spec, p] / of[base, p] for p in pairs if of.get((base, p)) and (spec, p) in of]


def table(results):
    """What was compared. What has no subjects has printed its figures as they came."""
    for result in results["workloads"] + results["scaling"]:
        if not result["subjects"] or not result["runs"]:
            continue
        kind, runs, base = result["kind"], result["runs"], result["base"]
        title = f"{result['series']}: {result['point']}" if "series" in result else f"{result['workload']} {result['title']}"
        print(f"\n{title}; {len({r['pair'] for r in runs})} pairs, {result['compression']}")
        for spec in result["subjects"]:
            if not runs_of(result, spec):
                print(f"  {spec:<28} no run gave a figure")
                continue
            low, middle, high = (shown(kind, v) for v in spread([figure(kind, r) for r in runs_of(result, spec)]))
            text = f"  {spec:<28} {middle:>9} {UNITS[kind]} ({low} - {high})"
            if "series" in result:
                cost = spread([r["cpu"]["subject"] / r["outputs"] * 1e6 for r in runs_of(result, spec)])[1]
                text += f"  {cost:.2f} CPU us an output"
            if spec != base:
                low, middle, high = spread(ratios(result, spec, base, lambda r: figure(kind, r)))
                text += f"  over {base}: {low:.2f} {middle:.2f} {high:.2f}"
            print(text)
