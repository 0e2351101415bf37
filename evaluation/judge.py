"""Texts before a judge: which questions are asked about which rows, and one table with a row for every answer.

Questions are put by `xrec_dataset_builder.asking.ask`, so that they are asked many at once, patiently, and once only: a run
that is killed goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from xrec_dataset_builder.ask_options import AskOptions, Counts
from xrec_dataset_builder.asking import ask
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.journal import Journal
from xrec_dataset_builder.teacher import Request, Teacher
from xrec_dataset_builder.teaching import Questions

from .judge_answers import BY_EQUALITY, BY_RULE, MOST_TOKENS, Judged, accept, repair
from .judge_calibration import calibration_texts
from .judge_prompts import CRITERIA, FIELDS, PREFERENCE, SCORED, gives_orders, question
from .predictions import KEYS, REQUIRED, clean_predictions

MODEL = "model"
"""The name of the system whose texts are in the column prediction."""
SYSTEM, CALIBRATION, PAIR = "system", "calibration", "pair"
"""What an answer is about: a system's text, a text whose rank is known, or two systems' texts."""
CALIBRATED = ("faithfulness", "specificity")
"""Criteria that the calibration texts must be told apart by; a shuffled text is as fluent as any."""
LEAST_TOKENS = 8

COLUMNS = {
    "judge": pl.String, "kind": pl.String, "row": pl.Int64, "user_id": pl.String, "item_id": pl.String,
    "system": pl.String, "other": pl.String, "criterion": pl.String, "score": pl.Float64, "digit": pl.Int64,
    "mass": pl.Float64, "scored_by": pl.String, "teacher": pl.String, "model": pl.String, "revision": pl.String,
    "answered_by": pl.String, "fingerprint": pl.String, "prompt_version": pl.String, "temperature": pl.Float64,
    "seed": pl.Int64, "prompt_tokens": pl.Int64, "completion_tokens": pl.Int64, "request": pl.String,
}  # fmt: skip
"""The columns of `judgements.parquet`."""


@dataclass(frozen=True)
class JudgeOptions:
    """What a judge is asked.

    Args:
        kind: `openai` or `transformers`.
        model: The name of its model.
        revision: The model's, where it is known.
        name: What the judge is called in tables; made of the others where None.
        criteria: Names in `judge_prompts.CRITERIA`.
        rows: Most rows judged, drawn by the seed; None for all. The rows of a smaller number are among those of a larger.
        calibration_rows: Most of these whose calibration texts are judged too.
        max_tokens: Most tokens of an answer.
        seed: Of the draws, and sent with every question.

    Raises:
        DataError: An option is out of its range, or the model has no name.
    """

    kind: str
    model: str
    revision: str | None = None
    name: str | None = None
    criteria: tuple[str, ...] = tuple(CRITERIA)
    rows: int | None = 200
    calibration_rows: int = 100
    max_tokens: int = MOST_TOKENS
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.model:
            raise DataError("expected the name of the judge's model, found none; give --model")
        unknown = [name for name in self.criteria if name not in CRITERIA]
        if unknown or not self.criteria:
            found = repr(unknown[0]) if unknown else "none"
            raise DataError(f"expected criteria among {', '.join(CRITERIA)}, found {found}; choose some")
        least = {"rows": 1, "calibration_rows": 0, "max_tokens": LEAST_TOKENS}
        for name, bound in least.items():
            if (value := getattr(self, name)) is not None and value < bound:
                raise DataError(f"expected {name} of at least {bound}, found {value}; choose another")

    @property
    def called(self) -> str:
        """The judge's name in tables."""
        return self.name or f"{self.kind}:{self.model}" + (f"@{self.revision}" if self.revision else "")

    @property
    def teacher(self) -> str:
        """What its answers are filed under, so that another revision is asked anew."""
        return f"judge:{self.kind}" + (f"@{self.revision}" if self.revision else "")


class Spec(NamedTuple):
    """One question about one row: `other` is the second text of a pair, else ""."""

    kind: str
    row: int
    system: str
    other: str
    criterion: str


@dataclass
class Hearing:
    """What a judge said about the rows.

    Attributes:
        table: One row an answer, with the columns of `COLUMNS`; failures are not in it.
        counts: Of questions, tries and tokens.
        failures: Why questions got no usable answer, a sample of at most three.
        withheld: Rows left out because their reference gives orders to its reader.
    """

    table: pl.DataFrame
    counts: Counts
    failures: list[str] = field(default_factory=list)
    withheld: int = 0


