import json
import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, GenerationConfig, dynamic_module_utils, pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import KeyDataset

from modeling_xrec.pipeline_xrec import CUSTOM_PIPELINES, RecommendationExplanationPipeline

TASK = "recommendation-explanation"
USER = {"user_id": "u1", "item_id": "i2"}
HISTORY = {"history": ["i2", "i1", "i2"], "item_id": "i1", "user_profile": "likes tea"}
VECTORS = {"user_embedding": [0.5, -1.0] * 4, "item_embedding": torch.arange(8.0), "title": "Green Hall"}
ROWS = [USER, HISTORY, VECTORS, {"user_id": "u2", "item_id": "i1"}, {"history": ["i1"], "item_id": "i2"}]
SHORT = {"max_new_tokens": 8}


@pytest.fixture
def parts(make_xrec):
    """A processor and a model whose answers differ from row to row."""
    processor, model = make_xrec()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3, generator=generator)
    model.lightgcn.settle(torch.tensor([[0, 0, 1], [0, 1, 1]]))
    return processor, model


@pytest.fixture
def pipe(parts):
    processor, model = parts
    return RecommendationExplanationPipeline(model, processor=processor, device="cpu")


@pytest.fixture
def registered():
    """The task in transformers' registry, whether or not the package has put it there."""
    if TASK in PIPELINE_REGISTRY.supported_tasks:
        yield
        return
    PIPELINE_REGISTRY.register_pipeline(TASK, RecommendationExplanationPipeline, pt_model=(AutoModelForCausalLM,))
    yield
    del PIPELINE_REGISTRY.supported_tasks[TASK], RecommendationExplanationPipeline._registered_impl


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """Keeps the code of loaded folders, and what is imported from it, within a test."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "transformers_modules":
            del sys.modules[name]


@torch.no_grad()
def generated(parts, inputs, **options):
    """What `generate` itself answers to the processor's inputs."""
    processor, model = parts
    options = {"max_new_tokens": 8, "pad_token_id": 0} | options
    new = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.tokenizer.batch_decode(new, skip_special_tokens=True)]


def plain_gates(adapter, embedding):
    logits = [sum(x * w for x, w in zip(embedding, column, strict=True)) for column in adapter.gate_weight.T.tolist()]
    return torch.tensor(logits, dtype=torch.float64).softmax(0).tolist()


