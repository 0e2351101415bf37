"""The command `xrec judge`: puts what `xrec evaluate` left before a judge, and adds its figures to those of earlier ones."""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrec_dataset_builder.arguments import Parser
from xrec_dataset_builder.errors import DataError

if TYPE_CHECKING:
    import polars as pl

    from xrec_dataset_builder.ask_options import AskOptions

    from .judge import Docket, Hearing, JudgeOptions

PREDICTIONS, FIGURES, JUDGEMENTS, JOURNAL = "predictions.parquet", "judges.json", "judgements.parquet", "judge_journal.sqlite"
"""What is read, and what is written, in the folder of a report."""
_OWN = {"criteria", "calibration_rows", "max_tokens", "seed", "revision", "name", "rows"}
_EPILOG = "The judge's key, where it needs one, is read from the environment variable OPENAI_API_KEY."


def judge_command(argv: Sequence[str]) -> None:
    """Run `xrec judge`.

    Args:
        argv: Arguments after `xrec judge`.

    Raises:
        DataError: Arguments, report or judge cannot be used, or the judge stays down; what was answered is kept.
        SystemExit: For `--help`.
    """
    given = vars(_parser().parse_args(argv))
    report, kind = given.pop("report"), given.pop("judge")
    from xrec_dataset_builder.teacher_flags import asking_options

    from .judge import JudgeOptions
    from .judge_models import JUDGES, make_judge

    if kind not in JUDGES:
        raise DataError(f"expected a judge among {', '.join(JUDGES)}, found {kind!r}; choose one")
    if kind != "openai" and (alien := {"base_url", "top_logprobs"} & given.keys()):
        raise DataError(f"expected flags that the judge {kind} heeds, found --{min(alien).replace('_', '-')}; leave it out")
    own: dict[str, Any] = {
        name: tuple(value) if name == "criteria" else value for name, value in given.items() if name in _OWN
    }
    options, asking = JudgeOptions(kind, given["model"], **own), asking_options(kind, given)
    rows = read_report(report, given.get("data"))
    systems = given.get("systems")
    if given.get("dry_run"):
        from .judge import Docket

        sys.stdout.write(plan_text(Docket(rows, options, systems), report / JOURNAL, asking))
        return
    made = {name: given[name] for name in ("base_url", "revision", "top_logprobs") if name in given}
    judge = make_judge(kind, options.model, concurrency=asking.concurrency, **made)
    hold_hearing(report, rows, judge, options, systems, asking)


def hold_hearing(
    report: Path,
    rows: "pl.DataFrame",
    judge: Any,
    options: "JudgeOptions",
    systems: Sequence[str] | None,
    asking: "AskOptions",
) -> None:
    """Judge rows, write `judges.json` and `judgements.parquet`, and print the figures.

    Args:
        report: The folder.
        rows: What `read_report` read.
        judge: Who is asked.
        options: What.
        systems: Further systems; None for all.
        asking: How.

    Raises:
        DataError: There is nothing to judge, no answer came, or the judge stays down.
    """
    from .judge import judge_rows
    from .judge_text import table_text
    from .report import write_report

    revision = getattr(judge, "revision", None)
    if revision is not None and options.revision is None:
        from dataclasses import replace

        options = replace(options, revision=revision, name=options.called)
    hearing = judge_rows(rows, judge, report / JOURNAL, options, systems, asking)
    if hearing.table.is_empty():
        raise DataError(f"expected answers of the judge, found none that can be used: {'; '.join(hearing.failures)}")
    document = record(report, rows, hearing, options, asking)
    counts = hearing.counts
    spent = f"{counts.answered} answers asked, {counts.from_journal} known before, {counts.failed} without a usable answer; "
    spent += f"{counts.prompt_tokens} and {counts.completion_tokens} tokens"
    spent += "" if counts.cost is None else f", cost {counts.cost:.4f}"
    failed = "".join(f"no usable answer: {reason}\n" for reason in hearing.failures)
    text = table_text(document, options.called)
    write_report(report)
    sys.stdout.write(f"{text}\n{spent}\n{failed}Figures: {report / FIGURES}\nReport: {report / 'report.html'}\n")


def read_report(report: Path, data: Path | None = None) -> "pl.DataFrame":
    """Read the predictions of a report, with the texts of compared systems.

    Args:
        report: The folder that `xrec evaluate` left.
        data: The dataset folder, to add titles and profiles of its test split.

    Raises:
        DataError: There are no predictions, they cannot be read, or a pair is not in the data.
    """
    import polars as pl

    path = report / PREDICTIONS
    if not path.is_file():
        raise DataError(f"{path}: expected the predictions of a report, found none; run `xrec evaluate --out {report}`")
    try:
        rows = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: expected a Parquet file, found {str(error).splitlines()[0]}; evaluate again") from error
    if data is None:
        return rows
    from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table

    if not {"user_id", "item_id"} <= set(rows.columns):
        raise DataError(f"{path}: expected user_id and item_id to find the rows in {data}, found none; judge without --data")
    test = read_table(DatasetFolder(data).explanations("test"), EXPLANATIONS).unique(("user_id", "item_id"), keep="first")
    known = test.select("user_id", "item_id", "title", "user_profile", "item_profile", found=pl.lit(True))
    rows = rows.drop("title", "user_profile", "item_profile", strict=False).with_columns(
        pl.col("user_id", "item_id").cast(pl.String)
    )
    joined = rows.join(known, on=("user_id", "item_id"), how="left", maintain_order="left")
    if missing := joined["found"].null_count():
        raise DataError(
            f"expected every pair in the test split of {data}, found {missing} missing; give the data it was made on"
        )
    return joined.drop("found")


