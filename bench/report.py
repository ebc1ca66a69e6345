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
    return {"cpu": model, "cores": os.cpu_count(), "memory_gb": memory, "kernel": os.uname().release}


def write(results, path):
    text = json.dumps(results, indent=1)
    for name in (path, os.path.join(os.path.dirname(path), "latest.json")):
        with open(name, "w") as file:
            file.write(text + "\n")


def rate(workload_kind, run):
    return run["campaigns_per_s" if workload_kind == "read" else "outputs_per_s"]


def line(workload, run):
    cpu = run["cpu"]
    unit = "campaigns/s" if workload.kind == "read" else "outputs/s"
    print(f"  {'warm ' if not run['pair'] else str(run['pair']).ljust(5)}{run['subject']:<28} "
          f"{rate(workload.kind, run):>9,.0f} {unit}  {run['seconds']:6.2f} s  CPU s: subject {cpu['subject']:.2f}, "
          f"Kafka {cpu['kafka']:.2f}, Postgres {cpu['postgres']:.2f}, others {cpu['others']:.2f}  "
          f"peak {run['peak_mb']:.0f} MB" + (f" (lookup {run['lookup_mb']:.0f})" if run["lookup_mb"] else "")
          + ("  " + ", ".join(f"{k} {v}" for k, v in run["phases"].items()) if run.get("phases") else ""), flush=True)


def spread(values):
    """min, median, max."""
    values = sorted(values)
    return (values[0], statistics.median(values), values[-1]) if values else (0, 0, 0)


def ratios(result, spec, base, figure):
    """The same pair's figure of both, divided."""
    of = {(run["subject"], run["pair"]): figure(run) for run in result["runs"]}
    pairs = sorted({run["pair"] for run in result["runs"]})
    return [of[spec, p] / of[base, p] for p in pairs if of.get((base, p)) and (spec, p) in of]


def table(results):
    print()
    for result in results["workloads"]:
        unit = "campaigns/s" if result["kind"] == "read" else "outputs/s"
        print(f"{result['workload']} {result['title']}; {len({r['pair'] for r in result['runs']})} pairs, {result['compression']}")
        for spec in result["subjects"]:
            low, middle, high = spread([rate(result["kind"], r) for r in result["runs"] if r["subject"] == spec])
            text = f"  {spec:<28} {middle:>9,.0f} {unit} ({low:,.0f} - {high:,.0f})"
            if spec != result["base"]:
                low, middle, high = spread(ratios(result, spec, result["base"], lambda r: rate(result["kind"], r)))
                text += f"  over {result['base']}: {low:.2f} {middle:.2f} {high:.2f}"
            print(text)
