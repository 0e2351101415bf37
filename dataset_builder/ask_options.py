"""How a teacher is asked, and what the asking came to."""

from dataclasses import dataclass

from .errors import DataError


@dataclass(frozen=True)
class AskOptions:
    """How a teacher is asked.

    Args:
        concurrency: questions in flight at once.
        requests_per_second: most of them, tries included; None for no limit.
        attempts: tries of a question that finds the teacher busy.
        timeout: seconds for one try; None for no limit.
        backoff: longest pause after the first failed try, in seconds; it doubles with every other.
        longest_pause: in seconds, also where the endpoint asks for more.
        breaker_failures: failed tries in a row before the endpoint counts as down.
        breaker_wait: seconds before each question that looks after it then.
        breaker_tries: how many of these fail before giving up.
        stop_after: questions that fail one after another before giving up; what is wrong then is not the question.
        limit: most questions put to the teacher in this run; None for no limit.
        prompt_price: of a million tokens of questions.
        completion_price: of a million tokens of answers.

    Raises:
        DataError: a figure is out of its range.
    """

    concurrency: int = 8
    requests_per_second: float | None = None
    attempts: int = 6
    timeout: float | None = 120.0
    backoff: float = 1.0
    longest_pause: float = 60.0
    breaker_failures: int = 5
    breaker_wait: float = 30.0
    breaker_tries: int = 5
    stop_after: int = 100
    limit: int | None = None
    prompt_price: float | None = None
    completion_price: float | None = None

    def __post_init__(self) -> None:
        least = {"concurrency": 1, "attempts": 1, "breaker_failures": 1, "breaker_tries": 1, "stop_after": 1, "limit": 0}
        for name in ("backoff", "longest_pause", "breaker_wait", "prompt_price", "completion_price"):
            least[name] = 0
        for name, bound in least.items():
            if (value := getattr(self, name)) is not None and not value >= bound:
                raise DataError(f"expected {name} of at least {bound}, found {value}; choose another")
        for name in ("requests_per_second", "timeout"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise DataError(f"expected {name} above 0, found {value}; choose another")

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What so many tokens cost; None where no price is given."""
        if self.prompt_price is None and self.completion_price is None:
            return None
        return (prompt_tokens * (self.prompt_price or 0) + completion_tokens * (self.completion_price or 0)) / 1e6


@dataclass
class Counts:
    """What became of the rows; `answered`, `from_journal`, `failed` and `left_out` add up to `rows`.

    Args:
        rows: requests that came.
        answered: by the teacher in this run, repaired ones included.
        from_journal: by an earlier run, or by another row's request of the same hash in this one.
        failed: without a usable answer.
        left_out: beyond the limit.
        repaired: usable on the second request only.
        tries: sent to the teacher.
        retried: tries that were a repetition because the teacher was busy.
        prompt_tokens: spent in this run, failures included.
        completion_tokens: spent in this run, failures included.
        seconds: of the run.
        cost: of the tokens, None where no price is given.
    """

    rows: int = 0
    answered: int = 0
    from_journal: int = 0
    failed: int = 0
    left_out: int = 0
    repaired: int = 0
    tries: int = 0
    retried: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cost: float | None = None
