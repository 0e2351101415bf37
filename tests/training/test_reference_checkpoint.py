import contextlib
import io
import json
import os
import pickle
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoProcessor, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from modeling_xrec import XRecForCausalLM
from xrec_training.cli import main
from xrec_training.reference_checkpoint import ReferenceFiles, convert, read_adapter, read_table

GOLDEN_A = Path(__file__).parents[1] / "golden" / "A"
USERS, ITEMS, DIM, EXPERTS, HIDDEN = 6, 9, 8, 3, 32


def adapter_tensors(dim=DIM, experts=EXPERTS, hidden=HIDDEN):
    tensors = OrderedDict(w_gate=torch.randn(dim, experts), w_noise=torch.randn(dim, experts))
    for expert in range(experts):
        tensors[f"experts.{expert}.bias"] = torch.randn(dim)
        tensors[f"experts.{expert}.lin.weight"] = torch.randn(hidden, dim)
    return tensors


def write_reference(folder, users, items, adapters):
    folder.mkdir()
    for side, table in (("user", users), ("item", items)):
        (folder / f"{side}_emb.pkl").write_bytes(pickle.dumps(table))
        torch.save(adapters[side], folder / f"{side}_converter.pkl")
    return folder


@pytest.fixture
def base(tmp_path):
    """A tiny Llama without a tokenizer."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=110, hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def reference(tmp_path):
    """Files as the reference leaves them: both tables are views of one tensor that requires a gradient."""
    torch.manual_seed(2)
    rows = torch.randn(USERS + ITEMS, DIM, requires_grad=True) * 1.0
    adapters = {"user": adapter_tensors(), "item": adapter_tensors()}
    return write_reference(tmp_path / "reference", rows[:USERS], rows[USERS:], adapters)


def plainly_adapted(tensors, rows):
    """The paper's formula, expert by expert, in float64."""
    tensors, rows = {name: tensor.double() for name, tensor in tensors.items()}, rows.double()
    gates = (rows @ tensors["w_gate"]).softmax(dim=-1)
    outputs = torch.zeros(len(rows), len(tensors["experts.0.lin.weight"]), dtype=torch.float64)
    for expert in range(gates.shape[1]):
        spoken = (rows - tensors[f"experts.{expert}.bias"]) @ tensors[f"experts.{expert}.lin.weight"].T
        outputs += gates[:, expert, None] * spoken
    return outputs


def test_the_converted_folder_holds_the_reference_s_tables_and_adapters(reference, base, tmp_path):
    convert(reference, str(base), tmp_path / "run")
    model = XRecForCausalLM.from_pretrained(tmp_path / "run")
    for side, count in (("user", USERS), ("item", ITEMS)):
        table = pickle.loads((reference / f"{side}_emb.pkl").read_bytes())  # noqa: S301 - made by this test
        tensors = torch.load(reference / f"{side}_converter.pkl")
        assert table.shape == (count, DIM)
        assert torch.equal(getattr(model.lightgcn, f"{side}_embeddings"), table)
        assert not getattr(model.lightgcn, f"{side}_fold_in").any()
        assert getattr(model.lightgcn, f"{side}_fold_in").shape == table.shape
        with torch.no_grad():
            adapted = getattr(model, f"{side}_adapter")(table)[:, 0].double()
        torch.testing.assert_close(adapted, plainly_adapted(tensors, table.detach()), atol=1e-5, rtol=1e-5)
    backbone = LlamaForCausalLM.from_pretrained(base).state_dict()
    assert all(torch.equal(value, backbone[name]) for name, value in model.language_model.state_dict().items())
    assert (model.config.injection, model.config.num_experts, model.config.collaborative_dim) == ("qkv", EXPERTS, DIM)
    assert (
        sum(f.stat().st_size for f in (tmp_path / "run").glob("*.safetensors")) < (base / "model.safetensors").stat().st_size
    )


