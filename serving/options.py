"""What a server is told when it starts."""

import math
from dataclasses import dataclass
from pathlib import Path

from xrec_dataset_builder.errors import DataError


@dataclass(frozen=True)
class ServeOptions:
    """Options of a server.

    Args:
        model: folder that `xrec train` left, or a Hub id.
        graph: folder that `xrec encode` left and the model was trained with; checked against the model's tables.
        data: dataset folder: its training items are masked in recommendations and are what evidence is made of.
        encoder: sentence encoder that claims are compared with evidence by, a Hub id or a folder; None to go by words.
        max_batch: rows in one model call.
        deadline_ms: how long a row waits for others to share its call, in milliseconds.
        queue: rows that may wait or be in work at once; beyond it requests get 429.
        cache: explanations to keep; 0 for none.
        timeout: seconds that a request may take, from its first byte to its last.
        keys: bearer keys, of which a request must bring one; none asks for no key.
        max_body: longest body of a request, in bytes.
        max_new_tokens: longest explanation, in tokens.

    Raises:
        DataError: a value out of range, or a graph or an encoder without data.
    """

    model: str
    graph: Path | None = None
    data: Path | None = None
    encoder: str | None = None
    max_batch: int = 32
    deadline_ms: float = 10.0
    queue: int = 256
    cache: int = 4096
    timeout: float = 30.0
    keys: tuple[str, ...] = ()
    max_body: int = 262_144
    max_new_tokens: int = 96

    def __post_init__(self) -> None:
        least = {"max_batch": 1, "deadline_ms": 0, "queue": 1, "cache": 0, "timeout": 0.1, "max_body": 1, "max_new_tokens": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise DataError(f"expected {name} to be a number from {low} up, found {value}; choose another")
        if self.graph is not None and self.data is None:
            raise DataError("expected --data beside --graph, found none: evidence is made of interactions; give both")
        if self.encoder is not None and self.data is None:
            raise DataError("expected --data beside --encoder, found none: claims are compared with its texts; give both")
        if not all(key and key.isascii() and key.isprintable() and " " not in key for key in self.keys):
            raise DataError("expected keys of printable ASCII without spaces, found another one; make keys such as hex digits")
