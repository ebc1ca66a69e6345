"""What a script with `each` reaches: rows a second of one worker, in memory (millrace bench)."""

import json
import os
import subprocess

from stage import BUILD, ROOT, Failed


def measure(args):
    runs = []
    for _ in range(args.pairs):
        done = subprocess.run([os.path.join(BUILD, "millrace"), "bench", "-c", "bench/each/config.lua", "--json", "--each", "1000",
                               "--rows", "1000000", "--seconds", "1" if args.quick else "3"],
                              cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"millrace bench: {done.stderr[-1000:]}")
        runs.append(json.loads(done.stdout))
        print(f"  {runs[-1]['rows_per_s']:>9,} rows/s, Lua {runs[-1]['share']['lua']:.0%}", flush=True)
    return {"workload": "each", "title": "each: Lua for every row", "kind": "each", "runs": runs}
