"""The command `xrec audit`."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xrec_dataset_builder.arguments import Parser
from xrec_dataset_builder.errors import DataError


def audit_command(argv: Sequence[str]) -> None:
    """Audit a model and write `audit.json`, `audit.png` and the report.

    Args:
        argv: Arguments after `xrec audit`.

    Raises:
        DataError: If the input cannot be used; the message is one line.
        SystemExit: If the arguments do not fit together, or for `--help`.
    """
    given = _parser().parse_args(argv)
    from .audit import AuditOptions, audit
    from .audit_plots import plot_audit
    from .files import check_folder, replaced, write_text
    from .report import AUDIT_FILE, write_report

    out = given.out or _beside(given.model)
    check_folder(out)
    options = AuditOptions(
        rows=None if given.rows == 0 else given.rows,
        permutations=given.permutations,
        ablation_rows=given.ablation_rows,
        text_rows=given.text_rows,
        batch_size=given.batch_size,
    )
    found = audit(given.model, given.data, given.random_fixed, options)
    with replaced(out / "audit.png") as picture:
        plot_audit(found, picture)
    write_text(out / AUDIT_FILE, json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_report(out)
    sys.stdout.write(f"{audit_text(found)}\nReport: {out / 'report.html'}\n")


def audit_text(found: Mapping[str, Any]) -> str:
    """The verdicts and the main figures, for a terminal.

    Args:
        found: What `audit` returns.
    """
    from .report_audit import HEARD, QUESTIONS, number

    lines = [f"{QUESTIONS[name]}\n  {one['text']}" for name, one in found["verdicts"].items()]
    lines.append("\nBits an explanation by which the true embeddings are ahead of (95 % interval):")
    for name, figure in found["bits"].items():
        lines.append(f"  {HEARD[name]:<26}{number(figure['value']):>7}  ({number(figure['low'])} to {number(figure['high'])})")
    permuted = found["texts"].get("permuted")
    if permuted:
        lines.append(f"With others' embeddings {100 * permuted['changed']['value']:.0f} % of the texts change.")
    return "\n".join(lines) + "\n"


def _beside(model: str) -> Path:
    if not Path(model).is_dir():
        raise DataError(f"expected --out for the audit of {model!r}, which is no local folder, found none; give a folder")
    return Path(model) / "audit"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="xrec audit",
        description="Does the text depend on the graph? Scores the test references under the true embeddings and under "
        "others, switches parts of the injection off, and explains pairs anew; writes audit.json, audit.png and report.html.",
    )
    parser.add_argument("model", metavar="MODEL", help="model folder or Hub id")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="dataset folder whose test split is scored")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the report, such as that of xrec evaluate (default: MODEL/audit)"
    )
    parser.add_argument(
        "--random-fixed",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="models trained with --signal random-fixed and the same --hold_out: whether the graph's structure matters",
    )
    parser.add_argument("--rows", type=int, default=500, metavar="N", help="test pairs to score, 0 for all (default: 500)")
    parser.add_argument(
        "--permutations", type=int, default=8, metavar="K", help="others' embeddings that make the average (default: 8)"
    )
    parser.add_argument(
        "--ablation-rows", type=int, default=200, metavar="N", help="of these, for switching parts off (default: 200)"
    )
    parser.add_argument("--text-rows", type=int, default=100, metavar="N", help="of these, explained anew (default: 100)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="pairs at a time (default: 32)")
    return parser
