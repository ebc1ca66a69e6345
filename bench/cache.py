"""W6: what a table in memory costs: seconds to load it beside a bare binary COPY read, bytes a row, ns a key.

The measuring is done by tools/lookup (real Postgres, pairs) and tests/unit/measure_lookup.c (memory alone).
"""

import os
import re
import subprocess

from stage import BUILD, ROOT, Failed

#        rows, rows a key, feed: `logical` needs the primary key of each row, `reload` does not
TABLES = [(1000000, 100, "reload"), (1000000, 10, "reload"), (1000000, 100, "logical"), (10000000, 100, "logical")]
KEYS = [(1000000, 100), (1000000, 10), (10000000, 100), (10000000, 10)]
FEW = 1000000  # rows: a larger table is loaded once, beside one bare read


def run(argv, bad=(0,)):
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in bad:
        raise Failed(f"{' '.join(argv)}: {done.stderr[-1000:]}")
    return done.stdout


def number(pattern, text):
    found = re.search(pattern, text)
    if not found:
        raise Failed(f"this has no \"{pattern}\": {text[-1000:]}")
    return float(found.group(1))


def load(rows, each, feed, pairs):
    """tools/lookup ends with 1 where a figure is out of its own bounds: the table shows that."""
    text = run(["tools/lookup", "load", "--rows", str(rows), "--each", str(each), "--feed", feed, "--pairs", str(pairs), "--inside"],
               (0, 1))
    pairs = re.findall(r"bare COPY ([\d.]+) s .* rows ([\d.]+) s: ([\d.]+) times", text)
    return {
        "rows": rows, "each": each, "feed": feed,
        "copy_s": [float(p[0]) for p in pairs],
        "load_s": [float(p[1]) for p in pairs],
        "ratios": [float(p[1]) / float(p[0]) for p in pairs],
        "bytes_a_row": number(r"own account\s+([\d.]+)", text),
        "rss_a_row": number(r"bytes a row by RSS\s+([\d.]+)", text),
        "peak_over_table": number(r"one table \(RSS\)\s+([\d.]+)", text),
    }


def memory(rows, each):
    text = run([os.path.join(BUILD, "tests", "measure_lookup"), str(rows), str(each), "0"])
    return {
        "rows": rows, "each": each,
        "ns_a_key": number(r"random keys: (\d+) ns a key", text),
        "ns_a_row": number(r"([\d.]+) ns a row", text),
        "hash_table_ns_a_key": number(r"a plain hash table .*: (\d+) ns", text),
    }


def tell_load(one):
    print(f"  {one['rows']:>10,} rows, {one['each']} a key, {one['feed']:<8} load {min(one['load_s']):.2f} s, bare COPY {min(one['copy_s']):.2f} s, "
          f"{one['bytes_a_row']:.1f} bytes a row (RSS {one['rss_a_row']:.1f}), peak {one['peak_over_table']:.2f} tables", flush=True)


def tell_keys(one):
    print(f"  {one['rows']:>10,} rows, {one['each']} a key: {one['ns_a_key']:.0f} ns a random key with its first row, "
          f"{one['ns_a_row']:.1f} ns a row (a plain hash table {one['hash_table_ns_a_key']:.0f} ns a key)", flush=True)


def measure(args, result, save):
    """Table after table; one that fails is noted, and the next has its turn."""
    divide = 10 if args.quick else 1
    loads = [("loads", tell_load, load, (rows // divide, each, feed, min(args.pairs, 3 if rows <= FEW else 1)))
             for rows, each, feed in TABLES]
    keys = [("keys", tell_keys, memory, (rows // divide, each)) for rows, each in KEYS]
    result.update(loads=[], keys=[])
    for into, tell, how, arguments in keys + loads:
        try:
            one = how(*arguments)
        except Failed as why:
            print(f"  FAILED: {why}", flush=True)
            result["failures"].append({"subject": f"{arguments[0]:,} rows", "pair": 0, "why": str(why)})
            continue
        tell(one)
        result[into].append(one)
        save()
