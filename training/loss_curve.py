"""The losses of a training run as a picture; their numbers are in `training.json`."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
LOSSES_FILE = "losses.png"


def plot_losses(log: Sequence[Mapping[str, Any]], folder: Path) -> Path | None:
    """Draws `losses.png`, the same bytes for the same numbers.

    Args:
        log: `Trainer`'s log: rows with `step` and `loss` or `eval_loss`, in nats a token.
        folder: where to write.

    Returns:
        The picture's path; None where no loss was logged, or without matplotlib, which a line in the log says.
    """
    curves = {label: losses(log, key) for label, key in (("training", "loss"), ("validation", "eval_loss"))}
    if not any(curves.values()):
        return None
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        logger.warning("no %s: matplotlib is not installed (`pip install matplotlib`); see training.json", LOSSES_FILE)
        return None
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for label, points in curves.items():
        if points:
            axes.plot(*zip(*points, strict=True), marker="." if len(points) > 30 else "o", label=label)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("loss, nats a token")
    axes.legend()
    figure.savefig(folder / LOSSES_FILE, metadata={"Software": None})
    return folder / LOSSES_FILE


def losses(log: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """Step and loss of the rows that have this loss."""
    return [(row["step"], row[key]) for row in log if key in row]
