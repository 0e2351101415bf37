import random
import sqlite3
import subprocess
import sys
import threading

import pytest

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.journal import Journal
from xrec_dataset_builder.teacher import Answer, Request


def request_of(text, **changes):
    given = {"kind": "explanation", "key": (text,), "messages": (("user", text),), "schema": "", "teacher": "t", "model": "m"}
    return Request(**given | {"prompt_version": "1", "temperature": 0.0, "max_tokens": 50, "seed": 0} | changes)


def answer_of(text):
    return Answer(text, "stop", 10, 2)


def filled(path, count):
    with Journal(path) as journal:
        for number in range(count):
            journal.record(request_of(str(number)), answer_of(f"answer {number}"))


def test_an_answer_is_found_again_as_it_was(tmp_path):
    text = 'caf\u00e9 \x00 "quoted"\n\U0001f600'
    with Journal(tmp_path / "private" / "journal.sqlite") as journal:
        journal.record(request_of("a"), Answer(text, "stop", 3, 4)).result()
        assert journal.get(request_of("a").hash) == Answer(text, "stop", 3, 4)
        assert journal.get(request_of("b").hash) is None
    with Journal(tmp_path / "private" / "journal.sqlite") as journal:
        assert journal.get(request_of("a").hash) == Answer(text, "stop", 3, 4)
        assert len(journal) == 1


def test_the_hash_depends_on_all_of_a_request_but_its_key():
    one = request_of("a")
    assert one.hash == request_of("a", key=("elsewhere",), temperature=0).hash
    changes = {"kind": "user_profile", "messages": (("system", "a"),), "schema": "{}", "teacher": "u", "model": "n"}
    changes |= {"prompt_version": "2", "temperature": 0.1, "max_tokens": 51, "seed": 1}
    hashes = {request_of("a", **{name: value}).hash for name, value in changes.items()}
    assert len(hashes | {one.hash}) == len(changes) + 1
    assert request_of("\ud800").hash != request_of("?").hash


def test_answers_are_on_the_disk_once_recorded(tmp_path):
    """Seen through a connection of its own, while the journal is open and nothing was closed."""
    with Journal(tmp_path / "j") as journal:
        done = [journal.record(request_of(str(number)), answer_of("x")) for number in range(1000)]
        for future in done:
            future.result()
        assert sqlite3.connect(tmp_path / "j").execute("SELECT count(*) FROM answers").fetchone() == (1000,)
        (mode,) = sqlite3.connect(tmp_path / "j").execute("PRAGMA journal_mode").fetchone()
        assert mode == "wal"
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_answers_that_come_together_are_committed_together(tmp_path):
    commits = []
    with Journal(tmp_path / "j") as journal:
        journal._connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
        done = [journal.record(request_of(str(number)), answer_of("x")) for number in range(200)]
        for future in done:
            future.result()
    assert len(commits) <= 40


