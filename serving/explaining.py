"""A loaded model that explains batches of pairs and histories by one call, and recommends."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import StoppingCriteriaList

from modeling_xrec.pipeline_xrec import RecommendationExplanationPipeline
from xrec_dataset_builder.errors import DataError
from xrec_evaluation.explain import EXPLAINERS, Explainer, model_type

from .options import ServeOptions
from .served_graph import ServedGraph
from .streaming import BatchStreamer, Listener, StopCancelled

UNMASKED = "Served without --data: recommendations may hold items that the user knows already, and evidence is empty."
DEAF = "The model hears no graph (injection none): scores and evidence are of the recommendation, not of the text."
SHOWN_CHARACTERS = 80
BLOCK = 2**20


class UnknownIdError(ValueError):
    """An id that the model does not know."""


@dataclass(frozen=True)
class Prepared:
    """A row that can be explained.

    Attributes:
        row: what the pipeline made of it.
        key: what its answer depends on, besides the model.
    """

    row: dict[str, Any]
    key: Hashable


class ExplainingModel:
    """Loads a model, and its interactions where they are given.

    `explain` is for one thread; `prepare`, `evidence` and `recommend` may be called from a second one at the same time.

    Args:
        options: of the server.

    Attributes:
        revision: commit of a Hub model, or a checksum of a folder's files.
        notes: what whoever reads an answer should know.

    Raises:
        DataError: no XRec model there, or a graph or data that are not its own.
    """

    def __init__(self, options: ServeOptions) -> None:
        kind = model_type(options.model)
        if kind in EXPLAINERS:
            raise DataError(f"{options.model}: expected an XRec model, found {kind}, a baseline; serve a run of `xrec train`")
        explainer = Explainer(options.model)
        self.pipeline = RecommendationExplanationPipeline(
            explainer.model, processor=explainer.processor, device=explainer.model.device
        )
        self.model, self.processor = explainer.model, explainer.processor
        self.max_new_tokens = options.max_new_tokens
        self.revision = revision_of(options.model, self.model)
        tables = self.model.lightgcn
        self.graph = None if options.data is None else ServedGraph(tables, self.processor, options.data, options.graph)
        notes = ((UNMASKED, self.graph is None), (DEAF, self.model.config.injection == "none"))
        self.notes = [note for note, holds in notes if holds]
        end = self.model.generation_config.eos_token_id
        self._end_ids = frozenset(end if isinstance(end, list) else [end])

    def prepare(self, row: Mapping[str, Any]) -> Prepared:
        """Looks a row's ids up and writes its prompt.

        Args:
            row: as in the pipeline: `user_id` or `history`, `item_id`, perhaps texts.

        Raises:
            UnknownIdError: an id that the model does not know.
            ValueError: any other row that cannot be explained; one line.
        """
        given = {name: value for name, value in row.items() if value is not None}
        if "user_id" in given:
            self._row_of("user", given["user_id"])
        for item in (given["item_id"], *given.get("history", ())):
            self._row_of("item", item)
        prepared = self.pipeline.preprocess(given)["row"]
        room = getattr(self.model.config.text_config, "max_position_embeddings", None)
        if room is not None and len(prepared["input_ids"]) + self.max_new_tokens > room:
            raise ValueError(
                f"expected a prompt of at most {room - self.max_new_tokens} tokens, found {len(prepared['input_ids'])}; "
                "shorten the title"
            )
        basis = prepared["basis"]
        texts = tuple(basis[name] for name in ("title", "user_profile", "item_profile"))
        who = basis.get("user_id") or tuple(basis["history"])
        # A digest, so that the cache's memory is bounded whatever the texts.
        key = hashlib.sha256(repr((who, basis["item_id"], texts, self.max_new_tokens)).encode(errors="replace")).hexdigest()
        return Prepared(prepared, key)

    def explain(self, rows: Sequence[Prepared], listeners: Sequence[Listener]) -> list[dict[str, Any]]:
        """Explains rows by one model call.

        Args:
            rows: from `prepare`.
            listeners: one a row; a row whose listener is cancelled ends early.

        Returns:
            For each row `explanation` and what it rests on, see the pipeline; without the profiles.
        """
        streamer = BatchStreamer(lambda ids: self.processor.read_answers([ids])[0], listeners, self._end_ids)
        found = self.pipeline.forward(
            {"row": [row.row for row in rows]},
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([StopCancelled(listeners)]),
        )["row"]
        answers = [self.pipeline.postprocess({"row": one}) for one in found]
        streamer.finish([answer["explanation"] for answer in answers])
        return [
            {name: value for name, value in answer.items() if name not in ("user_profile", "item_profile")}
            for answer in answers
        ]

    def evidence(self, row: Prepared) -> dict[str, Any] | None:
        """What the row's score rests on; None without data."""
        return None if self.graph is None else self.graph.evidence(row.row["user"], row.row["item"])

    @torch.no_grad()
    def recommend(self, user_id: str, k: int) -> list[dict[str, Any]]:
        """The k best items of a user, training items left out where data are given.

        Returns:
            `item_id`, `title`, `score` of each, best first; fewer where fewer remain.

        Raises:
            UnknownIdError: a user that the model does not know.
        """
        user = self._row_of("user", user_id)
        exclude = None if self.graph is None else [self.graph.known_to(user)]
        items, scores = self.model.lightgcn.recommend([user], k, exclude)
        rows = [
            (self.processor.items[item], score)
            for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True)
            if item >= 0
        ]
        return [{"item_id": row["item_id"], "title": row.get("title") or "", "score": score} for row, score in rows]

    def _row_of(self, side: str, key: str) -> int:
        try:
            return self.processor.user_index(key) if side == "user" else self.processor.item_index(key)
        except ValueError:
            shown = key if len(key) <= SHOWN_CHARACTERS else f"{key[:SHOWN_CHARACTERS]}..."
            remedy = "give a history instead" if side == "user" else "use an id of the model's catalogue"
            raise UnknownIdError(f"unknown {side} {shown!r}: the model does not know this id; {remedy}") from None


def revision_of(name: str, model: Any) -> str:
    """What names a model's state: the commit of a Hub model, else the first 16 digits of a SHA-256 over its folder.

    Where the folder has `checksums.json`, which loading has compared with the weights, these are not read again.

    Args:
        name: folder or Hub id.
        model: what was loaded from it.
    """
    folder = Path(name)
    if not folder.is_dir():
        return str(getattr(model.config, "_commit_hash", None) or name)
    weights = () if (folder / "checksums.json").is_file() else sorted(folder.glob("*.safetensors"))
    total = hashlib.sha256()
    for path in (*sorted(folder.glob("*.json")), *weights):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
        total.update(f"{path.name} {digest.hexdigest()}\n".encode())
    return total.hexdigest()[:16]
