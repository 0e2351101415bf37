"""Text that others wrote: titles, profiles and reviews that may hold control strings, made harmless and kept readable.

A control string is what the backbone reads as structure, not as text: a marker, a special token, an added token such as
`<think>`, or plain text that the chat template or the prompt sets around texts, such as `[INST]` or `### Response:`. Nothing
is removed from a text: each control string in it is broken by a space (`[ INST]`), so that a reader still sees what stood
there and the tokenizer does not. Texts are compared as a normaliser could see them, so that full-width letters, other cases,
accents and zero-width characters hide nothing.
"""

import ast
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

try:
    import jinja2
except ImportError:  # a tokenizer without a chat template does not need it
    jinja2 = None  # type: ignore[assignment]

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_INVISIBLE = ("Cc", "Cf", "Me", "Mn")
"""Unicode categories that normalisers drop: controls, joiners and other format characters, accents."""
_BRACKETED = re.compile(r"<{1,2}[^\s<>]{1,64}>{1,2}|\[/?[^\W\d_][\w/]{1,64}\]|◁[^\s◁▷]{1,64}▷|【[^\s【】]{1,64}】")
_HEADING = re.compile(r"^[ \t]*(#{1,6}[ \t]*[^\W\d_][\w \t]{0,40}:?)", re.MULTILINE)
_ROLE_BEFORE_TEXT = re.compile(r"(?:^|\s)([^\W\d_]\w{0,20}:)\s*$")
_BRACKETED_TOKEN = re.compile(r"[^\w\s].*\w.*[^\w\s]", re.DOTALL)


def tidy(name: str, value: Any) -> str:
    """One line of text: runs of whitespace and control characters become one space.

    Args:
        name: what the text is, for the error.
        value: text, or None for none.

    Raises:
        ValueError: the value is neither text nor None.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text or None, found {value!r} ({type(value).__name__}); convert it to text.")
    return " ".join(_UNPRINTABLE.sub(" ", encodable(value)).split())


def encodable(text: str) -> str:
    """The text with lone surrogates, which no tokenizer takes, replaced by U+FFFD."""
    return _LONE_SURROGATE.sub("\ufffd", text)


class _Folding(dict):
    """For `str.translate`: each character as the most eager normaliser would see it; filled as characters come."""

    def __missing__(self, code: int) -> str:
        seen = unicodedata.normalize("NFKD", chr(code)).replace("\u2581", " ")  # the space of SentencePiece
        seen = "".join(char for char in seen if char.isspace() or unicodedata.category(char) not in _INVISIBLE)
        self[code] = seen.casefold()
        return self[code]


class ControlStrings:
    """A set of control strings, and how to keep untrusted text free of them.

    Args:
        strings: the control strings; single characters and whitespace, which cannot be broken, are left out.

    Attributes:
        strings: the control strings, sorted.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        self.strings = tuple(sorted({text.strip() for text in strings if len(text.strip()) > 1}))
        self._folding = _Folding()
        parts = {tuple(self.fold(text).split()) for text in self.strings}
        longest_first = sorted(
            (words for words in parts if len("".join(words)) > 1), key=lambda words: (-len("".join(words)), words)
        )
        # A lookahead finds overlapping ones too; space within a control string may be there, be more, or be missing.
        self._pattern = re.compile(f"(?=({'|'.join(map(_expression, longest_first)) or '(?!)'}))")

    def fold(self, text: str) -> str:
        """The text as the most eager normaliser would see it: NFKD, one case, no accents, nothing invisible."""
        return text.translate(self._folding)

    def neutralise(self, pieces: Sequence[str], untrusted: Sequence[bool]) -> list[str]:
        """Breaks every control string that untrusted text makes, alone or together with what stands beside it.

        Args:
            pieces: a text in pieces, in order.
            untrusted: which pieces others wrote; only these are changed.

        Returns:
            The pieces, with single spaces added in the untrusted ones; as they were where there is nothing to break.
        """
        pieces = list(pieces)
        while places := self._places_to_break(pieces, untrusted):
            for index, piece in enumerate(pieces):
                cuts = [0, *sorted(offset for at, offset in places if at == index), len(piece)]
                pieces[index] = " ".join(piece[start:end] for start, end in pairwise(cuts))
        return pieces

    def _places_to_break(self, pieces: list[str], untrusted: Sequence[bool]) -> set[tuple[int, int]]:
        """Piece and offset of one space for every control string that touches an untrusted piece."""
        folded = [self.fold(piece) for piece in pieces]
        whole = "".join(folded)
        edges = [0, *accumulate(map(len, folded))]
        spans = [(edges[index], edges[index + 1]) for index, theirs in enumerate(untrusted) if theirs]
        found = [match.span(1) for match in self._pattern.finditer(whole)]
        found = [(start, end) for start, end in found if any(start < last and end > first for first, last in spans)]
        if not found:
            return set()
        # Where a space may go: before, between and after the characters of untrusted pieces, by place in the folded text.
        places: dict[int, tuple[int, int]] = {}
        for index, theirs in enumerate(untrusted):
            if theirs:
                at = edges[index]
                for offset, char in enumerate(pieces[index]):
                    places.setdefault(at, (index, offset))
                    at += len(self._folding[ord(char)])
                places.setdefault(at, (index, len(pieces[index])))
        seams = {edge for span in spans for edge in span}
        chosen = (self._choose(whole, start, end, places, seams) for start, end in found)
        return {places[place] for place in chosen if place is not None}

    def _choose(self, whole: str, start: int, end: int, places: dict[int, Any], seams: set[int]) -> int | None:
        """The most readable place for a space in one control string: a seam, else its first place not within a word."""

        def order(place: int) -> tuple[bool, bool, int]:
            return place not in seams, whole[place - 1].isalnum() and whole[place].isalnum(), place

        for place in sorted((place for place in range(start + 1, end) if place in places), key=order):
            left = self._pattern.match(f"{whole[start:place]} {whole[place:end]}")
            if left is None or left.end(1) <= place - start:
                return place
        return None