@pytest.mark.parametrize("tokenizer", [True, False])
def test_golden_logits_from_the_converted_folder(tmp_path, tokenizer):
    case = load_file(GOLDEN_A / "io.safetensors")
    (tmp_path / "base").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN_A / name, tmp_path / "base" / name)
    if tokenizer:
        backend = PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN_A / "tokenizer.json"), eos_token="</s>", pad_token="<pad>")
        backend.save_pretrained(tmp_path / "base")
    torch.manual_seed(3)
    tables = {"user": torch.randn(5, 64), "item": torch.randn(4, 64)}
    tables["user"][3], tables["item"][2] = case["user_cf"][0], case["item_cf"][0]
    adapters = {side: load_file(GOLDEN_A / f"{side}_converter.safetensors") for side in tables}
    made = convert(
        write_reference(tmp_path / "reference", tables["user"], tables["item"], adapters),
        str(tmp_path / "base"),
        tmp_path / "run",
    )
    model = XRecForCausalLM.from_pretrained(tmp_path / "run")
    prompt = case["gen.input_ids"].clone()
    prompt[prompt == 104] = model.config.user_token_id
    prompt[prompt == 105] = model.config.item_token_id
    with torch.no_grad():
        logits = model(prompt, user_ids=torch.tensor([3]), item_ids=torch.tensor([2])).logits
    torch.testing.assert_close(logits, case["gen.logits"], atol=1e-5, rtol=0)
    assert (model.config.user_token_id, model.config.item_token_id) == (108, 109)
    if tokenizer:
        processor = AutoProcessor.from_pretrained(tmp_path / "run")
        assert (processor.user_token_id, processor.item_token_id) == (108, 109)
    assert ("no processor" in made.summary()) is not tokenizer
    assert (tmp_path / "run" / "tokenizer.json").exists() is tokenizer


