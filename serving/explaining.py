"""A loaded model that explains batches of pairs and histories by one call, and recommends."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import StoppingCriteriaList

from modeling_xrec.pipeline_xrec import RecommendationExplanationPipeline
from modeling_xrec.recommending import best_items
from xrec_dataset_builder.errors import DataError
from xrec_evaluation.explain import EXPLAINERS, Explainer, model_type

from .catalogue import Catalogue, shown_item
from .claims import ClaimCheck
from .options import ServeOptions
from .schemas import MAX_HISTORY
from .served_graph import ServedGraph
from .streaming import BatchStreamer, Listener, StopCancelled

UNMASKED = "Served without --data: recommendations may hold items that the user knows; no evidence, no claims."
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

    `explain` is for one thread and `claims` for another; the rest may be called from a third one at the same time.

    Args:
        options: of the server.

    Attributes:
        revision: commit of a Hub model, or a checksum of a folder's files.
        name: last part of the folder or of the Hub id.
        catalogue: finds users and items.
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
        self.name = Path(options.model).absolute().name if Path(options.model).is_dir() else options.model.rpartition("/")[2]
        self.catalogue = Catalogue(self.processor)
        tables = self.model.lightgcn
        self.graph = None if options.data is None else ServedGraph(tables, self.processor, options.data, options.graph)
        self.claim_check = None if options.data is None else ClaimCheck(self.processor, options.data, options.encoder)
        notes = ((UNMASKED, self.graph is None), (DEAF, self.model.config.injection == "none"))
        self.notes = [note for note, holds in notes if holds]
        end = self.model.generation_config.eos_token_id
        self._end_ids = frozenset(end if isinstance(end, list) else [end])

    def prepare(self, row: Mapping[str, Any]) -> Prepared:
        """Looks a row's ids up and writes its prompt.

        Args:
            row: as in the pipeline: `user_id` or `history`, `item_id`, perhaps texts; and perhaps `profile_of`, the user
                whose stored profile stands in the prompt where the row gives none.

        Raises:
            UnknownIdError: an id that the model does not know.
            ValueError: any other row that cannot be explained; one line.
        """
        given = {name: value for name, value in row.items() if value is not None}
        if "user_id" in given:
            self._row_of("user", given["user_id"])
        profile_of = given.pop("profile_of", None)
        if profile_of is not None:
            stored = self.processor.users[self._row_of("user", profile_of)].get("user_profile")
            given.setdefault("user_profile", stored or "")
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
        if profile_of is not None:
            basis["profile_of"] = profile_of
        texts = tuple(basis[name] for name in ("title", "user_profile", "item_profile"))
        who = basis.get("user_id") or tuple(basis["history"])
        # A digest, so that the cache's memory is bounded whatever the texts.
        key = hashlib.sha256(
            repr((who, profile_of, basis["item_id"], texts, self.max_new_tokens)).encode(errors="replace")
        ).hexdigest()
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

    def claims(self, rows: Sequence[Prepared], texts: Sequence[str]) -> list[list[dict[str, Any]] | None]:
        """What explanations claim and what that rests on, see `ClaimCheck.of`; None for each without data.

        Args:
            rows: from `prepare`.
            texts: their explanations.
        """
        if self.claim_check is None:
            return [None] * len(rows)
        return [*self.claim_check.of([row.row["basis"] for row in rows], texts)]

    @torch.no_grad()
    def recommend(self, who: str | Sequence[str], k: int, exclude: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The k best items of a user or of a history, without what is known already.

        Args:
            who: id of a user, whose training items are left out where data are given; or ids of the items that an unseen one
                liked, which are left out.
            k: how many items.
            exclude: ids of further items to leave out.

        Returns:
            `item_id`, `title`, `score` of each, best first; fewer where fewer remain.

        Raises:
            UnknownIdError: a user or an item that the model does not know.
            ValueError: a history where the model stores no tables for them.
        """
        tables = self.model.lightgcn
        out = [self._row_of("item", item) for item in exclude]
        if isinstance(who, str):
            user = self._row_of("user", who)
            embedding = tables.user_embeddings[user]
            out += [] if self.graph is None else self.graph.known_to(user).tolist()
        else:
            history = [self._row_of("item", item) for item in who]
            embedding = tables.fold_in([history])[0]
            out += history
        found, scores = best_items(embedding.unsqueeze(0), tables.item_embeddings, None, k, [out])
        return [
            {**shown_item(self.processor.items[item]), "score": score}
            for item, score in zip(found[0].tolist(), scores[0].tolist(), strict=True)
            if item >= 0
        ]

    def history(self, user_id: str) -> dict[str, Any]:
        """A user's training items, the latest first.

        Returns:
            `user_id`, `history` with `item_id` and `title` of at most `MAX_HISTORY` items, and how many there are as `total`;
            none without data.

        Raises:
            UnknownIdError: a user that the model does not know.
        """
        user = self._row_of("user", user_id)
        rows = [] if self.graph is None else self.graph.known_to(user).tolist()
        shown = [shown_item(self.processor.items[row]) for row in rows[:MAX_HISTORY]]
        return {"user_id": user_id, "history": shown, "total": len(rows)}

    def about(self) -> dict[str, Any]:
        """What is served: the model, and how much it knows; see `schemas.About`."""
        config = self.model.config
        return {
            "model": self.revision,
            "notes": self.notes,
            "name": self.name,
            "users": len(self.processor.users),
            "items": len(self.processor.items),
            "experts": config.num_experts,
            "injection": config.injection,
            "has_data": self.graph is not None,
        }

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
