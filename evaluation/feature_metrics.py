"""FMR, FCR and DIV: do explanations name features, the right ones, and different ones for different pairs?

Defined by Li, Zhang and Chen (NETE, CIKM 2020; PETER, arXiv 2105.11601, section 5.2) with one feature a row. They need
features: here those of a synthetic world's truth (`aspect_f1.named_aspects`), elsewhere an annotation such as Sentires.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

import numpy as np

from xrec_dataset_builder.errors import DataError


def feature_matching(named: Sequence[Collection[str]], features: Sequence[Collection[str]]) -> np.ndarray:
    """FMR by row: share of the row's own features that its text names.

    With one feature f a row its mean is `FMR = 1/N sum_r 1[f_r in S_r]`. A row without features scores 1 when its text
    names none, else 0, as in aspect-F1.

    Args:
        named: Features that each text names.
        features: Features that each row should name.

    Returns:
        `(rows,)` between 0 and 1; more is better, but a text that names everything scores 1.

    Raises:
        DataError: If the lengths differ or there is no row.
    """
    if len(named) != len(features):
        raise DataError(f"expected features of as many rows as texts, found {len(features)} and {len(named)}: pair them")
    _check_rows(named)
    rows = [(set(found), set(own)) for found, own in zip(named, features, strict=True)]
    return np.array([len(found & own) / len(own) if own else float(not found) for found, own in rows], dtype=float)


def feature_coverage(named: Sequence[Collection[str]], vocabulary: Iterable[str]) -> float:
    """FCR: different features named anywhere over all features, `|union_r F_r| / |F|`.

    Args:
        named: Features that each text names.
        vocabulary: All features.

    Returns:
        Between 0 and 1; more is better. It grows with the rows: compare systems on the same ones.

    Raises:
        DataError: If there is no row or no feature, or a text names one outside the vocabulary.
    """
    _check_rows(named)
    known, found = set(vocabulary), set(chain.from_iterable(named))
    if not known or found - known:
        raise DataError(
            f"expected texts to name features among all features, found {len(found - known)} others "
            f"beside {len(known)} features: give the whole vocabulary"
        )
    return len(found) / len(known)


def feature_diversity(named: Sequence[Collection[str]]) -> float:
    """DIV: mean number of features that two texts both name, `2 / (N (N - 1)) sum_{r<s} |F_r and F_s|`.

    The sum over pairs is `sum_f n_f (n_f - 1) / 2` with n_f the texts that name f, so it is linear in the rows.

    Args:
        named: Features that each text names, at least two rows.

    Returns:
        At least 0; **less** is better, and a text that names nothing is best of all: read it beside FMR.

    Raises:
        DataError: If there are fewer than two rows.
    """
    if len(named) < 2:
        raise DataError(f"expected at least two rows to compare their features, found {len(named)}: evaluate more rows")
    texts = Counter(chain.from_iterable(set(found) for found in named))
    return sum(count * (count - 1) for count in texts.values()) / (len(named) * (len(named) - 1))


def _check_rows(named: Sequence[Collection[str]]) -> None:
    if not named:
        raise DataError("expected at least one row of features, found none: check the file or the limit")
