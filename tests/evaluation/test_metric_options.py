import argparse
import subprocess
import sys

import numpy as np
import pytest

from xrec_dataset_builder.arguments import Parser
from xrec_dataset_builder.errors import DataError
from xrec_evaluation.metric_options import MetricOptions, Models, add_metric_flags, load_models, read_metric_options
from xrec_evaluation.metrics import METRICS


def read(*argv):
    parser = Parser("test")
    add_metric_flags(parser)
    return read_metric_options(parser.parse_args(argv))


def test_by_default_no_model_is_loaded_and_no_library_of_models_imported():
    assert read() == MetricOptions()
    assert load_models(MetricOptions()) == Models()
    code = (
        "import sys; from xrec_evaluation.metric_options import MetricOptions, load_models; load_models(MetricOptions());"
        "from xrec_evaluation.metrics import measure; measure(['a'], ['b']);"
        "print({'torch', 'transformers', 'bert_score', 'sentence_transformers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_flags_become_options():
    found = read(
        "--encoder", "e", "--bert-score", "b", "--bert-score-layer", "17", "--bert-score-baseline", ".8,.7,-.6",
        "--bart-score", "c", "--bleurt", "d", "--metric-device", "cpu",
    )  # fmt: skip
    assert found == MetricOptions("e", "b", 17, (0.8, 0.7, -0.6), "c", "d", "cpu")
    assert read("--bert-score", "b", "--bert-score-baseline", "library").bert_score_baseline == "library"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--bert-score", "b", "--bert-score-baseline", "0.8,0.7"], "three numbers"),
        (["--bert-score", "b", "--bert-score-baseline", "yes"], "three numbers"),
        (["--bert-score", "b", "--bert-score-baseline", "0.8,0.7,1"], "between -1 and 1"),
        (["--bert-score-layer", "3"], "give --bert-score MODEL"),
        (["--bert-score-baseline", "library"], "give --bert-score MODEL"),
    ],
)
def test_options_that_do_not_fit_are_one_line(argv, message):
    with pytest.raises(DataError, match=message) as caught:
        read(*argv)
    assert "\n" not in str(caught.value)


def test_flags_can_join_other_flags():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    add_metric_flags(parser)
    given = parser.parse_args(["--data", "x"])
    assert (given.data, read_metric_options(given)) == ("x", MetricOptions())


def test_models_score_rows_under_names_that_the_report_knows(minilm):
    options = MetricOptions(str(minilm), str(minilm), 4, (0.3, 0.3, 0.3), device="cpu")
    rows, corpus, settings = load_models(options).measure(["good beer", "", "很好"], ["nice beer", "cake", "很好"])
    assert set(rows) | set(corpus) <= set(METRICS)
    assert set(rows) == {"embedding_similarity"} | {
        f"bert_{part}{scale}" for part in ("precision", "recall", "f1") for scale in ("", "_rescaled")
    }
    assert all(values.shape == (3,) and np.isfinite(values).all() for values in rows.values())
    assert set(settings) == {"embedding", "bert_score"}
    assert rows["bert_f1"][2] == pytest.approx(1, abs=1e-6)
