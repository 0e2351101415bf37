import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from modeling_xrec import LightGCN
from modeling_xrec.bipartite_graph import normalized_adjacency
from xrec_dataset_builder.errors import DataError
from xrec_training import fitting
from xrec_training.cli import main
from xrec_training.commands import encode_command
from xrec_training.encode import EncodeOptions, encode, fit
from xrec_training.graph_folder import read_graph
from xrec_training.ranking import ranking_metrics
from xrec_training.tables import Catalogue, read_edges

LEFT = ["catalogue.parquet", "collaborative.safetensors", "curve.png", "graph.json", "metrics.json"]


def checkerboard(users=20, items=20):
    """User and item of the same parity go together: what to recommend is known by construction."""
    pairs = [(u, i) for u in range(users) for i in range(items) if (u + i) % 2 == 0 and (u * 7 + i) % 5]
    held = [(u, i) for u in range(users) for i in range(items) if (u + i) % 2 == 0 and not (u * 7 + i) % 5]
    return torch.tensor(pairs).T, torch.tensor(held).T


def catalogue_of(users, items):
    table = pl.DataFrame({"user_id": [str(n) for n in range(users)], "user_profile": [""] * users})
    return Catalogue(table, pl.DataFrame({"item_id": [f"i{n}" for n in range(items)]}))


@pytest.mark.parametrize("start", ["spectral", "random"])
@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_recommends_what_the_checkerboard_hides(objective, start):
    train, held = checkerboard()
    model, _ = fit(train, held, catalogue_of(20, 20), EncodeOptions(dim=8, objective=objective, start=start), progress=False)
    known = [[int(i) for u, i in train.T if int(u) == user] for user in range(20)]
    best, scores = model.recommend(torch.arange(20), k=2, exclude=known)
    wanted = [{int(i) for u, i in held.T if int(u) == user} for user in range(20)]
    assert all(int(best[user, 0]) in wanted[user] for user in range(20))
    assert (scores[:, 0] >= scores[:, 1]).all()
    rows = model.user_embeddings if objective == "softmax" else torch.cat([model.user_embeddings, model.item_embeddings])
    assert rows.square().sum(1).mean() == pytest.approx(1.0, abs=1e-5)


def test_encode_leaves_the_graph_and_its_figures_and_repeats_itself(tiny_data, tmp_path):
    options = EncodeOptions(dim=8, epochs=3)
    metrics = encode(tiny_data, tmp_path / "one", options, progress=False)
    encode(tiny_data, tmp_path / "two", options, progress=False)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == LEFT
    for name in LEFT:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    encode(tiny_data, tmp_path / "three", EncodeOptions(dim=8, epochs=3, seed=1), progress=False)
    one, three = (load_file(tmp_path / name / "collaborative.safetensors") for name in ("one", "three"))
    assert set(one) == {"user_embeddings", "item_embeddings", "user_fold_in", "item_fold_in"}
    assert not torch.equal(one["user_embeddings"], three["user_embeddings"])
    assert json.loads((tmp_path / "one" / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert not [path for path in tmp_path.iterdir() if path.name not in ("one", "two", "three")]


def test_the_figures_are_those_of_the_written_graph_with_training_items_masked(tiny_data, tmp_path):
    metrics = encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=8, epochs=2), progress=False)
    catalogue = Catalogue.read(tiny_data)
    graph = read_graph(tmp_path / "graph", catalogue)
    edges = {split: read_edges(tiny_data, split, catalogue) for split in ("train", "validation", "test")}
    popularity = torch.bincount(edges["train"][1], minlength=catalogue.items.height).float().unsqueeze(1)
    for split in ("validation", "test"):
        found = ranking_metrics(graph.user_embeddings, graph.item_embeddings, edges["train"], edges[split])
        floor = ranking_metrics(torch.ones(catalogue.users.height, 1), popularity, edges["train"], edges[split])
        for name in ("recall@20", "ndcg@20", "coverage@20", "novelty@20", "users"):
            assert metrics[f"{split}_{name}"] == found[name]
            assert metrics["popularity"][f"{split}_{name}"] == floor[name]


