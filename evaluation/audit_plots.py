"""The audit as one picture, for a model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no window system is needed, nor looked for
from matplotlib import pyplot

from .report_audit import HEARD

INK, SOFT = "#0b6e99", "#9a9488"


def plot_audit(audit: Mapping[str, Any], path: Path) -> None:
    """Draws what the embeddings are worth, how that thins out, and which parts carry it.

    Args:
        audit: What `audit` returns.
        path: The PNG file to write; its folder is there.
    """
    parts = [part for kind in audit["ablations"].values() for part in kind]
    figure, axes = pyplot.subplots(1, 3 if parts else 2, figsize=(14 if parts else 10, 4.2), layout="constrained")
    bits = audit["bits"]
    _bars(axes[0], [HEARD[name] for name in bits], list(bits.values()))
    axes[0].set_title("Bits an explanation: true embeddings over ...")
    places = audit["dilution"]["by_place"]
    values = [group["value"] for group in places]
    axes[1].errorbar(range(len(places)), values, _errors(places), color=INK, marker="o", capsize=3)
    axes[1].axhline(0, color=SOFT, linewidth=1)
    axes[1].set_xticks(range(len(places)), [f"{group['first']}-{group['last']}" for group in places], rotation=45)
    axes[1].set_title("Bits a token, by its place in the reference")
    if parts:
        _bars(axes[2], [part["name"] for part in parts], parts)
        axes[2].set_title("Bits lost when a part is silent")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _bars(axis: Any, names: Sequence[str], figures: Sequence[Mapping[str, Any]]) -> None:
    places = range(len(names))
    axis.barh(places, [one["value"] for one in figures], xerr=_errors(figures), color=INK, height=0.6, capsize=3)
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.axvline(0, color=SOFT, linewidth=1)


def _errors(figures: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    low = [one["value"] - (one["value"] if one["low"] is None else one["low"]) for one in figures]
    high = [(one["value"] if one["high"] is None else one["high"]) - one["value"] for one in figures]
    return [[max(value, 0.0) for value in low], [max(value, 0.0) for value in high]]
