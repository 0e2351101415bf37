"""What goes wrong between us and the Hub: what is tried again, for how long, and one clear line for what remains."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from .errors import DataError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before each further try."""
LONGEST_PAUSE = 60.0
"""What no pause exceeds, whatever the Hub asks for."""
PASSING = frozenset({429, 500, 502, 503, 504})
"""Answers that may be another one in a moment."""
MEANINGS = {
    401: "no token that it knows (401); run `hf auth login`, or set HF_TOKEN",
    403: "a token without the right to do that (403); take one with write access, and a repository of your own",
    404: "no such repository, or none that this token may see (404); check its name and the token",
    409: "that another change of it is under way or stands against this one (409); publish again in a moment",
    412: "a commit that someone else has made meanwhile (412); look at it, then publish again",
    429: "that it wants fewer requests (429); wait some minutes, then publish again",
}
"""Status to what was found and what to do."""


def patiently(act: Callable[[], Result]) -> Result:
    """Do something with the Hub, again after a pause where it may go better: `huggingface_hub` itself repeats uploads alone.

    Args:
        act: what to do; it begins anew each time, so it must be safe to repeat.

    Returns:
        What it returns.

    Raises:
        Exception: what it raises, where that does not pass or has not passed.
    """
    for pause in PAUSES:
        try:
            return act()
        except HTTPError as error:
            if not _passes(error):
                raise
            wait = min(_asked_for(error, pause), LONGEST_PAUSE)
            logger.warning("%s; trying again in %.0f s", first_line(error), wait)
            time.sleep(wait)
    return act()


def _passes(error: HTTPError) -> bool:
    return error.response.status_code in PASSING if isinstance(error, HfHubHTTPError) else True


def _asked_for(error: HTTPError, pause: float) -> float:
    """The pause that the Hub asks for, in seconds; ours where it asks for none, or for a date."""
    said = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return float(said) if said.isdecimal() else pause


def trouble(error: BaseException, repo_id: str, what: str) -> DataError:
    """Return one line on what went wrong.

    Args:
        error: what `huggingface_hub` raised.
        repo_id: the repository.
        what: what was to be done, such as "take the dataset".
    """
    found = _meaning(at_the_bottom(error))
    return DataError(
        f"{repo_id}: expected the Hub to {what}, found {found}; what is there is the old state or the new one, never a part"
    )


def at_the_bottom(error: BaseException) -> BaseException:
    """The error that others were raised from: an upload that fails is a RuntimeError with a cause."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _meaning(error: BaseException) -> str:
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in MEANINGS:
            return MEANINGS[status]
        if status in PASSING:
            return f"that it fails ({status}), at every try; publish again later"
    elif isinstance(error, HTTPError):
        return f"no connection that lasts to {constants.ENDPOINT} ({first_line(error)}); check the network, then publish again"
    elif isinstance(error, LocalTokenNotFoundError):
        return MEANINGS[401]
    elif isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE set, which forbids it; unset it"
    return f"{first_line(error)}; mend that and publish again"


def first_line(error: BaseException) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
