"""`xrec encode`: trains LightGCN on a dataset's training interactions and writes the collaborative embeddings."""

import hashlib
import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from modeling_xrec.lightgcn import LightGCN
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import SPLITS, atomic_folder, refuse_existing

from .compare import compare_methods, held_out_metrics, popularity_metrics, require_implicit
from .curve import plot_curve
from .encode_options import EncodeOptions
from .fitting import fit
from .graph_checkpoint import GraphCheckpoint, edges_fingerprint
from .graph_folder import METRICS_FILE, table_files, write_graph
from .tables import Catalogue, read_edges

logger = logging.getLogger(__name__)


def encode(
    data: Path, out: Path, options: EncodeOptions | None = None, progress: bool = True,
    *, compare: bool = False, resume: bool = False, start_from: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains the encoder and writes the graph folder: tables, `graph.json`, `catalogue.parquet`, `metrics.json`, `curve.png`.

    The state of every epoch is kept in `OUT.partial` until the graph is written.

    Args:
        data: dataset folder; only its training interactions make edges.
        out: folder to make.
        options: see `EncodeOptions`.
        progress: show a progress bar.
        compare: measure popularity, item-kNN, SVD, ALS and BPR on the same splits too; needs the extra `compare`.
        resume: go on from the last epoch in `OUT.partial`, if there is one; the result has the bytes of an undisturbed run.
        start_from: folder of an earlier graph to start from, of the same or a smaller catalogue; ids match the rows.

    Returns:
        `metrics.json` as a dictionary: for validation and test recall@20, ndcg@20, coverage@20 and novelty@20 with training
        items masked, the same of the popularity ranking under `popularity`, the validation curve and the options.

    Raises:
        DataError: the dataset cannot be read, has no training edge, the loss is not finite, or the state or the earlier graph
            does not belong to this run; `compare` without its extra.
    """
    options = (options or EncodeOptions()).completed()
    if compare:
        require_implicit()
    refuse_existing(out)
    catalogue = Catalogue.read(data)
    edges = {split: read_edges(data, split, catalogue) for split in SPLITS}
    if edges["train"].shape[1] == 0:
        raise DataError(f"{data}: expected training interactions, found none; build with other splits or filters")
    checkpoint = GraphCheckpoint(out, _identity(options, catalogue, edges, start_from))
    if not resume:
        checkpoint.remove()
    elif not checkpoint.folder.is_dir():
        logger.warning("%s: nothing to resume; starting at the first epoch", checkpoint.folder)
    started = time.process_time()
    model, history = fit(edges["train"], edges["validation"], catalogue, options, progress, checkpoint, start_from)
    seconds = time.process_time() - started
    metrics: dict[str, Any] = {"epochs": len(history), "validation_curve": history, "options": asdict(options)}
    shape = (model.num_users, model.num_items)
    figures, metrics["popularity"] = graph_metrics(model, edges), popularity_metrics(edges, shape)
    if compare:
        metrics["compared"] = {"LightGCN": figures | {"cpu_seconds": seconds}, "popularity": metrics["popularity"]}
        metrics["compared"] |= compare_methods(edges, shape, options.dim, options.seed, progress)
    metrics |= figures
    with atomic_folder(out) as folder:
        write_graph(model, folder, catalogue)
        (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        label, floors = "minus the training loss", {}
        if edges["validation"].shape[1]:
            label, floors = "validation ndcg@20", {"popularity": metrics["popularity"]["validation_ndcg@20"]}
        plot_curve(history, label, floors, folder)
    checkpoint.remove()
    return metrics


def graph_metrics(model: LightGCN, edges: dict[str, torch.Tensor]) -> dict[str, float]:
    """Figures of a settled model on validation and test, training items masked, as `test_recall@20` and so on.

    Args:
        model: after `fit`.
        edges: `(2, edges)` by split.
    """
    columns = model.item_embeddings.T.contiguous()
    return held_out_metrics(lambda users: model.user_embeddings[users] @ columns, edges, (model.num_users, model.num_items))


def _identity(
    options: EncodeOptions, catalogue: Catalogue, edges: dict[str, torch.Tensor], start_from: Path | None
) -> dict[str, Any]:
    """What a run's state depends on."""
    start = None
    if start_from is not None:
        start = [hashlib.sha256(path.read_bytes()).hexdigest() for path in table_files(start_from)]
    return asdict(options) | {
        "catalogue": catalogue.fingerprint(),
        "edges": edges_fingerprint(edges["train"], edges["validation"]),
        "start_from": start,
    }
