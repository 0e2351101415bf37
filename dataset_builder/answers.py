"""What of a teacher's answer is kept: one plain text, or a verdict on why it cannot be used.

Whatever the reviews made the teacher say, a text that is kept belongs to the row that was asked for. It holds no control
string, no personal data that `masking` covers, no web address, HTML or code, no long id of the dataset, no run of eight words
of the question's own wording, nothing that `untrusted.speaks_to_model` sees, and no more words than the limit.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .masking import mask
from .prompts import FIELDS, Prompts
from .teacher import Answer, Rejected, Request
from .untrusted import cut, defused, one_line, speaks_to_model, visible

MOST_CHARACTERS = 20_000
"""Length from which an answer is not even read."""

SHARED_WORDS = 8
"""So many words in a row that the question has too are taken for a leak of the question."""

QUOTED_CHARACTERS = 2_000
"""How much of an unusable answer the teacher is shown when it is asked again."""

_THOUGHT = re.compile(r"(?is)^\s*(?:<(think|thinking|reasoning)>.*?</\1>\s*)+")
_NOTHING = re.compile(r"(?i)^\W*(?:null|none|nil|n/?a|nan|undefined|string|text|the (?:portrait|reason)|todo|)\W*$")
_I_CANNOT = r"(?:can(?:no|')t|can not|could(?: not|n't)|won't|will not|must decline|decline|do not have|don't have)\b"
_REFUSAL = re.compile(
    r"(?i)^\W*(?:(?:i'?m|i am|we'?re|we are)\s+(?:\w+\s+)?(?:sorry|afraid|unable|not able)\b|sorry\b|apologies\b"
    r"|i apologi[sz]e\b"
    rf"|(?:unfortunately,? )?(?:i|we) {_I_CANNOT}|(?:it is|it's) not (?:possible|appropriate) (?:for me )?to\b"
    r"|(?:there is |there's )?(?:not enough|no|insufficient) (?:information|material|data|context)\b)"
    r"|\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi (?:cannot|can't|am unable to) (?:help|assist|comply|provide|fulfil)"
)
_HTML = re.compile(
    r"(?i)<\s?(?:/\s?)?(?:!doctype|html|head|body|div|span|p|br|a|img|script|style|table|iframe|svg|h[1-6]|ul|li|b|i)\b[^<>]*>"
)
_ADDRESS = re.compile(r"(?i)\b(?:https?|ftp|javascript|data)\s?:\s?/{0,2}\S|\bwww\.\S|\]\(")
_IDS = re.compile(r"(?=[\w-]*\d)[\w-]{8,}")


class Judge:
    """Says what of an answer is kept; the three functions that asking needs, with what they need to know.

    Args:
        prompts: the questions.
        words: the most words of each kind's text.
        names: users' names where the source gives them, to be masked in what is said of them.
        ids: users and items of the dataset; those of at least 8 characters with a digit must not be named.

    Attributes:
        masked: by request hash, how much personal data was masked in the answer, where there was any.
    """

    def __init__(
        self,
        prompts: Prompts,
        words: Mapping[str, int],
        names: Mapping[str, Sequence[str]] | None = None,
        ids: frozenset[str] = frozenset(),
    ) -> None:
        self.prompts, self.words = prompts, words
        self.masked: dict[str, Counter[str]] = {}
        self._names, self._ids = names or {}, ids
        self._own = {kind: set(_runs(prompt.own_text)) for kind, prompt in prompts.kinds.items()}

    def accept(self, request: Request, answer: Answer) -> str:
        """The text that is kept.

        Raises:
            Rejected: the answer cannot be used.
        """
        if answer.finish_reason == "length":
            raise Rejected("it was cut off at the most tokens")
        if answer.finish_reason == "content_filter":
            raise Rejected("the content filter stopped it")
        said = stated(answer.text, FIELDS[request.kind])
        self._check_raw(request, said)
        names = self._names.get(request.key[0], ()) if request.kind != "item_profile" else ()
        text, found = mask(visible(said), names)
        text = defused(text)
        self._check(request, text)
        if found:
            self.masked[request.hash] = found
        return text

    def repair(self, request: Request, answer: Answer, verdict: Rejected) -> Request | None:
        """The question that asks again, showing the answer and what was wrong; None where that is no use."""
        if len(request.messages) > 2 or answer.finish_reason == "content_filter":
            return None
        shown = cut(defused(answer.text[:MOST_CHARACTERS]), QUOTED_CHARACTERS) or "(nothing)"
        again = self.prompts.repair.substitute(reason=str(verdict), words=self.words[request.kind]).strip()
        version = f"{request.prompt_version}+{self.prompts.repair_version}"
        messages = (*request.messages, ("assistant", shown), ("user", again))
        return replace(request, messages=messages, prompt_version=version)

    def _check_raw(self, request: Request, said: str) -> None:
        """Check what masking and defusing would hide."""
        if _NOTHING.match(said):
            raise Rejected("the text is empty")
        if _HTML.search(said) or "```" in said or re.search(r"[{}]", said):
            raise Rejected("the text holds HTML or code")
        if _ADDRESS.search(visible(said)):
            raise Rejected("the text holds a web address")
        if speaks_to_model(said):
            raise Rejected("the text speaks to a model or of its instructions")

    def _check(self, request: Request, text: str) -> None:
        if _REFUSAL.search(text):
            raise Rejected("it is a refusal")
        if len(re.findall(r"[^\W\d_]{2,}", text)) < 3:
            raise Rejected("the text is too short to say anything")
        if any(run in self._own[request.kind] for run in _runs(text)):
            raise Rejected("the text repeats the question")
        if any(found in self._ids for found in _IDS.findall(text)):
            raise Rejected("the text names an id")
        words, most = len(text.split()), self.words[request.kind]
        if words > most:
            raise Rejected(f"the text has {words} words, more than {most}")


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    """All runs of `SHARED_WORDS` words, in lower case and without marks."""
    words = re.findall(r"[^\W_]+", visible(text).lower())
    return zip(*(words[start:] for start in range(SHARED_WORDS)), strict=False)


def stated(text: str, field: str) -> str:
    """The text of the one field in an answer that should be one JSON object.

    Repaired are: a thought in tags before it, a code fence or prose around it, trailing commas, single quotes, line breaks in
    strings. Not repaired are: an object that does not end, several objects, further fields, a field given twice, another type.

    Raises:
        Rejected: there is no such object.
    """
    if len(text) > MOST_CHARACTERS:
        raise Rejected(f"it has more than {MOST_CHARACTERS} characters")
    text = without_thought(text)
    if _NOTHING.match(text):
        raise Rejected("it is empty")
    if re.match(r"(?i)<!doctype|<html|<\?xml", text):
        raise Rejected("it is HTML")
    places = list(_objects(text))
    if not places:
        raise Rejected("it is a refusal" if _REFUSAL.search(text) else "it holds no JSON object")
    if len(places) > 1 or text[: text.index(places[0])].rstrip().endswith("["):
        raise Rejected("it holds more than one JSON object")
    return _field(_parsed(places[0]), field)


def without_thought(text: str) -> str:
    """An answer without the thought in tags that some models set before it."""
    return _THOUGHT.sub("", text).strip()


def _field(value: Any, field: str) -> str:
    if not isinstance(value, dict) or field not in value:
        raise Rejected(f"its JSON object lacks the field {field!r}")
    if len(value) > 1:
        raise Rejected(f"its JSON object has other fields than {field!r}")
    if not isinstance(value[field], str):
        raise Rejected(f"its field {field!r} is no text")
    return one_line(value[field])


def _objects(text: str) -> Iterator[str]:
    """The outermost braces of a text with what is between them; braces in quoted strings do not count.

    Raises:
        Rejected: braces are left open.
    """
    depth, start, quote, escaped = 0, 0, "", False
    for place, char in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            escaped, quote = char == "\\", "" if _closes(text, place, quote) else quote
        elif depth and char in "\"'" and _opens(text, place):
            quote = char
        elif char == "{":
            depth, start = depth + 1, start if depth else place
        elif char == "}" and depth:
            depth -= 1
            if not depth:
                yield text[start : place + 1]
    if depth:
        raise Rejected("its JSON object does not end")


def _opens(text: str, place: int) -> bool:
    """Whether a quotation mark opens a string: it stands after a brace, bracket, comma or colon."""
    return text[:place].rstrip()[-1:] in "{[,:"


def _closes(text: str, place: int, quote: str) -> bool:
    """Whether a character closes a string; an apostrophe in a text in single quotes does not."""
    if text[place] != quote:
        return False
    return quote == '"' or text[place + 1 :].lstrip()[:1] in (":", ",", "}", "]", "")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise Rejected("its JSON object gives a field twice")
    return dict(pairs)


def _parsed(text: str) -> Any:
    """The JSON value of an object's text, repaired where that is plain to do."""
    tries: tuple[Callable[[str], str], ...] = (str, _without_trailing_commas, _in_double_quotes)
    for mended in tries:
        text = mended(text)
        try:
            return json.loads(text, strict=False, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            continue
    raise Rejected("its JSON cannot be read")


_STRING = r'"(?:[^"\\]|\\.)*"'


def _without_trailing_commas(text: str) -> str:
    pattern = re.compile(rf"(?s)({_STRING})|,(?=\s*[}}\]])")
    return pattern.sub(lambda match: match.group(1) or "", text)


def _in_double_quotes(text: str) -> str:
    """A text whose strings are in single quotes, as Python writes them, in double ones."""
    pattern = re.compile(r"(?s)(?<=[{\[,:\s])'((?:[^'\\]|\\.|'(?!\s*[:,}\]]))*)'(?=\s*[:,}\]])")
    return pattern.sub(lambda match: json.dumps(match.group(1).replace("\\'", "'")), text)
