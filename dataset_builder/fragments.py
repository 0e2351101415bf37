"""Completing: sentences whose writer left out the subject or the verb become whole ones."""

import re
from itertools import pairwise

from .words import (
    COUNT_NOUNS,
    FEELINGS,
    GENERIC_PRAISE,
    I_PAST,
    I_PRESENT,
    IT_VERBS,
    MASS_NOUNS,
    OPINION_NOUNS,
    PASSIVES,
    PREPOSITIONS,
    SPECIFIC_OPINION,
    TRANSITIVE,
    article,
    is_adverb,
    is_past,
    word_set,
)

_FIRST = re.compile(
    r"^(?:(?:and|but|also|so(?=,| (?:i|we|it|they|he|she|this|you|the|my)\b)|plus|well(?=,)|however|then|"
    r"overall|anyway|honestly|wow|yes|yep|oh|hmm|again|ok(?=,)|okay(?=,)|ps)\b[,:. ]+)+",
    re.IGNORECASE,
)
_FINITE = word_set(
    """is are was were am be has have had do does did can could will would should may might must isn't aren't
    wasn't don't doesn't didn't can't won't couldn't it's that's there's he's she's they're you're i'm i've
    we're cannot what's loves loved likes liked works worked makes made gives gave gets got comes came goes went
    looks looked arrived enjoyed enjoys uses used let lets fits bought seems love said says felt wanted needed
    keeps kept took takes saves saved offers brought brings wants appreciated holds serves has sells includes
    provides allows says lasts tastes smells feels seems contains shows turns delivers expires opens charges
    accepts"""
)
_ADJECTIVES = (GENERIC_PRAISE | SPECIFIC_OPINION) - OPINION_NOUNS
_BARE = _ADJECTIVES | I_PRESENT | I_PAST | IT_VERBS | FEELINGS
_LIKED = word_set("""it this that the these those how to them my our""")
_FELT = word_set("""with that to about by i it this for because and at my we to he she they everyone""")
_PRONOUNS = word_set(
    """i it we you they he she this that there these those everyone everybody anyone who it's i'm i've i'd i'll
    that's there's they're he's she's you're we're we've nothing something if when while once after before since
    as my our his her their in at with from on every each all"""
)
_ATTRIBUTIVE = word_set("""a an the my their well very most much highly""")
_BUYING = (
    r"(?:buy|order|use|purchase|get|give|recommend|send|shop|definitely|certainly|always|go|try|keep|"
    r"be (?:buying|ordering|giving|using))"
)


_SUBORDINATORS = word_set("when if that who which because since where whose")
_AFTER_OBJECT = word_set("for as on to in with from at and but through without")


def completed(sentence: str, finds: bool) -> str:
    """Give a sentence the subject or verb that its writer left out.

    "Love it" -> "I love it"; "Works well" -> "It works well"; "Great gift" -> "I find it a great gift".

    Args:
        sentence: one sentence without its closing mark.
        finds: true writes opinions as the reviewer's ("I find it easy"), false as the item's ("It is easy").

    Returns:
        The whole sentence, still in the first person; empty when it cannot be made one.
    """
    sentence = _FIRST.sub("", sentence).strip()
    words = sentence.split()
    lead = 0
    while lead < len(words) - 1 and lead < 3 and is_adverb(words[lead].lower().strip(",")):
        lead += 1
    if not words:
        return ""
    adverbs, rest = words[:lead], words[lead:]
    head = rest[0].lower().strip(",")
    following = rest[1].lower().strip(",") if len(rest) > 1 else ""
    for rule in (_dropped_i, _dropped_it, _other_openings):
        found = rule(adverbs, rest, head, following)
        if found is not None:
            return found
    return _fragment(sentence, adverbs, rest, finds)


def _low(words: list[str]) -> str:
    """Join words, the first in lower case unless it is a name or an abbreviation."""
    if not words:
        return ""
    first = words[0]
    lowered = first if first.isupper() and len(first) > 1 else first[0].lower() + first[1:]
    return " ".join([lowered, *words[1:]])


