"""The `xrec` command: names its subcommands' functions as strings and imports one when it is called."""

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "demo": ("xrec_training.commands:demo_command", "the whole flow on the built-in world, on a CPU"),
    "build": ("xrec_dataset_builder.commands:build_command", "raw reviews or tables to a leak-checked dataset"),
    "distill": ("xrec_dataset_builder.commands:distill_command", "profiles and explanations from reviews"),
    "encode": ("xrec_training.commands:encode_command", "LightGCN: the graph to collaborative embeddings"),
    "train": ("xrec_training.commands:train_command", "adapters around a frozen backbone"),
    "convert": ("xrec_training.commands:convert_command", "what the reference code published, as a model folder"),
    "explain": ("xrec_evaluation.commands:explain_command", "one pair, a file of pairs, or an unseen user"),
    "evaluate": ("xrec_evaluation.commands:evaluate_command", "scores beside their floors, with intervals"),
    "audit": ("xrec_evaluation.audit_commands:audit_command", "does the text depend on the graph?"),
    "judge": ("xrec_evaluation.judge_commands:judge_command", "what language models say of the explanations"),
    "publish": ("xrec_hub_card.commands:publish_command", "model, dataset and cards on the Hub"),
    "serve": ("xrec_serving.commands:serve_command", "answers over HTTP why an item suits a user"),
}
EXTRAS = {
    "distill": {"polars", "tqdm", "yaml"},
    "eval": {"sacrebleu", "jinja2", "sklearn", "scipy", "matplotlib", "nltk"},
    "serve": {"fastapi", "uvicorn", "prometheus_client"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: arguments; `sys.argv[1:]` when None. `--debug` anywhere shows the traceback of an error.

    Returns:
        Exit code: 0, 1 for input that cannot be used, 2 for an unknown command.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        sys.stderr.write(f"xrec: expected a command among {', '.join(COMMANDS)}, found {name!r}; see `xrec --help`\n")
        return 2
    module, function = COMMANDS[name][0].split(":")
    try:
        getattr(importlib.import_module(module), function)(rest)
    except ModuleNotFoundError as error:
        if debug or error.name is None or error.name.startswith(("xrec", "modeling_xrec")):
            raise
        sys.stderr.write(f"xrec {name}: needs the package {error.name!r}; install `xrec[{_extra(error.name)}]`\n")
        return 1
    except (ValueError, OSError) as error:
        if debug:
            raise
        sys.stderr.write(f"xrec {name}: {' '.join(str(error).split())}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"xrec {name}: stopped\n")
        return 130
    return 0


def _help() -> str:
    lines = [f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items()]
    usage = "usage: xrec COMMAND ... [--debug]\n\nExplainable recommendation: why does this item suit this user?\n\n"
    return usage + "\n".join(lines) + "\n\n`xrec COMMAND --help` says more.\n"


def _extra(package: str) -> str:
    return next((extra for extra, packages in EXTRAS.items() if package in packages), "train")


if __name__ == "__main__":
    sys.exit(main())
