import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from xrec_dataset_builder.errors import DataError
from xrec_training import sampled_encoder
from xrec_training.graph_folder import read_graph
from xrec_training.objectives import softmax_loss
from xrec_training.ranking import ranking_metrics
from xrec_training.sampled_encoder import SampledOptions, encode_sampled, fit_sampled, main, sampled_softmax_loss
from xrec_training.tables import Catalogue

USERS, ITEMS, GROUPS = 240, 120, 6
SMALL = {"dim": 8, "epochs": 2, "neighbours": 3, "batch_size": 101, "negatives": 16}
MODULE = "xrec_training.sampled_encoder"


@pytest.fixture(scope="module")
def groups():
    """Users touch items of their group, most of which are held out, and a few others at random."""
    generator = torch.Generator().manual_seed(0)
    same = torch.arange(USERS).unsqueeze(1) % GROUPS == torch.arange(ITEMS) % GROUPS
    chance = torch.rand(USERS, ITEMS, generator=generator)
    train = (same & (chance < 0.4)) | (~same & (chance < 0.02))
    held = same & (chance >= 0.4)
    return train.nonzero().T, held.nonzero().T


def settings(**options):
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def surroundings(**more):
    """What `torchrun` needs on a machine without a network."""
    return os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"} | {k: str(v) for k, v in more.items()}


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def ndcg_of(groups, options):
    train, held = groups
    model, _ = fit_sampled(train, held, USERS, ITEMS, options, progress=False)
    model.settle(train)
    model.to_unit_rows()
    return ranking_metrics(model.user_embeddings, model.item_embeddings, train, held)["ndcg@20"]


def without_start(monkeypatch):
    """From random tables, so that what is learnt was learnt from the draws."""
    monkeypatch.setattr(sampled_encoder, "start_from_spectrum", lambda *_: None)


def test_few_drawn_neighbours_teach_what_all_of_them_teach(groups, monkeypatch):
    without_start(monkeypatch)
    options = {"dim": 8, "epochs": 4, "batch_size": 256, "negatives": 64, "learning_rate": 0.03}
    drawn, full = (ndcg_of(groups, SampledOptions(**options, neighbours=count)) for count in (4, USERS))
    assert full > 0.95
    assert drawn > full - 0.02


def test_neighbours_drawn_at_random_from_the_whole_graph_do_not_teach_it(groups, monkeypatch):
    """The margin above sees a broken sampler."""
    without_start(monkeypatch)
    original = sampled_encoder.propagate_sampled

    def broken(table, adjacency, *rest):
        columns = torch.randint(len(table), adjacency.col_indices().shape)
        wrong = torch.sparse_csr_tensor(adjacency.crow_indices(), columns, adjacency.values(), adjacency.shape)
        return original(table, wrong, *rest)

    monkeypatch.setattr(sampled_encoder, "propagate_sampled", broken)
    options = SampledOptions(dim=8, epochs=4, batch_size=256, negatives=64, learning_rate=0.03, neighbours=4)
    assert ndcg_of(groups, options) < 0.8


@pytest.mark.parametrize("length_exponent", [0.0, 0.4])
def test_with_all_items_drawn_the_loss_is_the_full_encoders(length_exponent):
    torch.manual_seed(0)
    users, items, weights = torch.randn(5, 4), torch.randn(9, 4), torch.rand(9) + 0.1
    places, touched = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4]), torch.tensor([3, 1, 0, 8, 7, 6, 2, 2])
    drawn = torch.randperm(9)
    arguments = (
        users[places],
        items[touched],
        items[drawn],
        touched.unsqueeze(1) == drawn,
        0.2,
        weights[touched],
        weights[drawn],
        9,
        length_exponent,
    )
    wanted = softmax_loss(users, items, places, touched, 0.2, weights=weights, length_exponent=length_exponent)
    torch.testing.assert_close(sampled_softmax_loss(*arguments), wanted)


