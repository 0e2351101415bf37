import json
import os
import shutil

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import Trainer

from modeling_xrec import XRecForCausalLM, XRecProcessor
from modeling_xrec.signals import apply_signal
from xrec_dataset_builder.errors import DataError
from xrec_training import atomic_checkpoints, trainer
from xrec_training.examples import ExplanationDataset, PadCollator
from xrec_training.finetune import train
from xrec_training.finite_guard import first_unsound_gradient
from xrec_training.tables import Catalogue, read_explanations


@pytest.fixture
def start(tiny_run, tiny_data, tiny_graph, recipe_of, tmp_path):
    """Trains on the small world's backbone with overrides, into `tmp_path/run`."""

    def run(**overrides):
        settings = {"backbone": str(tiny_run.with_name("model-backbone")), "max_steps": 6, "logging_steps": 1} | overrides
        return train(tiny_data, tiny_graph, tmp_path / "run", recipe_of(**settings))

    return run


def spoil(monkeypatch, step: int, how) -> None:
    """Lets `how` change the loss of one training step."""
    compute = trainer.XRecTrainer.compute_loss

    def spoiled(self, model, inputs, *args, **kwargs):
        loss = compute(self, model, inputs, *args, **kwargs)
        return how(loss) if model.training and self.state.global_step + 1 == step else loss

    monkeypatch.setattr(trainer.XRecTrainer, "compute_loss", spoiled)


class _NanGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


