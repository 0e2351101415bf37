"""Runs `train` in forked children, kills them, and goes on: so that a test pays once for the imports.

Usage: killed_runs.py JOB.json. The job: `data`, `graph`, `recipe` (overrides), `out`, `kills` (steps to die at, in turn), or
`random_kills` (how many, while every step is being saved) with `seed`. Prints what the parent saw as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from xrec_training.atomic_checkpoints import newest_checkpoint
from xrec_training.finetune import train
from xrec_training.recipe import read_recipe
from xrec_training.trainer import XRecTrainer


def child(job: dict, out: Path, resume: bool, die_at: int | None) -> int:
    """Starts a run in a child that kills itself before its `die_at`-th step, if that is given."""
    pid = os.fork()
    if pid:
        return pid
    if die_at is not None:
        step = XRecTrainer.training_step

        def deadly(self, *args, **kwargs):
            if self.state.global_step + 1 == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, *args, **kwargs)

        XRecTrainer.training_step = deadly
    code = 1
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
        train(Path(job["data"]), Path(job["graph"]), out, read_recipe("demo", job["recipe"]), resume)
        code = 0
    finally:
        os._exit(code)


def finish(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    out = Path(job["out"])
    partial = out.with_name(f"{out.name}.partial")
    seen = []
    for number, step in enumerate(job.get("kills", ())):
        code = finish(child(job, out, number > 0, step))
        found = newest_checkpoint(partial)
        seen.append({"code": code, "step": step, "checkpoint": found and found.name})
    rng = random.Random(job.get("seed", 0))
    for number in range(job.get("random_kills", 0)):
        before = newest_checkpoint(partial)
        pid = child(job, out, number > 0, None)
        while newest_checkpoint(partial) == before and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(rng.random() * 0.25)
        os.kill(pid, signal.SIGKILL)
        code = finish(pid)
        left = sorted(path.name for path in partial.iterdir())
        found = newest_checkpoint(partial)
        seen.append({"code": code, "checkpoint": found and found.name, "left": left})
    code = finish(child(job, out, bool(seen), None))
    sys.stdout.write(json.dumps({"kills": seen, "code": code}) + "\n")


if __name__ == "__main__":
    main()
