"""Fair readings for the benchmarks: interleaved times, exact counts of operations and bytes, and what machine it was."""

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

Call = Callable[[], Any]


class Ledger(TorchDispatchMode):
    """Counts the operations dispatched under it, and the bytes of the storages they make."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.new_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operation and writes it down; an output that is a view of an input makes no storage."""
        output = func(*args, **(kwargs or {}))
        self.operations[str(func)] += 1
        known = {_storage(tensor) for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(output):
            if _storage(tensor) not in known:
                known.add(_storage(tensor))
                self.new_bytes += tensor.untyped_storage().nbytes()
        return output


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def ledger_of(call: Call) -> Ledger:
    """What one call dispatches."""
    with Ledger() as ledger:
        call()
    return ledger


def times_by_operation(call: Call) -> dict[tuple[str, str], tuple[int, float]]:
    """Count and self CPU time in milliseconds of every operation of one call, by name and shapes."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        call()
    return {
        (event.key, str(event.input_shapes)): (event.count, event.self_cpu_time_total / 1000)
        for event in profiled.key_averages(group_by_input_shape=True)
    }


def added_share(call: Call, plain: Call) -> float:
    """Share of one call's CPU time in the operations that the plain one does not make, or makes less often.

    It resolves what a clock on a shared machine does not: a slow moment falls on all operations of a call alike.
    """
    own, base = times_by_operation(call), times_by_operation(plain)
    added = sum(time * max(count - base.get(key, (0, 0.0))[0], 0) / count for key, (count, time) in own.items())
    return added / sum(time for _, time in own.values())


def interleave(calls: dict[str, Call], repetitions: int, wait: Call) -> dict[str, list[float]]:
    """Seconds of each call in every repetition, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for repetition in range(repetitions + 1):
        shift = repetition % len(names)
        for name in names[shift:] + names[:shift]:
            wait()
            start = time.perf_counter()
            calls[name]()
            wait()
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower and upper quartile."""
    return torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist()


def report(figures: dict[str, Any], out: Path | None) -> None:
    """Prints figures as JSON, and writes them to a file where one is given."""
    text = json.dumps(figures, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    cpu = platform.processor() or platform.machine()
    if (lines := Path("/proc/cpuinfo")).is_file():
        names = [line.split(":", 1)[1].strip() for line in lines.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
