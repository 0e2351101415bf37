"""The one prompt of training and generation: a template inside the backbone's chat frame, filled with untrusted text.

The filled prompt is tokenised as one text, as the backbone learned to read it, after every control string in the values is
broken (see `untrusted_text`). The control tokens of every prompt are then counted; should a tokenizer still make one out of
a value, its values are tokenised apart from the rest, without control tokens. Over-long profiles are shortened at a word;
nothing else ever is.
"""

import itertools
import re
import string
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from .untrusted_text import (
    ControlStrings,
    control_tokens,
    encodable,
    strings_around_turns,
    template_literals,
    tidy,
    written_strings,
)

TEXT_FIELDS = ("title", "user_profile", "item_profile")
PROFILES = ("user_profile", "item_profile")
LONGEST_WORD = 40
"""Characters without a space beyond which a text is cut within them: it is no word, or a script without spaces."""
_TURN = "\u241fTurn {}\u241f"
_OTHER_CHATS = (("system", "user"), ("user", "assistant", "user"))


@dataclass(frozen=True)
class Prompt:
    """A prompt's token ids, and for each profile that was shortened its tokens as found and as kept."""

    ids: list[int]
    shortened: dict[str, tuple[int, int]]


class PromptLayout:
    """Everything about prompts that does not depend on the row.

    Args:
        tokenizer: tokenizer of the backbone, with the markers among its special tokens; not kept.
        template: the prompt, with `{user_marker}` and `{item_marker}` once each, and text fields with something in between.
        markers: for each marker's field, the text of its token and how often it stands there; where that is 0, the template
            may leave the field out.

    Raises:
        ValueError: a template with missing, unknown or touching fields; a chat template that does not take one turn of a
            user as it is; a tokenizer that does not keep the markers whole.
    """

    text_fields: Sequence[str] = TEXT_FIELDS

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, markers: Mapping[str, tuple[str, int]]) -> None:
        before, after, frames = self._frame(tokenizer)
        written = {field: text * count for field, (text, count) in markers.items()}
        literals, self.fields = split_template(template, written, self.text_fields)
        tokens = control_tokens(tokenizer)
        strings = written_strings(literals) | strings_around_turns(frames) | set(tokens)
        self.controls = ControlStrings(strings)
        _refuse_touching_fields(literals, self.fields, self.controls)
        self.literals = [before + literals[0], *literals[1:]]
        self.literals[-1] += after
        self.control_ids = frozenset(tokens.values())
        if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
            self.control_ids -= {tokenizer.unk_token_id}  # plain text makes it as well, and means nothing by it
        self._control_counts: Counter | None = None
        ids, _ = self._encode_prompt(tokenizer, dict.fromkeys(self.fields, "x"))
        self._control_counts = self._count_controls(ids)
        for text, count in markers.values():
            found = self._control_counts[tokenizer.convert_tokens_to_ids(text)]
            if found != count:
                raise ValueError(
                    f"expected {count} of {text} in a prompt tokenised by {_name(tokenizer)}, found {found}; write "
                    "markers as fields only, and use a tokenizer that keeps its special tokens whole."
                )
        # After plain text the answer is a next word; after a line break or a control token it starts afresh.
        self.answer_lead = "" if self.literals[-1][-1:].isspace() or ids[-1] in self.control_ids else " "

    @staticmethod
    def _frame(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str, list[str]]:
        """Text before and after the template, and all text around it in which control strings may stand."""
        return _chat_frame(tokenizer)

    def read_answers(self, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of generated answers: lists of token ids, as long as they happen to be."""
        return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]

    def build(
        self,
        tokenizer: PreTrainedTokenizerBase,
        values: Mapping[str, Any],
        max_profile_tokens: int,
        max_prompt_tokens: int | None,
    ) -> Prompt:
        """One prompt.

        Args:
            tokenizer: as at construction.
            values: text or None by field.
            max_profile_tokens: longest profile.
            max_prompt_tokens: longest prompt, or None for any; the longer profile gives way first.

        Raises:
            ValueError: a value that is no text; a prompt that is too long without any profile.
        """
        texts = self._neutral({field: tidy(field, values[field]) for field in self.fields})
        ids, ends = self._encode_prompt(tokenizer, texts)
        found = {field: len(places) for field, places in ends.items()}
        for passes in itertools.count():
            counts = {field: len(places) for field, places in ends.items()}
            over = 0 if max_prompt_tokens is None else len(ids) - max_prompt_tokens
            limit = max_profile_tokens if over <= 0 else min(max_profile_tokens, _fair_limit(counts.values(), over))
            long = [field for field, count in counts.items() if count > limit]
            if not long:
                break
            # What a cut leaves at the end now stands beside other text, and may be broken there, so aim lower each time.
            aim = max(limit - passes, 0)
            cut = {field: texts[field][: _place_to_cut(texts[field], ends[field], aim)] for field in long}
            texts = self._neutral(texts | cut)
            ids, ends = self._encode_prompt(tokenizer, texts)
        if over > 0:
            title = len(self._encode(tokenizer, texts.get("title", "")))
            raise ValueError(
                f"the prompt has {len(ids)} tokens without any profile, {title} of them the title's, and max_prompt_tokens is "
                f"{max_prompt_tokens}; raise it, or shorten the title or the template."
            )
        return Prompt(ids, {field: (found[field], counts[field]) for field in found if counts[field] < found[field]})

    def _neutral(self, texts: dict[str, str]) -> dict[str, str]:
        pieces = self.controls.neutralise(self._pieces(texts), [False, True] * len(self.fields) + [False])
        fields = zip(self.fields, pieces[1::2], strict=True)
        return dict(fields)

    def _pieces(self, texts: Mapping[str, str]) -> list[str]:
        """Literal, value, literal, ..., literal; the space before an empty value is left out with it."""
        pieces = []
        for literal, field in zip(self.literals, self.fields, strict=False):
            pieces += [literal if texts[field] else literal.removesuffix(" "), texts[field]]
        return [*pieces, self.literals[-1]]

    def _encode_prompt(
        self, tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, str]
    ) -> tuple[list[int], dict[str, list[int]]]:
        """Ids of the filled prompt, and for each profile the character after each of its tokens."""
        pieces = self._pieces(texts)
        ends: dict[str, list[int]] = {}
        if tokenizer.is_fast:
            encoded = tokenizer("".join(pieces), add_special_tokens=False, verbose=False, return_offsets_mapping=True)
            ids, edges = encoded["input_ids"], [0, *itertools.accumulate(map(len, pieces))]
            for index, field in enumerate(self.fields):
                if field in PROFILES:
                    start, end = edges[2 * index + 1], edges[2 * index + 2]
                    spans = encoded["offset_mapping"]
                    ends[field] = [min(right, end) - start for left, right in spans if left < end and right > start]
        else:
            ids = self._encode(tokenizer, "".join(pieces))
            for field in set(self.fields).intersection(PROFILES):
                ends[field] = [end for end, word in _words(texts[field]) for _ in self._encode(tokenizer, word)]
        if self._control_counts is not None and self._count_controls(ids) != self._control_counts:
            ids = self._encode_apart(tokenizer, pieces)
        return ids, ends

    def _encode_apart(self, tokenizer: PreTrainedTokenizerBase, pieces: list[str]) -> list[int]:
        """Ids of the filled prompt with its values tokenised without control tokens."""
        ids, space = [], ""
        for index, piece in enumerate(pieces):
            if index % 2:
                ids += self.plain_ids(tokenizer, space + piece if piece else "")
            else:
                # A space before a value belongs to its first word, as the tokenizer learned it.
                space = " " if piece.endswith(" ") and index + 1 < len(pieces) else ""
                ids += self._encode(tokenizer, piece.removesuffix(" ") if space else piece)
        return ids

    def plain_ids(self, tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
        """Ids of untrusted text that continues other text: nothing in it becomes a control token."""
        (text,) = self.controls.neutralise([encodable(text)], [True])
        if not text:
            return []
        # After a line break, since some tokenizers put a space before the first word of whatever they are given.
        newline = self._encode(tokenizer, "\n")
        ids = self._encode(tokenizer, "\n" + text, split_special_tokens=True)
        if not newline or ids[: len(newline)] != newline:
            newline, ids = [], self._encode(tokenizer, text, split_special_tokens=True)
        return [token for token in ids[len(newline) :] if token not in self.control_ids]

    def _count_controls(self, ids: list[int]) -> Counter:
        return Counter(token for token in ids if token in self.control_ids)

    @staticmethod
    def _encode(tokenizer: PreTrainedTokenizerBase, text: str, **kwargs: Any) -> list[int]:
        # verbose=False: the tokenizer's warning about its maximum length is about other uses.
        return tokenizer(text, add_special_tokens=False, verbose=False, **kwargs)["input_ids"] if text else []


def split_template(
    template: str, markers: Mapping[str, str], text_fields: Sequence[str] = TEXT_FIELDS
) -> tuple[list[str], list[str]]:
    """Literal text, markers put in, and the text fields between it.

    Args:
        template: a format string of plain fields.
        markers: text by marker field; one whose text is empty need not stand in the template.
        text_fields: the other fields it may have.

    Returns:
        `n + 1` literals and `n` fields.

    Raises:
        ValueError: a marker field that does not stand there once, an unknown field, or one with a format.
    """
    literals, fields, seen = [""], [], Counter[str]()
    for text, field, form, conversion in string.Formatter().parse(template):
        literals[-1] += text
        if field is None:
            continue
        seen[field] += 1
        if field not in (*markers, *text_fields) or form or conversion:
            known = ", ".join(f"{{{name}}}" for name in (*markers, *text_fields))
            raise ValueError(f"the prompt has the field {{{field}}}, expected plain fields among {known}; mend the template.")
        if field in markers:
            literals[-1] += markers[field]
        else:
            fields.append(field)
            literals.append("")
    for field, text in markers.items():
        if seen[field] != 1 and (text or seen[field]):
            raise ValueError(f"the prompt has {seen[field]} times {{{field}}}, expected once; mend the template.")
    return literals, fields


def _refuse_touching_fields(literals: list[str], fields: list[str], controls: ControlStrings) -> None:
    for first, between, second in zip(fields, literals[1:-1], fields[1:], strict=False):
        if not controls.fold(between):
            raise ValueError(
                f"the prompt has {{{first}}} and {{{second}}} with nothing between them, so that two texts could make one "
                "control string; put a space or a word there."
            )


def _chat_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str, list[str]]:
    """Text before and after the prompt, and all text in which the chat template may have control strings."""
    bos = tokenizer.bos_token or ""
    if tokenizer.chat_template is None:
        return bos, "", []
    try:
        before, after = _around_turns(tokenizer, ("user",))
    except ImportError:
        raise
    except Exception as error:  # whatever a template raises, it is the template that has to be named
        raise ValueError(
            f"the chat template of {_name(tokenizer)} does not take one turn of a user as it is ({_line(error)}); give the "
            "tokenizer another chat_template, or none."
        ) from error
    frames = [before, after]
    for roles in _OTHER_CHATS:
        try:
            frames += _around_turns(tokenizer, roles)
        except Exception:  # noqa: S112 - not every template has every role
            continue
    adds_bos = bool(bos) and tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    if adds_bos and not before.startswith(bos):
        before = bos + before
    return before, after, frames + template_literals(tokenizer.get_chat_template())


def _around_turns(tokenizer: PreTrainedTokenizerBase, roles: tuple[str, ...]) -> list[str]:
    """What the chat template writes before, between and after turns of these roles."""
    turns = [_TURN.format(index) for index in range(len(roles))]
    chat = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]
    # An explanation is the whole answer: a template that can leave the model's thinking out should.
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, enable_thinking=False)
    around = []
    for turn in turns:
        if text.count(turn) != 1:
            raise ValueError(f"expected a turn's text once and unchanged, found it {text.count(turn)} times")
        before, text = text.split(turn)
        around.append(before)
    return [*around, text]


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.name_or_path or type(tokenizer).__name__


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _fair_limit(counts: Iterable[int], over: int) -> int:
    """The limit on each count under which `over` are saved in all, the longest giving way first; 0 when that is too few."""
    counts = list(counts)
    room = max(sum(counts) - over, 0)
    return bisect_right(range(room + 1), room, key=lambda limit: sum(min(count, limit) for count in counts)) - 1


def _place_to_cut(text: str, ends: list[int], limit: int) -> int:
    """Where to end a text of more than `limit` tokens: after its last whole word that fits.

    Args:
        text: one line of text.
        ends: for each of its tokens, the character after it; more than `limit` of them.
        limit: most tokens.

    Returns:
        The number of characters kept; between two of them that show apart where no word ends nearby.
    """
    # A character of several tokens is kept with all of them or not at all.
    whole = bisect_left(ends, ends[limit])
    end = ends[whole - 1] if whole else 0
    space = text.rfind(" ", max(end - LONGEST_WORD, 0), end + 1)
    if space > 0:
        return space
    while end and _joins(text[end - 1], text[end]):
        end -= 1
    return end


def _words(text: str) -> Iterator[tuple[int, str]]:
    """The words of a text, or the characters of those that are too long, each with where it ends."""
    for match in re.finditer(rf"\s*(?:\S{{1,{LONGEST_WORD}}}(?!\S)|\S)", text):
        yield match.end(), match.group()


def _joins(left: str, right: str) -> bool:
    """Whether two characters show as one: accents, joined emoji, skin tones."""
    return unicodedata.category(right)[0] == "M" or "\u200d" in (left, right) or "\U0001f3fb" <= right <= "\U0001f3ff"


__all__ = ["PROFILES", "TEXT_FIELDS", "Prompt", "PromptLayout", "split_template"]
