"""The word lists of the extractive teacher, and the two inflections it needs. English only."""

import re


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


GENERIC_PRAISE = word_set(
    """good great nice love loved loves lovely like liked likes excellent awesome perfect perfectly ok okay fine
    best better amazing wonderful fantastic super cool terrific fabulous outstanding superb brilliant pleased
    happy satisfied glad bad terrible awful horrible worst worse poor disappointed disappointing hate hated
    hates recommend recommended enjoy enjoyed enjoys wow yum impressed thrilled favorite favourite decent
    mediocre special"""
)
"""Opinion words that say how much, not why."""

SPECIFIC_OPINION = word_set(
    """easy easier easiest fastest quickest cutest nicest simple fast quick quickly prompt promptly slow slowly
    convenient convenience handy useful helpful friendly rude polite attentive welcoming warm cosy cozy clean
    dirty fresh stale tasty delicious bland flavorful crispy juicy tender dry soggy greasy salty sweet spicy
    cheap affordable expensive overpriced pricey inexpensive reasonable generous tiny huge small large spacious
    cramped loud noisy quiet calm relaxing comfortable uncomfortable beautiful pretty attractive cute adorable
    elegant classy charming stylish ugly tacky sturdy flimsy durable broken damaged bent defective reliable
    unreliable safe fun funny boring interesting entertaining creative unique thoughtful appropriate festive
    colorful bright versatile flexible practical secure authentic traditional modern healthy filling rich smooth
    creamy strong weak hot cold worth waste value bargain saves saved save discount free problem problems issue
    issues trouble hassle difficult hard confusing complicated late delayed missing wrong lost expired accurate
    instant instantly immediate immediately memorable gorgeous impressive professional knowledgeable efficient
    lively romantic intimate trendy crowded busy long-lasting delightful yummy scrumptious addicting addictive
    appreciated appreciate appreciates prefer prefers preferred surprised surprising excited exciting
    excellently well ease variety selection choice choices options popular treat kid-friendly enjoyable pleasant
    unpleasant annoying superior inferior ideal"""
)
"""Opinion words that also say why."""

OPINION_CUES = re.compile(
    r"stood out|stand out|won (?:me|us) over|made (?:it|my|our|the|a|someone|him|her|them)\b|makes? (?:it|a|for|"
    r"the)\b|can(?:'t|not) (?:go wrong|beat)|go(?:es)? (?:a long|above)|no complaints?|a plus\b|nothing (?:beats|"
    r"like)|a fan of|drawn to|looking for|exactly what|just what|fell (?:in love|short)|let down|could not|"
    r"would not|if only|too (?:much|many|few|little)|not enough|lack(?:s|ed|ing)?\b|never (?:had|fails?|"
    r"disappoints?|expires?)|do(?:es)? ?n[o']t expire|the (?:main )?(?:reason|draw)|highlight|thanks to|crav(?:e|"
    r"ed|ing)|ruin(?:s|ed)?\b"
)
"""Longer phrases that pass a judgement."""

REASON_CUES = re.compile(
    r"\b(?:because|since|so that|due to|that is why|that's why|as it|in order to|allows?|lets?|which (?:is|was|"
    r"makes|made))\b|\bso (?:i|we|you|they|he|she|it)\b|\bfor (?:a|an|any|every|my|our|his|her|their|the|someone|"
    r"people|those|giving|[a-z]+ing)\b|\bto (?:use|give|send|get|buy|receive|redeem|order|eat|have|make|save|find|"
    r"choose|pick)\b"
)
"""What introduces a purpose or a cause."""

