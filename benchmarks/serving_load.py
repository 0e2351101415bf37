"""What does batching give a server, and does it hold? Clients on loopback ask a server in its own process; prints JSON.

The same clients ask a server that batches and one that takes a row at a time, in turn and both without a cache; every client
asks the next pair when it has the last answer. Reported are answers a second, latencies, every status, and the memory of the
server's process while it is asked.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import httpx2 as httpx
from measuring import machine, report

REQUIRED = {"times_faster": 4.0, "memory_grows_by": 0.05}
START = "import sys; from xrec_serving.commands import serve_command; serve_command(sys.argv[1:])"
WARM_SECONDS = 3.0
READINGS = 20


@dataclass(frozen=True)
class Options:
    """What is asked and for how long.

    Args:
        clients: that ask at the same time.
        seconds: of the batching server, in all its rounds.
        base_seconds: of the server that takes a row at a time, in all its rounds.
        rounds: of both, in turn; the median ratio counts.
        max_batch: of the batching server.
        deadline_ms: of the batching server.
        seed: of the pairs.
    """

    clients: int = 64
    seconds: float = 60.0
    base_seconds: float = 30.0
    rounds: int = 3
    max_batch: int = 64
    deadline_ms: float = 10.0
    seed: int = 0


@contextlib.contextmanager
def served(model: Path, *arguments: str) -> Iterator[tuple[str, int]]:
    """A server without a cache in a process of its own: its address and process id."""
    command = [sys.executable, "-c", START, str(model), "--port", "0", "--cache", "0", "--queue", "1024", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("Serving "):
            raise SystemExit(f"expected the server's address, found {line!r}")
        try:
            yield line.split()[-1], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def resident_mb(process: int) -> float:
    """Memory of a process that is in use now, in megabytes, by the kernel's count."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return float(re.findall(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024 / 1e6


def random_pairs(model: Path, seed: int) -> Iterator[dict[str, str]]:
    """Pairs of a model's users and items, without end."""
    users, items = (json.loads((model / f"{side}s.json").read_text(encoding="utf-8")) for side in ("user", "item"))
    rng = random.Random(seed)
    while True:
        yield {"user_id": rng.choice(users)["user_id"], "item_id": rng.choice(items)["item_id"]}


async def load(base: str, pairs: Iterator[dict[str, str]], clients: int, seconds: float) -> dict[str, Any]:
    """Asks for so long: `answers` a second, `statuses`, and `latencies` in seconds."""
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    began = time.perf_counter()

    async def ask(http: httpx.AsyncClient) -> None:
        while (started := time.perf_counter()) < began + seconds:
            try:
                answer = await http.post("/v1/explain", json={"pairs": [next(pairs)]})
                statuses[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                statuses[type(error).__name__] += 1
            latencies.append(time.perf_counter() - started)

    async with httpx.AsyncClient(base_url=base, timeout=120, limits=httpx.Limits(max_connections=None)) as http:
        await asyncio.gather(*(ask(http) for _ in range(clients)))
    return {"answers": statuses["200"] / (time.perf_counter() - began), "statuses": statuses, "latencies": latencies}


async def watched(process: int, memory: list[float], interval: float, call: Any) -> dict[str, Any]:
    """What a coroutine gives, while megabytes of a process are noted."""

    async def note() -> None:
        while True:
            memory.append(resident_mb(process))
            await asyncio.sleep(interval)

    noting = asyncio.create_task(note())
    try:
        return await call
    finally:
        noting.cancel()


def rows_a_call(base: str) -> float:
    """Rows of the average model call, by the server's own figures."""
    text = httpx.get(f"{base}/metrics").text
    rows, calls = (re.findall(rf"^xrec_batch_rows_{name} (\S+)", text, re.MULTILINE)[0] for name in ("sum", "count"))
    return float(rows) / float(calls)


def summary(found: list[dict[str, Any]], memory: list[float], rows: float) -> dict[str, Any]:
    """Figures of one server over its rounds."""
    latencies = sorted(second for one in found for second in one["latencies"])
    few = max(1, len(memory) // 4)
    return {
        "answers_a_second": [one["answers"] for one in found],
        "statuses": dict(sum((one["statuses"] for one in found), Counter())),
        "rows_a_call": rows,
        "p50_seconds": latencies[len(latencies) // 2],
        "p99_seconds": latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
        "memory_mb": [round(one, 1) for one in memory],
        "memory_grows_by": statistics.median(memory[-few:]) / statistics.median(memory[:few]) - 1,
    }


def run(model: Path, options: Options) -> dict[str, Any]:
    """Loads both servers in turn."""
    batched = ("--max-batch", str(options.max_batch), "--deadline-ms", str(options.deadline_ms))
    ways = {"batched": batched, "one_at_a_time": ("--max-batch", "1", "--deadline-ms", "0")}
    seconds = {"batched": options.seconds, "one_at_a_time": options.base_seconds}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    memory: dict[str, list[float]] = {name: [] for name in ways}
    with contextlib.ExitStack() as running:
        servers = {name: running.enter_context(served(model, *ways[name])) for name in ways}
        pairs = {name: random_pairs(model, options.seed) for name in ways}
        for name, (base, _) in servers.items():
            asyncio.run(load(base, pairs[name], options.clients, WARM_SECONDS))
        for _ in range(options.rounds):
            for name, (base, process) in servers.items():
                part = seconds[name] / options.rounds
                call = load(base, pairs[name], options.clients, part)
                interval = seconds[name] / READINGS
                found[name].append(asyncio.run(watched(process, memory[name], interval, call)))
        rows = {name: rows_a_call(base) for name, (base, _) in servers.items()}
    figures = {name: summary(found[name], memory[name], rows[name]) for name in ways}
    ratios = [a["answers"] / b["answers"] for a, b in zip(found["batched"], found["one_at_a_time"], strict=True)]
    errors = sum(n for one in figures.values() for status, n in one["statuses"].items() if status != "200")
    reached = {
        "times_faster": statistics.median(ratios),
        "errors": errors,
        "memory_grows_by": figures["batched"]["memory_grows_by"],
    }
    return {
        "machine": machine("cpu"),
        "options": asdict(options),
        **figures,
        **reached,
        "required": REQUIRED,
        "reached": reached["times_faster"] >= REQUIRED["times_faster"]
        and not errors
        and reached["memory_grows_by"] <= REQUIRED["memory_grows_by"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="model folder, such as that of `xrec demo`")
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    for field in fields(Options):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    given = vars(parser.parse_args(argv))
    model, out = given.pop("model"), given.pop("out")
    report(run(model, Options(**given)), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
