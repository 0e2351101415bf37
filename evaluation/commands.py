"""The commands `xrec explain` and `xrec evaluate`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xrec_dataset_builder.arguments import Parser
from xrec_dataset_builder.errors import DataError

from .processes import Processes

MODEL = "model"
PERMUTED = "permuted embeddings"
PREDICTIONS = "predictions.parquet"
_EXPLAIN = (
    "Explain one pair, a file of pairs, or an item for an unseen user. "
    "Started by torchrun or accelerate launch, the processes share the file's rows."
)


def evaluate_command(argv: Sequence[str]) -> None:
    """Evaluate a model, or a file of predictions, beside its floors.

    Started as several processes, all explain and the main one scores; see `processes`.

    Args:
        argv: Arguments after `xrec evaluate`.

    Raises:
        DataError: If the input cannot be used; the message is one line.
        SystemExit: If the arguments do not fit together, or for `--help`.
    """
    with Processes() as processes:
        options = _options(argv)
        explained = None if options.model is None else _explain(options, processes)
    if not processes.is_main:
        return
    result = _evaluate_file(options) if explained is None else _evaluate_explained(options, explained)
    sys.stdout.write(f"{table_text(result)}\nReport: {options.out / 'report.html'}\n")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    if (options.model is None) == (options.predictions is None):
        parser.error("give either MODEL with --data, or --predictions FILE")
    if options.model is not None and options.data is None:
        parser.error("MODEL needs --data, the dataset folder whose test split it explains")
    if options.model is None and options.limit is not None:
        parser.error("--limit goes with MODEL; a file of predictions is scored whole")
    if options.nli is not None and (options.encoder is None or options.data is None):
        parser.error("--nli goes with --encoder and --data, which claims are looked for with and in")
    options.compare = _named_models(options.compare, parser)
    return options


def table_text(result: Mapping[str, Any]) -> str:
    """Lay out the main figures for a terminal.

    Args:
        result: What `evaluate_predictions` returns.

    Returns:
        The verdict and a table with one line a system, ending in a line break.
    """
    from .metrics import METRICS
    from .report import name_of, verdict

    keys = [
        key
        for key in ("aspect_f1", "bert_f1", "rouge_1", "rouge_l", "bleu_4", "usr")
        if key in result["systems"]["model"]["metrics"]
    ]
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


def _evaluate_file(options: argparse.Namespace) -> dict[str, Any]:
    from .evaluate import evaluate_predictions
    from .files import write_parquet
    from .metric_options import load_models, read_metric_options
    from .predictions import read_predictions

    rows = read_predictions(options.predictions)
    models = load_models(read_metric_options(options))
    grounder = _grounder(options, models)
    write_parquet(options.out / PREDICTIONS, rows)
    return evaluate_predictions(rows, options.out, options.data, models=models, grounder=grounder)


def _grounder(options: argparse.Namespace, models: Any) -> Any:
    """What claims are looked for with; None without an encoder or data."""
    if models.embedding is None or options.data is None:
        return None
    from .grounded_examples import Grounder
    from .nli import Entailment

    nli = None if options.nli is None else Entailment(options.nli, device=options.metric_device)
    return Grounder(models.embedding.encoder, nli, options.false_support)


def _named_models(compare: Sequence[str], parser: Parser) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in compare]
    for name, separator, model in pairs:
        if not (name and separator and model):
            parser.error(f"--compare expects NAME=MODEL, found {name + separator + model!r}")
    return {name: model for name, _, model in pairs}


def _explain(options: argparse.Namespace, processes: Processes) -> dict[str, list[Any]]:
    """By system, the model first, its rows as `explain_split` gives them; one table a seed."""
    from .explain import explain_split, hears_graph, seed_folders
    from .files import check_folder
    from .metric_options import read_metric_options

    check_folder(options.out)  # before hours of generation
    read_metric_options(options)
    how = {"limit": options.limit, "batch_size": options.batch_size, "processes": processes, "likelihood": True}
    found = {MODEL: [explain_split(one, options.data, **how) for one in seed_folders(options.model)]}
    if hears_graph(seed_folders(options.model)[0]):
        permuted = [explain_split(one, options.data, **how, signal="permuted") for one in seed_folders(options.model)]
        found[PERMUTED] = permuted
    for name, other in options.compare.items():
        found[name] = [explain_split(one, options.data, **how) for one in seed_folders(other)]
    return found


def _evaluate_explained(options: argparse.Namespace, explained: Mapping[str, list[Any]]) -> dict[str, Any]:
    from .evaluate import Likelihood, evaluate_predictions
    from .files import write_parquet
    from .metric_options import load_models, read_metric_options

    models = load_models(read_metric_options(options))
    first, *further = explained[MODEL]
    others = {name: runs for name, runs in explained.items() if name != MODEL}
    columns = {name: runs[0]["prediction"] for name, runs in others.items()}
    write_parquet(
        options.out / PREDICTIONS, first.select("user_id", "item_id", "reference", "prediction").with_columns(**columns)
    )
    for number in range(1, max(map(len, explained.values()))):
        texts = {name: runs[number]["prediction"] for name, runs in explained.items() if number < len(runs)}
        table = first.select("user_id", "item_id", "reference").with_columns(prediction=texts.pop(MODEL, None), **texts)
        write_parquet(options.out / f"predictions-{number + 1}.parquet", table)
    return evaluate_predictions(
        first.select("user_id", "item_id", "reference", "prediction"),
        options.out,
        options.data,
        {name: [run["prediction"].to_list() for run in runs] for name, runs in others.items()},
        seeds=[run["prediction"].to_list() for run in further],
        models=models,
        grounder=_grounder(options, models),
        likelihoods={
            name: [Likelihood(run["nats"].to_numpy(), run["tokens"].to_numpy()) for run in runs]
            for name, runs in explained.items()
            if not any(run["nats"].has_nulls() for run in runs)
        },
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {value}")
    return value


def _parser() -> argparse.ArgumentParser:
    from .metric_options import add_metric_flags

    parser = Parser(
        prog="xrec evaluate",
        description="Score explanations beside their floors, with intervals; writes metrics.json and report.html. "
        "Started by torchrun or accelerate launch, the processes share the rows.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        type=Path,
        metavar="MODEL",
        help="model folder, or a folder of seeds (xrec train --seeds); it explains the test split of DATA",
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
    add_metric_flags(parser)
    grounding = parser.add_argument_group("grounding of claims (with --encoder and --data)")
    grounding.add_argument(
        "--nli", metavar="MODEL", help="classifier of entailment and contradiction; without it, cosines alone"
    )
    grounding.add_argument(
        "--false-support", type=float, default=0.05, metavar="S", help="share of foreign claims that may pass (default: 0.05)"
    )
    return parser


def explain_command(argv: Sequence[str]) -> None:
    """Runs `xrec explain`; of several processes all explain a file of pairs, and the main one does the rest.

    Raises:
        DataError: arguments, model or file of pairs cannot be used.
        ValueError: an unknown user or item.
    """
    with Processes() as processes:
        given = _explain_options(argv)
        if given.pairs is not None:
            from .explain import explain_file

            count = explain_file(given.model, given.pairs, given.out, given.batch_size, processes)
    if processes.is_main:
        sys.stdout.write(f"{_explain_one(given)}\n" if given.pairs is None else f"{count} explanations: {given.out}\n")


def _explain_options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("xrec explain", description=_EXPLAIN)
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
    return given


def _explain_one(given: argparse.Namespace) -> str:
    from .explain import Explainer, load_explainer

    explainer = load_explainer(given.model)
    if given.history is None:
        return explainer.pairs([given.user], [given.item])[0]
    if not isinstance(explainer, Explainer):
        raise DataError(
            f"{given.model}: expected --user, found --history, which only an XRec model can read; give a known user"
        )
    history = [item for item in given.history.split(",") if item]
    return explainer.histories([history], [given.item])[0]
