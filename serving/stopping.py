"""A server that stops when it is asked to, and ends its process where it cannot stop."""

import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import uvicorn


def end_process(line: str) -> NoReturn:
    """Says why, and ends the process with code 1 whatever its threads do: a call of the model cannot be stopped from within.

    Args:
        line: what to say.
    """
    try:
        sys.stdout.flush()
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    finally:  # whatever becomes of the line, such as in a signal's handler that interrupts another write
        os._exit(1)


class StoppingServer(uvicorn.Server):
    """Finishes what was begun when a first SIGTERM or SIGINT comes; ends with a second one, or when that takes too long.

    Args:
        config: of uvicorn.
        seconds: after the first signal in which all must be finished.
        working_for: seconds since the model's present call began, for the message.
        end: ends the process with a line.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        seconds: float,
        working_for: Callable[[], float],
        end: Callable[[str], object] = end_process,
    ) -> None:
        super().__init__(config)
        self._seconds, self._working_for, self._end = seconds, working_for, end
        self._timer: threading.Timer | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes a signal."""
        if self._timer is not None:
            self._give_up("a second signal")
            return
        super().handle_exit(sig, frame)
        # A thread, since the loop's own timers do not run while something blocks it.
        self._timer = threading.Timer(self._seconds, self._give_up, [f"nothing after {self._seconds:g} s"])
        self._timer.daemon = True
        self._timer.start()

    def stopped(self) -> None:
        """All is finished; the process is left alone."""
        if self._timer is not None:
            self._timer.cancel()

    def _give_up(self, found: str) -> None:
        busy = self._working_for()
        model = f"the model's call runs since {busy:.0f} s" if busy else "the model is idle"
        self._end(f"expected to finish what was begun, found {found} ({model}); ended without the answers that were still due")
