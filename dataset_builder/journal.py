"""The answers of a teacher, each filed under its question's hash, in one SQLite file that outlives a killed process.

An answer is recorded once its commit has returned: the log is then on the disk (WAL, `synchronous=FULL`). A commit costs
milliseconds, so a thread gathers what has come meanwhile and commits it together. A log whose tail a crash tore is read up to
the tear.
"""

import contextlib
import json
import sqlite3
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .errors import DataError
from .teacher import Answer, Request

FORMAT = 1
"""Version of the tables below; `user_version` of the file."""
APPLICATION = 0x58526563
"""`application_id` of the file: XRec, in ASCII."""
TABLES = """
CREATE TABLE answers (
    hash BLOB PRIMARY KEY, kind TEXT, teacher TEXT, model TEXT, prompt_version TEXT, seed INTEGER,
    text TEXT, finish_reason TEXT, prompt_characters INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER, time REAL
);
CREATE TABLE failures (
    hash BLOB PRIMARY KEY, key TEXT, kind TEXT, teacher TEXT, model TEXT, prompt_version TEXT, seed INTEGER,
    reason TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, time REAL
);
"""
ANSWER = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
FAILURE = "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SETTLED = "DELETE FROM failures WHERE hash = ?"
TAKEN = """
BEGIN IMMEDIATE;
INSERT OR IGNORE INTO answers SELECT * FROM other.answers ORDER BY rowid;
INSERT OR IGNORE INTO failures SELECT * FROM other.failures WHERE hash NOT IN (SELECT hash FROM answers) ORDER BY rowid;
COMMIT;
"""
PAUSE = 0.004
"""Seconds from one commit to the next, in which answers gather."""
GATHERED = 256
"""Rows that are committed without waiting for more."""


@dataclass(frozen=True)
class Failure:
    """A question that the last run which asked it got no usable answer to.

    Args:
        hash: of the request.
        key: the row it was for.
        kind: of the request.
        teacher: the teacher's name.
        model: the model it runs.
        reason: what was wrong, one line.
        prompt_tokens: spent on it in that run.
        completion_tokens: spent on it in that run.
        time: when, in seconds since 1970.
    """

    hash: str
    key: tuple[str, ...]
    kind: str
    teacher: str
    model: str
    reason: str
    prompt_tokens: int
    completion_tokens: int
    time: float


@dataclass(frozen=True)
class Experience:
    """What the answers of one kind have come to so far, to estimate others by.

    Args:
        answers: how many there are.
        prompt_characters: of all their questions.
        prompt_tokens: of all their questions.
        completion_tokens: of all their answers.
    """

    answers: int
    prompt_characters: int
    prompt_tokens: int
    completion_tokens: int


