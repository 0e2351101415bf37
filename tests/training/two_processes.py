"""What each process of `torchrun two_processes.py JOB.json` does: train without chance in the adapters."""

import json
import sys
from pathlib import Path

import torch

from xrec_training.finetune import train
from xrec_training.recipe import read_recipe


def without_noise() -> None:
    """Stills the noise of the gates, which every number of processes would draw differently."""
    torch.randn_like = torch.zeros_like


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    without_noise()
    train(Path(job["data"]), Path(job["graph"]), Path(job["out"]), read_recipe("demo", job["recipe"]), job["resume"])
