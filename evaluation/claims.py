"""An explanation split into claims: what it says of the item, phrase by phrase, by rules.

The rules know English. "The user would enjoy it for the strong coffee and the shady garden, which is dog friendly" makes three
claims: "strong coffee", "shady garden", "is dog friendly". What opens a sentence ("the user would enjoy ... because") is no
claim, and neither is a phrase without a concrete word ("a great place"). Limits, by intention:

- A bare "and" parts two phrases only where both have two words and the word before it does not look like an adjective:
  "fresh and crispy bread" stays whole, and so does "chicken and waffles".
- A phrase loses the sentence around it. Its negation is kept only where it stands in the phrase ("not crowded"), so
  "the user did not like the long wait" claims "long wait".
- No pronoun is resolved, and a relative clause stays with the noun before it unless a comma parts them.
- Texts in other scripts are parted at their marks only; each part with a letter is a claim.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from xrec_dataset_builder.words import GENERIC_PRAISE, IT_VERBS, OPINION_NOUNS, SPECIFIC_OPINION, STOP_WORDS, word_set

MAX_CLAIMS = 32
"""Most claims of one text; a text with more is degenerate, and what follows is not looked at."""
MAX_CHARACTERS = 4000
"""Most characters of a text that are read."""

GENERIC_WORDS = word_set(
    """user users you it place places business businesses experience experiences restaurant spot item items product products
    choice visit visits time times people person customer customers guest guests fan fans enthusiast enthusiasts everyone
    individuals enjoyable memorable delightful satisfying ideal must-visit must-try worth worthwhile delight appealing
    standout providing offering offerings overall particularly especially likely appreciate appreciates appreciated value
    values valued find finds found looking seeking known including dining addition preferences needs expectations may might
    due thanks despite along"""
)
"""Words that say nothing of an item on their own, beside stop words and praise."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s|$)|[\u3002\uff01\uff1f\u0964\u061f\u06d4]|[\r\n]+")
_ABBREVIATION = re.compile(r"(?:\b(?i:mr|mrs|ms|dr|st|vs|no|jr|sr|inc|approx|e\.g|i\.e|a\.m|p\.m)|(?<![\w'])[A-HJ-Z])\.$")

_SUBJECT = (
    r"(?i:(?:(?:the|this|these|such|some|many)\s+)?(?:users?|individuals|customers?|guests?|people|fans|reviewers?|readers?|players?|"
    r"viewers?|those|you|they|he|she|we|i)\b)"
)
_HELP = (
    r"(?i:would|will|may|might|can|could|should|has|have|had|is|are|was|were|be|been|being|to|who|that|not|never|also|likely|"
    r"really|very|all|both|often|always|still|\w+ly|'d|'ll)"
)
_MODAL = r"(?i:would|will|may|might|could|should)"
_VERB = (
    r"(?i:love[sd]?|enjoy(?:s|ed)?|like[sd]?|appreciate[sd]?|prefer(?:s|red)?|value[sd]?|recommend(?:s|ed)?|f[io]u?nds?|"
    r"want(?:s|ed)?|came\s+back|c[oa]mes?\s+back|return(?:s|ed)?|impressed|pleased|delighted|satisfied|happy|attracted|drawn|"
    r"interested|hesitate|consider(?:s|ed)?|cho[o]?ses?)"
)
_THING = (
    r"(?i:(?:(?:the|this|that|these|such|an?)\s+)?(?:business(?:es)?|places?|restaurants?|shops?|stores?|items?|products?|"
    r"books?|games?|films?|movies?|hotels?|establishments?|spots?|venues?)|it|this|that|them|here)"
)
_NAME = r"(?:(?i:the)\s+)?[A-Z0-9][^\s,;.]*(?:\s+(?:[A-Z0-9&+][^\s,;.]*|of|the|and|de|la|le|in|at|on)(?=[\s,;.]|$)){0,9}"
_CUE = (
    r"(?i:because\s+of|because|due\s+to|thanks\s+to|owing\s+to|for|since|as|by|with|in|to|that\s+(?:offers?|provides?|have|has)|"
    r"that)"
)
# "The user loved BBQ" names a claim, "the user would enjoy BBQ King" most often the item.
_FRAME = re.compile(
    rf"(?:^{_SUBJECT}(?:\s+{_HELP})*\s+|(?<!\w)){_MODAL}(?:\s+{_HELP})*\s+{_VERB}\b(?:\s+(?:{_THING}|{_NAME})(?!\w))?(?:\s+{_CUE}\b)?"
    rf"|^{_SUBJECT}(?:\s+{_HELP})*\s+{_VERB}\b(?:\s+(?:{_THING}(?!\w)|{_NAME}(?=\s+{_CUE}\b)))?(?:\s+{_CUE}\b)?"
)
_KNOWN_FOR = re.compile(r"\s(?i:(?:well[- ])?known|famous|popular|praised|loved|celebrated|noted)\s+(?i:for)\s")
_JOIN = (
    r"(?:and|but|or|while|so|yet|plus|also|with|as\s+well\s+as|along\s+with|especially|particularly|including|such\s+as|like)"
)
_LEADING = (
    r"(?:the|an?|its|their|his|her|your|our|it|they|he|she|is|are|was|were|has|have|had|offers?|offered|provides?|provided|"
    r"serves?|served|creates?|created|makes?|made)"
)
_BREAK = re.compile(
    rf"\s*[,;:]\s+(?:{_JOIN}\s+)*"
    r"|\s*[\u3001\uff0c\uff1b\uff1a\u060c\u061b]\s*"
    r"|\s+[\u2013\u2014]\s+|\s+-+\s+"
    r"|\s+(?:as\s+well\s+as|along\s+with|in\s+addition\s+to|combined\s+with|paired\s+with|accompanied\s+by)\s+"
    rf"|\s+(?:and|but|or)\s+(?={_LEADING}\b)"
    r"|\s+(?:while|whereas|although|though|despite|because\s+of|because|due\s+to|thanks\s+to)\s+",
    re.IGNORECASE,
)
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)
_OPENING = re.compile(
    rf"^(?:(?:{_JOIN}|the|an?|its|their|his|her|your|our|this|that|these|those|some|for|by|of|because\s+of|because|due\s+to|"
    r"thanks\s+to|despite|making\s+(?:it|this|them)|which|who|where)\s+)+",
    re.IGNORECASE,
)
# What has a thing is the item, whether the text says so or not.
_HAS = re.compile(
    r"^(?:(?:it|they|the\s+\w+)\s+(?:also\s+)?)?(?:has|have|had|offer(?:s|ed|ing)?|provid(?:es?|ed|ing)|serv(?:es?|ed|ing)|"
    r"featur(?:es?|ed|ing)|boasts?|includ(?:es?|ing))\s+",
    re.IGNORECASE,
)
_ADJECTIVE = re.compile(r"(?:[^aeioutr]y|ful|ous|ive|able|ible|ish|less|[^e]ed)$")
_SENTENCE_LIKE = re.compile(r"(?:it|they|he|she|you|we|there|the user)\b", re.IGNORECASE)
_FINITE = IT_VERBS | word_set("is are was were has have had can will does did creates created features featured")