def _expression(words: Sequence[str]) -> str:
    expression = r"\s*".join(map(re.escape, words))
    is_role = words[0][0].isalnum() and not words[-1][-1].isalnum()
    return rf"(?<!\w){expression}" if is_role else expression


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Text and id of the tokens that untrusted text must not make.

    Every special token is one, and every added token in brackets of some kind (`<think>`, `[TOOL]`); other added tokens are
    words of the vocabulary.
    """
    added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if _is_control(token)}
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return {text: index for text, index in (added | special).items() if len(text.strip()) > 1}


def _is_control(token: Any) -> bool:
    return token.special or _BRACKETED_TOKEN.fullmatch(token.content) is not None


def strings_around_turns(texts: Iterable[str]) -> set[str]:
    """Control strings in the text that a chat template sets before and after turns: as in `written_strings`, and roles.

    A role is a word with a colon right before a turn: `USER:`.
    """
    texts = list(texts)
    return written_strings(texts).union(*(_ROLE_BEFORE_TEXT.findall(text) for text in texts))


def written_strings(texts: Iterable[str]) -> set[str]:
    """Control strings in text that a prompt or a template spells out: in brackets (`[INST]`), or headings (`### Task:`)."""
    texts = list(texts)
    return set().union(*(_BRACKETED.findall(text) + _HEADING.findall(text) for text in texts))


def template_literals(chat_template: str) -> list[str]:
    """Text and string constants in the source of a chat template; empty without jinja2, which every rendering needs."""
    if jinja2 is None:
        return []
    literals = []
    # Lexed only: tags that transformers adds to the language are no obstacle then.
    for _, kind, value in jinja2.Environment(autoescape=True).lex(chat_template):
        if kind == "string":
            try:
                value = str(ast.literal_eval(value))
            except (SyntaxError, ValueError):  # not Python's way to escape; as it is written, then
                value = value[1:-1]
        if kind in ("data", "string"):
            literals.append(value)
    return literals


__all__ = [
    "ControlStrings",
    "control_tokens",
    "encodable",
    "strings_around_turns",
    "template_literals",
    "tidy",
    "written_strings",
]