FILLER = re.compile(
    r"\b(?:yesterday|tonight|last (?:night|week|month|year|spring|summer|autumn|fall|winter|christmas)|(?:jan|feb|"
    r"mar|apr|jun|jul|aug|sept?|oct|nov|dec)[a-z]*\.? \d|\d{1,2}/\d{1,2}|\d+ ?(?:am|pm)|monday|tuesday|wednesday|"
    r"thursday|friday|saturday|sunday)\b|\b(?:we|i) (?:\w+ )?(?:went|came|stopped|visited|arrived|drove|walked|"
    r"stayed|were|sat)\b|\band i (?:went|came|stopped|visited|ate)\b|\bwill (?:be back|return|come back)\b|"
    r"\bbe back\b|\bstars?\b|\bthank|\bhope (?:this|that) helps|\bwhat (?:else|more|can)\b|\b(?:i|need i) say\b|"
    r"\benough said|\breviews?\b|\bupdate\b|\bhttp|\bwww\.|\bwho does ?n[o']t\b|\bcheck (?:it|them) out|"
    r"\bjust to say|\bto be honest|\bi guess\b|\bblah"
)
"""What tells a story or fills a line, not why."""

BOILERPLATE = re.compile(
    r"evaluated by the fda|terms and conditions|not intended to (?:diagnose|treat)|trademark|copyright|"
    r"all rights reserved|"
    r"http|www\.|click (?:here|now|away|to)|void where|for more information|customer service|see back|restrictions|"
    r"before you click|legal disclaimer|use of this (?:gift )?card constitutes",
    re.IGNORECASE,
)
"""What no description of an item is about."""

NEGATION = re.compile(r"\b(?:not|no|never|nothing|none|hardly|barely|without|\w+n't)\b")

STOP_WORDS = word_set(
    """a an the this that these those it its it's i me my mine myself we us our ours you your yours he him his she
    her hers they them their theirs who whom which what when where why how all any both each few more most other
    some such no nor not only own same so than too very can could will would should shall may might must just
    don't didn't doesn't isn't wasn't can't won't wouldn't couldn't am is are was were be been being have has
    had having do does did doing and but if or because as until while of at by for with about against between
    into through during before after above below to from up down in out on off over under again further then
    once here there also always ever never really much many lot lots got get gets getting go goes going went one
    two first thing things something anything everything someone anyone everyone anybody everybody even still
    yet well back around i'm i've i'd i'll we're we've they're there's that's user user's make made makes way
    definitely absolutely quite pretty rather bit little sure say said"""
)
"""Words that carry no content of their own."""

ADVERBS = word_set(
    """always never also just still even ever often sometimes usually really very so too quite rather almost
    already soon again not only truly actually definitely absolutely certainly probably highly simply totally
    completely extremely especially mostly generally personally honestly recently finally currently both have"""
) - {"have"}
"""Adverbs that may stand between a subject and its verb."""

NOT_ADVERBS = word_set("apply supply rely reply fly family only early friendly lovely elderly imply comply multiply")

MODALS = word_set(
    """will would can could should may might must shall cannot can't won't wouldn't couldn't shouldn't mightn't
    ought 'll 'd used"""
)
"""Verbs that do not change with the subject."""

IRREGULAR_PAST = word_set(
    """got bought gave went had was did made found thought knew took came saw said told felt left kept paid sent
    spent ate drank brought put read cut let set hit cost met ran sat stood wore won wrote chose began heard
    held lost meant sold slept spoke understood woke drove flew forgot grew hung led lit rode sang shook shot
    stole stuck taught threw built became broke caught dealt did didn't wasn't hadn't fell fed fought hid hurt
    laid shut spread swore tore wound were weren't quit bet upset"""
)
"""Past forms that do not end in -ed, and forms that equal the past."""

NOT_VERBS = word_set(
    """a an the it in to for who which that and or but if so as at by from with on of is are this these i we you he
    she they my his her their our your one two"""
)
"""Words after "I" that cannot be its verb."""

BASE_VERBS = word_set(
    """love like enjoy use recommend appreciate hate prefer wish hope need want think believe buy give get have
    keep know look find feel go order send eat make save shop take tell try visit work crave dislike expect plan
    purchase receive see agree trust adore drink wear"""
)
"""Present forms a reviewer coordinates: "I love it and use it"."""

I_PRESENT = word_set(
    """love like enjoy recommend appreciate hate prefer wish hope need want think believe dislike adore have know
    crave don't haven't am understand"""
)
"""Present forms that open a sentence whose "I" was left out."""

I_PAST = word_set(
    """loved liked bought got gave purchased ordered used received sent needed wanted enjoyed hated thought tried
    found ate grabbed redeemed heard forgot spent gifted noticed picked paid decided appreciated returned put
    kept ended hoped expected had knew chose saw"""
)
"""Past forms that open a sentence whose "I" was left out."""

