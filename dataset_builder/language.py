"""Which language a review is written in, by py3langid, which is loaded when it is asked for."""

from typing import Any

import numpy as np
import polars as pl

from .errors import DataError

FEWEST_LETTERS = 20
"""Texts with fewer letters are too short to tell and are kept."""


def check_language(language: str | None) -> None:
    """Check that a language is known, and that what tells languages is installed.

    Raises:
        DataError: it is not.
    """
    if language is None:
        return
    known = sorted(code for code, _ in _library().rank("any text"))
    if language not in known:
        raise DataError(f"expected a --language such as en, de or zh, found {language!r}; choose one of {', '.join(known)}")


def is_written_in(texts: pl.Series, language: str) -> np.ndarray:
    """Return for each text whether it is in this language or too short to tell.

    Args:
        texts: any texts.
        language: a code of ISO 639-1.
    """
    library = _library()
    letters = texts.str.count_matches(r"\p{L}").to_numpy() if len(texts) else np.zeros(0, dtype=np.int64)
    found = np.ones(len(texts), dtype=bool)
    for place in np.flatnonzero(letters >= FEWEST_LETTERS):
        found[place] = library.classify(texts[int(place)])[0] == language
    return found


def _library() -> Any:
    try:
        import py3langid  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        raise DataError("expected the package py3langid for --language, found none; install xrec[language]") from error
    return py3langid
