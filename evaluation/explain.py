"""Explanations from a trained model: pairs, files of pairs, unseen users, whole splits."""

import importlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from tqdm import tqdm
from transformers import PreTrainedConfig

from modeling_xrec.modeling_xrec import XRecForCausalLM
from modeling_xrec.processing_xrec import XRecProcessor
from modeling_xrec.signals import apply_signal
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table

from .likelihood import ReferenceLikelihood, Signal
from .processes import Processes

SAMPLE_SEED = 0
SEEDS_FILE = "seeds.json"
BASELINE = "xrec_baselines.explainer:BaselineExplainer"
EXPLAINERS = dict.fromkeys(("xrec_att2seq", "xrec_nrt", "xrec_peter", "xrec_pepler"), BASELINE)
"""Who explains with models that are not XRec, by `model_type`: a class made from `(model, batch_size, max_new_tokens)`, with a
method `pairs(users, items, progress)` as `Explainer`'s. They hear no graph."""


class Explainer:
    """A model and its processor, ready to explain.

    Args:
        model: folder that `xrec train` left, or a Hub id.
        signal: `graph`, or a condition of `apply_signal` to put in the tables' place.
        batch_size: pairs generated at a time.
        max_new_tokens: longest explanation, in tokens.

    Raises:
        DataError: the folder is not a model, or lacks its tables or catalogue.
    """

    def __init__(self, model: Path | str, signal: str = "graph", batch_size: int = 32, max_new_tokens: int = 96) -> None:
        if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
            raise DataError(f"{model}: expected a model folder that `xrec train` left, found no config.json in it")
        try:
            self.processor = XRecProcessor.from_pretrained(str(model))
            self.model = XRecForCausalLM.from_pretrained(str(model)).eval()
        except OSError as error:
            raise DataError(
                f"{model}: expected a model folder that `xrec train` left, or a Hub id, found none "
                f"({str(error).splitlines()[0]})"
            ) from error
        if not (self.model.config.num_users and self.processor.users):
            raise DataError(f"{model}: expected the tables of users and items, found none; train again with `xrec train`")
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        tables = apply_signal(dict(self.model.lightgcn.state_dict()), signal)
        self.model.lightgcn.load_state_dict(tables)
        if torch.cuda.is_available():
            self.model.to("cuda")

    def pairs(
        self, users: Sequence[str], items: Sequence[str], progress: bool = False, signal: Signal | None = None
    ) -> list[str]:
        """Explanations of known users and items, in order.

        Args:
            users: ids, as many as items.
            items: ids.
            progress: whether to show a bar.
            signal: what the model hears for each pair; its tables' rows when None.

        Raises:
            ValueError: an unknown user or item; nothing is generated then.
        """
        self.lengths(users, items)  # looks all of them up
        rows: list[dict[str, Any]] = [{"user_id": u, "item_id": i} for u, i in zip(users, items, strict=True)]
        return self._generate(rows, progress, signal)

    def lengths(self, users: Sequence[str], items: Sequence[str]) -> list[int]:
        """How long the prompts of known users and items are, in characters of their texts.

        Raises:
            ValueError: an unknown user or item.
        """
        pairs = zip(users, items, strict=True)
        return [self._prompt_length({"user_id": user, "item_id": item}) for user, item in pairs]

    def histories(self, histories: Sequence[Sequence[str]], items: Sequence[str]) -> list[str]:
        """Explanations for users that the model does not know, each given by the items it liked.

        Raises:
            ValueError: an unknown item or an empty history.
        """
        return self._generate([{"history": h, "item_id": i} for h, i in zip(histories, items, strict=True)], False)

    def _generate(self, rows: list[dict[str, Any]], progress: bool, signal: Signal | None = None) -> list[str]:
        # Like lengths together, so that little is padded; the answers go back in the order of the rows.
        key = "history" if rows and "history" in rows[0] else "user_id"
        order = sorted(range(len(rows)), key=lambda index: self._prompt_length(rows[index]))
        texts = [""] * len(rows)
        bar = tqdm(total=len(rows), desc="explain", unit="pair", disable=not progress)
        for start in range(0, len(rows), self.batch_size):
            part = order[start : start + self.batch_size]
            asked: dict[str, Any] = {name: [rows[i][name] for i in part] for name in ("item_id", key)}
            batch = dict(self.processor(**asked))
            if signal is not None:
                where = torch.tensor(part, device=signal.user.device)
                batch = {name: value for name, value in batch.items() if name not in ("user_ids", "item_ids")}
                batch |= {"user_embeds": signal.user[where], "item_embeds": signal.item[where]}
            for index, text in zip(part, self._answer(batch), strict=True):
                texts[index] = text
            bar.update(len(part))
        bar.close()
        return texts

    def _prompt_length(self, row: dict[str, Any]) -> int:
        item = self.processor.items[self.processor.item_index(row["item_id"])]
        user = self.processor.users[self.processor.user_index(row["user_id"])] if "user_id" in row else {"user_profile": ""}
        return len(item["title"]) + len(item["item_profile"] or "") + len(user["user_profile"] or "")

    @torch.no_grad()
    def _answer(self, batch: Any) -> list[str]:
        inputs = dict(batch)
        if "histories" in inputs:
            inputs["user_embeds"] = self.model.lightgcn.fold_in(inputs.pop("histories"))
        inputs = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
        ids = self.model.generate(
            **inputs,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )
        new = ids[:, inputs["input_ids"].shape[1] :]
        return self.processor.read_answers(new)


