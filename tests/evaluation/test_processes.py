import os
import subprocess
import sys

import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.commands import evaluate_command, explain_command
from xrec_evaluation.processes import Processes, RemoteError

JOB = """
import os, sys, time
from pathlib import Path

from xrec_evaluation.explain import Explainer
from xrec_training.cli import main

model, data, pairs, out = sys.argv[1:]
codes = [
    main(["evaluate", model, "--data", data, "--limit", "9", "--batch-size", "2", "--out", f"{out}/two"]),
    main(["explain", model, "--pairs", pairs, "--out", f"{out}/two.parquet"]),
]
explain = Explainer.pairs

def slow_or_broken(self, users, items, progress=False):
    if os.environ["RANK"] == "1":
        raise ValueError("no answer\\nto this row")
    time.sleep(0.3)
    with Path(out, "calls").open("a") as file:
        file.write("x")
    return explain(self, users, items)

Explainer.pairs = slow_or_broken
codes.append(main(["explain", model, "--pairs", pairs, "--out", f"{out}/bad.parquet", "--batch-size", "1"]))
print("codes", *codes)
sys.exit(codes[-1])
"""


def launch(*arguments):
    """Two processes on the CPU, as `torchrun` starts them; it ends them when a test ends early."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *map(str, arguments)]
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **os.environ}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        try:
            stdout, stderr = launcher.communicate(timeout=240)
        finally:
            launcher.terminate()
    return subprocess.CompletedProcess(command, launcher.returncode, stdout, stderr)


@pytest.mark.timeout(300)
def test_two_processes_write_what_one_writes_and_one_that_fails_ends_both(tiny_run, tiny_data, tmp_path, capsys):
    """One launch for all of it, since starting processes is what takes the time."""
    pairs, calls = tmp_path / "pairs.parquet", tmp_path / "calls"
    table = pl.read_parquet(tiny_data / "data" / "explanations" / "test.parquet").select("user_id", "item_id").head(21)
    table.write_parquet(pairs)
    calls.touch()
    (tmp_path / "job.py").write_text(JOB)
    result = launch(tmp_path / "job.py", tiny_run, tiny_data, pairs, tmp_path)

    where = ["--data", str(tiny_data), "--limit", "9", "--batch-size", "2", "--out"]
    evaluate_command([str(tiny_run), *where, str(tmp_path / "one")])
    explain_command([str(tiny_run), "--pairs", str(pairs), "--out", str(tmp_path / "one.parquet")])
    said = capsys.readouterr().out.replace(f"{tmp_path}/one", f"{tmp_path}/two")
    # The other process ended at its error without a word, and exit code 0.
    assert result.stdout == f"{said}codes 0 0 1\n", result.stderr
    for name in ("/metrics.json", "/predictions.parquet", ".parquet"):
        one, two = (tmp_path.joinpath(f"{run}{name}").read_bytes() for run in ("one", "two"))
        assert one == two, name

    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("xrec")]
    assert lines == ["xrec explain: process 2 of 2: no answer to this row"]
    assert not (tmp_path / "bad.parquet").exists()
    assert len(calls.read_text()) < 6  # of 11 rows; it stopped when it heard


def test_one_process_needs_nothing(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with Processes() as processes:
        assert (processes.count, processes.index, processes.is_main) == (1, 0, True)
        assert processes.gather([1, 2]) == [1, 2]
    with pytest.raises(KeyError), Processes():
        raise KeyError("as it is")


class Pair(Processes):
    """One of two processes, without the other: what it says is kept, what it hears is given."""

    def __init__(self, index, heard):
        super().__init__()
        self.count, self.index, self.heard, self.said = 2, index, heard, []
        self._store = self
        self.keys = set()

    def _join(self):
        pass

    def check(self, keys):
        return self.keys.issuperset(keys)

    def set(self, key, value):
        self.keys.add(key)


@pytest.fixture
def pair(monkeypatch):
    """Builds one of two processes, given what the other says in each exchange."""

    def build(index, *heard):
        one = Pair(index, list(heard))

        def gather_object(entry):
            one.said.append(entry[0])
            other = one.heard.pop(0)
            if isinstance(other, Exception):
                raise other
            return [entry[0], other] if index == 0 else [other, entry[0]]

        monkeypatch.setattr("accelerate.utils.gather_object", gather_object)
        return one

    return build


NOTHING = (None, [])


def failure_of(pair, error):
    """What a process that fails says."""
    one = pair(1, NOTHING)
    with pytest.raises(SystemExit) as ended, one:
        raise error
    assert ended.value.code == 0
    return one.said[-1]


def test_entries_come_in_the_order_of_the_processes(pair):
    with pair(0, (None, ["b"]), NOTHING) as main:
        assert main.gather(["a"]) == ["a", "b"]
    with pair(1, (None, ["a"]), NOTHING) as other:
        assert other.gather(["b"]) == ["a", "b"]
    assert main.said == [(None, ["a"]), NOTHING]
    assert other.said == [(None, ["b"]), NOTHING]


@pytest.mark.parametrize("when", ["in an exchange", "at the end"])
@pytest.mark.parametrize(
    ("error", "message"),
    [(DataError("no such\n file"), "no such file"), (KeyError("x"), "KeyError: 'x'"), (OSError(), "OSError")],
)
def test_the_main_process_raises_what_another_had(pair, error, message, when):
    main = pair(0, failure_of(pair, error))
    work = main.gather if when == "in an exchange" else list
    with pytest.raises(DataError) as raised, main:
        work([])
    assert str(raised.value) == f"process 2 of 2: {message}"
    assert isinstance(raised.value.__cause__, RemoteError)
    assert "Traceback" in str(raised.value.__cause__)
    assert len(main.said) == 1  # no exchange that nobody answers


def test_an_error_of_its_own_is_raised_as_it_is_and_said_once(pair):
    main = pair(0, NOTHING)
    with pytest.raises(KeyError, match="mine"), main:
        raise KeyError("mine")
    assert [failure.message for failure, _ in main.said] == ["KeyError: 'mine'"]
    assert list(main.share([[1]], "", "")) == []  # as the others now see it


def test_the_others_leave_in_silence_when_one_fails(pair):
    heard = failure_of(pair, ValueError("x"))
    with pytest.raises(SystemExit) as ended, pair(1, heard) as other:
        other.gather([])
    assert ended.value.code == 0


def test_a_process_that_is_gone_is_one_line(pair):
    with pytest.raises(DataError, match="expected 2 processes to the end, found one gone"), pair(0, RuntimeError("closed")):
        pass
    with pytest.raises(KeyError, match="mine"), pair(0, RuntimeError("closed")):
        raise KeyError("mine")


def test_shares_are_every_second_batch(pair, capsys):
    batches = [[1, 2], [3, 4], [5, 6], [7]]
    assert list(pair(0).share(batches, "explain", "pair")) == [[1, 2], [5, 6]]
    assert "explain: 100%" in capsys.readouterr().err
    assert list(pair(1).share(batches, "explain", "pair")) == [[3, 4], [7]]
    assert capsys.readouterr().err == ""