class Docket:
    """Everything that is to be judged.

    Args:
        rows: prediction, reference and, if known, user_id, item_id, title, user_profile, item_profile; and a column of texts
            for every further system.
        options: What is asked.
        systems: Columns of further systems; None for all that are no known column.

    Attributes:
        systems: Names of the systems, the model first.
        specs: The questions, in a fixed order.
        ruled: Questions that are not asked because a text in them gives orders, or both texts are the same.
        withheld: Rows left out because their reference does.

    Raises:
        DataError: There is no row, or a column is missing.
    """

    def __init__(self, rows: pl.DataFrame, options: JudgeOptions, systems: Sequence[str] | None = None) -> None:
        self.options = options
        known = clean_predictions(rows)
        if known.is_empty():
            raise DataError("expected at least one row to judge, found none: check the report")
        others = further_systems(rows) if systems is None else [name for name in systems if name != MODEL]
        if missing := [name for name in others if name not in rows.columns]:
            found = ", ".join(further_systems(rows)) or "no other than the model's"
            raise DataError(f"expected the texts of {missing[0]!r}, found {found}; choose among them")
        self.systems = [MODEL, *others]
        self.ids = {name: known[name].to_list() if name in known.columns else [None] * len(known) for name in KEYS}
        about = rows.select(pl.col(name).cast(pl.String).fill_null("") for name in FIELDS if name in rows.columns)
        self.about: dict[str, list[str]] = {"reference": known["reference"].to_list(), **about.to_dict(as_series=False)}
        texts = {MODEL: known["prediction"].to_list()}
        texts |= {name: rows[name].cast(pl.String).fill_null("").to_list() for name in others}
        self.texts: dict[str, dict[str, list[str]]] = {
            SYSTEM: texts,
            CALIBRATION: calibration_texts(known, rows, options.seed),
        }
        drawn = np.random.default_rng(options.seed).permutation(len(known))[: options.rows]
        self._known: dict[str, bool] = {}
        self.rows = [int(row) for row in drawn if not self._orders(self.about["reference"][row])]
        self.withheld = len(drawn) - len(self.rows)
        if not self.rows:
            raise DataError("expected references to judge by, found only such as give orders to their reader: look at them")
        asked = self._specs()
        self.ruled = {spec for spec in asked if self._ruled(spec)}
        self.specs = [spec for spec in asked if spec not in self.ruled]

    def _specs(self) -> list[Spec]:
        """All questions, those that a text by rule settles included."""
        scored = [name for name in SCORED if name in self.options.criteria]
        calibrated = [name for name in CALIBRATED if name in scored]
        made = [Spec(SYSTEM, row, system, "", one) for one in scored for row in self.rows for system in self.systems]
        few = self.rows[: self.options.calibration_rows]
        kinds = self.texts[CALIBRATION]
        made += [Spec(CALIBRATION, row, kind, "", one) for one in calibrated for row in few for kind in kinds]
        if PREFERENCE in self.options.criteria:
            for row in self.rows:
                for other in self.systems[1:]:
                    made += [Spec(PAIR, row, MODEL, other, PREFERENCE), Spec(PAIR, row, other, MODEL, PREFERENCE)]
        return made

    def _ruled(self, spec: Spec) -> bool:
        return self._equal(spec) or any(self._orders(text) for text in self._texts(spec).values())

    def _equal(self, spec: Spec) -> bool:
        return spec.kind == PAIR and len({text.strip() for text in self._texts(spec).values()}) == 1

    def _orders(self, text: str) -> bool:
        if text not in self._known:
            self._known[text] = gives_orders(text)
        return self._known[text]

    def _texts(self, spec: Spec) -> dict[str, str]:
        of = self.texts[CALIBRATION if spec.kind == CALIBRATION else SYSTEM]
        if spec.kind == PAIR:
            return {"1": of[spec.system][spec.row], "2": of[spec.other][spec.row]}
        return {"text": of[spec.system][spec.row]}

    def requests(self) -> Questions:
        """The questions as requests, each made when it is looked at; their key is their place in `specs`."""
        return Questions(range(len(self.specs)), lambda place: self._request(place, self.specs[place]))

    def _request(self, place: int, spec: Spec) -> Request:
        criterion, options = CRITERIA[spec.criterion], self.options
        about = {name: values[spec.row] for name, values in self.about.items()}
        # A reference that gives orders takes its row out; of a profile that does, the rest of the material is shown.
        about = {name: text for name, text in about.items() if name == "reference" or not self._orders(text)}
        return Request(
            kind=criterion.kind,
            key=(str(place),),
            messages=question(criterion, self._texts(spec), about),
            schema="",
            teacher=options.teacher,
            model=options.model,
            prompt_version=criterion.prompt.version,
            temperature=0.0,
            max_tokens=options.max_tokens,
            seed=options.seed,
        )

    def table(self, said: Mapping[int, tuple[Request, Judged]], journal: Journal) -> pl.DataFrame:
        """One row an answer, those by rule included."""
        rows = []
        for place, (request, judged) in sorted(said.items()):
            answer = journal.get(request.hash)
            tokens = (answer.prompt_tokens, answer.completion_tokens) if answer else (0, 0)
            rows.append(self._row(self.specs[place], judged, tokens, request.hash, request.prompt_version))
        for spec in sorted(self.ruled):
            rows.append(self._row(spec, self._by_rule(spec), (0, 0), None, CRITERIA[spec.criterion].prompt.version))
        return pl.DataFrame(rows, schema=COLUMNS)

    def _by_rule(self, spec: Spec) -> Judged:
        """The verdict without a question: a text that gives orders has the lowest grade and loses; equal texts are a tie."""
        if spec.kind != PAIR:
            lowest = int(CRITERIA[spec.criterion].choices[0])
            return Judged(float(lowest), lowest, None, BY_RULE, "", "")
        if self._equal(spec):
            return Judged(0.5, 1, None, BY_EQUALITY, "", "")
        first, second = (self._orders(text) for text in self._texts(spec).values())
        score = 0.5 if first and second else float(first)
        return Judged(score, 2 if score > 0.5 else 1, None, BY_RULE, "", "")

    def _row(self, spec: Spec, judged: Judged, tokens: tuple[int, int], request: str | None, version: str) -> dict[str, Any]:
        options = self.options
        return {
            "judge": options.called, "kind": spec.kind, "row": spec.row, **{key: self.ids[key][spec.row] for key in KEYS},
            "system": spec.system, "other": spec.other or None, "criterion": spec.criterion, "score": judged.score,
            "digit": judged.digit, "mass": judged.mass, "scored_by": judged.scored_by, "teacher": options.kind,
            "model": options.model, "revision": options.revision, "answered_by": judged.model,
            "fingerprint": judged.fingerprint, "prompt_version": version, "temperature": 0.0, "seed": options.seed,
            "prompt_tokens": tokens[0], "completion_tokens": tokens[1], "request": request,
        }  # fmt: skip


