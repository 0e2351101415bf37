"""Aspect-F1: does an explanation name what user and item really share? Needs the truth of the synthetic world."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import DatasetFolder

_Forms = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Truth:
    """What the generator of a synthetic world knows.

    Attributes:
        aspects: Surface forms of each aspect, by the aspect's name.
        pairs: user_id, item_id (str), shared_aspects (list of str), one row a pair.
        oracle_f1: Best mean aspect-F1 that any predictor can reach; None if unknown.
        text_f1: Best mean aspect-F1 reachable from titles and profiles without the graph; None if unknown.
        graph_bits_upper_bound: Most bits an explanation that the graph can be worth; None if unknown.
    """

    aspects: Mapping[str, tuple[str, ...]]
    pairs: pl.DataFrame
    oracle_f1: float | None = None
    text_f1: float | None = None
    graph_bits_upper_bound: float | None = None

    def shared(self, user_ids: Sequence[str], item_ids: Sequence[str]) -> list[frozenset[str]]:
        """Shared aspects of pairs, in their order.

        Args:
            user_ids: One user a pair.
            item_ids: One item a pair.

        Returns:
            One set of aspect names a pair.

        Raises:
            DataError: If the truth of a pair is not known.
        """
        columns = (self.pairs[name].to_list() for name in ("user_id", "item_id", "shared_aspects"))
        known = {(user, item): frozenset(shared) for user, item, shared in zip(*columns, strict=True)}
        pairs = list(zip(user_ids, item_ids, strict=True))
        missing = [pair for pair in pairs if pair not in known]
        if missing:
            raise DataError(
                f"expected every pair in truth/pairs.parquet, found {len(missing)} of {len(pairs)} missing "
                f"(first: user {missing[0][0]!r}, item {missing[0][1]!r}): evaluate on the data the pairs come from"
            )
        return [known[pair] for pair in pairs]


def load_truth(data: Path) -> Truth | None:
    """Read the truth beside a dataset.

    Args:
        data: Dataset folder.

    Returns:
        The truth, or None when the folder has none (real data).

    Raises:
        DataError: If the truth is incomplete or cannot be read.
    """
    facts_file, pairs_file = DatasetFolder(data).truth_json, DatasetFolder(data).truth_pairs
    if not facts_file.exists():
        return None
    if not pairs_file.exists():
        raise DataError(f"expected {pairs_file} beside truth.json, found none: build the dataset again")
    try:
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        aspects = {name: tuple(forms) for name, forms in facts["aspects"].items()}
        pairs = pl.read_parquet(pairs_file).select(pl.col("user_id", "item_id").cast(pl.String), pl.col("shared_aspects"))
    except (ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise DataError(f"expected a readable truth in {data / 'truth'}, found {reason}: build the dataset again") from error
    bounds = {key: facts.get(key) for key in ("oracle_f1", "text_f1", "graph_bits_upper_bound")}
    return Truth(aspects, pairs, **bounds)


def named_aspects(text: str, aspects: Mapping[str, Iterable[str]]) -> set[str]:
    """Aspects that a text names by one of their surface forms.

    Forms are found as whole words in any case; where two forms start at one place the longer one counts, and words
    once read are not read again ("live music" does not also name the form "music").

    Args:
        text: Any text.
        aspects: Surface forms of each aspect.

    Returns:
        Names of aspects.
    """
    pattern, owners = _compiled(tuple((name, tuple(forms)) for name, forms in aspects.items()))
    return {name for found in pattern.findall(text) for name in owners.get(_normal(found), ())}


def aspect_f1(predictions: Sequence[Iterable[str]], shared: Sequence[Iterable[str]]) -> np.ndarray:
    """F1 between the aspects a text names and the shared ones, row by row.

    Args:
        predictions: Aspects named, one set a row.
        shared: Aspects shared by user and item, one set a row.

    Returns:
        `(rows,)` between 0 and 1; both sets empty is 1, one of them empty is 0. Its mean is the corpus figure.

    Raises:
        ValueError: If the lengths differ.
    """
    rows = [(set(named), set(true)) for named, true in zip(predictions, shared, strict=True)]
    return np.array([2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0 for a, b in rows], dtype=float)


@lru_cache(maxsize=8)
def _compiled(aspects: _Forms) -> tuple[re.Pattern[str], dict[str, tuple[str, ...]]]:
    owners: dict[str, tuple[str, ...]] = {}
    for name, forms in aspects:
        for form in map(_normal, forms):
            if form:
                owners[form] = (*owners.get(form, ()), name)
    if not owners:
        return re.compile(r"(?!)"), owners
    longest_first = sorted(owners, key=lambda form: (-len(form), form))
    alternatives = "|".join(r"\s+".join(map(re.escape, form.split())) for form in longest_first)
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE), owners


def _normal(form: str) -> str:
    return " ".join(form.lower().split())