def _before(subject: str, adverbs: list[str], rest: list[str]) -> str:
    return " ".join(part for part in (subject, _low(adverbs), _low(rest)) if part)


def _dropped_i(adverbs: list[str], rest: list[str], head: str, following: str) -> str | None:
    if head in ("like", "enjoy") and following not in _LIKED and not following.endswith("ing"):
        return ""
    if head in I_PRESENT:
        return _before("I", adverbs, rest)
    if head in ("loved", "liked", "enjoyed", "appreciated") and following == "by":
        return _before("It was", adverbs, rest)
    if head in I_PAST and (following or head in ("loved", "liked")):
        if head in TRANSITIVE and following in _AFTER_OBJECT:
            rest = [rest[0], "it", *rest[1:]]
        return _before("I", adverbs, rest)
    if head in ("will", "would") and re.match(rf"(?:not )?{_BUYING}\b", " ".join(rest[1:3]).lower()):
        return _before("I", [rest[0], *adverbs], rest[1:])
    if head in ("was", "am") and following in ("able", "happy", "so", "pleased", "looking", "very") and "able" in rest[:3]:
        return _before("I", adverbs, rest)
    if head == "could" and following == "have" and any(word.lower() == "i" for word in rest):
        return _before("I", adverbs, rest)
    if head in FEELINGS:
        return _before("I am", adverbs, rest) if following in _FELT or not following else ""
    if head.endswith("ed") and following in ("it", "this", "these", "them", "my") and head not in IT_VERBS:
        return _before("I", adverbs, rest)
    return None


def _dropped_it(adverbs: list[str], rest: list[str], head: str, following: str) -> str | None:
    if head in PASSIVES:
        return _before("It was", adverbs, rest)
    if head == "made" and following in ("of", "from", "in", "with"):
        return _before("It is", adverbs, rest)
    if head in IT_VERBS and (following or adverbs or head in ("works", "worked", "fits")):
        return _before("It", adverbs, rest)
    if head in ("will", "would", "won't", "could"):
        return _before("It", [rest[0], *adverbs], rest[1:])
    if head in ("can", "can't", "cannot"):
        return _before("I" if following in ("wait", "believe", "say") else "You", adverbs, rest)
    return None


def _other_openings(adverbs: list[str], rest: list[str], head: str, following: str) -> str | None:
    joined = " ".join([*adverbs, *rest])
    if head == "what" and following in ("a", "an"):
        return "I find it " + _low(rest[1:])
    if head == "what" and adverbs and not joined.endswith("?"):
        return "It is " + _low([*adverbs, *rest])
    if adverbs and adverbs[0].lower() == "not":
        subject = "I am" if re.search(r"\b(?:fan|lover|drinker|person)\b", joined) else "It is"
        return f"{subject} {_low([*adverbs, *rest])}"
    if head == "no" and not _has_verb(rest[:6]):
        return "I report " + _low(rest)
    if head in ("thank", "thanks", "hope", "because", "which", "who", "whom", "though", "although"):
        return ""
    return None


def _fragment(sentence: str, adverbs: list[str], rest: list[str], finds: bool) -> str:
    """Complete a sentence that opens with an adjective or a noun and has no verb of its own."""
    words = [*adverbs, *rest]
    head = rest[0].lower().strip(",")
    if head not in _ADJECTIVES:
        return _noun_fragment(sentence, adverbs, rest, finds)
    phrase = _phrase(rest)
    noun = phrase[-1].lower().strip(",")
    if len(phrase) > 1 and len(phrase) < len(rest) and rest[len(phrase)].lower() in _FINITE:
        return sentence
    if noun == "fan":
        return f"I am {article(words[0])} {_low(words)}" if finds else ""
    if head == "worth" or len(phrase) == 1 or noun in _ADJECTIVES or is_adverb(noun):
        return f"{'I find it' if finds else 'It is'} {_low(words)}"
    if noun in MASS_NOUNS:
        offered = rest if adverbs and adverbs[0].lower() == "always" else words
        return f"{'I mention' if finds else 'It offers'} {_low(offered)}"
    if _is_plural(noun):
        return f"{'I find them' if finds else 'They are'} {_low(words)}"
    determiner = "the" if head in ("best", "worst") or head.endswith("iest") else article(words[0])
    return f"{'I find it' if finds else 'It is'} {determiner} {_low(words)}"


