"""Profiles and explanations by a teacher: what is asked in which order, and the tables made of the answers.

Item profiles come first, from the item's metadata and training reviews; then user profiles, from their training reviews; then
explanations, from the pair's own review and both profiles.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from .answers import Judge
from .ask_options import AskOptions
from .asking import ask
from .errors import DataError
from .journal import Journal
from .material import Material, chosen
from .prompts import DOMAINS, Prompts, answer_schema, read_prompts
from .schema import ITEMS, PROVENANCE, USERS
from .teacher import KINDS, Request, Teacher

logger = logging.getLogger(__name__)

DOMAIN_OF_SOURCE = {"yelp": "business", "google-local": "business", "synthetic": "business"}
DOMAIN_OF_SOURCE |= {"amazon-2018": "product", "amazon-2023": "product"}
"""What the items of a source are, unless the user says so."""

SAMPLES = 3
"""Texts of a limited run that are shown."""


@dataclass(frozen=True)
class TeachOptions:
    """What a teacher is asked and how.

    Args:
        model: the name of the model.
        domain: one of `prompts.DOMAINS`; None for what the source has.
        prompts: a file of prompts; None for the built-in one.
        temperature: of sampling; 0 for the likeliest answer.
        max_tokens: most tokens of an answer, with its JSON.
        seed: of sampling and of the draw of reviews.
        explanation_words: most words of an explanation.
        profile_words: most words of a profile.
        profile_reviews: most reviews that a profile is made from.

    Raises:
        DataError: a figure is out of its range, or the model has no name.
    """

    model: str
    domain: str | None = None
    prompts: Path | None = None
    temperature: float = 0.0
    max_tokens: int = 300
    seed: int = 0
    explanation_words: int = 50
    profile_words: int = 60
    profile_reviews: int = 10

    def __post_init__(self) -> None:
        for name in ("max_tokens", "explanation_words", "profile_words", "profile_reviews"):
            if (value := getattr(self, name)) < 1:
                raise DataError(f"expected {name} of at least 1, found {value}; choose another")
        if not 0 <= self.temperature <= 2:
            raise DataError(f"expected a temperature between 0 and 2, found {self.temperature}; choose another")
        if not self.model:
            raise DataError("expected the name of the teacher's model, found none; give --model")

    @property
    def words(self) -> dict[str, int]:
        """The most words of each kind's text."""
        return {kind: self.explanation_words if kind == "explanation" else self.profile_words for kind in KINDS}

    def read_prompts(self, source: str) -> Prompts:
        """The prompts for a dataset of this source.

        Raises:
            DataError: the domain is not known, or the prompts cannot be used.
        """
        domain = self.domain or DOMAIN_OF_SOURCE.get(source)
        if domain is None:
            raise DataError(f"expected a domain among {', '.join(DOMAINS)} for source {source}, found none; give --domain")
        return read_prompts(domain, self.prompts)


@dataclass(frozen=True)
class Questions:
    """The requests of one kind, made when they are looked at.

    Args:
        rows: what each is made from.
        make: makes one.
    """

    rows: Sequence[Any]
    make: Callable[[Any], Request]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Request]:
        return map(self.make, self.rows)


class Course:
    """Makes the requests of a dataset.

    Args:
        material: what may be shown.
        prompts: how it is asked.
        options: the model, limits and seeds.
        teacher: the teacher's name.
    """

    def __init__(self, material: Material, prompts: Prompts, options: TeachOptions, teacher: str) -> None:
        self.material, self.prompts, self.options, self.teacher = material, prompts, options, teacher
        self.titles = {item: title for item, title, _ in material.items.iter_rows()}

    def item_profiles(self) -> Questions:
        """One request for every item of its own with a description or a review that may feed it."""
        places = self.material.for_profiles("item")
        own = self.material.items[slice(*self.material.own_items)]
        rows = [row for row in own.iter_rows() if row[2] or row[0] in places]

        def make(row: tuple[str, str, str]) -> Request:
            item, title, description = row
            reviews = [_review(one) for one in self._chosen(places.get(item, []))]
            return self._request("item_profile", (item,), {"title": title, "description": description, "reviews": reviews})

        return Questions(rows, make)

    def user_profiles(self) -> Questions:
        """One request for every user of its own with a review that may feed a profile."""
        places = self.material.for_profiles("user")
        own = set(self.material.reviews.filter("own")["user_id"].unique())

        def make(user: str) -> Request:
            reviews = [{"title": self.titles.get(one["item_id"], "")} | _review(one) for one in self._chosen(places[user])]
            return self._request("user_profile", (user,), {"reviews": reviews})

        return Questions(sorted(user for user in places if user in own), make)

    def explanations(self, items: Mapping[str, str], users: Mapping[str, str]) -> Questions:
        """One request for every review of its own.

        Args:
            items: item profiles by id.
            users: user profiles by id.
        """
        reviews = self.material.reviews

        def make(place: int) -> Request:
            row = reviews.row(place, named=True)
            user, item = row["user_id"], row["item_id"]
            data = {
                "item": {"title": self.titles.get(item, ""), "portrait": items.get(item, "")},
                "user": {"portrait": users.get(user, "")},
                "review": _review(row),
            }
            return self._request("explanation", (user, item), data)

        return Questions(reviews["own"].arg_true().to_list(), make)

    def _chosen(self, places: Sequence[int]) -> list[dict[str, Any]]:
        return chosen(self.material.reviews, places, self.options.profile_reviews, self.options.seed)

    def _request(self, kind: str, key: tuple[str, ...], data: Mapping[str, Any]) -> Request:
        prompt, options = self.prompts.kinds[kind], self.options
        return Request(
            kind=kind,
            key=key,
            messages=prompt.messages(data, options.words[kind]),
            schema=answer_schema(kind),
            teacher=self.teacher,
            model=options.model,
            prompt_version=prompt.version,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            seed=options.seed,
        )


