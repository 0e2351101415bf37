"""The commands `xrec explain` and `xrec evaluate`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xrec_dataset_builder.arguments import Parser

PERMUTED = "permuted embeddings"
PREDICTIONS = "predictions.parquet"


def evaluate_command(argv: Sequence[str]) -> None:
    """Evaluate a model, or a file of predictions, beside its floors.

    Args:
        argv: Arguments after `xrec evaluate`.

    Raises:
        DataError: If the input cannot be used; the message is one line.
        SystemExit: If the arguments do not fit together, or for `--help`.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if (options.model is None) == (options.predictions is None):
        parser.error("give either MODEL with --data, or --predictions FILE")
    if options.model is not None and options.data is None:
        parser.error("MODEL needs --data, the dataset folder whose test split it explains")
    if options.model is None and options.limit is not None:
        parser.error("--limit goes with MODEL; a file of predictions is scored whole")
    if options.model is None:
        result = _evaluate_file(options.predictions, options.out, options.data)
    else:
        compared = _named_models(options.compare, parser)
        how = {"limit": options.limit, "batch_size": options.batch_size}
        result = _evaluate_model(options.model, options.data, options.out, compared, how)
    sys.stdout.write(f"{table_text(result)}\nReport: {options.out / 'report.html'}\n")


def table_text(result: Mapping[str, Any]) -> str:
    """Lay out the main figures for a terminal.

    Args:
        result: What `evaluate_predictions` returns.

    Returns:
        The verdict and a table with one line a system, ending in a line break.
    """
    from .metrics import METRICS
    from .report import name_of, verdict

    keys = [key for key in ("aspect_f1", "rouge_l", "bleu_4", "usr") if key in result["systems"]["model"]["metrics"]]
    head = METRICS[result["headline"]]
    header = ["system", head.label, "interval", *(METRICS[key].label for key in keys if key != result["headline"])]
    lines = [header]
    for name, system in result["systems"].items():
        figure = system["metrics"][result["headline"]]
        span = "" if figure["low"] is None else f"{head.shown(figure['low'])} to {head.shown(figure['high'])}"
        others = [METRICS[k].shown(system["metrics"][k]["value"]) for k in keys if k != result["headline"]]
        lines.append([name_of(name), head.shown(figure["value"]), span, *others])
    for name, bounds in result["ceilings"].items():
        if result["headline"] in bounds:
            lines.append([name_of(name), head.shown(bounds[result["headline"]]), *[""] * (len(header) - 2)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = "".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip() + "\n"
        for line in lines
    )
    return "\n".join([*verdict(result), "", text])


def _evaluate_file(predictions: Path, out: Path, data: Path | None) -> dict[str, Any]:
    from .evaluate import evaluate_predictions
    from .files import write_parquet
    from .predictions import read_predictions

    rows = read_predictions(predictions)
    write_parquet(out / PREDICTIONS, rows)
    return evaluate_predictions(rows, out, data)


def _named_models(compare: Sequence[str], parser: Parser) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in compare]
    for name, separator, model in pairs:
        if not (name and separator and model):
            parser.error(f"--compare expects NAME=MODEL, found {name + separator + model!r}")
    return {name: model for name, _, model in pairs}


def _evaluate_model(model: Path, data: Path, out: Path, compared: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, Any]:
    from .evaluate import evaluate_predictions
    from .explain import explain_split
    from .files import check_folder, write_parquet

    check_folder(out)  # before hours of generation
    rows = explain_split(model, data, **how)
    systems = {PERMUTED: explain_split(model, data, **how, signal="permuted")["prediction"]}
    systems |= {name: explain_split(other, data, **how)["prediction"] for name, other in compared.items()}
    write_parquet(out / PREDICTIONS, rows.with_columns(**systems))
    return evaluate_predictions(rows, out, data, {name: texts.to_list() for name, texts in systems.items()})


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {value}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="xrec evaluate",
        description="Score explanations beside their floors, with intervals; writes metrics.json and report.html.",
    )
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="MODEL", help="model folder; it explains the test split of DATA"
    )
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="Parquet, CSV or JSONL with prediction and reference")
    parser.add_argument("--data", type=Path, metavar="DATA", help="dataset folder (adds profiles, training texts and truth)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the report")
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="NAME=MODEL",
        help="further models to explain and score the same rows",
    )
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help="explain N test rows only, drawn by a fixed seed (MODEL only)"
    )
    parser.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="rows explained at once (default: 32)")
    return parser


def explain_command(argv: Sequence[str]) -> None:
    """Runs `xrec explain`.

    Raises:
        DataError: arguments, model or file of pairs cannot be used.
        ValueError: an unknown user or item.
    """
    parser = Parser("xrec explain", description="Explain one pair, a file of pairs, or an item for an unseen user.")
    parser.add_argument("model", metavar="MODEL", help="model folder or Hub id")
    parser.add_argument("--user", metavar="U", help="id of a user the model knows")
    parser.add_argument("--item", metavar="I", help="id of an item")
    parser.add_argument("--history", metavar="I1,I2,...", help="items an unseen user liked, in place of --user")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="Parquet, CSV or JSONL with user_id and item_id")
    parser.add_argument("--out", type=Path, metavar="FILE", help="Parquet file to write; with --pairs")
    parser.add_argument("--batch-size", type=int, default=32, help="pairs generated at a time (default: 32)")
    given = parser.parse_args(argv)
    one = given.item is not None and (given.user is None) != (given.history is None) and given.pairs is None
    many = given.pairs is not None and given.out is not None and given.item is None
    if one == many:
        parser.error("expected --user U --item I, --history I1,I2 --item I, or --pairs FILE --out FILE")
    from .explain import Explainer, explain_file

    if many:
        count = explain_file(given.model, given.pairs, given.out, given.batch_size)
        sys.stdout.write(f"{count} explanations: {given.out}\n")
        return
    explainer = Explainer(given.model)
    if given.history is None:
        sys.stdout.write(explainer.pairs([given.user], [given.item])[0] + "\n")
    else:
        history = [item for item in given.history.split(",") if item]
        sys.stdout.write(explainer.histories([history], [given.item])[0] + "\n")