def load_explainer(model: Path | str, signal: str = "graph", batch_size: int = 32, max_new_tokens: int = 96) -> Any:
    """Who explains with a model: `Explainer`, or by `EXPLAINERS` a baseline's own.

    Args:
        model: model folder or Hub id.
        signal: as in `Explainer`; a baseline has `graph` only, which to it means nothing.
        batch_size: pairs generated at a time.
        max_new_tokens: longest explanation, in tokens.

    Raises:
        DataError: no model there, or a signal for one that hears none.
    """
    kind = model_type(model)
    if kind not in EXPLAINERS:
        return Explainer(model, signal, batch_size, max_new_tokens)
    if signal != "graph":
        raise DataError(f"{model}: expected no signal for a {kind} model, which hears no graph, found {signal!r}; leave it")
    module, name = EXPLAINERS[kind].split(":")
    return getattr(importlib.import_module(module), name)(model, batch_size=batch_size, max_new_tokens=max_new_tokens)


def model_type(model: Path | str) -> str | None:
    """The `model_type` in the configuration of a folder or Hub id; None where there is none."""
    return _settings(model).get("model_type")


def seed_folders(model: Path | str) -> list[Path | str]:
    """The runs of a folder that `xrec train --seeds` left, in the order of its table; any other model is its only run."""
    table = Path(model) / SEEDS_FILE
    if not table.is_file():
        return [model]
    runs = json.loads(table.read_text(encoding="utf-8"))["runs"]
    return [Path(model) / run["folder"] for run in runs]


def hears_graph(model: Path | str) -> bool:
    """Whether a model's texts can depend on the graph: it is an XRec model, and something is injected into it."""
    settings = _settings(model)
    return settings.get("model_type") not in EXPLAINERS and settings.get("injection") != "none"


def _settings(model: Path | str) -> dict[str, Any]:
    """What config.json of a folder or Hub id holds; nothing where there is none, which the explainer then says."""
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        return {}
    try:
        return PreTrainedConfig.get_config_dict(str(model))[0]
    except OSError:
        return {}


def explain_rows(
    explainer: Any, users: Sequence[str], items: Sequence[str], processes: Processes | None = None, batch_size: int = 32
) -> list[str]:
    """Explains pairs, by one process or by all of them.

    Rows are put in order of length and cut into the batches that one process would make, and every process takes every
    `count`-th, so that all have as much to do and each text is the one that a single process would write. Where there are
    fewer batches than processes, they are cut smaller.

    Args:
        explainer: from `load_explainer`.
        users: ids, as many as items.
        items: ids.
        processes: those that share the rows, in their block; None for this one alone.
        batch_size: pairs generated at a time, as the explainer was told.

    Returns:
        Texts in the order of the rows, in every process.
    """
    if processes is None or processes.count == 1:
        return explainer.pairs(users, items, progress=True)
    # A baseline's prompts are an id a side, all of one length.
    lengths = explainer.lengths(users, items) if isinstance(explainer, Explainer) else [0] * len(users)
    order = sorted(range(len(users)), key=lengths.__getitem__)
    size = max(min(batch_size, math.ceil(len(order) / processes.count)), 1)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    mine: list[tuple[int, str]] = []
    for rows in processes.share(batches, "explain", "pair"):
        texts = explainer.pairs([users[row] for row in rows], [items[row] for row in rows], progress=False)
        mine += zip(rows, texts, strict=True)
    found = dict(processes.gather(mine))
    return [found[row] for row in range(len(users))]