def test_what_is_scored_and_kept_is_the_running_mean_of_the_tables():
    train, held = checkerboard()
    run = fitting._Run(train, held, catalogue_of(20, 20), EncodeOptions(dim=8).completed())
    run.start(train, catalogue_of(20, 20), None)
    steps = []
    run.optimizer.register_step_post_hook(lambda *_: steps.append(run.model.user_embeddings.detach().clone()))
    run.epoch()
    mean = steps[0]
    for table in steps[1:]:
        mean = 0.9 * mean + 0.1 * table
    assert len(steps) > 4
    torch.testing.assert_close(run.best["user_embeddings"], mean)
    assert not torch.equal(run.best["user_embeddings"], steps[-1])


def test_the_first_best_epoch_is_kept_and_patience_ends_training(monkeypatch):
    train, held = checkerboard()
    scores, states = iter([0.1, 0.3, 0.3, 0.2, 0.9]), []

    def score(run):
        states.append({name: value.clone() for name, value in run.averaged.module.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(fitting._Run, "_score", score)
    model, history = fit(train, held, catalogue_of(20, 20), EncodeOptions(dim=8, patience=2, epochs=9), progress=False)
    assert history == [0.1, 0.3, 0.3, 0.2]
    kept = LightGCN(20, 20, 8, 2, (0.2, 0.3, 0.5))
    kept.load_state_dict(states[1])
    kept.settle(train)
    kept.to_unit_rows(EncodeOptions().length_exponent)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in kept.state_dict().items())


def test_a_graph_of_another_dataset_is_refused(tiny_data, tmp_path):
    encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=8, epochs=1), progress=False)
    catalogue = Catalogue.read(tiny_data)
    assert read_graph(tmp_path / "graph", catalogue).item_embeddings.shape == (catalogue.items.height, 8)
    other = Catalogue(catalogue.users.reverse(), catalogue.items)
    with pytest.raises(DataError, match="made from another dataset"):
        read_graph(tmp_path / "graph", other)
    with pytest.raises(DataError, match=r"expected collaborative.safetensors, found none"):
        read_graph(tmp_path, catalogue)


def test_the_help_states_the_defaults_that_hold(capsys):
    with pytest.raises(SystemExit):
        encode_command(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for field in fields(EncodeOptions):
        if field.default is not None:
            stated = text.split(f"--{field.name.replace('_', '-')} ")[-1].split("(default: ")[1].split(")")[0]
            assert type(field.default)(stated) == field.default, field.name


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "als"},
        {"length_exponent": 1.1},
        {"start": "warm"},
        {"dim": 0},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
        {"temperature": 0.01},
        {"aggregation": "max"},
        {"aggregation": "1,1"},
        {"aggregation": "0,0,0"},
        {"layers": 3, "aggregation": "1,nan,1,1"},
    ],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(DataError, match="expected"):
        EncodeOptions(**wrong)


def test_layers_and_their_weights_come_from_the_objective():
    assert EncodeOptions().layer_weights() == [0.2, 0.3, 0.5]
    assert EncodeOptions(objective="bpr").completed().layers == 3
    assert EncodeOptions(objective="bpr").layer_weights() == "mean"
    assert EncodeOptions(layers=3).layer_weights() == "mean"
    assert EncodeOptions(layers=1, aggregation="1,2").layer_weights() == [1.0, 2.0]
    assert EncodeOptions(aggregation="sum").layer_weights() == "sum"


def test_the_learning_rate_falls_with_the_width_and_may_be_given():
    assert [EncodeOptions(dim=dim).completed().learning_rate for dim in (16, 64, 1024)] == pytest.approx([0.03, 0.03, 0.00375])
    assert EncodeOptions(dim=256, learning_rate=0.5).completed().learning_rate == 0.5
    assert EncodeOptions(dim=256, objective="bpr").completed().learning_rate == 0.01


def test_a_loss_that_is_not_finite_ends_training_at_that_step(monkeypatch):
    train, held = checkerboard()
    steps = []

    def broken(*arguments):
        steps.append(1)
        return torch.tensor(float("nan") if len(steps) == 3 else 1.0, requires_grad=True)

    monkeypatch.setattr(fitting, "softmax_loss", broken)
    with pytest.raises(DataError, match=r"loss is nan at step 3; lower --learning-rate"):
        fit(train, held, catalogue_of(20, 20), EncodeOptions(dim=8), progress=False)
    assert len(steps) == 3


def test_without_validation_the_training_loss_chooses(tmp_path):
    train, _ = checkerboard()
    none = torch.empty(2, 0, dtype=torch.long)
    _, history = fit(train, none, catalogue_of(20, 20), EncodeOptions(dim=8, epochs=3), progress=False)
    assert len(history) == 3
    assert max(history) < 0