TRANSITIVE = word_set("bought got purchased ordered used sent needed received gave chose")
"""Past forms that want an object."""

IT_VERBS = word_set(
    """works worked arrived came makes made fits looks looked is was does doesn't isn't wasn't tastes tasted smells
    smelled feels felt comes goes takes gives lets seems seemed has hasn't delivers delivered shipped serves
    served offers offered saves saved helps helped keeps stays turned lasts lasted runs didn't went allows
    allowed brings brought beats fails failed expires adds added provides provided sounds sounded took"""
)
"""Verbs that open a sentence whose "it" was left out."""

PASSIVES = word_set("delivered shipped packaged wrapped packed boxed")
"""Participles that open a sentence about what was done to "it"."""

OPINION_NOUNS = word_set(
    """ease variety selection choice choices options value bargain waste problem problems issue issues trouble
    hassle treat discount fun favorite favourite"""
)
"""Opinion words that are nouns."""

RELATIVES = re.compile(
    r"\b(?:grand\w+|daughters?|sons?|nieces?|nephews?|mother|mom|dad|father|husband|wife|sisters?|brothers?|friends?|aunts?|"
    r"uncles?|cousins?|boyfriend|girlfriend|fianc\w+|coworkers?|recipients?|kids?|family)\b",
    re.IGNORECASE,
)
"""People around a reviewer."""

QUESTION = re.compile(
    r"^(?:what|who|why|how|where|when)(?:'s)? ?(?:is|are|was|could|can|do|does|did|would|not|else|more|isn|does)\b"
)
"""How a question opens whose mark was left out."""

FEELINGS = word_set(
    """pleased happy satisfied disappointed glad excited impressed thankful thrilled amazed surprised delighted
    grateful unhappy sad upset dissatisfied"""
)
"""Adjectives of a person."""

MASS_NOUNS = word_set(
    """service food delivery quality value customer shopping packaging pizza coffee ice cream meat beer wine fun
    music atmosphere ambience ambiance variety stuff shipping parking staff taste seating decor convenience
    selection gift-giving presentation communication information advice work help time money price pricing steak
    sushi pasta chicken fish tea bread seafood entertainment lighting"""
) - word_set("selection price time variety atmosphere pizza steak customer presentation")
"""Nouns that take no article."""

COUNT_NOUNS = word_set(
    """gift card cards present way idea product item place restaurant service price value deal stuffer purchase box
    tin holder option choice treat surprise design store book movie show game toy tool spot cafe bar shop hotel
    experience solution alternative addition selection variety raffle prize"""
)
"""Nouns that may stand in a sentence without a verb."""

PREPOSITIONS = word_set(
    """for to of in on at with by from as about when if that who which because since so and or but than because
    while where without after before during into over under through around inside near is are was were - , you i
    he she we everyone anyone they it my"""
)
"""What ends the noun phrase that a sentence opens with."""


def is_adverb(word: str) -> bool:
    """Return whether a lower-case word is an adverb that may stand before a verb."""
    return word in ADVERBS or (word.endswith("ly") and word not in NOT_ADVERBS and len(word) > 4)


def is_past(word: str) -> bool:
    """Return whether a lower-case word reads as a past form."""
    return word in IRREGULAR_PAST or (word.endswith("ed") and not word.endswith("eed"))


def third_singular(verb: str) -> str:
    """Return the third person singular of a lower-case present verb: love -> loves, try -> tries, have -> has."""
    special = {
        "have": "has",
        "am": "is",
        "are": "is",
        "be": "is",
        "do": "does",
        "don't": "doesn't",
        "haven't": "hasn't",
    }
    if verb in special:
        return special[verb]
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


def article(word: str) -> str:
    """Return "a" or "an" for the word that follows."""
    low = word.lower()
    if low.startswith(("hour", "honest", "heir")):
        return "an"
    vowel = low[:1] in "aeiou" and not low.startswith(("uni", "use", "usu", "one", "eu", "once"))
    return "an" if vowel else "a"