def test_what_waits_is_committed_on_closing_also_after_an_error(tmp_path):
    def fail():
        with Journal(tmp_path / "j") as journal:
            for number in range(50):
                journal.record(request_of(str(number)), answer_of("x"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with Journal(tmp_path / "j") as journal:
        assert journal.hashes() == [request_of(str(number)).hash for number in range(50)]
    assert not (tmp_path / "j-wal").exists()


def test_who_stops_waiting_stops_neither_the_recording_nor_the_others(tmp_path):
    with Journal(tmp_path / "j") as journal:
        assert not journal.record(request_of("a"), answer_of("x")).cancel()
        journal.record(request_of("b"), answer_of("x")).result(timeout=60)
        assert journal.get(request_of("a").hash) is not None


def test_a_closed_journal_says_so(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.close()
    with pytest.raises(DataError, match="open it again"):
        journal.record(request_of("a"), answer_of("x"))


def test_a_failure_is_listed_until_an_answer_settles_it(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.fail(request_of("a", key=("u", "i")), "empty", 5, 6)
        journal.fail(request_of("b"), "cut")
    with Journal(tmp_path / "j") as journal:
        listed = journal.failures()
        assert [(one.hash, one.key, one.reason) for one in listed] == [
            (request_of("a").hash, ("u", "i"), "empty"),
            (request_of("b").hash, ("b",), "cut"),
        ]
        assert (listed[0].kind, listed[0].model) == ("explanation", "m")
        assert (listed[0].prompt_tokens, listed[0].completion_tokens) == (5, 6)
        journal.record(request_of("a"), answer_of("x")).result()
        assert [one.reason for one in journal.failures()] == ["cut"]
        assert len(journal) == 1


def test_the_latest_answer_of_a_request_counts(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.record(request_of("a"), answer_of("first"))
        journal.record(request_of("a"), answer_of("second")).result()
        assert journal.get(request_of("a").hash).text == "second"
        assert len(journal) == 1


def test_experience_counts_answers_of_a_kind_that_have_tokens(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.record(request_of("abcd"), Answer("x", "stop", 10, 2))
        journal.record(request_of("ab"), Answer("x", "stop", 20, 4))
        journal.record(request_of("uncounted"), Answer("x", "stop", 0, 0))
        journal.record(request_of("other", model="n"), Answer("x", "stop", 7, 7)).result()
        experience = journal.experience("explanation", "m")
    assert vars(experience) == {"answers": 2, "prompt_characters": 6, "prompt_tokens": 30, "completion_tokens": 6}


def test_a_second_opening_gets_one_line_and_the_first_goes_on(tmp_path):
    code = "import sys; from pathlib import Path; from xrec_dataset_builder.journal import Journal; Journal(Path(sys.argv[1]))"
    with Journal(tmp_path / "j") as journal:
        found = subprocess.run([sys.executable, "-c", code, str(tmp_path / "j")], capture_output=True, text=True)
        assert found.returncode == 1
        assert found.stderr.splitlines()[-1].endswith("own, found it in use; wait for the other process")
        with pytest.raises(DataError, match="found it in use"):
            Journal(tmp_path / "j")
        journal.record(request_of("a"), answer_of("x")).result()
    Journal(tmp_path / "j").close()


def not_a_database(path):
    path.write_text("user_id,item_id\n" * 500)


def another_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()


def later_format(path):
    filled(path, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()


def a_folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_a_database, "found file is not a database"),
        (another_database, "found another SQLite file"),
        (later_format, "expected a journal of format 1, found 2"),
        (a_folder, "unable to open database file"),
    ],
)
def test_what_is_no_journal_is_refused_in_one_line_and_left_alone(tmp_path, make, message):
    path = tmp_path / "j"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(DataError, match=message) as error:
        Journal(path)
    assert "\n" not in str(error.value)
    assert before is None or path.read_bytes() == before
    with pytest.raises(DataError, match=message):  # the lock was let go of
        Journal(path)


def test_answers_are_taken_from_another_journal_even_from_an_open_one(tmp_path):
    with Journal(tmp_path / "a") as ours, Journal(tmp_path / "b") as theirs:
        ours.record(request_of("both"), answer_of("ours")).result()
        for text in ("both", "theirs"):
            theirs.record(request_of(text), answer_of("theirs")).result()
        theirs.fail(request_of("failed"), "a reason").result()
        ours.fail(request_of("theirs"), "before").result()
        assert ours.take(tmp_path / "b") == 1
        assert [ours.get(request_of(text).hash).text for text in ("both", "theirs")] == ["ours", "theirs"]
        assert "failed" in [one.key[0] for one in ours.failures()]
        assert len(theirs) == 2
        assert ours.take(tmp_path / "b") == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_a_database, "found file is not a database"),
        (another_database, "found another SQLite file"),
        (later_format, "expected a journal of format 1, found 2"),
        (lambda path: None, "expected a journal, found none"),
    ],
)
def test_nothing_is_taken_from_what_is_no_journal(tmp_path, make, message):
    make(tmp_path / "b")
    with Journal(tmp_path / "a") as ours:
        with pytest.raises(DataError, match=message):
            ours.take(tmp_path / "b")
        ours.record(request_of("x"), answer_of("y")).result()
        assert len(ours) == 1


def test_an_empty_file_becomes_a_journal(tmp_path):
    (tmp_path / "j").touch()
    filled(tmp_path / "j", 3)
    with Journal(tmp_path / "j") as journal:
        assert len(journal) == 3


def torn(path, copy, draw):
    """A journal as a crash leaves it: the log not folded in, its tail cut or overwritten. Returns how many rows it had."""
    with Journal(path) as journal:
        count = draw.randint(20, 60)
        for number in range(count):
            journal.record(request_of(str(number)), answer_of(f"answer {number}")).result()
        log = path.with_name(path.name + "-wal").read_bytes()
        copy.write_bytes(path.read_bytes())
    tail = draw.randint(1, 5000)
    damage = draw.choice(["cut", "garbage", "appended", "zeros"])
    end = {"cut": b"", "garbage": draw.randbytes(tail), "appended": log[-tail:] + draw.randbytes(tail), "zeros": bytes(tail)}
    copy.with_name(copy.name + "-wal").write_bytes(log[:-tail] + end[damage])
    return count, damage


@pytest.mark.parametrize("seed", range(8))
def test_a_torn_log_is_read_up_to_the_tear(tmp_path, seed):
    draw = random.Random(seed)
    count, damage = torn(tmp_path / "j", tmp_path / "copy", draw)
    with Journal(tmp_path / "copy") as journal:
        kept = len(journal)
        assert count - 6 <= kept <= count  # a commit is three pages and more of 4096 bytes
        assert kept == count or damage != "appended"
        assert journal.hashes() == [request_of(str(number)).hash for number in range(kept)]
        assert [journal.get(one).text for one in journal.hashes()] == [f"answer {number}" for number in range(kept)]
        journal.record(request_of("more"), answer_of("x")).result()
    with Journal(tmp_path / "copy") as journal:
        assert len(journal) == kept + 1


def test_a_log_of_nothing_but_garbage_does_not_keep_it_from_opening(tmp_path):
    filled(tmp_path / "j", 5)
    (tmp_path / "j-wal").write_bytes(random.Random(0).randbytes(20_000))
    (tmp_path / "j-shm").write_bytes(random.Random(1).randbytes(32_768))
    with Journal(tmp_path / "j") as journal:
        assert len(journal) == 5


def test_a_commit_that_fails_is_told_to_all_that_wait(tmp_path):
    journal = Journal(tmp_path / "j")
    journal._connection.execute("PRAGMA max_page_count = 12")  # a full disk
    done = [journal.record(request_of(str(number)), answer_of("x" * 10_000)) for number in range(20)]
    for future in done:
        assert "disk is full" in str(future.exception())
    assert "disk is full" in str(journal.record(request_of("later"), answer_of("x")).exception())
    with pytest.raises(DataError, match="room on its disk"):
        journal.close()
    with Journal(tmp_path / "j") as journal:
        assert len(journal) == 0


def test_threads_may_record_at_once(tmp_path):
    with Journal(tmp_path / "j") as journal:

        def record(first):
            for number in range(first, first + 100):
                journal.record(request_of(str(number)), answer_of(str(number))).result()

        threads = [threading.Thread(target=record, args=(first,)) for first in range(0, 400, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(int(journal.get(one).text) for one in journal.hashes()) == list(range(400))
