"""What a graph folder holds: the tables, in shards when large, what they belong to, and the ids of their rows."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError

from modeling_xrec.checkpoint_files import TABLES_NAME, CheckpointSource, save_tables
from modeling_xrec.lightgcn import LightGCN
from xrec_dataset_builder.errors import DataError

from .tables import Catalogue

CATALOGUE_FILE, METRICS_FILE, ABOUT_FILE = "catalogue.parquet", "metrics.json", "graph.json"
MAX_SHARD_SIZE = "5GB"


def write_graph(model: LightGCN, out: Path, catalogue: Catalogue, max_shard_size: int | str = MAX_SHARD_SIZE) -> None:
    """Writes `collaborative.safetensors`, `graph.json` and `catalogue.parquet`.

    Args:
        model: settled.
        out: folder that is there.
        catalogue: users and items of the rows; their ids, `side` and `id`, let a later graph find the rows again.
        max_shard_size: where the tables exceed it they are written in shards with an index, as transformers does.
    """
    tables = {name: table.detach().contiguous() for name, table in model.state_dict().items()}
    save_tables(out, tables, max_shard_size)
    about: dict[str, Any] = {"catalogue": catalogue.fingerprint(), "layer_weights": model.layer_weights}
    about["length_exponent"] = model.length_exponent
    (out / ABOUT_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    write_ids(catalogue, out)


def write_ids(catalogue: Catalogue, out: Path) -> None:
    """Writes `catalogue.parquet`: `id` and `side` of every row, users first."""
    sides = ((catalogue.users["user_id"], "user"), (catalogue.items["item_id"], "item"))
    ids = pl.concat([pl.DataFrame({"id": ids}).with_columns(side=pl.lit(side)) for ids, side in sides])
    ids.write_parquet(out / CATALOGUE_FILE)


def read_graph(graph: Path, catalogue: Catalogue) -> LightGCN:
    """The settled model of a graph folder.

    Args:
        graph: folder that `xrec encode` left.
        catalogue: of the dataset that the graph must belong to.

    Raises:
        DataError: no graph, a broken file, NaN or infinity, or the graph of another dataset.
    """
    model, fingerprint = _load(graph, f"run `xrec encode DATA --out {graph}` first")
    if fingerprint != catalogue.fingerprint():
        raise DataError(f"{graph} was made from another dataset (its users or items differ); run `xrec encode` on this one")
    return model


def read_any_graph(graph: Path) -> tuple[LightGCN, dict[str, pl.Series]]:
    """The settled model of a graph folder whatever its dataset, and the ids of its rows by side.

    Raises:
        DataError: as `read_graph`, or ids of another number than rows.
    """
    hint = "give --start-from a folder that `xrec encode` left"
    model, _ = _load(graph, hint)
    if not (graph / CATALOGUE_FILE).is_file():
        raise DataError(f"{graph}: expected {CATALOGUE_FILE}, found none; {hint}")
    table, ids = pl.read_parquet(graph / CATALOGUE_FILE), {}
    for side, rows in (("user", model.num_users), ("item", model.num_items)):
        ids[side] = table.filter(pl.col("side") == side)["id"]
        if len(ids[side]) != rows:
            raise DataError(f"{graph}: expected {len(ids[side])} {side} embeddings, found {rows}; encode it again")
    return model, ids


def table_files(graph: Path) -> list[Path]:
    """The files of a graph's tables, whole or in shards, ascending by name; none where there is no graph."""
    return sorted(graph.glob(f"{Path(TABLES_NAME).stem}*.safetensors"))


def _load(graph: Path, hint: str) -> tuple[LightGCN, str]:
    """The model and the fingerprint of the catalogue it was made from."""
    for found, name in ((table_files(graph), TABLES_NAME), ((graph / ABOUT_FILE).is_file(), ABOUT_FILE)):
        if not found:
            raise DataError(f"{graph}: expected {name}, found none; {hint}")
    try:
        about = json.loads((graph / ABOUT_FILE).read_text(encoding="utf-8"))
        weights = about["layer_weights"]
        tables = CheckpointSource(graph).tensors(TABLES_NAME)
        with torch.device("meta"):
            sizes = len(tables["user_embeddings"]), len(tables["item_embeddings"]), tables["item_embeddings"].shape[1]
            exponent = about.get("length_exponent", 0.0)
            model = LightGCN(*sizes, len(weights) - 1, weights, exponent).requires_grad_(False)
        model.load_state_dict(tables, assign=True)
    except (SafetensorError, KeyError, ValueError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{graph}: expected the tables of a graph, found a broken file ({reason}); encode again") from error
    for name, table in tables.items():
        if not table.isfinite().all():
            raise DataError(f"{graph}: {name} holds NaN or infinity; run `xrec encode` again")
    return model.requires_grad_(False), about["catalogue"]
