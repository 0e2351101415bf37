"""Rewriting: from what a reviewer wrote about "me" to what is said about the user."""

import re

from .words import BASE_VERBS, I_PAST, MODALS, NOT_VERBS, is_adverb, is_past, third_singular, word_set

_FIRST_PERSON = re.compile(
    r"\b(?:i|me|my|mine|myself|we|us|our|ours|ourselves|i'(?:m|ve|d|ll)|we'(?:re|ve|d|ll))\b(?!\.\w)", re.IGNORECASE
)
_AUXILIARIES = word_set("do does did am was have had can could will would should may might")


def is_first_person(sentence: str) -> bool:
    """Return whether a sentence speaks of "I" or "we"."""
    return bool(_FIRST_PERSON.search(sentence))


def to_third_person(sentence: str) -> str:
    """Rewrite the first person of one sentence: the user at the first mention, they and their after it.

    Verbs agree with the new subject ("I am" -> "the user is", "I've" -> "the user has", "I love" -> "the user loves");
    "we" becomes "they". Sentences without a first person come back as they are, with a capital.
    """
    couple = r"\bmy ((?:\w+ )?\w+) and (?:i|me|myself)\b|\b(?:me|i|myself) and my (\w+)\b"
    joined, pairs = re.subn(couple, lambda match: f"the user and their {match[1] or match[2]}", sentence, flags=re.I)
    rewriter = _Rewriter(re.findall(r"[\w$%][\w'$%-]*|[^\w$%]+", joined), mentioned=pairs > 0)
    return _capital(re.sub(r"\s+", " ", "".join(rewriter.run())).strip())


class _Rewriter:
    """Walks over the words of one sentence; `mentioned` says whether the user was named before."""

    def __init__(self, tokens: list[str], mentioned: bool) -> None:
        self.tokens, self.mentioned = tokens, mentioned

    def run(self) -> list[str]:
        for place, token in enumerate(self.tokens):
            low = token.lower()
            following = "".join(self.tokens[place + 1 : place + 2])
            if (low == "i" and following[:1] not in (".", "/")) or low in ("i'm", "i've", "i'd", "i'll"):
                self._subject(place, low)
            elif low in _PLURAL:
                self.tokens[place] = _PLURAL[low]
            elif low in _SINGULAR:
                self.tokens[place] = _SINGULAR[low][self.mentioned]
                self.mentioned = True
        return self.tokens

    def _subject(self, place: int, low: str) -> None:
        subject, plural = ("they", True) if self.mentioned else ("the user", False)
        self.mentioned = True
        if low == "i":
            self.tokens[place] = subject
            before = self.tokens[place - 2] if place >= 2 else ""
            if before.lower() in _AUXILIARIES:
                self.tokens[place - 2] = before if plural else _keep_case(before, third_singular_auxiliary(before.lower()))
            else:
                self._agree(place, plural)
            return
        verb = {"i'm": ("is", "are"), "i've": ("has", "have"), "i'll": ("will", "will")}.get(low)
        if verb is None:
            word = self._next_verb(place)
            had = word is not None and (
                self.tokens[word].lower() in ("better", "been", "had") or is_past(self.tokens[word].lower())
            )
            verb = ("had", "had") if had else ("would", "would")
        self.tokens[place] = f"{subject} {verb[plural]}"

    def _next_verb(self, place: int) -> int | None:
        """Return the place of the word after the subject and its adverbs."""
        for ahead in range(place + 1, min(place + 10, len(self.tokens))):
            token = self.tokens[ahead]
            if not token.strip():
                continue
            if token.strip() == "," and ahead == place + 1:
                self.tokens[ahead] = " "
                continue
            if not re.match(r"[\w']", token) or token.lower().split("'")[0] in ("i", "we"):  # a subject of its own
                return None
            if not is_adverb(token.lower()):
                return ahead
        return None

    def _agree(self, place: int, plural: bool) -> None:
        verb = self._next_verb(place)
        if verb is None:
            return
        low = self.tokens[verb].lower()
        if low in BASE_VERBS or low in I_PAST:
            self.tokens[verb] = low
        if plural:
            self.tokens[verb] = {"am": "are", "was": "were", "wasn't": "weren't"}.get(low, self.tokens[verb])
            return
        if low in MODALS or low in NOT_VERBS or is_past(low):
            return
        self.tokens[verb] = third_singular(low)
        if low not in ("do", "don't", "haven't"):
            self._agree_coordinated(verb)

    def _agree_coordinated(self, verb: int) -> None:
        """Inflect "use" in "I love this and use it", where a clear object follows."""
        for ahead in range(verb + 1, len(self.tokens) - 4):
            word = self.tokens[ahead].lower()
            if word in ("to", "that", "who", "when", "if", "you", "we", "they", "i") or word in MODALS:
                return
            second, third = self.tokens[ahead + 2].lower(), self.tokens[ahead + 4].lower()
            if is_adverb(second) and ahead + 6 < len(self.tokens):
                ahead, second, third = ahead + 2, third, self.tokens[ahead + 6].lower()
            objects = ("it", "this", "them", "these", "my", "the", "that", "a", "how", "all", "every")
            if word == "and" and second == "am":
                self.tokens[ahead + 2] = "is"
            elif word == "and" and second in BASE_VERBS and third in objects:
                self.tokens[ahead + 2] = third_singular(second)


_PLURAL = {
    "we": "they",
    "us": "them",
    "our": "their",
    "ours": "theirs",
    "ourselves": "themselves",
    "we're": "they are",
    "we've": "they have",
    "we'd": "they would",
    "we'll": "they will",
}
_SINGULAR = {
    "me": ("the user", "them"),
    "my": ("the user's", "their"),
    "mine": ("the user's", "theirs"),
    "myself": ("the user", "themselves"),
}


def third_singular_auxiliary(verb: str) -> str:
    """Return the form of an auxiliary before "the user": do -> does, am -> is, others as they are."""
    return {"do": "does", "am": "is", "have": "has"}.get(verb, verb)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _keep_case(old: str, new: str) -> str:
    return _capital(new) if old[:1].isupper() else new
