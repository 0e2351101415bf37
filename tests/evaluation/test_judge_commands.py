import json
import random
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.journal import Journal
from xrec_evaluation.judge_commands import judge_command
from xrec_evaluation.judge_local import TransformersJudge

from ..dataset_builder.scripted_server import Reply, ScriptedServer, refusal
from .fake_judges import honest, indifferent, rows
from .test_judge_models import model, words

CONCURRENCY = 8


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    rows().write_parquet(folder / "predictions.parquet")
    return folder


def judge(report, server, *flags, name="m"):
    judge_command([str(report), "--judge", "openai", "--model", name, "--base-url", server.url, *flags])
    return json.loads((report / "judges.json").read_text())


def test_judges_gather_in_one_file(report, capsys):
    with ScriptedServer(honest) as server:
        first = judge(report, server, "--price-in", "2", "--price-out", "3")
    printed = capsys.readouterr().out
    entry = first["judges"]["openai:m"]
    assert {
        "judge",
        "model",
        "revision",
        "rows",
        "systems",
        "differences",
        "preferences",
        "calibration",
        "verdict",
    } <= entry.keys()
    assert (entry["rows"], entry["failed"], entry["trusted"], first["agreement"]) == (30, 0, True, {})
    assert entry["cost"] == pytest.approx(len(server.requests) * (10 * 2 + 2 * 3) / 1e6)
    assert entry["verdict"] in printed
    assert "model against" in printed
    assert "AUC against the reference" in printed
    with ScriptedServer(indifferent) as server:
        second = judge(report, server, "--rows", "20", name="n")
    printed = capsys.readouterr().out
    assert second["judges"]["openai:m"] == entry
    assert "do not use its scores" in printed
    assert "agreement in faithfulness, 40 texts" in printed
    agreed = second["agreement"]["faithfulness"]
    assert agreed["pairs"][0]["spearman"] == {"value": None, "low": None, "high": None}
    assert "not defined" in printed
    table = pl.read_parquet(report / "judgements.parquet")
    assert set(table["judge"]) == {"openai:m", "openai:n"}
    with ScriptedServer(honest) as server:
        third = judge(report, server, "--rows", "20", "--revision", "r2", "--name", "openai:n", name="n")
    assert list(third["judges"]) == ["openai:m", "openai:n"]  # in place of the earlier one
    assert third["judges"]["openai:n"]["revision"] == "r2"
    assert third["agreement"]["faithfulness"]["pairs"][0]["spearman"]["value"] == pytest.approx(1)
    with ScriptedServer(honest) as server:
        assert list(judge(report, server)["judges"]) == ["openai:n", "openai:m"]  # the last to judge is the last
    assert server.requests == []
    again = pl.read_parquet(report / "judgements.parquet")
    assert again.filter(pl.col("judge") == "openai:m").equals(table.filter(pl.col("judge") == "openai:m"))


def test_a_dry_run_counts_the_questions_and_asks_nothing(report, capsys):
    with ScriptedServer(honest) as server:
        judge_command(
            [str(report), "--judge", "openai", "--model", "m", "--base-url", server.url, "--rows", "20", "--dry-run"]
        )
        assert server.requests == []
        said = capsys.readouterr().out
        assert not (report / "judges.json").exists()
        judge(report, server, "--rows", "20")
        asked = len(server.requests)
        assert f"in all: {asked:,} questions" in said
        characters = sum(len(one["content"]) for body in server.requests for one in body["messages"])
        about = int(said.split("in all:")[1].split("about ")[1].split(" tokens")[0].replace(",", ""))
        assert about == pytest.approx(characters / 4, rel=0.01)
        capsys.readouterr()
        judge_command([str(report), "--judge", "openai", "--model", "m", "--rows", "20", "--dry-run", "--price-in", "2"])
        assert f"in all: 0 questions, about 0 tokens and 0 of answers; {asked} known before" in capsys.readouterr().out


def test_profiles_come_from_the_data(data, predictions, tmp_path):
    (tmp_path / "report").mkdir()
    predictions.write_parquet(tmp_path / "report" / "predictions.parquet")
    with ScriptedServer(honest) as server:
        judge(tmp_path / "report", server, "--data", str(data), "--criteria", "specificity")
    assert any('"user_profile": "likes things"' in body["messages"][1]["content"] for body in server.requests)
    table = pl.read_parquet(tmp_path / "report" / "judgements.parquet")
    assert "copied_profile" in set(table["system"])


