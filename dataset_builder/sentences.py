"""From a raw review to clean sentences."""

import re

from .sources import plain_text
from .words import GENERIC_PRAISE, SPECIFIC_OPINION

_ABBREVIATIONS = re.compile(
    r"(?:\b(?i:mr|mrs|ms|dr|st|vs|etc|approx|no|jr|sr|inc|ltd|e\.g|i\.e|u\.s|a\.m|p\.m)|(?<![\w'])[A-HJ-Z])\.$"
)
_APOSTROPHES = {
    "dont": "don't",
    "didnt": "didn't",
    "doesnt": "doesn't",
    "cant": "can't",
    "wont": "won't",
    "isnt": "isn't",
    "wasnt": "wasn't",
    "couldnt": "couldn't",
    "wouldnt": "wouldn't",
    "havent": "haven't",
    "im": "I'm",
    "ive": "I've",
    "thats": "that's",
    "youre": "you're",
    "theyre": "they're",
}
_COMMON = GENERIC_PRAISE | SPECIFIC_OPINION
_WITHOUT_APOSTROPHE = re.compile(rf"\b(?:{'|'.join(_APOSTROPHES)})\b", re.IGNORECASE)
_PLAIN = {0x2018: "'", 0x2019: "'", ord("`"): "'", 0x201C: '"', 0x201D: '"', 0x2026: "..."}
_MAX_SENTENCE = 40
"""Words above which a sentence is cut at its clauses."""


def clean_text(text: str) -> str:
    """Return plain text: no mark-up, addresses, emoticons or control tokens, quotes straight, blanks single."""
    text = re.sub(r"<\|[^|<>]*\|>|\[/?INST\]|</?s>", " ", text)
    text = plain_text(text[:20_000])
    text = text.translate(_PLAIN)
    text = re.sub(r"https?://\S+|www\.\S+|\S+@\S+\.\S+", " ", text)
    text = re.sub(r"(?<!\w)[:;=]['-]?[)(DPp/|*]+|<3|[)(]:|\^_?\^", ". ", text)
    text = re.sub(r"[^\w\s.,;:!?'\"()$%&/+#-]|_", " ", text)
    text = re.sub(r"\s*(?:--+|\s-+\s|\s-(?=\w))\s*", ", ", text)
    text = re.sub(r"\*+", "", text)
    text = _WITHOUT_APOSTROPHE.sub(lambda match: _APOSTROPHES[match.group().lower()], text)
    text = re.sub(
        r"\b[Ii]ts (?=(?:a|an|the|so|very|not|great|good|nice|perfect|just|always|easy|ok|okay|fine)\b)", "It's ", text
    )
    text = re.sub(r"\b(My|I), ?(?=[a-z])", r"\1 ", text)
    text = re.sub(r"\s+([.,;:!?])", r"\1", text)
    text = re.sub(r"([,;:])(?=[A-Za-z])", r"\1 ", text)
    text = re.sub(r"\s+", " ", text).strip()
    capitals, letters = len(re.findall(r"[A-Z]", text)), len(re.findall(r"[A-Za-z]", text))
    if letters > 3 and capitals > 0.7 * letters:
        text = text.lower()
    return re.sub(r"\b[A-Z]{4,}\b", lambda match: _calm(match.group()), text)


def _calm(word: str) -> str:
    """Lower a shouted word that is no name or abbreviation."""
    return word.lower() if word.lower() in _COMMON else word


def sentences(text: str) -> list[str]:
    """Split a review into sentences without their closing marks; questions keep theirs.

    Line breaks before a capital, runs of dots and exclamation marks end a sentence; abbreviations and single initials
    do not. A sentence of more than 40 words is cut at its clauses.
    """
    result: list[str] = []
    whole = re.sub(r"(?<![.!?:\s])[ \t]*\r?\n[ \t]*(?=[a-z])", " ", text[:20_000])
    for line in re.split(r"[\r\n]+", whole):
        line = clean_text(line)
        line = re.sub(r"\.{2,}", ". ", line)
        line = re.sub(r"(?<=[a-z)])([.!?])(?=[A-Z][a-z]*\b(?!\.))(?![.]Com\b)", r"\1 ", line)
        line = re.sub(r"(?<=[a-z]{3})\.(?!(?:com|net|org|edu|gov)\b)(?=[a-z]{3})", ". ", line)
        line = re.sub(r"(?<=[!?])(?=\w)", " ", line)
        result += _split_line(line)
    return [part for sentence in result for part in _clauses(sentence)]


def _split_line(line: str) -> list[str]:
    parts: list[str] = []
    start = 0
    for match in re.finditer(r"[.!?]+[\"')]*(?:\s+|$)|\s*;\s+", line):
        chunk = line[start : match.end()].strip()
        if match.end() < len(line) and match.group().strip() == "." and _ABBREVIATIONS.search(chunk):
            continue
        parts.append(chunk)
        start = match.end()
    parts.append(line[start:].strip())
    return [tidy for part in parts if (tidy := _tidy(part))]


def _tidy(sentence: str) -> str:
    asks = sentence.rstrip("\"') ").endswith("?")
    sentence = sentence.strip(" .,;:!?-/#+&")
    if sentence.count('"') % 2:
        sentence = sentence.replace('"', "")
    if sentence.count("(") != sentence.count(")"):
        sentence = re.sub(r"[()]", "", sentence)
    sentence = re.sub(r"^\(([^()]*)\)$", r"\1", sentence.strip()).strip(" .,;:!")
    if not re.search(r"[A-Za-z]{2}", sentence):
        return ""
    return sentence + "?" if asks else sentence


def _clauses(sentence: str) -> list[str]:
    if len(sentence.split()) <= _MAX_SENTENCE:
        return [sentence]
    parts = re.split(
        r",? (?:but|however) |, (?:and|so|then|which) |: |, (?=(?:i|we|it|they|he|she|the)\b)", sentence, flags=re.I
    )
    return [tidy for part in parts if (tidy := _tidy(part)) and len(tidy.split()) <= _MAX_SENTENCE]
