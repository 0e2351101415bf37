"""Processor of XRec: ids, titles and profiles become prompts with markers, batched and left-padded.

One prompt serves training and generation. It is put together from pieces: the text of a user, an item or a profile is
tokenised with every control token switched off, so no name or review can make a marker, end the prompt or speak as the
assistant.
"""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin
from transformers.utils import cached_file

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
_SENTINEL = "\u241fxrec\u241f"


def add_markers(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Adds the two marker tokens to a tokenizer that lacks them, in place; the model needs no new rows for them."""
    tokenizer.add_special_tokens({"additional_special_tokens": [USER_MARKER, ITEM_MARKER]}, replace_extra_special_tokens=False)
    return tokenizer


class XRecProcessor(ProcessorMixin):
    """Turns user and item ids, or a history, into the model's inputs.

    Args:
        tokenizer: tokenizer of the backbone; the markers are added when missing.
        users: rows `{"user_id", "user_profile"}` in the order of the model's user table.
        items: rows `{"item_id", "title", "item_profile"}` in the order of the model's item table.
        prompt: template with `{user_marker}`, `{item_marker}`, `{title}`, `{user_profile}`, `{item_profile}`.
        markers_per_side: as in the model's configuration. Default 1.
        max_profile_tokens: longest profile; what is over is cut from its end, never from the prompt's. Default 128.

    Raises:
        ValueError: the template lacks a field.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        users: Sequence[dict[str, str]] = (),
        items: Sequence[dict[str, str]] = (),
        prompt: str = DEFAULT_PROMPT,
        markers_per_side: int = 1,
        max_profile_tokens: int = 128,
        **kwargs: Any,
    ) -> None:
        for field in ("{user_marker}", "{item_marker}"):
            if prompt.count(field) != 1:
                raise ValueError(f"the prompt has {prompt.count(field)} times {field}, expected once; mend the template.")
        super().__init__(add_markers(tokenizer), **kwargs)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.prompt, self.markers_per_side, self.max_profile_tokens = prompt, markers_per_side, max_profile_tokens
        self.set_catalogue(users, items)

    def set_catalogue(self, users: Sequence[dict[str, str]], items: Sequence[dict[str, str]]) -> None:
        """Sets the users and items that ids refer to, in the order of the model's tables."""
        self._users, self._items = list(users), list(items)
        self._user_index = {row["user_id"]: index for index, row in enumerate(self._users)}
        self._item_index = {row["item_id"]: index for index, row in enumerate(self._items)}

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
        return self.tokenizer.convert_tokens_to_ids(USER_MARKER)

    @property
    def item_token_id(self) -> int:
        """Token id of the item marker."""
        return self.tokenizer.convert_tokens_to_ids(ITEM_MARKER)

    def user_index(self, user_id: str) -> int:
        """Row of a user in the model's table.

        Raises:
            ValueError: the catalogue does not hold this user.
        """
        return self._index("user", user_id, self._user_index)

    def item_index(self, item_id: str) -> int:
        """Row of an item in the model's table.

        Raises:
            ValueError: the catalogue does not hold this item.
        """
        return self._index("item", item_id, self._item_index)

    @staticmethod
    def _index(side: str, key: str, index: dict[str, int]) -> int:
        if key not in index:
            some = f"such as {next(iter(index))!r}" if index else "none are stored in this folder"
            remedy = "give a history instead" if side == "user" else "use an item of the catalogue"
            raise ValueError(f"unknown {side} {key!r}: expected one of the model's {len(index)} {side}s ({some}); {remedy}.")
        return index[key]

    def item_title(self, item_id: str) -> str:
        """Title of an item of the catalogue."""
        return self._items[self.item_index(item_id)]["title"]

    def prompt_ids(self, title: str, user_profile: str, item_profile: str) -> list[int]:
        """Token ids of one prompt: the only way prompts are made, in training and in generation.

        Args:
            title: the item's title.
            user_profile: may be empty.
            item_profile: may be empty.

        Returns:
            Ids, from the beginning-of-sequence token (where the tokenizer has one) to the last token before the answer.
        """
        before, after = self._frame()
        ids = self._control(before)
        values = {"title": title, "user_profile": user_profile, "item_profile": item_profile}
        markers = {"user_marker": self.user_token_id, "item_marker": self.item_token_id}
        for text, field in _pieces(self.prompt):
            # A space before a value belongs to its first word, as the tokenizer learned it.
            space = " " if field in values and text.endswith(" ") else ""
            ids += self.plain_ids(text[:-1] if space else text)
            if field in markers:
                ids += [markers[field]] * self.markers_per_side
            elif field:
                value = " ".join((values[field] or "").split())
                ids += self.plain_ids(space + value if value else "")[: self.max_profile_tokens]
        return ids + self._control(after)

    def _frame(self) -> tuple[str, str]:
        """Control text before and after the prompt: the chat template's where there is one."""
        if self.tokenizer.chat_template is None:
            return self.tokenizer.bos_token or "", ""
        turn = [{"role": "user", "content": _SENTINEL}]
        before, after = self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False).split(_SENTINEL)
        return before, after

    def _control(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def plain_ids(self, text: str) -> list[int]:
        """Ids of untrusted text: nothing in it becomes a control token."""
        if not text:
            return []
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [token for token in ids if token not in (self.user_token_id, self.item_token_id)]

    def answer_ids(self, explanation: str) -> list[int]:
        """Token ids of an answer, ending with the end-of-sequence token."""
        return [*self.plain_ids(" " + " ".join(explanation.split())), self.tokenizer.eos_token_id]

    def example(self, title: str, user_profile: str, item_profile: str, explanation: str) -> dict[str, list[int]]:
        """One training example.

        Returns:
            `input_ids` of prompt and answer, and `labels` of the same length: -100 on the prompt, the answer's ids after it.
        """
        prompt, answer = self.prompt_ids(title, user_profile, item_profile), self.answer_ids(explanation)
        return {"input_ids": prompt + answer, "labels": [IGNORED_LABEL] * len(prompt) + answer}

    def pad(self, examples: Sequence[dict[str, Any]], side: str = "right") -> BatchFeature:
        """Pads rows to one length.

        Args:
            examples: rows with `input_ids` and perhaps `labels`, lists of one length a row.
            side: `"right"` for training, `"left"` for generation.

        Returns:
            Tensors `(batch, length)`: `input_ids`, `attention_mask`, and `labels` when given.
        """
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
            history: in place of `user_id`, for users that the model does not know: for each the ids of items it liked.
                The caller passes `user_embeds=model.lightgcn.fold_in(batch.pop("histories"))`.
            return_tensors: `"pt"`, the only kind there is.

        Returns:
            `input_ids`, `attention_mask` `(batch, length)` padded on the left, `item_ids` `(batch,)`, and `user_ids`
            `(batch,)` or `histories`, lists of item indices.

        Raises:
            ValueError: both or neither of user and history, lengths that differ, an unknown id, other tensors.
        """
        if return_tensors != "pt":
            raise ValueError(f"expected return_tensors='pt', found {return_tensors!r}; leave it out.")
        if (user_id is None) == (history is None) or item_id is None:
            raise ValueError("expected item_id and either user_id or history; give exactly these.")
        items = [item_id] if isinstance(item_id, str) else list(item_id)
        given: Any = user_id if history is None else history
        who = [given] if isinstance(given, str) else list(given)
        if len(who) != len(items):
            raise ValueError(f"expected as many users as items, found {len(who)} and {len(items)}; give one item a user.")
        item_rows = [self._items[self.item_index(item)] for item in items]
        profiles = ["" if history is not None else self._users[self.user_index(user)]["user_profile"] for user in who]
        prompts = [
            {"input_ids": self.prompt_ids(item["title"], profile, item["item_profile"])}
            for item, profile in zip(item_rows, profiles, strict=True)
        ]
        batch = self.pad(prompts, side="left")
        batch["item_ids"] = torch.tensor([self.item_index(item) for item in items])
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


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """Literal text and the field after it, in order."""
    return [(text, field) for text, field, _, _ in string.Formatter().parse(template)]


__all__ = ["ITEM_MARKER", "USER_MARKER", "XRecProcessor", "add_markers"]
