"""Pipeline `recommendation-explanation`: from a user and an item to the explanation and what it rests on.

The user is one that the model stores, a history of items, or a collaborative embedding; the item is one of the catalogue, or a
collaborative embedding with its title. Rows are put into batches by the processor, so a batch may mix all of these.
"""

import difflib
from collections.abc import Iterable, Mapping
from types import GeneratorType
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import GenerationConfig, Pipeline, PreTrainedModel, ProcessorMixin

TASK = "recommendation-explanation"
CUSTOM_PIPELINES = {TASK: {"impl": "pipeline_xrec.RecommendationExplanationPipeline", "pt": ["AutoModelForCausalLM"]}}
"""What `custom_pipelines` in config.json must hold; copy it deeply, for transformers writes classes into it when it loads."""

USER_KEYS = ("user_id", "history", "user_embedding")
ITEM_KEYS = ("item_id", "item_embedding")
TEXT_KEYS = ("title", "user_profile", "item_profile")
GENERATION_OPTIONS = frozenset(name for name in vars(GenerationConfig()) if not name.startswith("_")) | {"generation_config"}


class RecommendationExplanationPipeline(Pipeline):
    """Explains why a user would enjoy an item.

    Args:
        model: an `XRecForCausalLM`; put into evaluation mode.
        processor: the `XRecProcessor` saved beside it; the tokenizer is its own.
        **kwargs: of `transformers.Pipeline` (`device`, `batch_size`, ...), or options of a call, then of every call.

    Raises:
        ValueError: no processor, an assistant model, or an unknown option.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _pipeline_calls_generate = True
    _default_generation_config = GenerationConfig(max_new_tokens=80)

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin | None = None, **kwargs: Any) -> None:
        if processor is None:
            raise ValueError("expected a processor, found none; give processor=XRecProcessor.from_pretrained(folder).")
        if kwargs.get("assistant_model") is not None:
            raise ValueError(
                "expected no assistant_model, found one: transformers would want a tokenizer with it; give a loaded model in "
                "a call's generate_kwargs={'assistant_model': ...}."
            )
        kwargs.pop("local_files_only", None)  # pipeline() passes on what it has used itself
        super().__init__(model, processor=processor, **{**kwargs, "tokenizer": processor.tokenizer})
        self.model.eval()

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Explains one pair or many.

        Args:
            inputs: a row, or a list, dataset or other iterable of rows. A row is a dictionary with
                one of `user_id` (a user of the model), `history` (ids of the items that an unseen user liked) and
                `user_embedding` (a collaborative embedding `(dim,)`, tensor or list);
                one of `item_id` (an item of the model) and `item_embedding` `(dim,)`, which needs `title`;
                and perhaps `title`, `user_profile`, `item_profile`, which take the place of the stored texts. A value of None
                counts as absent.
            **options: any option of `GenerationConfig`: `max_new_tokens` (default 80, or the model's own), `do_sample`,
                `num_beams`, `num_return_sequences`, ...; `generate_kwargs`, a dictionary of other arguments of `generate`;
                `batch_size` (default 1) and `num_workers` (default 0).

        Returns:
            For a row a dictionary, for a list a list of them, for anything else an iterator that reads as it goes, in the
            order of the rows. Each holds plain values:
                `explanation`: text, or a list of texts when `num_return_sequences` is more than 1;
                `user_id`, or `history` without repeats, and `item_id`, where the row gives them;
                `title`, `user_profile`, `item_profile`: the texts that the prompt was made of;
                `shortened`: where the prompt holds less of a profile than that, its tokens as found and as kept;
                `score`: inner product of the two collaborative embeddings;
                `user_gates`, `item_gates`: weight of every expert of the two adapters, each adding up to 1;
                `history_scores`: for a history, what each of its items adds to the score.

        Raises:
            ValueError: a row or an option that is not as above, or an id that the model does not know.
        """
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        if isinstance(inputs, Iterable) and not isinstance(inputs, (Mapping, str, list, Dataset, GeneratorType)):
            inputs = (row for row in inputs)  # such as a `datasets.Dataset`, which transformers takes for one row
        return super().__call__(inputs, **options)

    def _sanitize_parameters(self, generate_kwargs: dict[str, Any] | None = None, **options: Any) -> tuple[dict, dict, dict]:
        for name in options:
            if name not in GENERATION_OPTIONS:
                near = difflib.get_close_matches(name, sorted(GENERATION_OPTIONS), n=1)
                hint = f"did you mean {near[0]!r}?" if near else "give arguments of generate in generate_kwargs={...}."
                raise ValueError(f"unknown option {name!r} of the {TASK} pipeline; {hint}")
        twice = sorted(set(options) & set(generate_kwargs or {}))
        if twice:
            raise ValueError(f"{twice[0]!r} is given twice, as an option and in generate_kwargs; give it once.")
        return {}, {**options, **(generate_kwargs or {})}, {}

    def preprocess(self, row: Any) -> dict[str, Any]:
        """Checks a row, looks its ids up and writes its prompt.

        Args:
            row: as in `__call__`.

        Returns:
            `row`: `input_ids`, the `user` (table row, list of item table rows, or embedding), the `item` (table row or
            embedding), and `basis`, what is given back beside the explanation.
        """
        row = _checked(row)
        user_key, item_key = (next(key for key in keys if key in row) for keys in (USER_KEYS, ITEM_KEYS))
        stored: dict[str, Any] = {}
        basis: dict[str, Any] = {}
        user, item = row[user_key], row[item_key]
        if user_key == "user_embedding":
            user = self._embedding(user_key, user)
        elif user_key == "user_id":
            basis["user_id"], user = user, self.processor.user_index(user)
            stored |= self.processor.users[user]
        else:
            basis["history"] = list(dict.fromkeys(user))
            user = [self.processor.item_index(entry) for entry in basis["history"]]
        if item_key == "item_embedding":
            item = self._embedding(item_key, item)
        else:
            basis["item_id"], item = item, self.processor.item_index(item)
            stored |= self.processor.items[item]
        texts = {key: row.get(key, stored.get(key)) or "" for key in TEXT_KEYS}
        input_ids = self.processor.prompt_ids(**texts)
        basis |= texts
        if shortened := self.processor.shortening(**texts):
            basis["shortened"] = {name: list(counts) for name, counts in shortened.items()}
        return {"row": {"input_ids": input_ids, "user": user, "item": item, "basis": basis}}

    def _embedding(self, key: str, value: Any) -> torch.Tensor:
        width = self.model.config.collaborative_dim
        try:
            embedding = torch.as_tensor(value, dtype=torch.float32).detach()
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{key} is a {type(value).__name__}; expected {width} numbers, as a tensor or a list.") from None
        if embedding.shape != (width,):
            raise ValueError(f"{key} is {tuple(embedding.shape)}, expected ({width},); give one embedding a row.")
        if not embedding.isfinite().all():
            raise ValueError(f"{key} has NaN or infinity; check where it comes from.")
        return embedding

    def _forward(self, inputs: dict[str, Any], **generate_kwargs: Any) -> dict[str, Any]:
        # A batch comes as the list of its rows, from transformers' own collation, and goes back as one.
        rows = inputs["row"] if isinstance(inputs["row"], list) else [inputs["row"]]
        users, items = self._user_embeddings(rows), self._pick(rows, "item", self.model.lightgcn.item_embeddings)
        batch = self.processor.pad([{"input_ids": row["input_ids"]} for row in rows], side="left").to(self.device)
        options = self._prepare_generate_kwargs(generate_kwargs, return_dict_in_generate=False)
        sequences = self.model.generate(**batch, user_embeds=users, item_embeds=items, **options)
        answers = sequences[:, batch["input_ids"].shape[1] :].unflatten(0, (len(rows), -1)).tolist()
        evidence = self._evidence(rows, users, items)
        outputs = [{"answers": a, **row["basis"], **e} for a, row, e in zip(answers, rows, evidence, strict=True)]
        return {"row": outputs if isinstance(inputs["row"], list) else outputs[0]}

    def _user_embeddings(self, rows: list[dict[str, Any]]) -> torch.Tensor:
        """Collaborative embeddings of the users `(rows, dim)`; all histories are folded in at once."""
        histories = [row["user"] for row in rows if isinstance(row["user"], list)]
        folded = iter(self.model.lightgcn.fold_in(histories) if histories else ())
        rows = [{"user": next(folded) if isinstance(row["user"], list) else row["user"]} for row in rows]
        return self._pick(rows, "user", self.model.lightgcn.user_embeddings)

    @staticmethod
    def _pick(rows: list[dict[str, Any]], side: str, table: torch.Tensor) -> torch.Tensor:
        """Rows of a table, or the embeddings that stand in their place, `(rows, dim)` as the table is."""
        last = max((row[side] for row in rows if isinstance(row[side], int)), default=-1)
        if last >= len(table):
            raise ValueError(
                f"{side} {last} of the catalogue is beyond the model's table of {len(table)} {side}s; give {side}_embedding."
            )
        return torch.stack([table[row[side]] if isinstance(row[side], int) else row[side].to(table) for row in rows])

    def _evidence(self, rows: list[dict[str, Any]], users: torch.Tensor, items: torch.Tensor) -> list[dict[str, Any]]:
        """Score, gates and, for a history, its items' shares of the score, as plain values."""
        scores = (users.float() * items.float()).sum(dim=1).tolist()
        gates = {
            f"{side}_gates": adapter.gates(embeddings.to(adapter.gate_weight)).tolist()
            for side, adapter, embeddings in (
                ("user", self.model.user_adapter, users), ("item", self.model.item_adapter, items)
            )
        }  # fmt: skip
        evidence: list[dict[str, Any]] = [
            {"score": score, **{name: values[index] for name, values in gates.items()}} for index, score in enumerate(scores)
        ]
        folded = [index for index, row in enumerate(rows) if isinstance(row["user"], list)]
        if folded:
            histories = [rows[index]["user"] for index in folded]
            shares = self.model.lightgcn.fold_in_shares(histories, items[folded])
            for index, history, share in zip(folded, histories, shares, strict=True):
                of_item = dict(zip(sorted(history), share.tolist(), strict=True))
                evidence[index]["history_scores"] = [of_item[item] for item in history]
        return evidence

    def postprocess(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Decodes a row's answers.

        Args:
            outputs: `row`: `answers`, lists of new token ids, and what the explanation rests on.

        Returns:
            As in `__call__`.
        """
        rest = dict(outputs["row"])
        texts = self.processor.read_answers(rest.pop("answers"))
        return {"explanation": texts if len(texts) > 1 else texts[0], **rest}

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Saves model, code and processor; transformers' own saves the tokenizer only and would lose the catalogue."""
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _checked(row: Any) -> dict[str, Any]:
    """A row without its absent values.

    Raises:
        ValueError: no dictionary, an unknown key, not exactly one user and one item, or a history that is none.
    """
    if not isinstance(row, Mapping):
        raise ValueError(
            f"expected a row such as {{'user_id': ..., 'item_id': ...}}, found a {type(row).__name__}; give a dictionary."
        )
    row = {key: value for key, value in row.items() if value is not None}
    known = (*USER_KEYS, *ITEM_KEYS, *TEXT_KEYS)
    for key in row:
        if key not in known:
            raise ValueError(f"unknown key {key!r} in a row, expected some of {', '.join(known)}; mend or remove it.")
    for keys in (USER_KEYS, ITEM_KEYS):
        found = [key for key in keys if key in row]
        if len(found) != 1:
            wanted = f"{', '.join(keys[:-1])} or {keys[-1]}"
            raise ValueError(f"expected one of {wanted} in a row, found {' and '.join(found) or 'none'}; give exactly one.")
    if "history" in row:
        history = row["history"]
        if not isinstance(history, (list, tuple)) or not all(isinstance(item, str) for item in history):
            raise ValueError(f"history is {history!r}; expected a list of item ids, which are text.")
        if not history:
            raise ValueError("history is empty; give at least one item that the user liked.")
    if "item_embedding" in row and "title" not in row:
        raise ValueError("expected a title beside item_embedding, found none; give the item's title.")
    return row


__all__ = ["CUSTOM_PIPELINES", "RecommendationExplanationPipeline"]
