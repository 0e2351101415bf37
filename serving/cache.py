"""Keeps the answers that were asked for last."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class AnswerCache:
    """A bounded store that forgets what was used longest ago; for one thread.

    Args:
        size: most answers to keep; 0 keeps none.
        revision: of the model; part of every key, so that no model answers with another one's words.

    Attributes:
        hits: answers found.
        misses: answers not found.
    """

    def __init__(self, size: int, revision: str) -> None:
        self.size, self.revision = size, revision
        self.hits = self.misses = 0
        self._answers: OrderedDict[tuple[str, Hashable], Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Hashable) -> Any | None:
        """The answer that was put under a key, or None; it counts as used now."""
        found = self._answers.get((self.revision, key))
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._answers.move_to_end((self.revision, key))
        return found

    def put(self, key: Hashable, answer: Any) -> None:
        """Keeps an answer, and forgets the one used longest ago where there are too many."""
        self._answers[self.revision, key] = answer
        self._answers.move_to_end((self.revision, key))
        while len(self._answers) > self.size:
            self._answers.popitem(last=False)
