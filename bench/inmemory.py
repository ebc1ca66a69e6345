"""What needs no service: rows a second of a script with `each` (millrace bench), instructions of the hot path (tests/perf)."""

import json
import os
import re
import subprocess

from stage import BUILD, ROOT, Failed


def each(args, result, save):
    """Of one worker, in memory."""
    for _ in range(args.pairs):
        done = subprocess.run([os.path.join(BUILD, "millrace"), "bench", "-c", "bench/each/config.lua", "--json", "--each", "1000",
                               "--rows", "1000000", "--seconds", "1" if args.quick else "3"],
                              cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"millrace bench: {done.stderr[-1000:]}")
        run = json.loads(done.stdout)
        result["runs"].append(run)
        save()
        print(f"  {run['rows_per_s']:>9,} rows/s, Lua {run['share']['lua']:.0%}", flush=True)


def counts(_args, result, _save):
    """tests/perf/run ends with 1 where a count has grown past its bound: the table shows that."""
    done = subprocess.run(["tests/perf/run", os.path.join(BUILD, "tests", "perf_work")], cwd=ROOT, capture_output=True, text=True)
    result["counts"] = {what: {"counted": int(counted), "held": int(held)} for what, counted, held in
                        re.findall(r"^(\w+) +(\d+) instructions, +(\d+) in counts.txt", done.stdout, re.M)}
    if not result["counts"]:
        raise Failed(f"tests/perf/run: {(done.stdout + done.stderr)[-1000:]}")
    for what, n in result["counts"].items():
        print(f"  {what:<8} {n['counted']:>6,} instructions (counts.txt: {n['held']:,})", flush=True)
