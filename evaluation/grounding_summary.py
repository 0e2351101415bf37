"""The figures of a grounding: precision beside its floor with paired intervals, contradictions, words found nowhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from .bootstrap import Interval, mean_interval, paired_difference
from .grounding_thresholds import Thresholds
from .verdicts import SUPPORTED, VERDICTS

MOST_WORDS = 50
"""Words and names that a summary lists, the most frequent first."""


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the intervals; see `bootstrap`."""

    seed: int = 0
    resamples: int = 1000
    level: float = 0.95


def summarize(rows: pl.DataFrame, claims: pl.DataFrame, thresholds: Thresholds, bootstrap: Bootstrap) -> dict[str, Any]:
    """Sum up all rows, ready for JSON.

    Args:
        rows: Figures by row, as in `verdicts.ROWS`.
        claims: Records by claim, as in `verdicts.CLAIMS`.
        thresholds: What was needed for support.
        bootstrap: Settings of the intervals.

    Returns:
        `rows`, `rows_without_claims`, `rows_without_item_evidence`, `claims`, `verdicts` (claims by verdict), `sources` (share
        of the supported claims that rest on each source); `precision` (supported by the item's texts), `supported_by_user`,
        `contradicted` and `unfounded_words_per_row`, each with `value`, `low`, `high`, `rows` and, over the rows that have
        one, `floor` and `difference` (None where no row has), or None where no row can be judged; `unfounded_words` and
        `unfounded_names`, each `text` with the `rows` it is in; `thresholds`.
    """
    return {
        "rows": len(rows),
        "rows_without_claims": int((rows["claims"] == 0).sum()),
        "rows_without_item_evidence": int(((rows["claims"] > 0) & rows["supported"].is_null()).sum()),
        "claims": len(claims),
        "verdicts": {verdict: int((claims["verdict"] == verdict).sum()) for verdict in VERDICTS},
        "sources": _sources(claims),
        "precision": _figure(rows, "supported", "floor_supported", bootstrap),
        "supported_by_user": _figure(rows, "supported_by_user", "floor_supported_by_user", bootstrap),
        "contradicted": _figure(rows, "contradicted", "floor_contradicted", bootstrap),
        "unfounded_words_per_row": _figure(
            rows.with_columns(pl.col("unfounded_words").list.len()), "unfounded_words", "floor_unfounded_words", bootstrap
        ),
        "unfounded_words": _counts(rows["unfounded_words"].to_list()),
        "unfounded_names": _counts(rows["unfounded_names"].to_list()),
        "thresholds": thresholds.as_dict(),
    }


def _figure(rows: pl.DataFrame, name: str, floor: str, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Mean of a column, and of it beside its floor on the rows that have both."""
    known = rows.filter(pl.col(name).is_not_null()).select(pl.col(name, floor).cast(pl.Float64))
    if known.is_empty():
        return None
    options = (bootstrap.seed, bootstrap.resamples, bootstrap.level)
    figure: dict[str, Any] = {**_plain(mean_interval(known[name].to_numpy(), *options)), "rows": len(known)}
    paired = known.drop_nulls()
    if paired.is_empty():
        return {**figure, "floor": None, "difference": None}
    own, other = paired[name].to_numpy(), paired[floor].to_numpy()
    difference = paired_difference(own, other, *options)
    return {
        **figure,
        "floor": {**_plain(mean_interval(other, *options)), "rows": len(paired)},
        "difference": {**_plain(difference), "effect_size": difference.effect_size},
    }


def _sources(claims: pl.DataFrame) -> dict[str, float]:
    supported = claims.filter(pl.col("verdict") == SUPPORTED)["source"].to_list()
    return {source: count / len(supported) for source, count in Counter(supported).most_common()}


def _counts(lists: Sequence[Sequence[str] | None]) -> list[dict[str, Any]]:
    counts = Counter(one for some in lists for one in some or ())
    ranked = sorted(counts.items(), key=lambda found: (-found[1], found[0]))
    return [{"text": text, "rows": count} for text, count in ranked[:MOST_WORDS]]


def _plain(interval: Interval) -> dict[str, float | None]:
    return {"value": interval.mean, "low": interval.low, "high": interval.high}