class Journal:
    """Recorded answers and failures; a context manager, open to one process at a time.

    Args:
        path: the SQLite file; made, with its folder, where there is none. A lock file of the same name lies beside it.

    Raises:
        DataError: another process has it open, it is no journal, of another format, damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = contextlib.ExitStack()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._reader = self._connect()
            _set_up(self._reader, path)
            self._connection = self._connect()
            self._connection.execute("PRAGMA synchronous = FULL")
        except OSError as error:
            self._open.close()
            raise DataError(f"{path}: expected a place to write to, found {error.strerror}; choose another") from error
        except sqlite3.Error as error:
            self._open.close()
            raise self._damaged(error) from error
        except BaseException:
            self._open.close()
            raise
        self._state = threading.Condition()
        self._waiting: list[tuple[list[tuple[str, tuple]], Future[None]]] = []
        self._closing = False
        self._broken: DataError | None = None
        # A daemon, so that a program that ends without closing ends; `close` waits for it.
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    def get(self, request_hash: str) -> Answer | None:
        """The recorded answer of a request, None where there is none."""
        query = "SELECT text, finish_reason, prompt_tokens, completion_tokens FROM answers WHERE hash = ?"
        rows = self._read(query, bytes.fromhex(request_hash))
        return Answer(*rows[0]) if rows else None

    def record(self, request: Request, answer: Answer) -> "Future[None]":
        """File an accepted answer, in place of an earlier one or of the failure that is listed.

        Returns:
            What is done once the answer is on the disk, and raises `DataError` where it cannot be.
        """
        origin, now = _origin(request), time.time()
        counts = (_characters(request), answer.prompt_tokens, answer.completion_tokens)
        row = (*origin, answer.text, answer.finish_reason, *counts, now)
        return self._submit([(ANSWER, row), (SETTLED, origin[:1])])

    def fail(self, request: Request, reason: str, prompt_tokens: int = 0, completion_tokens: int = 0) -> "Future[None]":
        """List a request as failed; a recorded answer of it stays, since what is accepted is the reader's affair.

        Returns:
            What is done once the failure is on the disk.
        """
        digest, *origin = _origin(request)
        row = (digest, json.dumps(request.key), *origin, reason, prompt_tokens, completion_tokens, time.time())
        return self._submit([(FAILURE, row)])

    def failures(self) -> list[Failure]:
        """The failures that no later answer has settled, the oldest first."""
        columns = "hash, key, kind, teacher, model, reason, prompt_tokens, completion_tokens, time"
        rows = self._read(f"SELECT {columns} FROM failures ORDER BY time, rowid")  # noqa: S608 (a constant)
        return [Failure(row[0].hex(), tuple(json.loads(row[1])), *row[2:]) for row in rows]

    def hashes(self) -> list[str]:
        """Hashes of all recorded answers, in the order they were recorded."""
        return [row[0].hex() for row in self._read("SELECT hash FROM answers ORDER BY rowid")]

    def experience(self, kind: str, model: str) -> Experience:
        """What the recorded answers of a kind and model that counted tokens have come to."""
        sums = "count(*), sum(prompt_characters), sum(prompt_tokens), sum(completion_tokens)"
        where = "kind = ? AND model = ? AND prompt_tokens > 0"
        (row,) = self._read(f"SELECT {sums} FROM answers WHERE {where}", kind, model)  # noqa: S608 (constants)
        return Experience(*(value or 0 for value in row))

    def __len__(self) -> int:
        return self._read("SELECT count(*) FROM answers")[0][0]

    def take(self, other: Path) -> int:
        """Copy what another journal has recorded and this one has not, all of it or nothing.

        Args:
            other: the file of a journal; who has it open may go on.

        Returns:
            How many answers came.

        Raises:
            DataError: there is no such journal, or something cannot be read or written.
        """
        if not other.is_file():
            raise DataError(f"{other}: expected a journal, found none; run the shard that writes it")
        before, connection = len(self), self._connect()
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("ATTACH ? AS other", (str(other),))
            _check_format(connection, other, "other.")
            connection.executescript(TAKEN)
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        finally:
            connection.close()
        return len(self) - before

    def close(self) -> None:
        """Commit what is waiting, fold the log into the file and let go of it; again does nothing.

        Raises:
            DataError: something that was waiting could not be committed.
        """
        with self._state:
            self._closing = True
            self._state.notify_all()
        self._writer.join()
        with contextlib.suppress(sqlite3.Error):  # all is on the disk already; the next to open folds it in
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._open.close()
        if self._broken is not None:
            raise self._broken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(DataError):  # the error that is on its way says more
            self.close()

    def _connect(self, path: Path | None = None) -> sqlite3.Connection:
        # Without Python's own transactions, and without waiting for a lock: nobody else is to hold one.
        connection = sqlite3.connect(path or self.path, isolation_level=None, timeout=0, check_same_thread=False)
        self._open.callback(connection.close)
        return connection

    def _lock(self) -> None:
        """Hold SQLite's lock on an empty file beside the journal, which the system frees when this process ends."""
        lock = self._connect(self.path.with_name(self.path.name + ".lock"))
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise DataError(
                f"{self.path}: expected a journal of our own, found it in use; wait for the other process"
            ) from None

    def _read(self, query: str, *values: str | bytes) -> list[tuple]:
        try:
            # All rows at once: a half-read statement would keep the log from being folded in.
            return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.Error) -> DataError:
        return DataError(
            f"{self.path}: expected a sound journal and room on its disk, found {error}; mend that or move the file"
        )

    def _submit(self, statements: list[tuple[str, tuple]]) -> "Future[None]":
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # who stops waiting for it does not stop it
        with self._state:
            if self._broken is not None:
                done.set_exception(self._broken)
                return done
            if self._closing:
                raise DataError(f"{self.path}: expected an open journal, found it closed; open it again")
            self._waiting.append((statements, done))
            self._state.notify_all()
        return done

    def _write(self) -> None:
        """The writer's thread: commits what has gathered, until the journal is closed and nothing waits."""
        while True:
            with self._state:
                self._state.wait_for(lambda: self._waiting or self._closing)
                self._state.wait_for(lambda: len(self._waiting) >= GATHERED or self._closing, PAUSE)
                batch, self._waiting = self._waiting, []
            if not batch:
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                for statements, _ in batch:
                    for statement, row in statements:
                        self._connection.execute(statement, row)
                self._connection.execute("COMMIT")
            except Exception as error:  # whatever it is, those who wait must hear of it
                self._stop(error, batch)
                return
            for _, done in batch:
                done.set_result(None)

    def _stop(self, error: Exception, batch: list[tuple[list[tuple[str, tuple]], Future[None]]]) -> None:
        """Refuse what waits and what comes later, after a commit that failed."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")
        broken = self._damaged(error) if isinstance(error, sqlite3.Error) else DataError(f"{self.path}: {error}")
        with self._state:
            self._broken = broken
            batch, self._waiting = batch + self._waiting, []
        for _, done in batch:
            done.set_exception(broken)


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in an empty file, or see that a file has them."""
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty:
        _check_format(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    if empty:
        marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};"
        connection.executescript(f"BEGIN IMMEDIATE; {TABLES} {marks} COMMIT;")


def _check_format(connection: sqlite3.Connection, path: Path, schema: str = "") -> None:
    """Refuse another SQLite file, and a journal of another format."""
    names = (f"{schema}application_id", f"{schema}user_version")
    application, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    if application != APPLICATION:
        raise DataError(f"{path}: expected a journal of a teacher's answers, found another SQLite file; choose another path")
    if version != FORMAT:
        raise DataError(f"{path}: expected a journal of format {FORMAT}, found {version}; use the release that wrote it")


def _origin(request: Request) -> tuple[Any, ...]:
    digest = bytes.fromhex(request.hash)
    return digest, request.kind, request.teacher, request.model, request.prompt_version, request.seed


def _characters(request: Request) -> int:
    return sum(len(content) for _, content in request.messages)