def test_no_weight_of_the_backbone_is_needed(reference, base, tmp_path, capsys):
    (base / "model.safetensors").unlink()
    assert main(["convert", str(reference), "--base", str(base), "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    per_side = 2 * DIM * EXPERTS + EXPERTS * (DIM + HIDDEN * DIM)
    assert f"{2 * per_side:,} parameters" in printed
    assert f"{USERS} users and {ITEMS} items" in printed
    assert "history" in printed
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)


def test_the_commit_of_a_hub_backbone_is_pinned(reference, base, tmp_path, monkeypatch):
    class Resolved(str):
        resolved = "a" * 40

    hub_config, read = AutoConfig.from_pretrained(base), []
    monkeypatch.setattr("xrec_training.reference_checkpoint.resolve_revision", lambda name, revision: Resolved("main"))
    monkeypatch.setattr(
        "xrec_training.reference_checkpoint.AutoConfig.from_pretrained",
        lambda name, revision: read.append((name, revision)) or hub_config,
    )
    monkeypatch.setattr(
        "xrec_training.reference_checkpoint.AutoTokenizer.from_pretrained",
        lambda name, revision: read.append((name, revision)) or (_ for _ in ()).throw(OSError("none")),
    )
    made = convert(reference, "someone/backbone", tmp_path / "run")
    assert made.config.base_model_revision == "a" * 40
    assert read == [("someone/backbone", "main"), ("someone/backbone", "a" * 40)]


def gpu_pickle(table, monkeypatch):
    """The bytes that a tensor on a GPU leaves."""
    with monkeypatch.context() as patch:
        patch.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
        payload = pickle.dumps(table)
    assert b"cuda:0" in payload
    return payload


def test_every_way_to_pickle_a_table_gives_the_same_floats(tmp_path, monkeypatch):
    table = torch.arange(12.0).reshape(4, 3) / 8
    array = table.numpy()
    payloads = {
        "tensor": pickle.dumps(table),
        "with gradient": pickle.dumps(table.clone().requires_grad_()),
        "parameter": pickle.dumps(torch.nn.Parameter(table)),
        "on a GPU": gpu_pickle(table, monkeypatch),
        "transposed": pickle.dumps(table.T.contiguous().T),
        "part": pickle.dumps(torch.cat([torch.ones(2, 3), table, torch.ones(1, 3)])[2:6]),
        "half": pickle.dumps(table.half()),
        "bfloat16": pickle.dumps(table.bfloat16()),
        "double": pickle.dumps(table.double()),
        "array": pickle.dumps(array, protocol=4),
        "array, protocol 5": pickle.dumps(array, protocol=5),
        "array by columns": pickle.dumps(np.asfortranarray(array), protocol=4),
        "array by columns, protocol 5": pickle.dumps(np.asfortranarray(array), protocol=5),
        "big-endian doubles": pickle.dumps(array.astype(">f8")),
    }
    for name, payload in payloads.items():
        (tmp_path / "table.pkl").write_bytes(payload)
        read = read_table(tmp_path / "table.pkl")
        assert torch.equal(read, table), name
        assert (read.dtype, read.is_contiguous(), read.requires_grad) == (torch.float32, True, False), name
        assert read.untyped_storage().nbytes() == 4 * table.numel(), name


class Calls:
    """Pickles into a call; what is called may be the result of another."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __call__(self):
        raise AssertionError("only for pickling")

    def __reduce__(self):
        return self.call


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def tensor_over(payload):
    """A pickled tensor whose storage is made from these bytes."""
    storage = Calls(torch.storage._load_from_bytes, payload)
    return pickle.dumps(Calls(torch._utils._rebuild_tensor_v2, storage, 0, (1, 1), (1, 1), False, OrderedDict()))


def hostile_pickles(command):
    """Pickles that run a shell command when they are loaded, and what must be refused in each."""
    system = Calls(os.system, command)
    argument = b"X" + len(command).to_bytes(4, "little") + command.encode()
    objects = np.empty(1, dtype=object)
    objects[0] = system
    hooks = OrderedDict(hook=system)
    fetched = Calls(Calls(getattr, Calls(__import__, "os"), "system"), command)
    known = b"ctorch._utils\n_rebuild_tensor_v2\n"
    return {
        "a call, protocol 0": (pickle.dumps(system, protocol=0), "posix.system"),
        "a call, protocol 2": (pickle.dumps(system, protocol=2), "posix.system"),
        "a call, protocol 4": (pickle.dumps(system, protocol=4), "posix.system"),
        "an instance": (b"(" + argument + b"ios\nsystem\n.", "os.system"),
        "eval": (pickle.dumps(Calls(eval, f"__import__('os').system({command!r})")), "builtins.eval"),
        "getattr": (pickle.dumps(fetched), "builtins.getattr"),
        "a chain of attributes": (
            b"\x80\x04" + short("torch.serialization") + short("os.system") + b"\x93" + argument + b"\x85R.",
            "torch.serialization.os.system",
        ),
        "a known name, replaced in the memo": (
            b"\x80\x02" + known + b"q\x000cposix\nsystem\nq\x000h\x00" + argument + b"\x85R.",
            "posix.system",
        ),
        "in a storage, protocol 2": (tensor_over(pickle.dumps(system, protocol=2)), "posix.system"),
        "in a storage, protocol 4": (tensor_over(pickle.dumps(system, protocol=4)), "posix.system"),
        "in a storage of a storage": (tensor_over(tensor_over(pickle.dumps(system))), "torch's safe reader refuses"),
        "a storage alone": (
            pickle.dumps(Calls(torch.storage._load_from_bytes, pickle.dumps(system))), "a storage of another form"
        ),
        "in a parameter's hooks": (
            pickle.dumps(Calls(torch._utils._rebuild_parameter, torch.zeros(2, 2), True, hooks)), "posix.system"
        ),
        "in an array of objects": (pickle.dumps(objects, protocol=4), "posix.system"),
    }  # fmt: skip


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def hostile_adapters(command):
    """Adapter files that run a shell command when they are loaded without care."""
    tensors = {"w_gate": Calls(os.system, command)}
    return {
        "zip": (saved(tensors), "posix.system"),
        "legacy": (saved(tensors, _use_new_zipfile_serialization=False), "posix.system"),
        "plain pickle, protocol 2": (pickle.dumps(tensors, protocol=2), "posix.system"),
        "plain pickle, protocol 4": (pickle.dumps(tensors, protocol=4), "posix.system"),
    }


@pytest.mark.parametrize("name", hostile_pickles(""))
def test_a_hostile_table_is_refused_by_name_before_anything_runs(reference, base, tmp_path, name):
    evidence = tmp_path / "ran"
    payload, refused = hostile_pickles(f"touch {evidence}")[name]
    with contextlib.suppress(Exception):
        pickle.loads(payload)  # noqa: S301 - shows that the file does what this test says
    assert evidence.exists()
    evidence.unlink()
    (reference / "item_emb.pkl").write_bytes(payload)
    with pytest.raises(ValueError, match=re.escape(refused)) as error:
        convert(reference, str(base), tmp_path / "run")
    assert not evidence.exists()
    assert "item_emb.pkl" in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "reference"]


@pytest.mark.parametrize("name", hostile_adapters(""))
def test_a_hostile_adapter_is_refused_by_name_before_anything_runs(tmp_path, name):
    evidence = tmp_path / "ran"
    payload, refused = hostile_adapters(f"touch {evidence}")[name]
    with contextlib.suppress(Exception):
        torch.load(io.BytesIO(payload), weights_only=False)
    assert evidence.exists()
    evidence.unlink()
    (tmp_path / "user_converter.pkl").write_bytes(payload)
    with pytest.raises(ValueError, match=rf"user_converter\.pkl: .*{refused}"):
        read_adapter(tmp_path / "user_converter.pkl")
    assert not evidence.exists()


def test_a_pickle_cannot_change_the_functions_it_names(tmp_path):
    payload = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x06\x00\x00\x00markedK\x01s\x86b."
    pickle.loads(payload)  # noqa: S301 - as above
    assert torch._utils._rebuild_tensor_v2.marked == 1
    del torch._utils._rebuild_tensor_v2.marked
    (tmp_path / "table.pkl").write_bytes(payload)
    with pytest.raises(ValueError, match="a tensor of another form"):
        read_table(tmp_path / "table.pkl")
    assert not hasattr(torch._utils._rebuild_tensor_v2, "marked")


def outside_its_storage():
    storage = Calls(
        torch.storage._load_from_bytes, saved(torch.zeros(4).untyped_storage(), _use_new_zipfile_serialization=False)
    )
    return Calls(torch._utils._rebuild_tensor_v2, storage, 2, (2, 2), (2, 1), False, OrderedDict())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("user_emb.pkl", None, "expected a file, found none"),
        ("user_emb.pkl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run `git lfs pull`"),
        ("user_emb.pkl", b"", "does not read as one"),
        ("user_emb.pkl", pickle.dumps(torch.zeros(USERS, DIM))[:-9], "does not read as one"),
        ("user_emb.pkl", pickle.dumps([[1.0, 2.0]]), "it holds a list"),
        ("user_emb.pkl", pickle.dumps(torch.zeros(USERS)), r"a tensor of shape \(6,\)"),
        ("user_emb.pkl", pickle.dumps(torch.zeros(0, DIM)), r"a tensor of shape \(0, 8\)"),
        ("user_emb.pkl", pickle.dumps(torch.zeros(USERS, DIM, dtype=torch.long)), r"torch\.int64"),
        ("user_emb.pkl", pickle.dumps(np.zeros((USERS, DIM), dtype=int)), "an array of another form"),
        ("user_emb.pkl", pickle.dumps(torch.full((USERS, DIM), float("nan"))), "NaN, infinity"),
        ("user_emb.pkl", pickle.dumps(torch.full((USERS, DIM), 1e300, dtype=torch.double)), "beyond float32"),
        ("user_emb.pkl", pickle.dumps(torch.zeros(1).expand(10**6, 10**6)), "fewer numbers than its shape"),
        ("user_emb.pkl", pickle.dumps(outside_its_storage()), "does not read as one"),
        ("user_emb.pkl", pickle.dumps(torch.zeros(USERS, DIM + 1)), r"'user': 9, 'item': 8"),
        ("item_converter.pkl", saved(torch.zeros(3)), "something else than named tensors"),
        ("item_converter.pkl", saved({"w_gate": torch.zeros(DIM, EXPERTS)}), r"no matrix experts\.0\.lin\.weight"),
        ("item_converter.pkl", saved(adapter_tensors() | {"w_gate": torch.zeros(DIM, 10**5)}), "fewer numbers than 100000"),
        ("item_converter.pkl", saved(adapter_tensors(experts=2)), r"'item': \(2, 8, 32\)"),
        ("item_converter.pkl", saved(adapter_tensors(hidden=16)), r"'item': \(3, 8, 16\)"),
        ("item_converter.pkl", saved(adapter_tensors() | {"w_extra": torch.zeros(2)}), "unexpected .*w_extra"),
        ("item_converter.pkl", saved(adapter_tensors() | {"w_noise": torch.full((DIM, EXPERTS), torch.inf)}), "NaN, inf"),
        ("item_converter.pkl", saved(adapter_tensors())[:-99], "does not read as one"),
    ],
)
def test_a_wrong_file_gives_one_line_and_leaves_nothing(reference, base, tmp_path, capsys, name, content, message):
    (reference / name).unlink()
    if content is not None:
        (reference / name).write_bytes(content)
    assert main(["convert", str(reference), "--base", str(base), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, error), error
    assert str(reference) in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "reference"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 16}, "of hidden size 32 .* found .* of hidden size 16, 4 query"),
        ({"num_key_value_heads": 2}, "4 query and 2 key heads"),
        ({"model_type": "bloom", "n_head": 4}, "cannot be the adapters' backbone"),
        ({"model_type": "none-such"}, "whose configuration does not load"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused(reference, base, tmp_path, change, message):
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        convert(reference, str(base), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_output_folder_in_use_is_left_alone(reference, base, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        convert(reference, str(base), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]
    assert (tmp_path / "run" / "mine.txt").read_text() == "mine"


def test_the_published_sizes_make_4197376_adapter_parameters(tmp_path):
    adapters = {side: {n: t * 0 for n, t in adapter_tensors(64, 8, 4096).items()} for side in ("user", "item")}
    write_reference(tmp_path / "reference", torch.zeros(2, 64), torch.zeros(3, 64), adapters)
    files = ReferenceFiles.read(tmp_path / "reference")
    assert files.adapters["user"].expert_weight.shape == (8, 64, 4096)
    assert files.num_parameters == 4_197_376
