"""Processor of XRec: ids, titles and profiles become prompts with markers, batched and left-padded.

One prompt serves training and generation (see `prompt_layout`). In titles and profiles every control string is broken (see
`untrusted_text`), so no name or review can make a marker, end the prompt or speak as the assistant.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin
from transformers.utils import cached_file, logging

from .catalogue_arguments import index_rows, row_of, several, several_histories
from .prompt_layout import Prompt, PromptLayout
from .reference_prompt import REFERENCE_MARKERS, ReferenceLayout
from .untrusted_text import tidy

logger = logging.get_logger(__name__)

USER_MARKER = "<|xrec_user|>"
ITEM_MARKER = "<|xrec_item|>"
CATALOGUE_FILES = {"users": "users.json", "items": "items.json"}
DEFAULT_PROMPT = (
    "Explain why the user would enjoy the item.\n"
    "User:{user_marker} {user_profile}\n"
    "Item:{item_marker} {title}. {item_profile}\n"
    "Explanation:"
)
IGNORED_LABEL = -100
MARKERS = {"xrec": {"user_marker": USER_MARKER, "item_marker": ITEM_MARKER}, "reference": REFERENCE_MARKERS}
"""Text of the marker tokens by prompt style and field."""


def add_markers(tokenizer: PreTrainedTokenizerBase, prompt_style: str = "xrec") -> PreTrainedTokenizerBase:
    """Adds a prompt style's marker tokens to a tokenizer that lacks them, in place; of users and items needs no new rows."""
    markers = {"additional_special_tokens": list(MARKERS[prompt_style].values())}
    tokenizer.add_special_tokens(markers, replace_extra_special_tokens=False)
    return tokenizer


