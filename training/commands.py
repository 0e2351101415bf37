"""The command lines of `xrec encode`, `xrec train`, `xrec convert` and `xrec demo`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from xrec_dataset_builder.arguments import Parser


def encode_command(argv: Sequence[str]) -> None:
    """Runs `xrec encode`.

    Raises:
        DataError: arguments or the dataset folder cannot be used.
    """
    parser = Parser("xrec encode", description="Train LightGCN on the training interactions of a dataset.")
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder made by `xrec build`")
    parser.add_argument("--out", type=Path, required=True, metavar="GRAPH", help="the folder to make")
    parser.add_argument("--dim", type=int, default=64, help="width of an embedding (default: 64)")
    parser.add_argument("--layers", type=int, default=2, help="propagation steps (default: 2)")
    parser.add_argument("--objective", default="softmax", help="softmax or bpr (default: softmax)")
    parser.add_argument("--epochs", type=int, default=15, help="most epochs (default: 15)")
    parser.add_argument("--patience", type=int, default=3, help="epochs without a better validation score (default: 3)")
    parser.add_argument("--batch-size", type=int, default=4096, help="edges a step (default: 4096)")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="of Adam (default: 0.01)")
    parser.add_argument("--seed", type=int, default=0, help="fixes every number (default: 0)")
    given = vars(parser.parse_args(argv))
    from .encode import EncodeOptions, encode

    data, out = given.pop("data"), given.pop("out")
    metrics = encode(data, out, EncodeOptions(**given))
    for split in ("validation", "test"):
        if f"{split}_recall@20" in metrics:
            recall, ndcg = metrics[f"{split}_recall@20"], metrics[f"{split}_ndcg@20"]
            sys.stdout.write(f"{split:<10} recall@20 {recall:.4f}  ndcg@20 {ndcg:.4f}\n")


def train_command(argv: Sequence[str]) -> None:
    """Runs `xrec train`.

    Raises:
        DataError: arguments, recipe or inputs cannot be used.
    """
    parser = Parser(
        "xrec train",
        description="Train the adapters of an XRec model around a frozen backbone.",
        epilog="Any field of the recipe, of XRecConfig or of transformers.TrainingArguments can be overridden: "
        "--injection input --learning_rate 1e-3 --signal zero.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="dataset folder with explanations")
    parser.add_argument("--graph", type=Path, required=True, metavar="GRAPH", help="folder made by `xrec encode`")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the model folder to make")
    parser.add_argument("--recipe", default="demo", metavar="R", help="YAML file or packaged name (default: demo)")
    given, rest = parser.parse_known_args(argv)
    from .recipe import parse_overrides, read_recipe

    recipe = read_recipe(given.recipe, parse_overrides(rest))
    from .finetune import train

    train(given.data, given.graph, given.out, recipe)
    sys.stdout.write(f"Model: {given.out}\nExplain a pair: xrec explain {given.out} --user U --item I\n")


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
