"""Reading and filtering a dump, and preparing interactions, over the plain way; prints JSON.

The dump is made up: Yelp's shape, some lines broken. The plain way to read it is a loop of `json.loads` that makes the same
rows; the plain way to find a k-core is `networkx.k_core`. Every measurement is a process of its own, whose peak memory is the
kernel's.
"""

import argparse
import json
import os
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

REQUIRED = {"reading_times_faster": 4.0, "preparing_times_faster": 40.0, "large_seconds": 60.0, "large_peak_mb": 6000.0}
MIN_RATING, MIN_WORDS = 4.0, 20
BLOCK_ROWS = 500


@dataclass(frozen=True)
class Options:
    """What is made and measured.

    Args:
        small_mb: size of the smaller dump.
        large_mb: size of the larger dump, for the peak memory.
        broken: broken lines in each; the smaller one is read without them, too.
        interactions: rows over which networkx is compared.
        large_interactions: rows that are prepared alone.
        k: of the k-core.
        repetitions: readings of every time; the median counts.
        threads: of polars.
        seed: of the dump and the interactions.
    """

    small_mb: int = 200
    large_mb: int = 2000
    broken: int = 4
    interactions: int = 2_000_000
    large_interactions: int = 20_000_000
    k: int = 10
    repetitions: int = 3
    threads: int = 2
    seed: int = 0


def write_dump(path: Path, megabytes: float, broken: int, seed: int) -> int:
    """Writes reviews in Yelp's shape and returns how many lines there are, broken ones included."""
    rng = np.random.default_rng(seed)
    letters = np.array(list(string.ascii_lowercase))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(5000)])
    users, items = _ids(rng, 20_000), _ids(rng, 5000)
    lines = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            for row in _rows(rng, users, items, words):
                file.write(json.dumps(row) + "\n")
            lines += BLOCK_ROWS
    with path.open("r+b") as file:
        for number, place in enumerate(np.linspace(0, path.stat().st_size, broken, endpoint=False, dtype=np.int64)):
            file.seek(int(place))
            if place:
                file.readline()
            start, line = file.tell(), file.readline()
            if line:
                file.seek(start)
                file.write(_broken(line, number))
    return lines