def _review(row: Mapping[str, Any]) -> dict[str, Any]:
    rating = row["rating"]
    return {"text": row["text"]} if rating is None else {"rating": rating, "text": row["text"]}


@dataclass
class Taught:
    """What a teacher made of a dataset.

    Args:
        texts: by kind: texts by the key of their row.
        failed: rows without a usable answer, by kind.
        left_out: rows beyond the limit; later kinds were not asked where it is not 0.
        sources: for each text its kind, key, prompt version and request hash.
        masked: personal data masked in answers, by kind of data.
        asked: questions put to the teacher in this run.
    """

    texts: dict[str, dict[tuple[str, ...], str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    failed: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    sources: list[tuple[str, tuple[str, ...], str, str]] = field(default_factory=list)
    masked: Counter[str] = field(default_factory=Counter)
    asked: int = 0

    def by_id(self, kind: str) -> dict[str, str]:
        """Profiles of one kind by id."""
        return {key[0]: text for key, text in self.texts[kind].items()}


def teach(
    course: Course,
    judge: Judge,
    teacher: Teacher,
    journal: Journal,
    options: AskOptions,
    progress: bool = True,
    kinds: Sequence[str] = KINDS,
    before: Taught | None = None,
) -> Taught:
    """Ask for all that is not in the journal, kind by kind.

    A pair whose profile failed is explained without it; the next run asks for the profile, and for what rests on it, again.

    Args:
        course: makes the questions.
        judge: says what is kept.
        teacher: who is asked.
        journal: what was answered before.
        options: how it is asked.
        progress: show a progress bar on standard error.
        kinds: what is asked for, in this order.
        before: what was made of other kinds, to go on from.

    Raises:
        DataError: the teacher stays down or has no answer for anybody; what was recorded stays.
    """
    taught = before or Taught()

    def collect(request: Request, text: str) -> None:
        taught.texts[request.kind][request.key] = text
        taught.sources.append((request.kind, request.key, request.prompt_version, request.hash))

    for kind in kinds:
        questions = _questions(course, kind, taught)
        left = None if options.limit is None else options.limit - taught.asked
        asked = ask(questions, teacher, journal, judge.accept, judge.repair, replace(options, limit=left), progress, collect)
        failed = {request.hash for request, _ in asked.failures}
        taught.asked += asked.counts.answered + len(failed)
        taught.failed[kind] = asked.counts.failed
        taught.left_out += asked.counts.left_out
        for request, reason in asked.failures[:SAMPLES]:
            logger.warning("no %s of %s: %s", kind.replace("_", " "), ", ".join(request.key), reason)
        if taught.left_out:
            break
    taught.masked = Counter()
    for one in {digest for *_, digest in taught.sources}:
        taught.masked.update(judge.masked.get(one, {}))
    return taught


def _questions(course: Course, kind: str, taught: Taught) -> Questions:
    if kind == "item_profile":
        return course.item_profiles()
    if kind == "user_profile":
        return course.user_profiles()
    return course.explanations(taught.by_id("item_profile"), taught.by_id("user_profile"))


def tables(course: Course, taught: Taught, user_ids: Sequence[str], raw_items: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """The texts as tables of users, items and explanations; pairs without an explanation are left out.

    Args:
        course: what was asked.
        taught: what came of it.
        user_ids: all users.
        raw_items: all items with their titles as they are published.
    """
    users, items = taught.by_id("user_profile"), taught.by_id("item_profile")
    user_table = pl.DataFrame([{"user_id": user, "user_profile": users.get(user, "")} for user in user_ids], schema=USERS)
    item_rows = [
        {"item_id": item, "title": title, "item_profile": items.get(item, "")}
        for item, title in raw_items.select("item_id", "title").iter_rows()
    ]
    explanations = taught.texts["explanation"]
    pairs = course.material.reviews.select("user_id", "item_id", "split")
    texts = [explanations.get((user, item), "") for user, item, _ in pairs.iter_rows()]
    explained = pairs.with_columns(explanation=pl.Series(texts, dtype=pl.String)).filter(pl.col("explanation") != "")
    return user_table, pl.DataFrame(item_rows, schema=ITEMS), explained


def provenance(course: Course, taught: Taught, journal: Journal) -> tuple[pl.DataFrame, dict[str, int]]:
    """Where each text comes from, one row a text in a fixed order, and the tokens of all answers that are used."""
    tokens: dict[str, tuple[int, int]] = {}
    for *_, digest in taught.sources:
        if digest not in tokens:
            answer = journal.get(digest)
            tokens[digest] = (answer.prompt_tokens, answer.completion_tokens) if answer else (0, 0)
    order = {kind: place for place, kind in enumerate(KINDS)}
    rows = [
        {
            "kind": kind,
            "user_id": None if kind == "item_profile" else key[0],
            "item_id": None if kind == "user_profile" else key[-1],
            "teacher": course.teacher,
            "model": course.options.model,
            "prompt_version": version,
            "temperature": float(course.options.temperature),
            "seed": course.options.seed,
            "prompt_tokens": tokens[digest][0],
            "completion_tokens": tokens[digest][1],
            "request": digest,
        }
        for kind, key, version, digest in sorted(taught.sources, key=lambda source: (order[source[0]], source[1]))
    ]
    totals = {"prompt": sum(one for one, _ in tokens.values()), "completion": sum(one for _, one in tokens.values())}
    return pl.DataFrame(rows, schema=PROVENANCE), totals