def further_systems(rows: pl.DataFrame) -> list[str]:
    """Columns that hold the texts of further systems: those of text with no name that is known."""
    known = {*KEYS, *REQUIRED, *FIELDS}
    return [name for name, kind in rows.schema.items() if name not in known and kind == pl.String]


def judge_rows(
    rows: pl.DataFrame,
    judge: Teacher,
    journal: Path,
    options: JudgeOptions,
    systems: Sequence[str] | None = None,
    asking: AskOptions | None = None,
    progress: bool = True,
) -> Hearing:
    """Put rows before a judge; what the journal holds is not asked again.

    Args:
        rows: As for `Docket`.
        judge: A judge of `judge_models.make_judge`.
        journal: The file of answers, made where there is none; several judges may share it, one at a time.
        options: What is asked.
        systems: Columns of further systems; None for all.
        asking: How it is asked; default options where None.
        progress: Show a progress bar on standard error.

    Returns:
        The answers; `judge_summary.summarise` says what they come to.

    Raises:
        DataError: A row or column is missing, or the judge stays down; what was answered is kept.
    """
    docket = Docket(rows, options, systems)
    said: dict[int, tuple[Request, Judged]] = {}

    def collect(request: Request, judged: Judged) -> None:
        said[int(request.key[0])] = (request, judged)

    with Journal(journal) as answers:
        asked = ask(docket.requests(), judge, answers, accept, repair, asking, progress, collect)
        table = docket.table(said, answers)
    failures = [reason for _, reason in asked.failures[:3]]
    return Hearing(table, asked.counts, failures, docket.withheld)
