import json
import os
import subprocess
import sys

import pytest

from xrec_evaluation.metric_options import metrics_folder
from xrec_evaluation.metrics import measure

PREDICTIONS = ["The user would enjoy the live music, and it's near.", "A bar with cake.", "A bar with cake."]
REFERENCES = ["You would enjoy the live music.", "The user likes a bar with good cake.", "A place for tea."]
ASPECTS = {"music": ["live music"], "cake": ["cake"], "tea": ["tea"], "bar": ["bar"]}
SHARED = [["music"], ["cake", "bar"], ["tea"]]
TEXTS = {"bleu", "bleu_peter", "rouge", "bert_score", "embedding_similarity"}
SCRIPT = """
import json, sys
import evaluate
folder, minilm, given = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
options = {"bert_score": {"model": minilm, "layer": 5}, "embedding_similarity": {"model": minilm, "device": "cpu"}}
found = {}
for name, columns in given.items():
    found[name] = evaluate.load(folder, name).compute(**columns, **options.get(name, {}))
one = evaluate.load(folder, "rouge")
for prediction, reference in zip(given["rouge"]["predictions"], given["rouge"]["references"]):
    one.add(prediction=prediction, reference=reference)
found["added one by one"] = one.compute()
try:
    evaluate.load(folder, "bleu5")
except ValueError as error:
    found["unknown"] = str(error)
try:
    evaluate.load(folder, "usr").compute(predictions=[])
except Exception as error:
    found["empty"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(minilm, tmp_path_factory):
    """What the real library computes in a process that may not ask the network for anything."""
    given = {name: {"predictions": PREDICTIONS} for name in ("usr", "distinct_n", "lengths")}
    given |= {name: {"predictions": PREDICTIONS, "references": REFERENCES} for name in sorted(TEXTS)}
    given |= {
        name: {"predictions": PREDICTIONS, "references": SHARED, "aspects": ASPECTS} for name in ("features", "aspect_f1")
    }
    home = str(tmp_path_factory.mktemp("home"))
    offline = {"HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_HOME": home, "HF_MODULES_CACHE": home}
    command = [sys.executable, "-c", SCRIPT, str(metrics_folder()), str(minilm), json.dumps(given)]
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_modules_give_what_the_functions_give(found):
    from xrec_evaluation.aspect_f1 import Truth

    expected = measure(PREDICTIONS, REFERENCES, Truth(ASPECTS, None), list(map(frozenset, SHARED)))
    figures = {name: float(values.mean()) for name, values in expected.per_row.items()} | expected.corpus
    of_modules = {name: value for module in found.values() if isinstance(module, dict) for name, value in module.items()}
    for name, value in figures.items():
        key = f"{name}_f1" if name.startswith("rouge") and name.endswith("peter") else name
        assert of_modules[key] == pytest.approx(value, abs=1e-12), name
    assert found["lengths"]["most_words"] == 10
    assert found["added one by one"] == found["rouge"]


def test_modules_with_a_model(found, encoder, minilm):
    from xrec_evaluation.bert_scorer import BertScorer
    from xrec_evaluation.embedding_metrics import embedding_similarity, pairwise_cosine

    bert = BertScorer(minilm, 5, device="cpu").rows(PREDICTIONS, REFERENCES)
    assert found["bert_score"] == pytest.approx({name: values.mean() for name, values in bert.items()}, abs=1e-6)
    similar = embedding_similarity(PREDICTIONS, REFERENCES, encoder).mean()
    alike = pairwise_cosine(encoder.encode(PREDICTIONS))
    assert found["embedding_similarity"] == pytest.approx(
        {"embedding_similarity": similar, "pairwise_cosine": alike}, abs=1e-6
    )


def test_what_cannot_be_computed_is_one_line(found):
    assert "give one of usr, bleu" in found["unknown"]
    assert "at least one row" in found["empty"]
