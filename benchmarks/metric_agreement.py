"""Which metrics agree with four LLM judges, text by text, on the judged predictions of ReXRec; prints JSON.

For each data set: Spearman and Kendall correlations of every metric with the judges' mean, with intervals, by how much the
best leads the others (paired), what is left of each at equal length, and how far the judges agree among themselves. Judges
are no truth: `own_over_other` is the share of rows whose text scores higher with its own reference than with another row's.
"""

import argparse
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from measuring import machine, report

from xrec_evaluation import text_metrics
from xrec_evaluation.bert_scorer import BertScorer
from xrec_evaluation.copying import copied_from_own
from xrec_evaluation.embedding_metrics import EmbeddingScorer
from xrec_evaluation.encoders import SentenceEncoder
from xrec_evaluation.floors import shuffled
from xrec_evaluation.meta_evaluation import (
    Correlation,
    agreement,
    agreement_differences,
    kendall,
    partial_spearman,
    reliability,
    spearman,
    standardised_mean,
)
from xrec_evaluation.peter_metrics import peter_metrics

Columns = dict[str, np.ndarray]
GIVEN = {"precision": "bert_precision_roberta", "recall": "bert_recall_roberta", "f1": "bert_f1_roberta"}
PACKAGES = ("bert-score", "sentence-transformers", "sacrebleu", "rouge-score", "scipy", "numpy")


class Scorers:
    """The models of a run, loaded once.

    Args:
        given: The command's options.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.embedding = EmbeddingScorer(SentenceEncoder(given.encoder, device=given.device))
        self.bert = BertScorer(given.bert_encoder or given.encoder, given.layer, device=given.device)

    def against(self, predictions: list[str], references: list[str]) -> Columns:
        """Metrics that compare texts with references, by row."""
        found = text_metrics.rouge_rows(predictions, references)
        found["bleu_4_row"] = text_metrics.bleu_rows(predictions, references)
        found |= {f"{name}_peter": values[:, 2] for name, values in peter_metrics(predictions, references).rouge.items()}
        found["embedding_similarity"] = self.embedding.score(predictions, references)[0]
        found |= {f"{name}_encoder": values for name, values in self.bert.rows(predictions, references).items()}
        lengths = text_metrics.word_counts(predictions) - text_metrics.word_counts(references)
        return found | {"length_nearness": -np.abs(lengths)}


def columns_of(rows: pl.DataFrame, sources: pl.DataFrame | None, scorers: Scorers) -> tuple[Columns, dict[str, float]]:
    """Every metric by row, and how often the own reference gives more than another row's."""
    predictions, references = rows["prediction"].to_list(), rows["reference"].to_list()
    own = scorers.against(predictions, references)
    other = scorers.against(predictions, shuffled(references))
    wins = {name: float(((own[name] > other[name]) + (own[name] == other[name]) / 2).mean()) for name in own}
    own |= {name: rows[f"bertscore_{part}"].to_numpy() for part, name in GIVEN.items() if f"bertscore_{part}" in rows.columns}
    own |= {"words": text_metrics.word_counts(predictions), "reference_words": text_metrics.word_counts(references)}
    own |= {f"distinct_{n}_text": text_metrics.distinct_n_rows(predictions, n) for n in (1, 2)}
    own["over_word_limit"] = (own["words"] > 50).astype(float)
    if sources is not None:
        known = rows.join(sources, left_on="reference", right_on="explanation", how="left", maintain_order="left")
        own["copied_share"] = copied_from_own(predictions, known.select("item_profile", "user_profile").rows())
    return own, wins


def measure_dataset(folder: Path, scorers: Scorers, given: argparse.Namespace) -> dict[str, Any]:
    """All figures of one data set."""
    rows = pl.read_parquet(folder / "judged_predictions.parquet")
    rows = rows if given.limit is None else rows.head(given.limit)
    file = folder / "explanations.parquet"
    sources = pl.read_parquet(file).unique("explanation", keep="first") if file.is_file() else None
    columns, wins = columns_of(rows, sources, scorers)
    judges = {name.removeprefix("judge_"): rows[name].to_numpy() for name in rows.columns if name.startswith("judge_")}
    panel, plain = standardised_mean(judges), np.mean(list(judges.values()), axis=0)
    draws = {"seed": given.seed, "resamples": given.resamples}
    found = {
        "spearman": agreement(columns, panel, spearman, **draws),
        "kendall": agreement(columns, panel, kendall, **draws),
        "spearman_with_plain_mean": agreement(columns, plain, spearman, **draws),
    }
    order = sorted(columns, key=lambda name: -(found["spearman"][name].value or 0.0))
    leads = agreement_differences(columns, panel, order[0], spearman, **draws)
    apart = partial_spearman(columns, panel, columns["words"])
    with_length = agreement(columns, columns["words"], spearman, **draws)
    by_judge = {judge: spearman(np.column_stack(list(columns.values())), scores) for judge, scores in judges.items()}
    return {
        "rows": len(rows),
        "judges": _reliability(judges),
        "best": order[0],
        "metrics": {
            name: {
                **{kind: _shown(values[name]) for kind, values in found.items()},
                "best_minus_this": _shown(leads[name]) if name in leads else None,
                "spearman_at_equal_length": apart[name],
                "spearman_with_length": _shown(with_length[name]),
                "own_over_other": wins.get(name),
                "by_judge": {judge: _number(values[list(columns).index(name)]) for judge, values in by_judge.items()},
                "mean": float(columns[name].mean()),
            }
            for name in order
        },
    }


def _reliability(judges: Mapping[str, np.ndarray]) -> dict[str, Any]:
    found = reliability(judges)
    pairs = {f"{a}, {b}": value for (a, b), value in found.pairs.items()}
    spread = {name: {"mean": float(scores.mean()), "sd": float(scores.std(ddof=1))} for name, scores in judges.items()}
    return found._asdict() | {"pairs": pairs, "scores": spread}


def _shown(found: Correlation) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in found]


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All figures of all data sets."""
    torch.set_num_threads(given.threads)
    scorers = Scorers(given)
    return {
        "machine": machine(given.device),
        "packages": {name: version(name) for name in PACKAGES},
        "settings": {"embedding": scorers.embedding.setting, "bert_score": scorers.bert.setting},
        "datasets": {folder.name: measure_dataset(folder, scorers, given) for folder in given.data},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with judged_predictions.parquet")
    parser.add_argument("--encoder", required=True, help="sentence encoder: Hub id or folder")
    parser.add_argument("--bert-encoder", help="encoder of BERTScore (default: the sentence encoder's)")
    parser.add_argument("--layer", type=int, default=5, help="its layer; set before looking, not by the judges")
    parser.add_argument("--device", default="cpu", help="where the encoders run")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--resamples", type=int, default=1000, help="draws of an interval")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--limit", type=int, help="first rows only")
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    given = parser.parse_args(argv)
    report(measure(given), given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
