"""What a run would ask, spend and cost, found out without asking."""

from collections.abc import Mapping
from dataclasses import dataclass

from .ask_options import AskOptions
from .journal import Experience, Journal
from .lesson import Lesson
from .teacher import KINDS, Rejected, Request
from .teaching import Questions

CHARACTERS_PER_TOKEN = 4
"""Of English, as long as no answer has told."""

TOKENS_PER_WORD, TOKENS_OF_JSON = 1.4, 12
"""Of an answer, as long as none has told."""


@dataclass
class KindPlan:
    """What a run would ask of one kind.

    Args:
        rows: texts that are to be made.
        recorded: of them in the journal already.
        requests: to be asked, rows that share one counted once.
        prompt_tokens: of those, estimated.
        completion_tokens: of their answers, estimated.
        left_out: questions beyond the limit.
    """

    rows: int = 0
    recorded: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class Plan:
    """What a run would ask, by kind, and its cost; None where no price is given."""

    kinds: Mapping[str, KindPlan]
    cost: float | None

    def summary(self) -> str:
        """A table for people."""
        names = ("rows", "recorded", "requests", "prompt_tokens", "completion_tokens", "left_out")
        widths = [max(len(name), 10) for name in names]
        titles = [f"{name.replace('_', ' '):>{width}}" for name, width in zip(names, widths, strict=True)]
        lines = [" ".join([f"{'':<16}", *titles])]
        total = KindPlan()
        for kind, one in self.kinds.items():
            lines.append(_line(kind.replace("_", " ") + "s", one, names, widths))
            for name in names:
                setattr(total, name, getattr(total, name) + getattr(one, name))
        lines.append(_line("in all", total, names, widths))
        price = "not known: give --price-in and --price-out" if self.cost is None else f"{self.cost:.2f}"
        return "\n".join([*lines, f"cost: {price}; tokens are estimated, repairs and retries not counted", ""])


def _line(title: str, plan: KindPlan, names: tuple[str, ...], widths: list[int]) -> str:
    figures = (f"{getattr(plan, name):>{width},}" for name, width in zip(names, widths, strict=True))
    return " ".join([f"{title:<16}", *figures])


def plan(lesson: Lesson, options: AskOptions) -> Plan:
    """Go through the questions as a run would, with the answers that are recorded and stand-ins for the others.

    Args:
        lesson: the dataset and what is to be asked.
        options: limit and prices.

    Raises:
        DataError: the journal cannot be read.
    """
    path = lesson.journal if lesson.journal.is_file() else lesson.folder.journal
    if not path.is_file():
        return _plan(lesson, options, None)
    with Journal(path) as journal:
        return _plan(lesson, options, journal)


def _plan(lesson: Lesson, options: AskOptions, journal: Journal | None) -> Plan:
    course = lesson.course
    profiles: dict[str, dict[str, str]] = {}
    kinds: dict[str, KindPlan] = {}
    left = options.limit
    for kind in KINDS:
        if kind == "explanation":
            questions = course.explanations(profiles["item_profile"], profiles["user_profile"])
        else:
            questions = course.item_profiles() if kind == "item_profile" else course.user_profiles()
        kinds[kind], profiles[kind] = _plan_kind(kind, questions, lesson, journal, left)
        left = None if left is None else left - kinds[kind].requests
    prompt, completion = (sum(getattr(one, f"{side}_tokens") for one in kinds.values()) for side in ("prompt", "completion"))
    return Plan(kinds, options.cost(prompt, completion))


def _plan_kind(
    kind: str, questions: Questions, lesson: Lesson, journal: Journal | None, limit: int | None
) -> tuple[KindPlan, dict[str, str]]:
    words = lesson.course.options.words[kind]
    known = journal.experience(kind, lesson.course.options.model) if journal else Experience(0, 0, 0, 0)
    per_character = known.prompt_tokens / known.prompt_characters if known.answers else 1 / CHARACTERS_PER_TOKEN
    per_answer = known.completion_tokens / known.answers if known.answers else words * TOKENS_PER_WORD + TOKENS_OF_JSON
    stand_in = " ".join(["words"] * words)
    made, texts, seen, characters = KindPlan(len(questions)), {}, set(), 0
    for request in questions:
        text = _recorded(request, lesson, journal)
        texts[request.key[0]] = stand_in if text is None else text
        if text is not None:
            made.recorded += 1
        elif request.hash not in seen:
            seen.add(request.hash)
            if limit is not None and made.requests >= limit:
                made.left_out += 1
                continue
            made.requests += 1
            characters += sum(len(content) for _, content in request.messages)
    made.prompt_tokens, made.completion_tokens = round(characters * per_character), round(made.requests * per_answer)
    return made, texts


def _recorded(request: Request, lesson: Lesson, journal: Journal | None) -> str | None:
    """The text that is kept of a recorded answer; None where there is none."""
    answer = journal.get(request.hash) if journal else None
    try:
        return None if answer is None else lesson.judge.accept(request, answer)
    except Rejected:
        return None
