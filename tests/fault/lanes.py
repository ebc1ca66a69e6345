"""Runs several stages side by side: most of their time is waiting for a session to time out."""

import sys
import threading
import time
import traceback

from stage import Failure


def run(jobs, lanes):
    """jobs: list of (name, function). Each function gives a line for the report, or raises. Gives how many
    failed; a line is printed for each as it ends."""
    left, failed, lock = list(jobs), [], threading.Lock()

    def lane():
        while True:
            with lock:
                if not left:
                    return
                name, function = left.pop(0)
            begin = time.monotonic()
            try:
                text, ok = function(), True
            except Failure as failure:
                text, ok = str(failure), False
            except Exception:  # a bug of the harness must not pass for a pass
                text, ok = traceback.format_exc(), False
            with lock:
                if not ok:
                    failed.append(name)
                print(f"{'ok    ' if ok else 'FAILED'} {name} ({time.monotonic() - begin:.0f} s): {text}", flush=True)

    threads = [threading.Thread(target=lane) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(failed)


def end(n, failed, what):
    print(f"{n - failed} {what} as they must be, {failed} not")
    sys.exit(1 if failed else 0)