def test_every_layer_and_step_has_a_draw_of_its_own(groups, monkeypatch):
    """One draw for all layers would bias paths that come back to a node."""
    seen, original = [], sampled_encoder.propagate_sampled

    def watched(*arguments):
        seen.extend(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(sampled_encoder, "propagate_sampled", watched)
    train, held = groups
    fit_sampled(train, held, USERS, ITEMS, SampledOptions(dim=8, layers=3, epochs=1, batch_size=256), progress=False)
    assert len(seen) > 6
    draws = torch.stack(seen)
    assert (draws.unsqueeze(0) == draws.unsqueeze(1)).float().mean(dim=2).fill_diagonal_(0).max() < 0.01


def test_without_validation_edges_the_last_epoch_is_kept(groups):
    train, held = groups
    options = SampledOptions(dim=8, epochs=3, patience=1, batch_size=256)
    model, history = fit_sampled(train, held[:, :0], USERS, ITEMS, options, progress=False)
    assert history == [0.0, 1.0, 2.0]
    assert model.user_embeddings.isfinite().all()


def test_leaves_a_graph_folder_like_the_full_encoder(tiny_data, tmp_path, capsys):
    assert main([str(tiny_data), "--out", str(tmp_path / "graph"), *settings(**SMALL)]) == 0
    assert "test       recall@20" in capsys.readouterr().out
    catalogue = Catalogue.read(tiny_data)
    tensors = read_graph(tmp_path / "graph", catalogue).state_dict()
    assert tensors["user_embeddings"].shape == (catalogue.users.height, 8)
    lengths = tensors["user_embeddings"].norm(dim=1)
    torch.testing.assert_close(lengths[lengths > 0], torch.ones_like(lengths[lengths > 0]))
    assert json.loads((tmp_path / "graph" / "metrics.json").read_text())["ranks"] == 1


@pytest.mark.slow
def test_two_ranks_train_what_one_trains(tiny_data, tmp_path):
    """The same batches, negatives and draws, dealt to two processes; 101 edges cannot be dealt evenly."""
    two = tmp_path / "two"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(free_port()), "-m", MODULE, str(tiny_data), "--out", str(two), *settings(**SMALL)]
    done = subprocess.run(command, env=surroundings(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    encode_sampled(tiny_data, tmp_path / "one", SampledOptions(**SMALL), progress=False)
    ones, twos = (load_file(tmp_path / name / "collaborative.safetensors") for name in ("one", "two"))
    for name, value in ones.items():
        torch.testing.assert_close(twos[name], value, atol=1e-4, rtol=1e-4)
    figures = json.loads((two / "metrics.json").read_text())
    assert figures["ranks"] == 2

    encode_sampled(tiny_data, tmp_path / "other", SampledOptions(**SMALL | {"seed": 1}), progress=False)
    other = load_file(tmp_path / "other" / "collaborative.safetensors")
    assert (F.cosine_similarity(other["user_embeddings"], ones["user_embeddings"]) < 0.999).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_a_rank_that_stops_ends_the_others_with_an_error(tiny_data, tmp_path, name):
    out, port = tmp_path / "graph", free_port()
    endless = settings(**SMALL | {"epochs": 10**6, "patience": 10**6, "timeout": 30})
    ranks = []
    try:
        for rank in range(2):
            own = surroundings(RANK=rank, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            command = [sys.executable, "-m", MODULE, str(tiny_data), "--out", str(out), *endless]
            with (tmp_path / f"rank{rank}").open("w") as errors:
                ranks.append(subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=errors))
        limit = time.monotonic() + 200
        while "score" not in (tmp_path / "rank0").read_text():
            assert time.monotonic() < limit, (tmp_path / "rank0").read_text()
            assert ranks[0].poll() is None, (tmp_path / "rank0").read_text()
            time.sleep(0.1)
        ranks[1].send_signal(getattr(signal, name))
        assert ranks[0].wait(timeout=60) == 1
        assert "rank 0: expected every rank to go on, found one that stopped" in (tmp_path / "rank0").read_text()
        assert not out.exists()
    finally:
        for process in ranks:
            process.kill()
            process.wait()


@pytest.mark.parametrize("wrong", [{"neighbours": 0}, {"batch_size": -1}, {"temperature": 0.0}])
def test_wrong_options_are_refused(wrong, tmp_path, capsys):
    with pytest.raises(DataError, match="above 0"):
        SampledOptions(**wrong)
    assert main([str(tmp_path), "--out", str(tmp_path / "graph"), *settings(**wrong)]) == 1
    assert "above 0" in capsys.readouterr().err


def test_a_folder_that_is_no_dataset_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "graph")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "graph").exists()