def _broken(line: bytes, number: int) -> bytes:
    """A line of the same length that is cut off, or whose rating is none."""
    if number % 2:
        return line.replace(b'"stars": ', b'"stars":"')
    return line[: len(line) // 2].ljust(len(line) - 1) + b"\n"


def _ids(rng: np.random.Generator, count: int) -> np.ndarray:
    characters = np.array(list(string.ascii_letters + string.digits + "-_"))
    return np.array(["".join(row) for row in characters[rng.integers(0, len(characters), (count, 22))]])


def _rows(rng: np.random.Generator, users: np.ndarray, items: np.ndarray, words: np.ndarray) -> list[dict[str, Any]]:
    made = []
    reviews, lengths = _ids(rng, BLOCK_ROWS), rng.lognormal(4.3, 0.7, BLOCK_ROWS).astype(int) + 1
    seconds = rng.integers(1_200_000_000, 1_640_000_000, BLOCK_ROWS)
    for number in range(BLOCK_ROWS):
        text = " ".join(words[rng.integers(0, len(words), lengths[number])])
        made.append(
            {
                "review_id": reviews[number],
                "user_id": users[rng.integers(len(users))],
                "business_id": items[rng.integers(len(items))],
                "stars": float(rng.integers(1, 6)),
                "useful": int(rng.integers(5)),
                "funny": 0,
                "cool": int(rng.integers(3)),
                "text": text.capitalize() + '.\n\n"Caf\u00e9", they said!',
                "date": datetime.fromtimestamp(int(seconds[number]), UTC).strftime("%Y-%m-%d %H:%M:%S"),
            }
        )
    return made


def write_interactions(path: Path, count: int, seed: int) -> None:
    """Writes user and item ids and times as Parquet; both sides by a power law, some pairs twice."""
    rng = np.random.default_rng(seed)
    users, items = max(count // 20, 20), max(count // 80, 10)
    user = (users * rng.random(count) ** 2).astype(np.int64)
    item = (items * rng.random(count) ** 3).astype(np.int64)
    scattered = [rng.permutation(size) for size in (users, items)]
    pl.DataFrame({"user": scattered[0][user], "item": scattered[1][item]}).select(
        user_id=pl.format("user-{}", pl.col("user").hash(seed=1)),
        item_id=pl.format("item-{}", pl.col("item").hash(seed=2)),
        rating=pl.lit(5.0),
        timestamp=pl.Series(rng.integers(1_200_000_000, 1_640_000_000, count)),
        verdict=pl.lit(0, pl.UInt8),
    ).write_parquet(path)


def read_by_loop(path: Path) -> tuple[list[tuple], list[int]]:
    """The plain way: rows that pass, and the numbers of broken lines."""
    rows, broken = [], []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                broken.append(number)
                continue
            if row["stars"] >= MIN_RATING and len(row["text"].split()) >= MIN_WORDS:
                when = datetime.fromisoformat(row["date"]).replace(tzinfo=UTC)
                rows.append((row["user_id"], row["business_id"], row["stars"], int(when.timestamp()), row["text"].strip()))
    return rows, broken


def read_by_builder(path: Path, keep: Callable[[pl.DataFrame], Any]) -> tuple[int, int]:
    """Our way, batch by batch: rows that pass, and how many lines are broken."""
    from xrec_dataset_builder.prepare import PrepareOptions, judge
    from xrec_dataset_builder.sources import find_reader

    batches = find_reader("yelp").batches([path], None, skip_bad_rows=True)
    options, kept = PrepareOptions(min_rating=MIN_RATING, min_words=MIN_WORDS), 0
    for rows in batches.reviews:
        passed = rows.filter(judge(rows, options) == 0)
        kept += passed.height
        keep(passed)
    return kept, batches.review_tally.skipped


def task_loop(path: Path, options: Options) -> dict[str, Any]:
    """Seconds of the loop."""
    start, before = time.perf_counter(), time.process_time()
    rows, broken = read_by_loop(path)
    cpu = time.process_time() - before
    return {"seconds": time.perf_counter() - start, "cpu_seconds": cpu, "kept": len(rows), "broken": len(broken)}


def task_builder(path: Path, options: Options) -> dict[str, Any]:
    """Seconds of ours, nothing kept."""
    from xrec_dataset_builder import prepare, reader_yelp  # noqa: F401  as the loop's modules are

    start, before = time.perf_counter(), time.process_time()
    kept, broken = read_by_builder(path, lambda rows: None)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - before,
        "kept": kept,
        "broken": broken,
    }


def task_same(path: Path, options: Options) -> dict[str, Any]:
    """Whether both ways give the same rows and name the same lines."""
    from xrec_dataset_builder.json_lines import read_batches
    from xrec_dataset_builder.sources import RAW_REVIEWS, find_reader
    from xrec_dataset_builder.tally import Tally

    rows, broken = read_by_loop(path)
    tables: list[pl.DataFrame] = []
    read_by_builder(path, lambda passed: tables.append(passed.select(list(RAW_REVIEWS))))
    try:
        list(read_batches(path, find_reader("yelp").reviews, Tally()))
        named = not broken
    except ValueError as error:
        named = f"line {broken[0]}:" in str(error)
    return {"same_rows": pl.concat(tables).rows() == rows, "names_the_first_broken_line": named}


def task_prepare(path: Path, options: Options) -> dict[str, Any]:
    """Seconds from string ids to distinct pairs of a k-core with their splits, and of each part."""
    from xrec_dataset_builder.prepare import PrepareOptions, choose

    keys = pl.read_parquet(path)
    start, before = time.perf_counter(), time.process_time()
    chosen = choose(keys, PrepareOptions(k_core=options.k, seed=options.seed), keys.height, 0)
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    return {"seconds": seconds, "cpu_seconds": cpu, "kept": len(chosen.rows), "counts": chosen.counts}


def task_networkx(path: Path, options: Options) -> dict[str, Any]:
    """Seconds of `networkx.k_core` alone, on a graph that is there already."""
    import networkx

    pairs = pl.read_parquet(path, columns=["user_id", "item_id"]).unique()
    graph = networkx.Graph()
    graph.add_edges_from(pairs.iter_rows())
    start = time.perf_counter()
    core = networkx.k_core(graph, options.k)
    return {"seconds": time.perf_counter() - start, "kept": core.number_of_edges()}


TASKS = {name.removeprefix("task_"): task for name, task in list(globals().items()) if name.startswith("task_")}


def measured(task: str, path: Path, options: Options) -> dict[str, Any]:
    """Runs one task in a fresh process and returns what it says, with the process's peak memory."""
    command = [sys.executable, str(Path(__file__)), "--task", task, str(path), json.dumps(asdict(options))]
    environment = os.environ | {"POLARS_MAX_THREADS": str(options.threads), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"expected figures of {task}, found exit code {done.returncode}: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def repeated(tasks: Sequence[str], path: Path, options: Options) -> dict[str, dict[str, Any]]:
    """Runs tasks in turns; the figures of each that took the median time, with all times."""
    runs: dict[str, list[dict[str, Any]]] = {task: [] for task in tasks}
    for _ in range(options.repetitions):
        for task in tasks:
            runs[task].append(measured(task, path, options))
    chosen = {}
    for task, figures in runs.items():
        ordered = sorted(figures, key=lambda one: one["seconds"])
        chosen[task] = ordered[len(ordered) // 2] | {"all_seconds": [one["seconds"] for one in figures]}
    return chosen


def measure_reading(options: Options, folder: Path) -> dict[str, Any]:
    """Times over the loop on the smaller dump, and peak memory on both."""
    small, large = folder / "small.json", folder / "large.json"
    lines = write_dump(small, options.small_mb, options.broken, options.seed)
    figures = repeated(("loop", "builder"), small, options)
    figures["same"] = measured("same", small, options)
    write_dump(small, options.small_mb, 0, options.seed)
    figures["builder_unbroken"] = repeated(("builder",), small, options)["builder"]
    write_dump(large, options.large_mb, options.broken, options.seed)
    for task in ("loop", "builder"):
        figures[f"{task}_large"] = measured(task, large, options)
    sizes = {"small_mb": small.stat().st_size / 1e6, "large_mb": large.stat().st_size / 1e6}
    large.unlink()
    times = figures["loop"]["seconds"] / figures["builder"]["seconds"]
    peaks = figures["builder"]["peak_mb"], figures["builder_large"]["peak_mb"]
    return {
        **figures,
        **sizes,
        "lines": lines,
        "times_faster": times,
        "times_faster_unbroken": figures["loop"]["seconds"] / figures["builder_unbroken"]["seconds"],
        "times_faster_large": figures["loop_large"]["seconds"] / figures["builder_large"]["seconds"],
        "times_less_cpu": figures["loop"]["cpu_seconds"] / figures["builder"]["cpu_seconds"],
        "peak_mb_small": peaks[0],
        "peak_mb_large": peaks[1],
        "met": times >= REQUIRED["reading_times_faster"],
    }


def measure_preparing(options: Options, folder: Path) -> dict[str, Any]:
    """Times over networkx, and the larger table alone."""
    both, large = folder / "pairs.parquet", folder / "large.parquet"
    write_interactions(both, options.interactions, options.seed)
    figures = repeated(("prepare",), both, options)
    figures["networkx"] = measured("networkx", both, options)
    write_interactions(large, options.large_interactions, options.seed)
    figures["prepare_large"] = measured("prepare", large, options)
    times = figures["networkx"]["seconds"] / figures["prepare"]["seconds"]
    alone = figures["prepare_large"]
    met = times >= REQUIRED["preparing_times_faster"] and alone["seconds"] <= REQUIRED["large_seconds"]
    return {**figures, "times_faster": times, "met": met and alone["peak_mb"] <= REQUIRED["large_peak_mb"]}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    from measuring import machine, report  # loads torch, which the measured processes must not hold

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for one in fields(Options):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=type(one.default), default=one.default)
    parser.add_argument("--only", choices=("reading", "preparing"), help="measure this alone")
    parser.add_argument("--folder", type=Path, help="where dumps are written; a temporary folder where none is given")
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    given = vars(parser.parse_args(argv))
    only, out, place = given.pop("only"), given.pop("out"), given.pop("folder")
    options = Options(**given)
    figures: dict[str, Any] = {"options": asdict(options), "machine": machine("cpu"), "required": REQUIRED}
    with tempfile.TemporaryDirectory(dir=place) as folder:
        if only != "preparing":
            figures["reading"] = measure_reading(options, Path(folder))
        if only != "reading":
            figures["preparing"] = measure_preparing(options, Path(folder))
    report(figures, out)
    return 0


def peak_mb() -> float:
    """Most memory this program held; what the process was before it ran this program does not count."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def run_task(task: str, path: str, options: str) -> int:
    """Prints the figures of one task, in the process that was started for it."""
    figures = TASKS[task](Path(path), Options(**json.loads(options)))
    figures["peak_mb"] = peak_mb()
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(run_task(*sys.argv[2:]) if sys.argv[1:2] == ["--task"] else main())