def explain_split(
    model: Path | str,
    data: Path,
    split: str = "test",
    limit: int | None = None,
    batch_size: int = 32,
    signal: str = "graph",
    processes: Processes | None = None,
    likelihood: bool = False,
) -> pl.DataFrame:
    """Explains every pair of a split.

    Args:
        model: model folder or Hub id.
        data: dataset folder with explanations.
        split: which split.
        limit: that many rows, drawn by a fixed seed; None for all.
        batch_size: pairs generated at a time.
        signal: condition of the tables at test time.
        processes: those that share the rows; None for this one alone.
        likelihood: whether to score the references too.

    Returns:
        `user_id, item_id, prediction, reference`, in the dataset's order; in every process. With `likelihood` also `nats`, the
        reference's log-probability, and `tokens`, how many it has; null where there is none, or the model is a baseline.
    """
    rows = read_table(DatasetFolder(data).explanations(split), EXPLANATIONS)
    if limit is not None and limit < rows.height:
        rows = rows.with_row_index("row").sample(limit, seed=SAMPLE_SEED).sort("row").drop("row")
    if rows.is_empty():
        raise DataError(f"{data}: expected explanations in split {split}, found none; build with other splits or filters")
    users, items = rows["user_id"].to_list(), rows["item_id"].to_list()
    explainer = load_explainer(model, signal, batch_size)
    texts = explain_rows(explainer, users, items, processes, batch_size)
    found = rows.select("user_id", "item_id", reference="explanation").with_columns(
        prediction=pl.Series(texts, dtype=pl.String)
    )
    return with_likelihood(explainer, found, processes, batch_size) if likelihood else found


def with_likelihood(explainer: Any, rows: pl.DataFrame, processes: Processes | None, batch_size: int) -> pl.DataFrame:
    """Adds `nats` and `tokens` of the references; see `explain_split`."""
    rows = rows.with_row_index("row")
    scored = rows.filter(pl.col("reference").fill_null("").str.strip_chars() != "")
    found: list[np.ndarray] = []
    if isinstance(explainer, Explainer) and len(scored):
        scorer = ReferenceLikelihood(explainer, scored, batch_size)
        found = scorer.tokens(scorer.signal(), "score references", processes)
    values = {
        "row": scored["row"].head(len(found)),
        "nats": pl.Series([float(values.sum()) for values in found], dtype=pl.Float64),
        "tokens": pl.Series([len(values) for values in found], dtype=pl.Int64),
    }
    return rows.join(pl.DataFrame(values), on="row", how="left", maintain_order="left").drop("row")


def explain_file(model: str, pairs: Path, out: Path, batch_size: int = 32, processes: Processes | None = None) -> int:
    """Explains a file of pairs.

    Args:
        model: model folder or Hub id.
        pairs: Parquet, CSV or JSONL with `user_id` and `item_id`.
        out: Parquet file to write: `user_id, item_id, explanation`, in the order of `pairs`.
        batch_size: pairs generated at a time.
        processes: those that share the rows, of which the main one writes; None for this one alone.

    Returns:
        How many pairs were explained.

    Raises:
        DataError: the file cannot be read or lacks a column.
        ValueError: an unknown user or item; nothing is written then.
    """
    readers: dict[str, Callable[..., pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".csv": pl.read_csv,
        ".jsonl": pl.read_ndjson,
    }
    if pairs.suffix not in readers:
        raise DataError(f"expected a file ending in {', '.join(readers)}, found {pairs.name!r}; convert it")
    if not pairs.is_file():
        raise DataError(f"expected a file of pairs, found no file {pairs}; check the path")
    table = readers[pairs.suffix](pairs)
    for name in ("user_id", "item_id"):
        if name not in table.columns:
            raise DataError(f"{pairs}: expected columns user_id and item_id, found {', '.join(table.columns)}; rename")
    table = table.select(pl.col("user_id", "item_id").cast(pl.String))
    users, items = table["user_id"].to_list(), table["item_id"].to_list()
    texts = explain_rows(load_explainer(model, batch_size=batch_size), users, items, processes, batch_size)
    if processes is not None and not processes.is_main:
        return table.height
    out.parent.mkdir(parents=True, exist_ok=True)
    table.with_columns(explanation=pl.Series(texts, dtype=pl.String)).write_parquet(out)
    return table.height