def assert_same(found, wanted):
    """Equal texts, and numbers that are equal but for rounding."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == (pytest.approx(value, rel=1e-5, abs=1e-6) if "score" in key or "gates" in key else value), key


def test_a_stored_user_gets_what_generate_says_and_what_it_rests_on(parts, pipe):
    processor, model = parts
    user, item = model.lightgcn.user_embeddings[0].tolist(), model.lightgcn.item_embeddings[1].tolist()
    assert_same(
        pipe(USER, **SHORT),
        {
            "explanation": generated(parts, processor(**USER))[0],
            "user_id": "u1",
            "item_id": "i2",
            "title": "Red Bar",
            "user_profile": "likes quiet",
            "item_profile": "",
            "score": sum(u * i for u, i in zip(user, item, strict=True)),
            "user_gates": plain_gates(model.user_adapter, user),
            "item_gates": plain_gates(model.item_adapter, item),
        },
    )


@pytest.mark.parametrize("unit", [False, True])
def test_a_history_is_folded_in_and_its_items_share_the_score(parts, pipe, unit):
    processor, model = parts
    if unit:
        model.lightgcn.to_unit_rows()
    folded, item = model.lightgcn.fold_in([[1, 0]])[0], model.lightgcn.item_embeddings[0]
    prompt = processor.pad([{"input_ids": processor.prompt_ids("Blue Cafe", "likes tea", "serves tea")}], side="left")
    wanted = generated(parts, prompt | {"user_embeds": folded[None], "item_embeds": item[None]})
    found = pipe(HISTORY, **SHORT)
    assert found["explanation"] == wanted[0]
    assert found["history"] == ["i2", "i1"]
    assert "user_id" not in found
    assert (found["title"], found["user_profile"], found["item_profile"]) == ("Blue Cafe", "likes tea", "serves tea")
    assert found["score"] == pytest.approx(float(folded @ item), rel=1e-5)
    assert found["user_gates"] == pytest.approx(plain_gates(model.user_adapter, folded.tolist()), rel=1e-5)
    raw = model.lightgcn.item_fold_in
    length = float(((raw[0] + raw[1]) / 2**0.5).norm()) if unit else 1.0
    shares = [float(raw[entry] @ item) / 2**0.5 / length for entry in (1, 0)]
    assert found["history_scores"] == pytest.approx(shares, rel=1e-4)
    assert sum(found["history_scores"]) == pytest.approx(found["score"], rel=1e-5)


@pytest.mark.parametrize("kind", [torch.tensor, list])
def test_embeddings_stand_in_for_stored_ones(parts, pipe, kind):
    _, model = parts
    stored = pipe(USER, **SHORT)
    user, item = model.lightgcn.user_embeddings[0].tolist(), model.lightgcn.item_embeddings[1].tolist()
    texts = {"title": "Red Bar", "user_profile": "likes quiet"}
    brought = pipe({"user_embedding": kind(user), "item_embedding": kind(item), **texts}, **SHORT)
    assert_same(brought, {key: value for key, value in stored.items() if key not in ("user_id", "item_id")})
    half = pipe({"user_embedding": kind(user), "item_id": "i2", "user_profile": "likes quiet"}, **SHORT)
    assert_same(half, {key: value for key, value in stored.items() if key != "user_id"})


def test_texts_of_a_row_take_the_place_of_the_stored_ones(parts, pipe):
    processor, _ = parts
    row = USER | {"user_profile": "", "item_profile": "open late", "title": "The Red Bar"}
    assert pipe.preprocess(row)["row"]["input_ids"] == processor.prompt_ids("The Red Bar", "", "open late")
    found = pipe(row, **SHORT)
    assert [found[key] for key in ("title", "user_profile", "item_profile")] == ["The Red Bar", "", "open late"]
    assert pipe.preprocess(HISTORY)["row"]["input_ids"] == processor.prompt_ids("Blue Cafe", "likes tea", "serves tea")


def test_a_shortened_profile_is_reported(parts, pipe):
    processor, _ = parts
    processor.max_profile_tokens = 12
    found = pipe(USER | {"user_profile": "likes quiet places"}, **SHORT)
    assert found["user_profile"] == "likes quiet places"
    assert found["shortened"] == {"user_profile": [len("likes quiet places"), len("likes quiet")]}  # a token a byte
    assert "shortened" not in pipe(USER, **SHORT)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_a_mixed_list_gives_in_order_what_its_rows_give_alone(pipe, batch_size):
    alone = [pipe(row, **SHORT) for row in ROWS]
    assert len({row["explanation"] for row in alone}) == len(ROWS)
    together = pipe(ROWS, batch_size=batch_size, **SHORT)
    assert isinstance(together, list)
    assert len(together) == len(alone)
    for found, wanted in zip(together, alone, strict=True):
        assert_same(found, wanted)
    assert json.loads(json.dumps(together)) == together


def test_lists_and_streams_of_rows_keep_their_order(pipe):
    wanted = [pipe(row, **SHORT)["explanation"] for row in ROWS[:2]]
    # One schema for both: the first row's history is null, and the second's user_id.
    rows = [{"user_id": None, "history": None, "user_profile": None} | row for row in ROWS[:2]]
    with_nulls, nested = Dataset.from_list(rows), Dataset.from_list([{"pair": row} for row in rows])
    read = []
    streams = {
        "tuple": tuple(ROWS[:2]),
        "generator": (read.append(row) or row for row in ROWS[:2]),
        "iterator": iter(ROWS[:2]),
        "dataset": with_nulls,
        "streamed": with_nulls.to_iterable_dataset(),
        "key": KeyDataset(nested, "pair"),
    }
    for name, rows in streams.items():
        outputs = pipe(rows, batch_size=2, **SHORT)
        assert isinstance(outputs, list) == (name == "tuple"), name
        assert [row["explanation"] for row in outputs] == wanted, name
    assert len(read) == 2
    assert pipe([]) == []
    assert list(pipe(row for row in ())) == []


def test_a_stream_is_read_as_it_is_used(pipe):
    read = []
    outputs = iter(pipe((read.append(row) or row for row in [USER] * 20), batch_size=2, max_new_tokens=1))
    next(outputs)
    assert 2 <= len(read) < 10


def test_eighty_new_tokens_unless_the_model_or_the_caller_says_otherwise(parts, pipe):
    processor, model = parts
    inputs = processor(**USER)
    of_length = {n: generated(parts, inputs, max_new_tokens=n, eos_token_id=None)[0] for n in (79, 80, 12, 8, 5)}
    assert len(set(of_length.values())) == 5
    model.generation_config.eos_token_id = None
    assert pipe(USER)["explanation"] == of_length[80]
    model.generation_config.max_new_tokens = 12
    assert pipe(USER)["explanation"] == of_length[12]
    fixed = RecommendationExplanationPipeline(model, processor=processor, device="cpu", max_new_tokens=5)
    assert fixed(USER)["explanation"] == of_length[5]
    assert fixed(USER, max_new_tokens=8)["explanation"] == of_length[8]
    assert fixed(USER, generate_kwargs={"max_new_tokens": 8})["explanation"] == of_length[8]
    config = GenerationConfig(max_new_tokens=8, eos_token_id=None)
    assert fixed(USER, generation_config=config)["explanation"] == of_length[8]


def test_several_sequences_come_as_a_list(parts, pipe):
    processor, _ = parts
    beams = {"num_beams": 4, "num_return_sequences": 3}
    rows = pipe([USER, ROWS[3]], batch_size=2, **beams, **SHORT)
    for row, asked in zip(rows, (USER, ROWS[3]), strict=True):
        assert row["explanation"] == generated(parts, processor(**asked), **beams)
        assert len(set(row["explanation"])) == 3
    assert pipe(USER, num_return_sequences=1, **SHORT)["explanation"] == pipe(USER, **SHORT)["explanation"]


def test_sampling_options_reach_generate(parts, pipe):
    processor, _ = parts
    sampling = {"do_sample": True, "temperature": 0.7, "top_k": 20}
    torch.manual_seed(1)
    wanted = generated(parts, processor(**USER), **sampling)
    torch.manual_seed(1)
    assert pipe(USER, do_sample=True, generate_kwargs={"temperature": 0.7, "top_k": 20}, **SHORT)["explanation"] == wanted[0]
    assert wanted[0] != pipe(USER, **SHORT)["explanation"]


def test_the_explanation_is_the_new_text_alone(parts, pipe):
    tokenizer = parts[0].tokenizer
    answers = [tokenizer(f"  {text} \n", add_special_tokens=False)["input_ids"] + [2] for text in ("It is calm.", "Quiet")]
    lengths = []

    def dictate(row, ids):
        """Allows nothing but the answer; the prompts of the two rows are padded to one length."""
        lengths.append(len(ids))
        return answers[row][len(ids) - lengths[0] :][:1] or [0]

    found = pipe([USER, ROWS[3]], batch_size=2, generate_kwargs={"prefix_allowed_tokens_fn": dictate})
    assert [row["explanation"] for row in found] == ["It is calm.", "Quiet"]


def test_the_model_answers_in_evaluation_mode(parts):
    processor, model = parts
    model.train()
    pipe = RecommendationExplanationPipeline(model, processor=processor, device="cpu")
    first, second = (pipe(USER, **SHORT) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("u1", "expected a row such as .* found a str; give a dictionary"),
        (7, "found a int"),
        ({"item_id": "i1"}, "expected one of user_id, history or user_embedding in a row, found none"),
        ({"user_id": None, "item_id": "i1"}, "expected one of user_id, history or user_embedding in a row, found none"),
        (USER | {"history": ["i1"]}, "found user_id and history; give exactly one"),
        ({"user_id": "u1"}, "expected one of item_id or item_embedding in a row, found none"),
        (USER | {"item_embedding": [0.0] * 8}, "found item_id and item_embedding"),
        (USER | {"profile": "x"}, "unknown key 'profile' in a row, expected some of user_id, history"),
        ({"user_id": "nobody", "item_id": "i1"}, "unknown user 'nobody': expected one of the model's 2 users"),
        ({"user_id": "u1", "item_id": "none"}, "unknown item 'none': expected one of the model's 2 items"),
        ({"history": ["i1", "none"], "item_id": "i1"}, "unknown item 'none'"),
        ({"history": [], "item_id": "i1"}, "history is empty; give at least one item"),
        ({"history": "i1", "item_id": "i1"}, "history is 'i1'; expected a list of item ids"),
        ({"history": [1], "item_id": "i1"}, r"history is \[1\]; expected a list of item ids"),
        ({"user_id": 1, "item_id": "i1"}, r"expected user ids as text, found 1 \(int\)"),
        ({"user_id": ["u1"], "item_id": "i1"}, r"expected user ids as text, found \['u1'\]"),
        (USER | {"title": ["x"]}, r"title: expected text or None, found \['x'\]"),
        (VECTORS | {"title": None}, "expected a title beside item_embedding, found none"),
        (VECTORS | {"user_embedding": [0.0] * 7}, r"user_embedding is \(7,\), expected \(8,\)"),
        (VECTORS | {"user_embedding": torch.zeros(1, 8)}, r"user_embedding is \(1, 8\), expected \(8,\)"),
        (VECTORS | {"item_embedding": [float("nan")] * 8}, "item_embedding has NaN or infinity"),
        (VECTORS | {"item_embedding": "i1"}, "item_embedding is a str; expected 8 numbers"),
    ],
)
def test_wrong_rows_are_named_in_one_line(pipe, row, message):
    for inputs in (row, [row]) if isinstance(row, dict) else ([row],):
        with pytest.raises(ValueError, match=message) as caught:
            pipe(inputs, **SHORT)
        assert "\n" not in str(caught.value)


def test_what_is_no_row_and_no_collection_of_rows_is_refused(pipe):
    with pytest.raises(ValueError, match=r"expected a row such as .* found a str"):
        pipe("u1")
    with pytest.raises(ValueError, match="found a NoneType"):
        pipe(None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_new_token": 3},
            "unknown option 'max_new_token' of the recommendation-explanation pipeline; did you mean 'max_new",
        ),
        ({"zzz": 3}, "unknown option 'zzz' .* give arguments of generate in generate_kwargs"),
        ({"max_new_tokens": 3, "generate_kwargs": {"max_new_tokens": 4}}, "'max_new_tokens' is given twice"),
        ({"assistant_model": object()}, "expected no assistant_model"),
    ],
)
def test_wrong_options_are_named(parts, pipe, options, message):
    processor, model = parts
    if "assistant_model" not in options:
        with pytest.raises(ValueError, match=message):
            pipe(USER, **options)
    if "max_new_tokens" not in options:
        with pytest.raises(ValueError, match=message):
            RecommendationExplanationPipeline(model, processor=processor, device="cpu", **options)


def test_a_processor_is_asked_for(parts):
    with pytest.raises(ValueError, match="expected a processor, found none"):
        RecommendationExplanationPipeline(parts[1], device="cpu")


def test_a_model_without_tables_takes_embeddings_only(make_xrec):
    processor, model = make_xrec(num_users=0, num_items=0)
    pipe = RecommendationExplanationPipeline(model, processor=processor, device="cpu")
    with pytest.raises(
        ValueError, match="user 0 of the catalogue is beyond the model's table of 0 users; give user_embedding"
    ):
        pipe(USER)
    with pytest.raises(ValueError, match="stores no fold-in tables"):
        pipe(HISTORY)
    assert pipe(VECTORS, **SHORT)["score"] == pytest.approx(0.5 * (0 + 2 + 4 + 6) - (1 + 3 + 5 + 7))


def test_the_registered_task_builds_it_from_a_model_and_a_processor(parts, registered):
    processor, model = parts
    pipe = pipeline(TASK, model=model, processor=processor, tokenizer="another", device="cpu")
    assert type(pipe) is RecommendationExplanationPipeline
    assert pipe.tokenizer is processor.tokenizer


def test_a_saved_pipeline_is_whole(parts, registered, tmp_path):
    processor, model = parts
    pipe = pipeline(TASK, model=model, processor=processor, device="cpu")
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["custom_pipelines"] == CUSTOM_PIPELINES
    assert {"pipeline_xrec.py", "processing_xrec.py", "modeling_xrec.py"} <= {path.name for path in tmp_path.glob("*.py")}
    again = pipeline(
        TASK, model=str(tmp_path), device="cpu", local_files_only=True, pipeline_class=RecommendationExplanationPipeline
    )
    assert_same(again(USER, **SHORT), pipe(USER, **SHORT))


REMOTE = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_xrec", "xrec_training", "xrec_dataset_builder", "xrec_evaluation"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
from transformers import pipeline
row, told, folders = {"user_id": "u1", "item_id": "i2"}, [], sys.argv[1:]
for folder, again in zip(folders, [*folders[1:], None]):
    pipe = pipeline(model=folder, trust_remote_code=True, device="cpu")
    told.append([pipe.task, type(pipe).__module__, type(pipe.model).__module__, pipe(row, max_new_tokens=8)["explanation"]])
    if again:
        pipe.save_pretrained(again)
named = pipeline("recommendation-explanation", model=folder, trust_remote_code=True, device="cpu")
assert named(row, max_new_tokens=8)["explanation"] == told[0][-1]
print(json.dumps(told))
"""