def record(
    report: Path, rows: "pl.DataFrame", hearing: "Hearing", options: "JudgeOptions", asking: "AskOptions"
) -> dict[str, Any]:
    """Add a judge to the files of a report, in place of an earlier one of its name.

    Returns:
        What `judges.json` then holds.

    Raises:
        DataError: The files there are not ours, or cannot be written.
    """
    import polars as pl

    from .files import write_parquet, write_text
    from .judge import COLUMNS
    from .judge_summary import LEVEL, RESAMPLES, SEED, agree, summarise

    name, table = options.called, hearing.table
    about = {"judge": options.kind, "model": options.model, "revision": options.revision, "temperature": 0.0}
    counts = hearing.counts
    systems = table.filter(pl.col("kind") == "system")["system"].unique(maintain_order=True).to_list() or ["model"]
    entry = about | {"seed": options.seed, **summarise(table), "failed": counts.failed, "withheld_rows": hearing.withheld}
    entry |= {"cost": asking.cost(entry["tokens"]["prompt"], entry["tokens"]["completion"]), "texts": _digests(rows, systems)}
    try:
        earlier = json.loads((report / FIGURES).read_text(encoding="utf-8"))["judges"] if (report / FIGURES).is_file() else {}
        before = pl.read_parquet(report / JUDGEMENTS).select(*COLUMNS) if (report / JUDGEMENTS).is_file() else table.clear()
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{report}: expected our {FIGURES} and {JUDGEMENTS}, found others; move them away") from error
    judges = {one: found for one, found in earlier.items() if one != name} | {name: entry}
    known = before.filter(pl.col("judge").is_in([one for one in judges if one != name]))
    together = pl.concat([known, table])
    agreed = agree(together, {one: found["texts"] for one, found in judges.items()})
    settings = {"seed": SEED, "resamples": RESAMPLES, "level": LEVEL}
    document = {"judges": judges, "agreement": agreed, "settings": settings}
    write_parquet(report / JUDGEMENTS, together)
    write_text(report / FIGURES, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return document


def plan_text(docket: "Docket", journal: Path, asking: "AskOptions") -> str:
    """What a run would ask: questions not in the journal, by criterion, about how many tokens, and their cost.

    Args:
        docket: What is to be judged.
        journal: The file of answers, if there is one.
        asking: The prices.

    Raises:
        DataError: The journal cannot be read.
    """
    from contextlib import nullcontext

    from xrec_dataset_builder.journal import Journal
    from xrec_dataset_builder.planning import CHARACTERS_PER_TOKEN

    kinds: dict[str, list[int]] = {}
    seen: set[str] = set()
    recorded = 0
    with Journal(journal) if journal.is_file() else nullcontext() as answers:
        for request in docket.requests():
            if request.hash in seen:
                continue
            seen.add(request.hash)
            if answers is not None and answers.get(request.hash) is not None:
                recorded += 1
                continue
            one = kinds.setdefault(request.kind.removeprefix("judge_"), [0, 0])
            one[0] += 1
            one[1] += sum(len(content) for _, content in request.messages) // CHARACTERS_PER_TOKEN
    asked, tokens = (sum(one[place] for one in kinds.values()) for place in (0, 1))
    lines = [f"{name}: {count:,} questions, about {size:,} tokens" for name, (count, size) in kinds.items()]
    lines.append(
        f"in all: {asked:,} questions, about {tokens:,} tokens and {2 * asked:,} of answers; {recorded:,} known before"
    )
    cost = asking.cost(tokens, 2 * asked)
    price = "not known: give --price-in and --price-out" if cost is None else f"about {cost:.2f}"
    return "\n".join([*lines, f"cost: {price}; repairs and retries not counted", ""])


def _digests(rows: "pl.DataFrame", systems: Sequence[str]) -> dict[str, str]:
    """What tells whether two judges judged the same texts: by system, and of the references."""
    import polars as pl

    columns: Mapping[str, str] = {
        "reference": "reference",
        **{one: "prediction" if one == "model" else one for one in systems},
    }
    texts = {name: json.dumps(rows[column].cast(pl.String).fill_null("").to_list()) for name, column in columns.items()}
    return {name: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] for name, text in texts.items()}


def _parser() -> Parser:
    from xrec_dataset_builder.teacher_flags import add_asking_flags

    parser = Parser(
        "xrec judge",
        description="Let a language model grade the explanations of a report, and say whether it can be believed. "
        "Run it once for each of several judges: their figures gather in judges.json.",
        epilog=_EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("report", type=Path, metavar="REPORT", help="the folder that `xrec evaluate` left")
    parser.add_argument("--judge", required=True, help="openai (any endpoint of that protocol) or transformers (this machine)")
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="its name at the endpoint, or on the Hub, or its folder"
    )
    parser.add_argument("--revision", metavar="R", help="of the model; an endpoint cannot be told, there it is recorded only")
    parser.add_argument("--base-url", metavar="URL", help="openai: the endpoint (default: OpenAI's)")
    parser.add_argument("--top-logprobs", type=int, metavar="N", help="openai: alternatives asked for (default: 20; 0: none)")
    parser.add_argument("--name", help="what the judge is called in tables (default: made of the others)")
    parser.add_argument("--data", type=Path, metavar="DATA", help="dataset folder: adds titles and profiles")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="compared systems to judge (default: all in the report)")
    parser.add_argument(
        "--criteria", nargs="+", metavar="C", help="faithfulness, specificity, fluency, preference (default: all)"
    )
    parser.add_argument("--rows", type=int, metavar="N", help="rows judged, drawn by the seed (default: 200)")
    parser.add_argument("--calibration-rows", type=int, metavar="N", help="of them with calibration texts (default: 100)")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="of an answer; more for judges that think (default: 8)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the draws, and sent with every question (default: 0)")
    add_asking_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="show questions, tokens and cost, and ask nothing")
    return parser