@pytest.mark.parametrize(
    ("how", "what"),
    [
        (lambda loss: loss * float("nan"), "a finite loss, found nan"),
        (lambda loss: loss + float("inf"), "a finite loss, found inf"),
        (_NanGradient.apply, r"a finite gradient of user_adapter.\w+, found NaN or infinity"),
    ],
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_what_is_not_finite_stops_the_run_within_the_step(start, monkeypatch, tmp_path, tiny_data, how, what, accumulation):
    spoil(monkeypatch, 4, how)
    with pytest.raises(DataError, match=rf"^step 4: expected {what}, with the pairs \(.*diverged.json\); nothing was saved"):
        start(save_steps=1, gradient_accumulation_steps=accumulation, per_device_train_batch_size=8)
    partial = tmp_path / "run.partial"
    assert atomic_checkpoints.newest_checkpoint(partial).name == "checkpoint-3"
    assert not (tmp_path / "run").exists()
    assert all(value.isfinite().all() for value in load_file(partial / "checkpoint-3" / "model.safetensors").values())
    told = json.loads((partial / "diverged.json").read_text())
    batches = accumulation if "gradient" in what else 1
    assert (told["step"], len(told["pairs"])) == (4, 8 * batches)
    known = set(read_explanations(tiny_data, "train").select("user_id", "item_id").iter_rows())
    assert {(pair["user_id"], pair["item_id"]) for pair in told["pairs"]} <= known


def test_plain_trainer_would_have_gone_on(start, monkeypatch):
    """What the guard is for: without it the run ends well and the weights are NaN."""
    spoil(monkeypatch, 4, lambda loss: loss * float("nan"))
    monkeypatch.setattr(trainer.FiniteGuard, "check_loss", lambda *args: None)
    monkeypatch.setattr(trainer.FiniteGuard, "on_pre_optimizer_step", lambda *args, **kwargs: None)
    run = start()
    assert load_file(run / "model.safetensors")["user_adapter.expert_weight"].isnan().all()


def test_the_first_unsound_gradient_is_named():
    layer = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
    assert first_unsound_gradient(layer) is None
    layer(torch.ones(2, 3)).sum().backward()
    assert first_unsound_gradient(layer) is None
    layer[1].weight.grad[0, 2] = float("inf")
    assert first_unsound_gradient(layer) == "1.weight"


def test_embeddings_that_are_not_finite_never_train(tiny_run, tiny_data, tiny_graph, recipe_of, tmp_path):
    graph = tmp_path / "graph"
    shutil.copytree(tiny_graph, graph)
    tables = load_file(graph / "collaborative.safetensors")
    tables["user_embeddings"][3, 1] = float("nan")
    save_file(tables, graph / "collaborative.safetensors")
    with pytest.raises(DataError, match="user_embeddings holds NaN or infinity"):
        train(tiny_data, graph, tmp_path / "run", recipe_of(backbone=str(tiny_run.with_name("model-backbone"))))


@pytest.mark.parametrize("written", ["model.safetensors", "collaborative.safetensors", "optimizer.pt", "rng_state.pth",
                                     "trainer_state.json", "running_loss"])  # fmt: skip
def test_a_full_disk_keeps_the_last_checkpoint_and_says_what_to_do(start, monkeypatch, tmp_path, written):
    """The disk is full at one file of the second checkpoint after the other."""
    monkeypatch.setattr(
        "xrec_training.trainer.XRecTrainer._save_checkpoint", _full_at(written, trainer.XRecTrainer._save_checkpoint)
    )
    with pytest.raises(
        DataError, match=r"expected to save the checkpoint of step 4, found .*No space left.*checkpoint-2 is whole"
    ):
        start(save_steps=2)
    partial = tmp_path / "run.partial"
    assert sorted(path.name for path in partial.iterdir()) == ["checkpoint-2", "run.json"]


def _full_at(written, save):
    """A `_save_checkpoint` in whose second call one file meets a full disk."""

    def wrapped(self, *args):
        if self.state.global_step < 4:
            return save(self, *args)
        full = OSError(28, "No space left on device")
        with pytest.MonkeyPatch.context() as patch:
            if written.endswith("safetensors"):
                name = "save_tables" if written.startswith("coll") else "save_checksums"
                patch.setattr(f"modeling_xrec.checkpoint_xrec.{name}", _raise(SafetensorError(f"IoError({full})")))
            elif written.startswith("running"):
                patch.setattr(type(self.running_loss), "write", _raise(full))
            elif written == "trainer_state.json":
                patch.setattr(type(self.state), "save_to_json", _raise(full))
            else:
                patch.setattr(torch, "save", _full_for(written, torch.save, RuntimeError(str(full))))
            return save(self, *args)

    return wrapped


def _full_for(ending, save, error):
    def function(value, path, *args, **kwargs):
        if str(path).endswith(ending):
            raise error
        return save(value, path, *args, **kwargs)

    return function


def _raise(error):
    def function(*args, **kwargs):
        raise error

    return function


def test_accumulated_small_batches_are_one_large_batch(start, tmp_path, monkeypatch):
    """By tokens, not by batches: rows of unlike lengths would weigh differently otherwise."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # the gates' noise
    how = {"max_steps": 2, "train_sampling_strategy": "sequential", "learning_rate": 0.01, "adapter_dropout": 0.0}
    one = load_file(start(**how, per_device_train_batch_size=8) / "model.safetensors")
    shutil.move(tmp_path / "run", tmp_path / "one")
    two = load_file(start(**how, per_device_train_batch_size=2, gradient_accumulation_steps=4) / "model.safetensors")
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=2e-6), name


def test_the_validation_loss_is_a_mean_over_tokens_however_they_are_batched(start, tmp_path, tiny_data):
    losses = []
    for size in (1, 7, 64):
        run = start(max_steps=1, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=size)
        log = json.loads((run / "training.json").read_text())["log"]
        losses += [row["eval_loss"] for row in log if "eval_loss" in row]
        shutil.move(run, tmp_path / str(size))
    model, processor = XRecForCausalLM.from_pretrained(tmp_path / "1"), XRecProcessor.from_pretrained(tmp_path / "1")
    rows = read_explanations(tiny_data, "validation")
    total = tokens = 0.0
    for example in ExplanationDataset(processor, rows, Catalogue.read(tiny_data).rows(rows)):
        batch = PadCollator(processor)([example])
        logits, labels = model(**batch).logits[0, :-1].double(), batch["labels"][0, 1:]
        kept = labels != -100
        total -= logits.log_softmax(-1)[kept, labels[kept]].sum().item()
        tokens += int(kept.sum())
    assert losses == pytest.approx([total / tokens] * 3, rel=1e-6)


def test_random_fresh_hears_new_vectors_every_batch_and_stores_unheard_ones(start, tiny_graph, monkeypatch):
    heard: list[dict] = []
    compute = Trainer.compute_loss

    def listening(self, model, inputs, *args, **kwargs):
        heard.append(dict(inputs))
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(Trainer, "compute_loss", listening)
    run = start(signal="random-fresh", eval_strategy="epoch")
    assert all("user_ids" not in inputs and "item_ids" not in inputs for inputs in heard)
    vectors = torch.cat([inputs["user_embeds"] for inputs in heard])
    assert len(torch.unique(vectors, dim=0)) == len(vectors)
    stored, graph = (load_file(folder / "collaborative.safetensors") for folder in (run, tiny_graph))
    assert torch.equal(stored["user_embeddings"], apply_signal(graph, "random-fresh")["user_embeddings"])
    assert vectors.square().mean().sqrt() == pytest.approx(graph["user_embeddings"].square().mean().sqrt().item(), rel=0.1)


def test_early_stopping_keeps_the_best_weights(start, monkeypatch, tmp_path):
    losses = iter([3.0, 2.0, 2.5, 2.6, 1.0])
    evaluate = trainer.XRecTrainer.evaluation_loop

    def scripted(self, *args, **kwargs):
        output = evaluate(self, *args, **kwargs)
        output.metrics["eval_loss"] = next(losses)
        seen[self.state.global_step] = {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}
        return output

    seen: dict = {}
    monkeypatch.setattr(trainer.XRecTrainer, "evaluation_loop", scripted)
    settings = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "max_steps": 20}
    run = start(early_stopping_patience=2, **settings)
    assert list(seen) == [2, 4, 6, 8]
    kept = load_file(run / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in seen[4].items())
    assert any(not torch.equal(kept[name], value) for name, value in seen[8].items())


def test_what_a_dead_process_was_writing_is_never_taken_for_a_checkpoint(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10", ".saving", "checkpoint-x", "checkpoint-11.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-12").write_text("a file")
    assert atomic_checkpoints.newest_checkpoint(tmp_path).name == "checkpoint-10"
    assert atomic_checkpoints.newest_checkpoint(tmp_path / "none") is None
    staging = tmp_path / atomic_checkpoints.STAGING
    atomic_checkpoints.clear_staging(tmp_path)
    assert not staging.exists()
    (staging / "checkpoint-12").mkdir(parents=True)
    (staging / "checkpoint-12" / "file").write_text("new")
    (tmp_path / "checkpoint-12").unlink()
    atomic_checkpoints.put_in_place(staging / "checkpoint-12", tmp_path / "checkpoint-12")
    assert (tmp_path / "checkpoint-12" / "file").read_text() == "new"
    assert not staging.exists()
    assert os.listdir(tmp_path / "checkpoint-12") == ["file"]
