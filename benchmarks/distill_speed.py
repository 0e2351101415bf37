"""The share of the ideal rate at an endpoint that takes its time, the ceiling at one that does not, and memory; prints JSON.

The endpoint is a process of its own on the loopback interface, and so is each asker, whose peak memory is read when it ends.
Every question is another one, every answer is recorded in a journal on the disk before the next question takes its place.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xrec_dataset_builder.ask_options import AskOptions
from xrec_dataset_builder.asking import ask
from xrec_dataset_builder.journal import Journal
from xrec_dataset_builder.openai_teacher import OpenAITeacher
from xrec_dataset_builder.teacher import Request

REQUIRED = {"share_of_ideal": 0.90, "peak_mb": 300}
ENDPOINT = Path(__file__).with_name("loopback_endpoint.py")
REVIEW = "We went there for the crisp crust and stayed for the quiet garden; the service took its time. "


@dataclass(frozen=True)
class Options:
    """What is asked.

    Args:
        requests: of the endpoint that takes its time.
        seconds: that it takes.
        concurrency: questions in flight.
        at_once: requests of the endpoint that answers at once.
        characters: of a question.
    """

    requests: int = 3840
    seconds: float = 0.5
    concurrency: int = 64
    at_once: int = 4000
    characters: int = 2000


def requests_of(count: int, characters: int) -> Iterator[Request]:
    """So many different questions."""
    text = REVIEW * (characters // len(REVIEW) + 1)
    for number in range(count):
        messages = (("system", "Say why."), ("user", f"{number}: {text[:characters]}"))
        yield Request("explanation", (str(number),), messages, "", "openai", "loopback", "1", 0.0, 100, 0)


@contextmanager
def endpoint(seconds: float) -> Iterator[str]:
    """The address of an endpoint in a process of its own."""
    command = [sys.executable, str(ENDPOINT), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101 (it is a pipe)
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.communicate()


def ask_all(url: str, count: int, options: Options) -> dict[str, Any]:
    """Asks in this process; its seconds, the processor's seconds and the peak of its memory."""
    start_cpu = time.process_time()
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.sqlite") as journal:
        teacher = OpenAITeacher(url, options.concurrency)
        settings = AskOptions(concurrency=options.concurrency)
        requests = requests_of(count, options.characters)
        counts = ask(requests, teacher, journal, lambda _, answer: answer.text, None, settings, False, lambda *_: None).counts
        recorded = len(journal)
    return {
        "answered": counts.answered,
        "recorded": recorded,
        "retried": counts.retried,
        "seconds": counts.seconds,
        "requests_per_second": counts.answered / counts.seconds,
        "cpu_ms_per_request": (time.process_time() - start_cpu) / count * 1000,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    # Not getrusage's, which begins with what the parent had when it started this process.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def asked_apart(seconds: float, count: int, options: Options) -> dict[str, Any]:
    """Asks in a process of its own."""
    with endpoint(seconds) as url:
        given = json.dumps({"url": url, "count": count, "options": asdict(options)})
        command = [sys.executable, __file__, "--asker", given]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)  # noqa: S603


def measure(options: Options) -> dict[str, Any]:
    """All figures, as they are printed."""
    from measuring import machine  # loads torch, which the askers do not

    late = asked_apart(options.seconds, options.requests, options)
    ideal = options.concurrency / options.seconds
    late |= {"ideal": ideal, "share_of_ideal": late["requests_per_second"] / ideal}
    at_once = asked_apart(0.0, options.at_once, options)
    whole = late["recorded"] == options.requests and at_once["recorded"] == options.at_once
    peak = max(late["peak_mb"], at_once["peak_mb"])
    met = whole and late["share_of_ideal"] >= REQUIRED["share_of_ideal"] and peak <= REQUIRED["peak_mb"]
    return {
        "options": asdict(options),
        "machine": machine("cpu") | {"load": os.getloadavg()[0]},
        "late": late,
        "at_once": at_once,
        "required": REQUIRED,
        "met": met,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in fields(Options):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    parser.add_argument("--asker", help=argparse.SUPPRESS)
    given = vars(parser.parse_args(argv))
    out, asker = given.pop("out"), given.pop("asker")
    if asker:
        task = json.loads(asker)
        print(json.dumps(ask_all(task["url"], task["count"], Options(**task["options"]))))
        return 0
    from measuring import report

    report(measure(Options(**given)), out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