# The two tests below need XRecPreTrainedModel.save_pretrained to write `custom_pipelines` and to bring pipeline_xrec.py along.
def assert_complete(folder):
    assert json.loads((folder / "config.json").read_text())["custom_pipelines"] == CUSTOM_PIPELINES
    assert {"pipeline_xrec.py", "users.json", "items.json"} <= {path.name for path in folder.iterdir()}


def test_a_saved_model_carries_its_pipeline_however_often_it_is_saved_again(parts, pipe, tmp_path):
    processor, model = parts
    folders = [tmp_path / name for name in ("model", "again", "third")]
    model.save_pretrained(folders[0])
    processor.save_pretrained(folders[0])
    environment = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), "PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", REMOTE, *folders]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    told = json.loads(result.stdout)
    assert [row[-1] for row in told] == [pipe(USER, **SHORT)["explanation"]] * 3
    assert {row[0] for row in told} == {TASK}
    for row, folder in zip(told, folders, strict=True):
        assert_complete(folder)
        for module in row[1:3]:
            assert module.startswith(f"transformers_modules.{folder.name}.")


def test_with_the_package_a_saved_model_loads_by_its_folder_and_saves_whole(parts, pipe, tmp_path, own_modules):
    processor, model = parts
    model.save_pretrained(tmp_path / "first")
    processor.save_pretrained(tmp_path / "first")
    pulled = pipeline(model=tmp_path / "first", trust_remote_code=True, device="cpu")
    assert (pulled.task, type(pulled.model), type(pulled.processor)) == (TASK, type(model), type(processor))
    pulled.save_pretrained(tmp_path / "second")
    assert_complete(tmp_path / "second")
    # Given a configuration, transformers replaces the names in its `custom_pipelines` by classes.
    again = pipeline(TASK, model=tmp_path / "second", config=model.config, trust_remote_code=True, device="cpu")
    for one in (pulled, again):
        assert_same(one(USER, **SHORT), pipe(USER, **SHORT))
    assert CUSTOM_PIPELINES == {
        TASK: {"impl": "pipeline_xrec.RecommendationExplanationPipeline", "pt": ["AutoModelForCausalLM"]}
    }
    again.save_pretrained(tmp_path / "third")
    model.save_pretrained(tmp_path / "third")
    assert_complete(tmp_path / "third")