def _noun_fragment(sentence: str, adverbs: list[str], rest: list[str], finds: bool) -> str:
    words = [*adverbs, *rest]
    head = rest[0].lower().strip(",")
    if head in _PRONOUNS:
        whole = _has_verb(words) or head in ("i", "we", "you", "they", "he", "she")
        return sentence if whole or (head in ("it", "this") and any(word.endswith("s") for word in rest[1:4])) else ""
    if head == "such":
        return f"It is {_low(words)}"
    if _has_verb(_main_clause(words)):
        return sentence
    noun = _phrase(rest)[-1].lower().strip(",")
    if head in ("a", "an", "another", "the"):
        if _is_plural(noun):
            return f"They are {_low(words)}"
        opines = any(word.lower().strip(",") in _ADJECTIVES for word in rest[1:4])
        return f"{'I find it' if finds and opines else 'It is'} {_low(words)}"
    counted = {word.lower().strip(",") for word in rest[:5]} & COUNT_NOUNS
    if len(words) < 3 or not counted or _is_plural(noun) or noun in MASS_NOUNS:
        return ""
    return f"It is {article(words[0])} {_low(words)}"


def _is_plural(noun: str) -> bool:
    return noun.endswith("s") and not noun.endswith(("ss", "us", "'s"))


def _phrase(rest: list[str]) -> list[str]:
    """Return the words up to the first preposition, conjunction, verb or comma."""
    phrase: list[str] = []
    for place, word in enumerate(rest):
        low = word.lower().strip(",")
        joins = low == "and" and all(one.lower().strip(",") in _ADJECTIVES for one in [*phrase, *rest[place + 1 : place + 2]])
        if phrase and not joins and (low in PREPOSITIONS or low in _FINITE):
            break
        phrase.append(word)
        if word.endswith(",") and low not in _ADJECTIVES:
            break
    return phrase


def _has_verb(words: list[str]) -> bool:
    lows = ["", *(word.lower().strip(",") for word in words)]
    return any(
        low in _FINITE or (is_past(low) and low not in _ADJECTIVES and before not in _ATTRIBUTIVE)
        for before, low in pairwise(lows)
    )


def _main_clause(words: list[str]) -> list[str]:
    """Return the words before the first subordinate clause."""
    for place, word in enumerate(words):
        joins = word.lower() in ("and", "but") and words[place - 1].endswith(",")
        if place and (joins or word.lower() in _SUBORDINATORS):
            return words[:place]
    return words


def split_splices(sentence: str) -> list[str]:
    """Split what a writer strung together with commas: "Love it, fast delivery" -> "Love it", "fast delivery".

    Only sentences that open without a subject are split, and only before a word that opens such a sentence.
    """
    if not _opens_bare(sentence):
        return [sentence]
    first, *rest = re.split(r", +", sentence)
    parts = [first]
    for piece in rest:
        words = parts[-1].split()
        listed = all(word.lower() in _ADJECTIVES or is_adverb(word.lower()) for word in words)
        if len(words) > 1 and not listed and _opens_bare(piece) and " " in piece:
            parts.append(piece)
        else:
            parts[-1] += f", {piece}"
    return parts


def _opens_bare(sentence: str) -> bool:
    words = [word.lower().strip(",") for word in _FIRST.sub("", sentence).split()]
    while len(words) > 1 and is_adverb(words[0]):
        words = words[1:]
    return bool(words) and words[0] in _BARE
