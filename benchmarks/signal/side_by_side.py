"""Independent jobs side by side in processes; one that fails does not take the others with it."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch
from tqdm import tqdm


def side_by_side(
    function: Callable[..., Any], jobs: Sequence[tuple], workers: int, what: str, seconds: float | None = None
) -> list[Any]:
    """Results of `function(*job)` in the jobs' order.

    Args:
        function: of a module, so that a process can find it.
        jobs: its arguments.
        workers: processes; with 1 all is done in this one.
        what: beside the bar.
        seconds: after which no job is begun; its result is None then.

    Raises:
        Exception: the first that a job raised, once all others are done.
    """
    end = None if seconds is None else time.time() + seconds
    if workers == 1:
        return [_within(end, function, job) for job in tqdm(jobs, desc=what)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(_within, end, function, job) for job in jobs]
        for _ in tqdm(as_completed(futures), desc=what, total=len(futures)):
            pass
    return [future.result() for future in futures]


def _within(end: float | None, function: Callable[..., Any], job: tuple) -> Any:
    return None if end is not None and time.time() > end else function(*job)
