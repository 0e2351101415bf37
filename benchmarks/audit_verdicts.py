"""Does the audit tell the truth where the truth is known? On the built-in world, with several seeds.

Models hear the graph, a permuted one, random embeddings or nothing, and are trained without the explanations of some users and
items. What the audit must say of each is known, and no embedding can be worth more than the world's generator allows. What was
trained before is taken up again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conditions import prepare_world
from measuring import machine, report

from xrec_evaluation.aspect_f1 import load_truth
from xrec_evaluation.audit import AuditOptions, audit
from xrec_training.finetune import train
from xrec_training.recipe import read_recipe

EXPECTED = {"graph": (True, True), "permuted": (None, False), "random-fixed": (None, False), "none": (False, False)}
"""Whether the text depends on the vector, and on the graph's structure; None where either may be."""


def folder_of(out: Path, signal: str, seed: int, share: float) -> Path:
    """A trained run, made where it is missing."""
    data, graph = prepare_world(out)
    folder = out / "held-out-runs" / f"{signal}-{seed}"
    if not folder.is_dir():
        settings = {"disable_tqdm": True, "signal": signal, "seed": seed, "hold_out": share}
        train(data, graph, folder, read_recipe(None, settings), resume=True, backbone_place=out / "held-out-backbone")
    return folder


def run(out: Path, seeds: Sequence[int], share: float, options: AuditOptions) -> dict[str, Any]:
    """Audits every model of every seed; the verdicts beside the expected ones, and bits beside their bound."""
    data, _ = prepare_world(out)
    truth = load_truth(data)
    bound = None if truth is None else truth.graph_bits_upper_bound
    random_fixed = {seed: folder_of(out, "random-fixed", seed, share) for seed in seeds}
    audits: dict[str, list[dict[str, Any]]] = {}
    for signal, (vector, structure) in EXPECTED.items():
        for seed in seeds:
            # A model is not compared with itself.
            others = [path for number, path in random_fixed.items() if (signal, number) != ("random-fixed", seed)]
            found = audit(folder_of(out, signal, seed, share), data, others, options)
            answers = [found["verdicts"][name]["answer"] for name in ("depends_on_vector", "depends_on_structure")]
            right = [want is None or want == answer for want, answer in zip((vector, structure), answers, strict=True)]
            kept = {name: found[name] for name in ("bits", "held_out", "dilution", "ablations", "histories")}
            audits.setdefault(signal, []).append({"seed": seed, "answers": answers, "right": all(right), **kept})
    most = max(one["bits"]["average"]["high"] for one in audits["graph"])
    return {
        "machine": machine("cpu"),
        "seeds": list(seeds),
        "held_out": share,
        "verdicts_right": {signal: sum(one["right"] for one in found) for signal, found in audits.items()},
        "graph_bits_positive": all(one["bits"]["average"]["low"] > 0 for one in audits["graph"]),
        "graph_bits_upper_bound": bound,
        "graph_bits_most": most,
        "within_bound": bound is None or most <= bound,
        "audits": audits,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the world and the runs; kept, and taken up by the next call")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--hold-out", type=float, default=0.3)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    given = parser.parse_args(argv)
    options = AuditOptions(rows=given.rows, text_rows=0)
    report(run(given.folder, given.seeds, given.hold_out, options), given.out)


if __name__ == "__main__":
    main()
