"""The audit of a model: does its text depend on the embeddings, and do these matter for what the graph knows?

All figures are bits an explanation: log2 p(reference) under the true embeddings minus under others, a mean over test pairs
with its 95 % bootstrap interval.

Two differences say what the embeddings are worth. Against *permuted* ones: what a wrong embedding costs, by which one may
measure dependence, but not knowledge, since a wrong embedding misleads. Against the *average* over K others,

    log2 p(x | e) - log2 (1/K sum_k p(x | e_k)),

which is what the embedding says about this text that the average embedding does not; its mean estimates their mutual
information, and falls towards it as K grows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table

from . import counterfactuals
from .ablations import parts_of, silenced
from .bootstrap import mean_interval
from .comparison import figure
from .dilution import by_length, by_place
from .dropped_history import DROPPED, Histories
from .embedding_map import gates_of, map_items
from .explain import EXPLAINERS, SAMPLE_SEED, Explainer, model_type
from .likelihood import ReferenceLikelihood, Signal, nats_per_token, perplexity
from .structure import check_comparable, held_out_rows, held_out_share, skipped_reason
from .structure import verdict as structure_verdict
from .text_changes import compare_texts

NATS = math.log(2)


@dataclass(frozen=True)
class AuditOptions:
    """How much is looked at.

    Args:
        rows: test pairs, drawn by a fixed seed; None for all.
        permutations: others' embeddings K that stand for the average.
        ablation_rows: of these pairs, how many for switching parts off and dropping entries.
        text_rows: of these pairs, how many are explained anew under every signal.
        batch_size: pairs at a time.
    """

    rows: int | None = 500
    permutations: int = 8
    ablation_rows: int = 200
    text_rows: int = 100
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Refuses counts that leave nothing to measure."""
        for name, least in (("rows", 2), ("permutations", 1), ("ablation_rows", 2), ("text_rows", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise DataError(f"expected {name} of at least {least}, found {value}; give more")


def audit(
    model: str | Path, data: Path, random_fixed: Sequence[str | Path] = (), options: AuditOptions | None = None
) -> dict[str, Any]:
    """Audits a model on test pairs.

    Args:
        model: model folder or Hub id.
        data: dataset folder; its test references are scored, its training interactions are the histories.
        random_fixed: models trained with `--signal random-fixed` and the same `--hold_out`, several for several seeds.
        options: see `AuditOptions`.

    Returns:
        What `audit.json` holds: `verdicts`, `bits`, `held_out`, `dilution`, `ablations`, `histories`, `texts`,
        `gates`, `map`, `settings`.

    Raises:
        DataError: a baseline, which hears no graph; models that cannot be compared; no test explanations.
    """
    options = options or AuditOptions()
    kind = model_type(model)
    if kind in EXPLAINERS:
        raise DataError(
            f"{model}: expected an XRec model, found {kind}, which has no embeddings of a graph; audit another model"
        )
    check_comparable(model, random_fixed)
    test = reference_rows(data)
    rows = _some(test, options.rows)
    explainer = Explainer(model, batch_size=options.batch_size)
    scorer = ReferenceLikelihood(explainer, rows, options.batch_size)
    bits, own = worth(scorer, options.permutations, "own and other embeddings")
    few = ReferenceLikelihood(explainer, rows.head(options.ablation_rows), options.batch_size)
    result = {
        "model": Path(model).name,
        "rows": len(scorer),
        "injection": explainer.model.config.injection,
        "reference": {
            "nats_per_token": figure(mean_interval(nats_per_token(own.tokens))),
            "perplexity": perplexity(own.tokens),
        },
        "bits": bits,
        "dilution": own.dilution,
        "held_out": _held_out(explainer, model, test, random_fixed, options),
        "ablations": _ablations(few),
        "histories": _histories(few, data),
        "texts": _texts(explainer, rows.head(options.text_rows), options),
        "gates": gates_of(scorer),
        "map": _map(explainer),
        "settings": asdict(options),
    }
    return {"verdicts": verdicts(result), **result}


def reference_rows(data: Path) -> pl.DataFrame:
    """`user_id, item_id, reference` of the test pairs that have a reference.

    Raises:
        DataError: there is none.
    """
    table = read_table(DatasetFolder(data).explanations("test"), EXPLANATIONS)
    rows = table.select("user_id", "item_id", reference=pl.col("explanation").fill_null(""))
    rows = rows.filter(pl.col("reference").str.strip_chars() != "")
    if len(rows) < 2:
        raise DataError(
            f"{data}: expected at least two test explanations, found {len(rows)}; build with other splits or filters"
        )
    return rows


def _some(rows: pl.DataFrame, limit: int | None) -> pl.DataFrame:
    return rows if limit is None or limit >= rows.height else rows.sample(limit, seed=SAMPLE_SEED)


@dataclass(frozen=True)
class Own:
    """Log-probabilities of the references under the true embeddings, and how their worth thins out."""

    tokens: list[np.ndarray]
    dilution: dict[str, Any]


def worth(scorer: ReferenceLikelihood, permutations: int, description: str | None = None) -> tuple[dict[str, Any], Own]:
    """What true embeddings are worth against others, in bits an explanation.

    Args:
        scorer: the pairs.
        permutations: K.
        description: text of the progress bars; None for none.

    Returns:
        By name of what is heard instead: `permuted`, `permuted user`, `permuted item`, `zero`, `noise`, and `average`, each
        `value`, `low`, `high`; and the scores under the true embeddings.
    """

    def totals(signal: Signal) -> np.ndarray:
        return scorer.totals(signal, description)

    tokens = scorer.tokens(scorer.signal(), description)
    own = np.array([row.sum() for row in tokens])
    others = [scorer.tokens(counterfactuals.permuted(scorer, seed), description) for seed in range(permutations)]
    summed = np.array([[row.sum() for row in one] for one in others])
    lost = {
        "permuted": (own - summed).mean(axis=0),  # differences first, so that what does not differ is exactly 0
        "average": -_log_mean_exp(summed - own),
        "permuted user": own - totals(counterfactuals.permuted(scorer, 0, ("user",))),
        "permuted item": own - totals(counterfactuals.permuted(scorer, 0, ("item",))),
        "zero": own - totals(counterfactuals.zeroed(scorer)),
        "noise": own - totals(counterfactuals.noise(scorer, 0)),
    }
    gained = [
        np.mean([mine - other for other in theirs], axis=0) / NATS for mine, *theirs in zip(tokens, *others, strict=True)
    ]  # bits of every token
    dilution = {"by_place": by_place(gained), "by_length": by_length(gained)}
    return {name: _bits(nats) for name, nats in lost.items()}, Own(tokens, dilution)


def _log_mean_exp(values: np.ndarray) -> np.ndarray:
    """The logarithm of the mean over the first axis of e to the power of values."""
    most = values.max(axis=0)
    return most + np.log(np.exp(values - most).mean(axis=0))


def _bits(nats: np.ndarray) -> dict[str, float | None]:
    """Mean and interval, in bits, of what is gained in nats."""
    return figure(mean_interval(nats / NATS))


def _held_out(
    explainer: Explainer, model: str | Path, test: pl.DataFrame, random_fixed: Sequence[str | Path], options: AuditOptions
) -> dict[str, Any]:
    """Bits on held-out pairs: true over permuted embeddings, and over the models with random ones."""
    share = held_out_share(model)
    rows = _some(held_out_rows(test, share), options.rows)
    reason = skipped_reason(share, len(rows), len(random_fixed))
    found: dict[str, Any] = {"share": share, "rows": len(rows), "models": [Path(one).name for one in random_fixed]}
    if reason is not None:
        return found | {"skipped": reason}
    scorer = ReferenceLikelihood(explainer, rows, options.batch_size)
    own = scorer.totals(scorer.signal(), "held-out pairs")
    permuted = [
        scorer.totals(counterfactuals.permuted(scorer, seed), "held-out pairs") for seed in range(options.permutations)
    ]
    others = []
    for one in random_fixed:
        other = ReferenceLikelihood(Explainer(one, batch_size=options.batch_size), rows, options.batch_size)
        others.append(other.totals(other.signal(), "random embeddings"))
    return found | {"permuted": _bits((own - permuted).mean(axis=0)), "random_fixed": _bits((own - others).mean(axis=0))}


def _ablations(scorer: ReferenceLikelihood) -> dict[str, Any]:
    """By kind of part, the bits that are lost when a part is silent."""
    found: dict[str, list[dict[str, Any]]] = {}
    own = scorer.totals(scorer.signal())
    for kind, masks in parts_of(scorer.model).items():
        found[kind] = []
        for name, mask in masks:
            with silenced(scorer.model, mask):
                found[kind].append({"name": name, **_bits(own - scorer.totals(scorer.signal(), f"without {name}"))})
    return found


def _map(explainer: Explainer) -> dict[str, Any] | None:
    table = explainer.model.lightgcn.item_embeddings.detach().float().cpu().numpy()
    items = explainer.processor.items
    return map_items(table, [item["title"] or "" for item in items], [item.get("item_profile") or "" for item in items])


def _histories(scorer: ReferenceLikelihood, data: Path) -> dict[str, Any]:
    """By side, the bits that are lost when a history loses one entry, over the pairs that have one to lose."""
    found: dict[str, Any] = {}
    lightgcn = scorer.model.lightgcn
    for side in ("user", "item"):
        if not lightgcn.is_settled():
            found[side] = {"rows": 0, "skipped": "the model has no fold-in tables, which tell a history's parts"}
            continue
        histories = Histories(scorer, data, side)
        usable = histories.usable
        found[side] = {"rows": int(usable.sum())}
        if usable.sum() < 2:
            found[side]["skipped"] = "fewer than two pairs have a history of two entries"
            continue
        whole, *dropped = (scorer.totals(histories.signal(one), f"{side} history without {one}")[usable] for one in DROPPED)
        found[side] |= {name: _bits(whole - one) for name, one in zip(DROPPED[1:], dropped, strict=True)}
    return found


def _texts(explainer: Explainer, rows: pl.DataFrame, options: AuditOptions) -> dict[str, Any]:
    """How texts change under other embeddings."""
    if rows.height < 2:
        return {}
    scorer = ReferenceLikelihood(explainer, rows, options.batch_size)
    signals = {
        "permuted": counterfactuals.permuted(scorer, 0),
        "permuted user": counterfactuals.permuted(scorer, 0, ("user",)),
        "permuted item": counterfactuals.permuted(scorer, 0, ("item",)),
        "zero": counterfactuals.zeroed(scorer),
    }
    pairs = rows["user_id"].to_list(), rows["item_id"].to_list()
    own = explainer.pairs(*pairs, progress=True, signal=scorer.signal())
    return {"rows": rows.height} | {
        name: compare_texts(own, explainer.pairs(*pairs, progress=True, signal=signal)) for name, signal in signals.items()
    }


def verdicts(result: Mapping[str, Any]) -> dict[str, Any]:
    """The two answers, each `answer` (yes, no, or None where it cannot be told) and `text`.

    Args:
        result: The figures of an audit.
    """
    bits = result["bits"]["permuted"]
    depends = bits["low"] > 0
    if depends:
        text = f"Yes: with the embeddings of others the model finds the reference {_span(bits)} bits less likely."
    else:
        text = f"No: with the embeddings of others the model finds the reference as likely as before ({_span(bits)} bits)."
    answers = {"depends_on_vector": {"answer": depends, "text": text}}
    held_out = result["held_out"]
    if "skipped" in held_out:
        answers["depends_on_structure"] = {"answer": None, "text": f"Not asked: {held_out['skipped']}."}
        return answers
    gain, own = held_out["random_fixed"], held_out["permuted"]
    matters = structure_verdict(gain, own)
    text = (
        f"on {held_out['rows']} pairs of users and items that it never explained, the model finds the reference {_span(gain)} "
        f"bits likelier than a model trained with random embeddings, and {_span(own)} likelier than with others' embeddings"
    )
    answers["depends_on_structure"] = {"answer": matters, "text": f"{'Yes' if matters else 'No'}: {text}."}
    return answers


def _span(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})".replace("-", "\N{MINUS SIGN}")