def test_a_local_judge_is_asked_the_same_way(report, monkeypatch, capsys):
    made = []

    def local(name, batch_size, revision):
        made.append((name, batch_size, revision))
        return TransformersJudge(model(), batch_size, tokenizer=words(), revision=revision)

    monkeypatch.setattr("xrec_evaluation.judge_local.TransformersJudge", local)
    judge_command(
        [
            str(report),
            "--judge",
            "transformers",
            "--model",
            "tiny",
            "--revision",
            "c0ffee",
            "--concurrency",
            "4",
            "--rows",
            "3",
        ]
    )
    assert made == [("tiny", 4, "c0ffee")]
    entry = json.loads((report / "judges.json").read_text())["judges"]["transformers:tiny@c0ffee"]
    assert (entry["revision"], entry["scored_by"].keys()) == ("c0ffee", {"probabilities"})
    assert 0 < entry["digit_mass"] < 0.5
    assert "it wants to say other things" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--judge", "oracle", "--model", "m"], "expected a judge among openai, transformers, found 'oracle'"),
        (["--judge", "transformers", "--model", "m", "--base-url", "http://x/v1"], "heeds, found --base-url"),
        (["--judge", "openai", "--model", "m"], "OPENAI_API_KEY"),
        (["--judge", "openai", "--model", "m", "--systems", "fancy", "--dry-run"], "texts of 'fancy', found plain"),
        (["--judge", "openai"], "--model"),
        (["--judge", "openai", "--model", "m", "--rows", "0"], "rows of at least 1"),
        (["--judge", "openai", "--model", "m", "--concurrency", "0"], "concurrency of at least 1"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(report, flags, message):
    with pytest.raises(DataError, match=message) as error:
        judge_command([str(report), *flags])
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_report_is_one_line(tmp_path, report):
    with pytest.raises(DataError, match="xrec evaluate"):
        judge_command([str(tmp_path), "--judge", "openai", "--model", "m"])
    with ScriptedServer(lambda *_: refusal(400)) as server, pytest.raises(DataError, match="HTTP 400"):
        judge(report, server, "--rows", "4")
    (report / "judges.json").write_text("[]")
    with ScriptedServer(honest) as server, pytest.raises(DataError, match="expected our judges"):
        judge(report, server, "--rows", "2")
    (report / "predictions.parquet").write_text("no")
    with pytest.raises(DataError, match="expected a Parquet file"):
        judge_command([str(report), "--judge", "openai", "--model", "m"])


def slow(body, number):
    reply = honest(body)
    return Reply(body=reply.body, headers=reply.headers, delay=random.Random(number).uniform(0.01, 0.03))


def started(report, server):
    code = "import sys; from xrec_evaluation.judge_commands import judge_command; judge_command(sys.argv[1:])"
    flags = [str(report), "--judge", "openai", "--model", "m", "--base-url", server.url, "--concurrency", str(CONCURRENCY)]
    return subprocess.Popen([sys.executable, "-c", code, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_killed_run_asks_nothing_twice(report, tmp_path):
    """Killed twice while answers come; what was recorded is not asked again, and the figures are those of a calm run."""
    with ScriptedServer(slow) as server:
        recorded = 0
        for kill in (1, 2):
            before = len(server.requests)
            with started(report, server) as process:
                end = time.monotonic() + 120
                while len(server.requests) < before + 60 and time.monotonic() < end:
                    time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
            assert len(server.requests) >= before + 60
            with Journal(report / "judge_journal.sqlite") as journal:
                new, recorded = len(journal) - recorded, len(journal)
            assert len(server.requests) - before - new <= CONCURRENCY, kill
            assert not (report / "judges.json").exists()
        judge(report, server)
        asked = len(server.requests)
        judge(report, server)
        assert len(server.requests) == asked
        found = (report / "judges.json").read_text()
        table = pl.read_parquet(report / "judgements.parquet")
    calm = tmp_path / "calm"
    calm.mkdir()
    rows().write_parquet(calm / "predictions.parquet")
    with ScriptedServer(honest) as server:
        judge(calm, server)
    assert asked - len(server.requests) <= 2 * CONCURRENCY
    assert (calm / "judges.json").read_text() == found
    assert pl.read_parquet(calm / "judgements.parquet").equals(table)