@dataclass(frozen=True)
class Claim:
    """One thing that a text says.

    Attributes:
        text: The phrase, without the words that join it to others.
        sentence: The sentence that it stands in.
    """

    text: str
    sentence: str

    @property
    def statement(self) -> str:
        """The claim as a sentence about the item, as a model of entailment reads it: "It has strong coffee."."""
        if _SENTENCE_LIKE.match(self.text):
            return self.text[:1].upper() + self.text[1:] + "."
        first = self.text.split(maxsplit=1)[0].lower()
        return f"It {self.text}." if first in _FINITE else f"It has {self.text}."


@lru_cache(maxsize=1 << 16)
def split_claims(text: str) -> tuple[Claim, ...]:
    """Split a text into its claims, in their order, each once.

    `xrec_dataset_builder.sentences` is made for reviews and drops what runs on; an explanation is often one long sentence,
    so sentences are found here.

    Args:
        text: Any text; its first `MAX_CHARACTERS` characters are read.

    Returns:
        At most `MAX_CLAIMS` claims; none for a text that says nothing concrete.
    """
    found: dict[str, Claim] = {}
    for sentence in _sentences(text[:MAX_CHARACTERS]):
        for phrase in _phrases(sentence):
            if content_words(phrase):
                found.setdefault(phrase.casefold(), Claim(phrase, sentence))
    return tuple(found.values())[:MAX_CLAIMS]


def content_words(text: str) -> list[str]:
    """Words of a text that say something of their own, in lower case and in their order.

    Left out are English stop words, praise ("great"), words that fit any item ("place"), numbers and single ASCII letters.

    Args:
        text: Any text.

    Returns:
        The words; a word that occurs twice is there twice.
    """
    words = (word.replace("\u2019", "'").lower().removesuffix("'s") for word in _WORD.findall(text))
    return [word for word in words if _says_something(word)]


def _says_something(word: str) -> bool:
    if word in STOP_WORDS or word in GENERIC_PRAISE or word in GENERIC_WORDS or word.isdecimal():
        return False
    return len(word) > 1 or not word.isascii()


def _sentences(text: str) -> list[str]:
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        chunk = text[start : end.end()]
        if end.group().startswith(".") and _ABBREVIATION.search(chunk):
            continue
        parts.append(chunk)
        start = end.end()
    return [" ".join(part.split()) for part in [*parts, text[start:]] if part.strip()]


def _phrases(sentence: str) -> list[str]:
    bare = sentence.strip(" .!?\u2026\u3002\uff01\uff1f\u061f\u0964\u06d4\"'\u201c\u201d")
    parts = [part for whole in _FRAME.split(bare) for known in _KNOWN_FOR.split(whole) for part in _BREAK.split(known)]
    return [tidy for part in _joined(parts) for phrase in _halves(part) if (tidy := _tidy(phrase))]


def _joined(parts: list[str]) -> list[str]:
    """Put an adjective that stands alone before the next part: "fresh", "crispy bread" is one phrase."""
    result: list[str] = []
    held: list[str] = []
    for part in parts:
        word = _tidy(part)
        if word and not word.count(" ") and _is_adjective(word):
            held.append(word)
        else:
            result.append(", ".join([*held, part]))
            held = []
    return [*result, *([", ".join(held)] if held else [])]


def _halves(part: str) -> list[str]:
    """Part a phrase at a bare "and" between two phrases of their own."""
    halves, start = [], 0
    for bare in _AND.finditer(part):
        left, right = part[start : bare.start()].split(), part[bare.end() :].split()
        if len(left) > 1 and len(right) > 1 and not _is_adjective(left[-1]) and right[1].lower() != "and":
            halves.append(part[start : bare.start()])
            start = bare.end()
    return [*halves, part[start:]]


def _tidy(phrase: str) -> str:
    bare = phrase.strip(" ,;:.!?\"'()")
    return _OPENING.sub("", _HAS.sub("", _OPENING.sub("", bare))).strip(" ,;:.!?\"'()")


def _is_adjective(word: str) -> bool:
    low = word.lower().strip("\"'(),")
    if low in OPINION_NOUNS or low in STOP_WORDS:
        return False
    return low in SPECIFIC_OPINION or low in GENERIC_PRAISE or bool(_ADJECTIVE.search(low))
