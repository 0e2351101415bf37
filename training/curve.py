"""The validation curve of a training run as a picture."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)
CURVE_FILE = "curve.png"


def plot_curve(history: Sequence[float], label: str, floors: Mapping[str, float], folder: Path) -> Path | None:
    """Draws `curve.png`, the same bytes for the same numbers.

    Args:
        history: validation score of each epoch.
        label: what the score is.
        floors: scores of what the run must beat, drawn as dotted lines, by name.
        folder: where to write.

    Returns:
        The picture's path; None without matplotlib, which a line in the log says.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        logger.warning("no curve.png: matplotlib is not installed (`pip install matplotlib`); the curve is in metrics.json")
        return None
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(range(1, len(history) + 1), history, marker="o", label="LightGCN")
    best = max(range(len(history)), key=history.__getitem__)
    axes.plot([best + 1], [history[best]], marker="o", markersize=12, fillstyle="none", linestyle="none", label="kept")
    for name, score in floors.items():
        axes.axhline(score, linestyle=":", color="gray", label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    figure.savefig(folder / CURVE_FILE, metadata={"Software": None})
    return folder / CURVE_FILE
