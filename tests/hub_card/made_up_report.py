"""Figures of a report that no one measured, of which a test knows what they are."""

from xrec_evaluation.metrics import METRICS

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def scores(names: dict[str, str], headline: str = "aspect_f1") -> dict:
    """The figures of a report in which system number n has 0.1 n of everything."""
    keys = {"aspect_f1", "rouge_l", "bleu_4", "words"}
    systems = {}
    for number, (name, kind) in enumerate(names.items(), start=1):
        value = 0.1 * number
        figures = {key: {"value": value, "low": value - 0.01, "high": value + 0.01} for key in keys}
        systems[name] = {"kind": kind, "metrics": figures}
        if kind != "model":
            systems[name]["model_minus_system"] = {headline: {"value": 0.1 - value, "low": 0.09 - value, "high": 0.11 - value}}
    assert keys <= set(METRICS)
    return {
        "headline": headline, "rows": 7, "systems": systems, "ceilings": {"oracle": {headline: 1.0}}, "own_rank": None,
        "settings": {"level": 0.95},
        "examples": [
            {"row": n, "title": f"Place {n} <b>", "prediction": f"text {n} [x](y)", "reference": f"secret {n}", "score": 0.5}
            for n in range(3)
        ],
    }  # fmt: skip


AUDIT = {
    "verdicts": {
        "depends_on_vector": {"answer": True, "text": "Yes: 1.50 bits less likely."},
        "depends_on_structure": {"answer": False, "text": "No: 0.02 bits."},
    },
    "bits": {"permuted": {"value": 1.5, "low": 1.25, "high": 1.75}},
}