def test_the_caller_keeps_its_random_numbers():
    train, held = checkerboard()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(train, held, catalogue_of(20, 20), EncodeOptions(dim=8, epochs=1), progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tiny_data, tmp_path):
    arguments = ["--dim", "16", "--epochs", "40", "--patience", "40"]
    out, state = tmp_path / "killed", tmp_path / "killed.partial" / "progress.json"
    command = [sys.executable, "-m", "xrec_training.cli", "encode", str(tiny_data), "--out", str(out), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (state.is_file() and len(json.loads(state.read_text())["history"]) >= 3):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(json.loads(state.read_text())["history"])
    assert 3 <= done < 40
    assert not out.exists()
    assert main(["encode", str(tiny_data), "--out", str(out), *arguments, "--resume"]) == 0
    assert main(["encode", str(tiny_data), "--out", str(tmp_path / "whole"), *arguments]) == 0
    for name in LEFT:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_an_encode_can_be_broken_off_at_any_write_of_its_state(objective, tiny_data, tmp_path, monkeypatch):
    """The process may die between the tensors and the note that names them, or between two notes."""
    options = EncodeOptions(dim=8, epochs=6, objective=objective)
    encode(tiny_data, tmp_path / "whole", options, progress=False)
    for broken in ("save_file", "os.replace", "_flush"):
        out, calls = tmp_path / broken, []

        def dies(*arguments, calls=calls, original=None, **keywords):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return original(*arguments, **keywords)

        with monkeypatch.context() as patch:
            target = f"xrec_training.graph_checkpoint.{broken}"
            module, name = (os, "replace") if broken == "os.replace" else (fitting.GraphCheckpoint.save.__globals__, broken)
            original = getattr(module, name) if broken == "os.replace" else module[name]
            patch.setattr(target, lambda *a, original=original, dies=dies, **k: dies(*a, original=original, **k))
            with pytest.raises(KeyboardInterrupt):
                encode(tiny_data, out, options, progress=False)
        encode(tiny_data, out, options, progress=False, resume=True)
        graphs = [(tmp_path / name / "collaborative.safetensors").read_bytes() for name in (broken, "whole")]
        assert graphs[0] == graphs[1]


def test_a_state_of_another_run_is_refused(tiny_data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fitting._Run, "settled", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=8, epochs=2), progress=False)
    with pytest.raises(DataError, match=r"expected a run with dim 4, found one with 8"):
        encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=4, epochs=2), progress=False, resume=True)
    (tmp_path / "graph.partial" / "progress.json").write_text("{")
    with pytest.raises(DataError, match="leave --resume out to start anew"):
        encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=8, epochs=2), progress=False, resume=True)
    encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=8, epochs=2), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]


def test_nothing_to_resume_is_said(tiny_data, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=8, epochs=1), progress=False, resume=True)
    assert "nothing to resume" in caplog.text


def test_without_matplotlib_there_is_no_picture_and_a_line_says_so(tiny_data, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with caplog.at_level(logging.WARNING):
        encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=8, epochs=1), progress=False)
    assert sorted(path.name for path in (tmp_path / "graph").iterdir()) == [name for name in LEFT if name != "curve.png"]
    assert "matplotlib is not installed" in caplog.text


def test_fold_in_equals_propagation_of_the_new_node():
    """A node added with layer 0 = 0, all other layers and degrees held, by the plain definition."""
    train, _ = checkerboard()
    torch.manual_seed(0)
    model = LightGCN(20, 20, 8, num_layers=3)
    layers = model.propagate_layers(normalized_adjacency(train, 20, 20))
    degree = torch.bincount(train[1], minlength=20).float()
    history = [2, 5, 11]
    new = torch.zeros(8)
    for layer in layers[:-1]:
        new = new + sum(layer[20 + item] / (degree[item] * len(history)) ** 0.5 for item in history)
    model.settle(train)
    together = model.fold_in([history, [*history[::-1], 2]])
    torch.testing.assert_close(together, torch.stack([new, new]) / 4)
    with pytest.raises(ValueError, match="history 1 is empty"):
        model.fold_in([[1], []])
    with pytest.raises(ValueError, match="index 20, expected 0 to 19"):
        model.fold_in([[20]])