class XRecProcessor(ProcessorMixin):
    """Turns user and item ids, or a history, into the model's inputs.

    Args:
        tokenizer: tokenizer of the backbone; the markers are added when missing, and padding is its end-of-sequence token
            when it has no other.
        users: rows `{"user_id", "user_profile"}` in the order of the model's user table.
        items: rows `{"item_id", "title", "item_profile"}` in the order of the model's item table.
        prompt: template with `{user_marker}` and `{item_marker}` once each, and `{title}`, `{user_profile}`,
            `{item_profile}`, no two of them side by side with nothing in between.
        markers_per_side: as in the model's configuration; with 0 the prompt has no marker, for a model with
            `injection="none"`. Default 1.
        max_profile_tokens: longest profile, in tokens; a longer one is cut after a word. Default 128.
        max_prompt_tokens: longest prompt, in tokens; the longer of the two profiles gives way first. The answer comes on top:
            leave room for it in the backbone's context. Default None: as long as title, question and profiles make it.
        prompt_style: `"xrec"` (the default), or `"reference"`: prompt and labels of the paper's code, see `ReferenceLayout`.

    Only profiles are ever shortened. The first time, a warning says so; `shortening` gives the counts of any prompt.

    Raises:
        ValueError: a tokenizer without an end-of-sequence token; a prompt or a chat template that cannot be used (see
            `PromptLayout`); a limit below its least value; rows without an id or with one id twice.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        users: Sequence[dict[str, str]] = (),
        items: Sequence[dict[str, str]] = (),
        prompt: str = DEFAULT_PROMPT,
        markers_per_side: int = 1,
        max_profile_tokens: int = 128,
        max_prompt_tokens: int | None = None,
        prompt_style: str = "xrec",
        **kwargs: Any,
    ) -> None:
        if prompt_style not in MARKERS:
            raise ValueError(f"expected a prompt_style among {', '.join(MARKERS)}, found {prompt_style!r}; choose one.")
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no end-of-sequence token, with which "
                "an answer ends; set its eos_token."
            )
        for name, value, least in (
            ("markers_per_side", markers_per_side, 0),
            ("max_profile_tokens", max_profile_tokens, 0),
            ("max_prompt_tokens", 1 if max_prompt_tokens is None else max_prompt_tokens, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"expected {name} to be a whole number from {least} up, found {value!r}.")
        super().__init__(add_markers(tokenizer, prompt_style), **kwargs)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.prompt, self.prompt_style, self.markers_per_side = prompt, prompt_style, markers_per_side
        self.max_profile_tokens, self.max_prompt_tokens = max_profile_tokens, max_prompt_tokens
        self._layout_of: tuple[Any, PromptLayout] | None = None
        self._said_shortened = False
        self._layout()
        self.set_catalogue(users, items)

    def set_catalogue(self, users: Sequence[dict[str, str]], items: Sequence[dict[str, str]]) -> None:
        """Sets the users and items that ids refer to, in the order of the model's tables.

        Raises:
            ValueError: a row without an id, an id that is no text, or one that stands there twice.
        """
        self._users, self._items = list(users), list(items)
        self._user_index, self._item_index = index_rows("user", self._users), index_rows("item", self._items)

    @property
    def users(self) -> list[dict[str, str]]:
        """Rows of the catalogue's users, in the order of the model's table."""
        return self._users

    @property
    def items(self) -> list[dict[str, str]]:
        """Rows of the catalogue's items, in the order of the model's table."""
        return self._items

    @property
    def user_token_id(self) -> int:
        """Token id of the user marker."""
        return self.tokenizer.convert_tokens_to_ids(MARKERS[self.prompt_style]["user_marker"])

    @property
    def item_token_id(self) -> int:
        """Token id of the item marker."""
        return self.tokenizer.convert_tokens_to_ids(MARKERS[self.prompt_style]["item_marker"])

    @property
    def explain_token_id(self) -> int | None:
        """Token id of the explain position, which the model needs a row for; None in the default style."""
        text = MARKERS[self.prompt_style].get("explain_marker")
        return None if text is None else self.tokenizer.convert_tokens_to_ids(text)

    def user_index(self, user_id: str) -> int:
        """Row of a user in the model's table.

        Raises:
            ValueError: the catalogue does not hold this user, or the id is no text.
        """
        return row_of("user", user_id, self._user_index)

    def item_index(self, item_id: str) -> int:
        """Row of an item in the model's table.

        Raises:
            ValueError: the catalogue does not hold this item, or the id is no text.
        """
        return row_of("item", item_id, self._item_index)

    def item_title(self, item_id: str) -> str:
        """Title of an item of the catalogue."""
        return self._items[self.item_index(item_id)]["title"]

    def prompt_ids(self, title: str | None, user_profile: str | None, item_profile: str | None) -> list[int]:
        """Token ids of one prompt: the only way prompts are made, in training and in generation.

        Args:
            title: the item's title; never shortened.
            user_profile: may be empty or None; shortened when too long, see `shortening`.
            item_profile: the same.

        Returns:
            Ids, from the beginning-of-sequence token (where the tokenizer has one) to the last token before the answer.

        Raises:
            ValueError: a value that is no text; a prompt over `max_prompt_tokens` without any profile.
        """
        prompt = self._build(title, user_profile, item_profile)
        if prompt.shortened and not self._said_shortened:
            self._said_shortened = True
            cuts = ", ".join(f"{field} from {found} to {kept}" for field, (found, kept) in prompt.shortened.items())
            logger.warning(
                f"A profile was too long and has been shortened: {cuts} tokens (max_profile_tokens={self.max_profile_tokens}, "
                f"max_prompt_tokens={self.max_prompt_tokens}). Others will be without a word; processor.shortening(title, "
                "user_profile, item_profile) gives the counts."
            )
        return prompt.ids

    def shortening(self, title: str | None, user_profile: str | None, item_profile: str | None) -> dict[str, tuple[int, int]]:
        """What a prompt leaves out of its profiles.

        Args:
            title: as in `prompt_ids`, like the profiles.
            user_profile: may be empty or None.
            item_profile: may be empty or None.

        Returns:
            For each profile that is shortened, `"user_profile"` or `"item_profile"`: its tokens as found and as kept. Empty
            when the prompt holds everything.

        Raises:
            ValueError: as in `prompt_ids`.
        """
        return self._build(title, user_profile, item_profile).shortened

    def _build(self, title: Any, user_profile: Any, item_profile: Any, explanation: Any = None) -> Prompt:
        values = {"title": title, "user_profile": user_profile, "item_profile": item_profile, "explanation": explanation}
        return self._layout().build(self.tokenizer, values, self.max_profile_tokens, self.max_prompt_tokens)

    def _layout(self) -> PromptLayout:
        """What all prompts share, made anew when the tokenizer or the prompt has changed."""
        tokenizer = self.tokenizer
        key = (
            id(tokenizer), len(tokenizer), tokenizer.chat_template, tokenizer.bos_token, self.prompt, self.markers_per_side
        )  # fmt: skip
        if self._layout_of is None or self._layout_of[0] != key:
            layout = ReferenceLayout if self.prompt_style == "reference" else PromptLayout
            counts = {"user_marker": self.markers_per_side, "item_marker": self.markers_per_side}
            markers = {field: (text, counts.get(field, 1)) for field, text in MARKERS[self.prompt_style].items()}
            self._layout_of = key, layout(tokenizer, self.prompt, markers)
        return self._layout_of[1]

    def plain_ids(self, text: str) -> list[int]:
        """Ids of untrusted text that continues other text: nothing in it becomes a control token."""
        return self._layout().plain_ids(self.tokenizer, text)

    def answer_ids(self, explanation: str | None) -> list[int]:
        """Token ids of an answer, ending with the end-of-sequence token; in the reference's style with the template's end."""
        if self.prompt_style == "reference":
            ids = self._build(None, None, None, explanation).ids
            return ids[ids.index(cast(int, self.explain_token_id)) + 1 :]
        text = tidy("explanation", explanation)
        return [*self.plain_ids(self._layout().answer_lead + text if text else ""), self.tokenizer.eos_token_id]

    def example(self, title: str, user_profile: str, item_profile: str, explanation: str) -> dict[str, list[int]]:
        """One training example.

        Returns:
            `input_ids` of prompt and answer, and `labels` of the same length: -100 on the prompt, the answer's ids after it.
            In the reference's style the explain token is a label too, and so is the template's end.
        """
        prompt, answer = self.prompt_ids(title, user_profile, item_profile), self.answer_ids(explanation)
        if self.prompt_style == "reference":
            place = prompt.index(cast(int, self.explain_token_id))
            prompt, answer = prompt[:place], [prompt[place], *answer]
        return {"input_ids": prompt + answer, "labels": [IGNORED_LABEL] * len(prompt) + answer}

    def read_answers(self, rows: Sequence[Sequence[int]] | torch.Tensor) -> list[str]:
        """Texts of generated token ids `(batch, new tokens)`; in the reference's style up to the template's end."""
        rows = rows.tolist() if isinstance(rows, torch.Tensor) else rows
        return self._layout().read_answers(self.tokenizer, rows)

    def pad(self, examples: Sequence[dict[str, Any]], side: str = "right") -> BatchFeature:
        """Pads rows to one length.

        Args:
            examples: rows with `input_ids` and perhaps `labels`, lists of one length a row.
            side: `"right"` for training, `"left"` for generation.

        Returns:
            Tensors `(batch, length)`: `input_ids`, `attention_mask`, and `labels` when given.

        Raises:
            ValueError: no rows.
        """
        if not examples:
            raise ValueError("expected at least one row to pad, found none.")
        longest = max(len(row["input_ids"]) for row in examples)
        fill = {"input_ids": self.tokenizer.pad_token_id, "labels": IGNORED_LABEL, "attention_mask": 0}
        batch: dict[str, list[list[int]]] = {}
        for row in examples:
            values = {"input_ids": row["input_ids"], "attention_mask": [1] * len(row["input_ids"])}
            if "labels" in row:
                values["labels"] = row["labels"]
            for name, value in values.items():
                filler = [fill[name]] * (longest - len(value))
                batch.setdefault(name, []).append(filler + value if side == "left" else value + filler)
        return BatchFeature({name: torch.tensor(rows) for name, rows in batch.items()})

    def __call__(
        self,
        user_id: str | Sequence[str] | None = None,
        item_id: str | Sequence[str] | None = None,
        history: Sequence[Sequence[str]] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Inputs of `generate` for one pair or many.

        Args:
            user_id: a user of the catalogue, or a list.
            item_id: an item of the catalogue, or a list of the same length.
            history: in place of `user_id`, for users that the model does not know: for each the ids of items it liked, or
                one user's item ids for a single item. The caller passes
                `user_embeds=model.lightgcn.fold_in(batch.pop("histories"))`.
            return_tensors: `"pt"`, the only kind there is.

        Returns:
            `input_ids`, `attention_mask` `(batch, length)` padded on the left, `item_ids` `(batch,)`, and `user_ids`
            `(batch,)` or `histories`, lists of item indices.

        Raises:
            ValueError: both or neither of user and history, nothing asked, lengths that differ, an unknown id or one that is
                no text, an empty history, other tensors.
        """
        if return_tensors != "pt":
            raise ValueError(f"expected return_tensors='pt', found {return_tensors!r}; leave it out.")
        if (user_id is None) == (history is None) or item_id is None:
            raise ValueError("expected item_id and either user_id or history; give exactly these.")
        items = several("item_id", item_id)
        if not items:
            raise ValueError("expected at least one user and item, found none; give one pair or more.")
        who: list[Any] = several("user_id", user_id) if history is None else several_histories(history)
        if len(who) != len(items):
            raise ValueError(f"expected as many users as items, found {len(who)} and {len(items)}; give one item a user.")
        item_indices = [self.item_index(item) for item in items]
        profiles = [None if history is not None else self._users[self.user_index(user)].get("user_profile") for user in who]
        prompts = []
        for index, profile in zip(item_indices, profiles, strict=True):
            item = self._items[index]
            prompts.append({"input_ids": self.prompt_ids(item.get("title"), profile, item.get("item_profile"))})
        batch = self.pad(prompts, side="left")
        batch["item_ids"] = torch.tensor(item_indices)
        if history is None:
            batch["user_ids"] = torch.tensor([self.user_index(user) for user in who])
        else:
            batch["histories"] = [[self.item_index(item) for item in one] for one in who]
        return batch

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Saves tokenizer, configuration, and the catalogue as `users.json` and `items.json`."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("users", self._users), ("items", self._items)):
            (folder / CATALOGUE_FILES[name]).write_text(json.dumps(rows, ensure_ascii=False, indent=0), encoding="utf-8")
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> "XRecProcessor":
        """Loads tokenizer, configuration and catalogue; a folder without a catalogue gives a processor without ids."""
        processor = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        fetch = {name: kwargs[name] for name in ("cache_dir", "local_files_only", "revision", "token") if name in kwargs}
        rows = {}
        for name, file in CATALOGUE_FILES.items():
            path = cached_file(pretrained_model_name_or_path, file, _raise_exceptions_for_missing_entries=False, **fetch)
            rows[name] = json.loads(Path(path).read_text(encoding="utf-8")) if path else []
        processor.set_catalogue(**rows)
        return processor


__all__ = ["ITEM_MARKER", "USER_MARKER", "XRecProcessor", "add_markers"]
