"""The budgets, and what of a run stands beside each. A budget that was not measured says so.

A figure without a bound is one that the design wants reported.
"""

import report


def over(result, spec, base, figure):
    return report.ratios(result, spec, base, figure) if result and spec in result["subjects"] else []


def cpu(run):
    return run["cpu"]["subject"]


def above_lookup(result, spec):
    return [r["peak_mb"] - (r["lookup_mb"] or 0) for r in report.runs_of(result, spec)] if result else []


def raw_of(result):
    return next((s for s in result["subjects"] if s.startswith("raw")), None) if result else None


def budgets(results):
    """(text, comparison, bound or None, values): values of all pairs, [] where it was not measured."""
    of = {result["workload"]: result for result in results["workloads"]}
    us = "exactly_once"
    rows = []
    for name, most in (("W1", 1.25), ("W2", 1.6)):
        result = of.get(name)
        rate = lambda run: run["outputs_per_s"]
        rows.append((f"{name} outputs/s over the raw sink, exactly once", ">=", 0.95, over(result, us, raw_of(result), rate)))
        rows.append((f"{name} outputs/s over Python by hand", ">=", 1.5, over(result, us, "python", rate)))
        rows.append((f"{name} CPU s of the daemon over the raw sink's", "<=", most, over(result, us, raw_of(result), cpu)))
    rows.append(("W3 campaigns/s over the raw reader", ">=", 0.5,
                 over(of.get("W3"), us, raw_of(of.get("W3")), lambda run: run["campaigns_per_s"])))
    for percentile, most in (("p50", 2), ("p99", 4)):
        rows.append((f"W4 {percentile} to a read_committed consumer over the raw unit's", "<=", most,
                     over(of.get("W4"), us, raw_of(of.get("W4")), lambda run: report.seen(run)[percentile])))
    for name in ("W1", "W2", "W5"):
        rows.append((f"{name} peak MB above the lookup", "<=", 64, above_lookup(of.get(name), us)))
    rows += cache(of.get("W6", {}))
    rows.append(("each: thousands of rows/s of one worker, 8 fields", ">=", 400,
                 [run["rows_per_s"] / 1000 for run in of["each"]["runs"]] if "each" in of else []))
    counts = of.get("counts", {}).get("counts", {})
    rows.append(("instructions of a row (stamp), by callgrind", "", None, [counts["stamp"]["counted"]] if "stamp" in counts else []))
    return rows


def cache(result):
    rows = []
    for load in result.get("loads", []):
        what = f"{load['rows']:,} rows, {load['each']} a key, {load['feed']}"
        rows.append((f"W6 load over a bare COPY read: {what}", "<=", 1.5, load["ratios"]))
        most = (20 if load["each"] >= 100 else 26) + (12 if load["feed"] == "logical" else 0)
        rows.append((f"W6 bytes a row: {what}", "<=", most, [load["rss_a_row"]]))
    if not rows:
        rows.append(("W6 load over a bare COPY read", "<=", 1.5, []))
        rows.append(("W6 bytes a row", "<=", 20, []))
    for keys in result.get("keys", []):
        rows.append((f"W6 ns a random key over a plain hash table's: {keys['rows']:,} rows, {keys['each']} a key", "", None,
                     [keys["ns_a_key"] / keys["hash_table_ns_a_key"]]))
    return rows


def verdict(comparison, bound, median):
    if bound is None:
        return "reported"
    return "met" if (median >= bound if comparison == ">=" else median <= bound) else "**not met**"


def table(results):
    """The lines of the table, Markdown: it goes into documents as it is."""
    lines = ["| budget | | measured, median | min - max | pairs | |", "|---|---|---|---|---|---|"]
    for text, comparison, bound, values in budgets(results):
        wanted = "" if bound is None else f"{comparison} {bound:g}"
        if not values:
            lines.append(f"| {text} | {wanted} | not measured in this run | | | |")
            continue
        low, median, high = map(shown, report.spread(values))
        lines.append(f"| {text} | {wanted} | {median} | {low} - {high} | {len(values)} | "
                     f"{verdict(comparison, bound, report.spread(values)[1])} |")
    return lines


def shown(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
