"""The command lines of `xrec encode`, `xrec train`, `xrec convert` and `xrec demo`."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from xrec_dataset_builder.arguments import Parser


def encode_command(argv: Sequence[str]) -> None:
    """Runs `xrec encode`.

    Raises:
        DataError: arguments or the dataset folder cannot be used.
    """
    parser = Parser(
        "xrec encode",
        description="Train LightGCN on the training interactions of a dataset.",
        epilog="A killed run goes on with the same command and --resume; its state lies in GRAPH.partial.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder made by `xrec build`")
    parser.add_argument("--out", type=Path, required=True, metavar="GRAPH", help="the folder to make")
    parser.add_argument("--dim", type=int, help="width of an embedding (default: 64)")
    parser.add_argument("--layers", type=int, help="propagation steps (default: 2 for softmax, 3 for bpr)")
    parser.add_argument("--aggregation", metavar="A", help="mean, sum or w0,w1,w2 (default: the objective's own)")
    parser.add_argument("--objective", help="softmax or bpr (default: softmax)")
    parser.add_argument("--start", help="spectral or random (default: spectral)")
    parser.add_argument("--epochs", type=int, help="most epochs (default: the objective's own)")
    parser.add_argument("--patience", type=int, help="epochs without a better validation score (default: 3)")
    parser.add_argument("--batch-size", type=int, help="users (softmax) or edges (bpr) a step (default: 2,048 or 8,192)")
    parser.add_argument("--negatives", type=int, help="items sampled a step for softmax (default: all, 16,384 over 50,000)")
    parser.add_argument("--learning-rate", type=float, help="of Adam at the start (default: the objective's own)")
    parser.add_argument("--temperature", type=float, help="of the softmax (default: 0.17)")
    parser.add_argument("--popularity-exponent", type=float, help="favours popular items (default: 0.0)")
    parser.add_argument("--length-exponent", type=float, help="between cosine, 0, and inner product, 1 (default: 0.3)")
    parser.add_argument("--weight-decay", type=float, help="of bpr (default: 1e-4)")
    parser.add_argument("--seed", type=int, help="fixes every number (default: 0)")
    parser.add_argument("--compare", action="store_true", help="measure other recommenders too; needs `xrec[compare]`")
    parser.add_argument("--resume", action="store_true", help="go on from the last epoch of a killed run")
    parser.add_argument("--start-from", type=Path, metavar="GRAPH", help="start from an earlier graph's embeddings, by id")
    given = vars(parser.parse_args(argv))
    from .encode import EncodeOptions, encode

    places = {name: given.pop(name) for name in ("data", "out", "compare", "resume", "start_from") if name in given}
    metrics = encode(options=EncodeOptions(**given), **places)
    rows = {"LightGCN": metrics, "popularity": metrics["popularity"]} | metrics.get("compared", {})
    sys.stdout.write(_encode_table(rows))


def _encode_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """One line a method: recall@20 and ndcg@20 on validation and test, and its seconds where they were taken."""
    splits = [split for split in ("validation", "test") if f"{split}_recall@20" in rows["LightGCN"]]
    names = [f"{split}_{name}@20" for split in splits for name in ("recall", "ndcg")]
    if not names:
        return "No validation or test interactions: nothing was measured.\n"
    heads = ["", *(name.replace("_", " ") for name in names)]
    lines = [f"{heads[0]:<11}" + "".join(f"{head:>22}" for head in heads[1:])]
    for method, figures in rows.items():
        line = f"{method:<11}" + "".join(f"{figures[name]:>22.4f}" for name in names)
        lines.append(line + (f"  {figures['cpu_seconds']:.1f} CPU-seconds" if "cpu_seconds" in figures else ""))
    return "\n".join(lines) + "\n"


def train_command(argv: Sequence[str]) -> None:
    """Runs `xrec train`.

    Raises:
        DataError: arguments, recipe or inputs cannot be used.
    """
    from .model_table import MODELS

    models = "; ".join(f"{name}: {entry.about}" for name, entry in MODELS.items())
    parser = Parser(
        "xrec train",
        description="Train the adapters of an XRec model around a frozen backbone, or a baseline on the same rows.",
        allow_abbrev=False,  # --seed is a field of the recipe, not --seeds
        epilog="Any field of the recipe, of the model's configuration or of transformers.TrainingArguments can be overridden: "
        f"--injection input --learning_rate 1e-3 --signal zero. Models: {models}.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="dataset folder with explanations")
    parser.add_argument("--graph", type=Path, metavar="GRAPH", help="folder made by `xrec encode`; baselines need none")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the model folder to make")
    parser.add_argument("--recipe", metavar="R", help="YAML file or packaged name (default: demo, or the baseline's own)")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="train once a seed, into RUN/seed-N, side by side")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of a killed run")
    given, rest = parser.parse_known_args(argv)
    from .recipe import parse_overrides, read_recipe

    recipe = read_recipe(given.recipe, parse_overrides(rest))
    from .finetune import train
    from .seeds import seeds_table, train_seeds

    if given.seeds is not None:
        result = train_seeds(given.data, given.graph, given.out, recipe, given.seeds, given.resume)
        text = f"{seeds_table(result)}Models: {', '.join(str(given.out / run['folder']) for run in result['runs'])}\n"
    else:
        train(given.data, given.graph, given.out, recipe, given.resume)
        text = f"Model: {given.out}\nExplain a pair: xrec explain {given.out} --user U --item I\n"
    if int(os.environ.get("RANK", 0)) == 0:  # under torchrun every process comes here
        sys.stdout.write(text)


def convert_command(argv: Sequence[str]) -> None:
    """Runs `xrec convert`.

    Raises:
        DataError: arguments, files or backbone cannot be used.
    """
    parser = Parser(
        "xrec convert",
        description="Make a model folder from the embeddings and adapters that the XRec reference publishes for a dataset.",
        epilog="Pickles are read as data: a file that asks for anything but tensors is refused, and nothing in it runs.",
    )
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="a data/<dataset> folder of the reference")
    parser.add_argument("--base", required=True, metavar="BACKBONE", help="Hub id or folder of the adapters' backbone")
    parser.add_argument("--base-revision", metavar="SHA", help="commit of the backbone (default: the one found now)")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the model folder to make")
    given = parser.parse_args(argv)
    from .reference_checkpoint import convert

    sys.stdout.write(convert(given.reference, given.base, given.out, given.base_revision).summary())


def demo_command(argv: Sequence[str]) -> None:
    """Runs `xrec demo`.

    Raises:
        DataError: the output folder is in use.
    """
    parser = Parser("xrec demo", description="The whole flow on the built-in world, on a CPU, in a few minutes.")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="folder to make (default: demo)")
    parser.add_argument("--seed", type=int, default=0, help="fixes every byte and figure (default: 0)")
    parser.add_argument("--pairs", type=int, default=500, help="test pairs to explain and score (default: 500)")
    given = parser.parse_args(argv)
    from .cli import main
    from .demo import run_demo

    sys.stdout.write(run_demo(given.out, given.seed, given.pairs, main))
