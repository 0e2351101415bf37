"""Several processes that share one job: each explains its share of the rows, and the first one scores and writes.

Start them with `torchrun --nproc_per_node N -m xrec_training.cli ...` or `accelerate launch`. Only texts travel between them,
over gloo, on GPUs too. A process that fails says so to the first one, which ends with that error; the others leave without a
word, and the launcher's verdict is the first one's.
"""

import contextlib
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tqdm import tqdm

from xrec_dataset_builder.errors import DataError

PATIENCE = timedelta(days=7)
"""How long a process waits for the slowest one: it works, or else the launcher ends them all."""
_FAILED = "xrec/failed"


@dataclass(frozen=True)
class Failure:
    """An error in another process: its message in one line, and its traceback."""

    message: str
    details: str


class RemoteError(Exception):
    """The cause of an error that another process had; its text is the traceback there."""


class Processes:
    """The processes of one command, for a `with` block in which all of them work; after it only the main one goes on.

    Without a launcher there is one process: then nothing here does anything, and accelerate is not needed. Inside the block
    the others write nothing to the terminal. An exception of any process ends the block in all of them, within a batch: the
    main process raises it, and the others exit.

    Attributes:
        count: number of processes.
        index: this one's number, from 0.

    Raises:
        DataError: in the main process, what went wrong in another.
    """

    def __init__(self) -> None:
        self.count, self.index = int(os.environ.get("WORLD_SIZE", "1")), 0
        self._over = False
        self._silence = contextlib.ExitStack()

    @property
    def is_main(self) -> bool:
        """Whether this is the process that scores, writes and speaks."""
        return self.index == 0

    def __enter__(self) -> "Processes":
        """Joins the others."""
        if self.count > 1:
            self._join()
        return self

    def _join(self) -> None:
        import torch
        from accelerate import PartialState  # type: ignore[import-untyped]
        from transformers.utils import logging

        state = PartialState(cpu=not torch.cuda.is_available(), backend="gloo", timeout=PATIENCE)
        self.index, self.count = state.process_index, state.num_processes
        # A connection of its own to the launcher's store, which tells a failure while the others are still at work.
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self._store = torch.distributed.TCPStore(address, port, is_master=False, timeout=timedelta(minutes=5))
        if not self.is_main:
            nowhere = self._silence.enter_context(open(os.devnull, "w"))  # noqa: SIM115 - the stack closes it
            self._silence.enter_context(contextlib.redirect_stdout(nowhere))
            self._silence.enter_context(contextlib.redirect_stderr(nowhere))
            logging.set_verbosity_error()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Waits for the others and ends with their error, if any."""
        with self._silence:
            if self.count > 1 and not self._over and (error is None or isinstance(error, Exception)):
                self._exchange([], error)
            if error is not None and not self.is_main:
                raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 0) from None

    def share(self, batches: Sequence[Any], label: str, unit: str) -> Iterator[Any]:
        """This process's batches, every `count`-th, until there is no more or another process has failed.

        Args:
            batches: the same in every process; each has a length.
            label: what the main process's progress bar says.
            unit: what the lengths count.
        """
        mine = batches[self.index :: self.count]
        with tqdm(total=sum(map(len, mine)), desc=label, unit=unit, disable=not self.is_main) as bar:
            for batch in mine:
                if self._store.check([_FAILED]):
                    return
                yield batch
                bar.update(len(batch))

    def gather(self, entries: list[Any]) -> list[Any]:
        """Everyone's entries, process after process, in all of them; all have to call it.

        Raises:
            DataError: in the main process, another one's error.
        """
        return entries if self.count == 1 else self._exchange(entries)

    def _exchange(self, entries: list[Any], error: BaseException | None = None) -> list[Any]:
        """As `gather`; with an error of this process, which the caller raises."""
        from accelerate.utils import gather_object  # type: ignore[import-untyped]

        failure = None
        if error is not None:
            message = " ".join(str(error).split()) or type(error).__name__
            message = message if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {message}"
            failure = Failure(message, "".join(traceback.format_exception(error)))
        try:
            if failure is not None:
                self._store.set(_FAILED, str(self.index))
            found = gather_object([(failure, entries)])
        except RuntimeError as lost:
            if error is not None:
                return []
            self._end(f"expected {self.count} processes to the end, found one gone; look for its own message above", lost)
        failures = [(number, failure) for number, (failure, _) in enumerate(found) if failure is not None]
        if failures and error is None:
            number, first = failures[0]
            self._end(f"process {number + 1} of {self.count}: {first.message}", RemoteError(first.details))
        return [entry for _, entries in found for entry in entries]

    def _end(self, message: str, cause: Exception) -> None:
        self._over = True
        if not self.is_main:
            raise SystemExit(0)
        raise DataError(message) from cause
