"""Words and names of an explanation that occur in none of the texts it may rest on."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from nltk.stem.porter import PorterStemmer

from xrec_dataset_builder.words import STOP_WORDS

from .claims import content_words
from .text_metrics import writing

TEMPLATE_SHARE = 0.2
"""A word in at least this share of the training explanations is part of their template."""

_CAPITAL = r"[^\W\d_a-z][\w'\u2019&-]*"
_NAME = re.compile(rf"(?<![\w'\u2019-]){_CAPITAL}(?:\s+(?:(?:of|the|de|la|le|&|\+)\s+)*{_CAPITAL})*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:\u2026][\"'\u201d\u2019)\]]*\s+|[\r\n])[\"'\u201c\u2018(\[]*$")


@lru_cache(maxsize=1 << 16)
def stems(text: str) -> frozenset[str]:
    """Stems of a text's content words, by Porter's rules (1980): "cocktails" and "cocktail" are one.

    Args:
        text: Any text. Hyphenated words count whole and in their parts.
    """
    words = content_words(text)
    parts = [part for word in words if "-" in word for part in word.split("-")]
    return frozenset(_stem(word) for word in [*words, *parts])


def template_words(training: Sequence[str]) -> frozenset[str]:
    """Stems of the words that training explanations have whatever the pair: in at least a fifth of them.

    Args:
        training: Training explanations.

    Returns:
        The stems; none for no training text.
    """
    counts = Counter(stem for text in training for stem in stems(text))
    return frozenset(stem for stem, count in counts.items() if count >= TEMPLATE_SHARE * len(training))


def found_stems(texts: Iterable[str]) -> frozenset[str]:
    """Stems of everything that a pair's texts say."""
    return frozenset().union(*(stems(text) for text in texts))


def unfounded_words(text: str, found: frozenset[str], template: frozenset[str] = frozenset()) -> list[str] | None:
    """Content words of a text that neither its evidence nor the template of training explanations has.

    Args:
        text: An explanation.
        found: What `found_stems` makes of the pair's texts.
        template: What `template_words` makes of the training explanations.

    Returns:
        The words in lower case and in their order, each once; None for a text in a script without spaces, which has no
        words that could be told apart without a dictionary.
    """
    if writing([text]) == "characters":
        return None
    words = dict.fromkeys(content_words(text))
    return [word for word in words if not (known := stems(word)) <= template and not known & found]


def unfounded_names(text: str, found: frozenset[str]) -> list[str]:
    """Named things of a text of which the evidence lacks at least one word.

    A name is a run of capitalised words, joined by "of", "the", "&" and the like. One that opens a sentence counts when
    a second capitalised word follows. Scripts without capitals have no names that this finds.

    Args:
        text: An explanation.
        found: What `found_stems` makes of the pair's texts.

    Returns:
        The names as written, in their order, each once.
    """
    names: dict[str, None] = {}
    for match in _NAME.finditer(text):
        words = match.group().rstrip(" .-").split()
        opens = _SENTENCE_START.search(text[: match.start()])
        if opens and (len(words) == 1 or words[0].lower() in STOP_WORDS or not stems(words[0])):
            words = words[1:]
        name = " ".join(words)
        if any(not stems(word) & found for word in words if stems(word)):
            names.setdefault(name)
    return list(names)


@lru_cache(maxsize=1)
def _stemmer() -> PorterStemmer:
    return PorterStemmer()


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    return str(_stemmer().stem(word))
