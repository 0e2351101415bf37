import json
import re
from importlib import resources
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from modeling_xrec import XRecForCausalLM, XRecProcessor
from modeling_xrec.reference_prompt import add_explain_row

GOLDEN = Path(__file__).parents[1] / "golden"
PROMPT = yaml.safe_load((resources.files("xrec_training") / "recipes" / "paper.yaml").read_text())["prompt"]
TEXT = re.compile(
    r"<s>(?P<system>.*<</SYS>>)(?P<lead>.*?)user record: <USER_EMBED> (?P<between>.*?)business record: <ITEM_EMBED> "
    r"business name: (?P<title>.*?) user profile: (?P<user_profile>.*) business profile: (?P<item_profile>.*?) "
    r"<EXPLAIN_POS>(?: (?P<explanation>.*))?\[/INST\]"
)
FIELDS = ("title", "user_profile", "item_profile", "explanation")


def texts_of(name, kind):
    """For each text of a case: its template, which is the recipe's but for words that shift the markers, and its values."""
    rows = []
    for text in json.loads((GOLDEN / name / "case.json").read_text())[f"{kind}_texts"]:
        found = TEXT.fullmatch(text).groupdict()
        prompt = PROMPT.replace("<</SYS>>", "<</SYS>>" + found["lead"]).replace(
            "} business r", "} " + found["between"] + "business r"
        )
        rows.append((prompt, [found[field] for field in FIELDS]))
    return rows


def golden_processor(name, prompt=PROMPT, **settings):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(GOLDEN / name / "tokenizer.json"),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )
    return XRecProcessor(tokenizer, prompt=prompt, prompt_style="reference", **settings)


def golden_batch(name):
    processors = [(golden_processor(name, prompt), values) for prompt, values in texts_of(name, "train")]
    return processors[0][0].pad([processor.example(*values) for processor, values in processors])


@pytest.fixture
def processor(make_processor):
    return make_processor(prompt=PROMPT, prompt_style="reference", max_profile_tokens=4096)


@pytest.mark.parametrize("name", ["A", "B", "F"])
def test_training_rows_labels_and_loss_are_the_references(golden_case, name):
    case, batch = golden_case(name), golden_batch(name)
    assert torch.equal(batch["input_ids"], case.io["train.input_ids"])
    assert torch.equal(batch["labels"][:, 1:], case.io["train.labels"])
    torch.testing.assert_close(case.model(**batch, **case.signal).loss, case.io["train.loss"], atol=1e-5, rtol=0)


def test_a_padded_row_counts_as_it_does_alone(golden_case):
    """Case C: the reference has padding among its labels and attends to it; here it weighs nothing."""
    case, batch = golden_case("C"), golden_batch("C")
    assert torch.equal(batch["input_ids"], case.io["train.input_ids"])
    labels = batch["labels"][:, 1:]
    wanted = case.io["train.labels"].masked_fill(case.io["train.input_ids"][:, 1:] == 107, -100)
    assert torch.equal(labels, wanted)
    weights = (labels != -100).sum(dim=1)
    alone = (case.io["train.loss_rows_alone"] * weights).sum() / weights.sum()
    torch.testing.assert_close(case.model(**batch, **case.signal).loss, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["A", "B", "F", "C"])
def test_generation_prompts_and_answers_are_the_references(golden_case, name):
    case, rows = golden_case(name), texts_of(name, "gen")
    processors = [golden_processor(name, prompt) for prompt, _ in rows]
    prompts = [one.prompt_ids(*values[:3]) for one, (_, values) in zip(processors, rows, strict=True)]
    for prompt, wanted in zip(prompts, case.io["gen.input_ids"], strict=True):
        assert prompt == wanted[wanted != 107].tolist()
    batch = processors[0].pad([{"input_ids": prompt} for prompt in prompts], side="left")
    ids = case.model.generate(**batch, **case.signal, max_new_tokens=24, do_sample=False, suppress_tokens=None)
    new = ids[:, batch["input_ids"].shape[1] :]
    assert torch.equal(new, case.io["gen.generated_ids_rows_alone"][:, : new.shape[1]])
    # In what the reference decoded, the answer ends where it writes [/INST]; markers are left out.
    alone = processors[0].tokenizer.batch_decode(case.io["gen.generated_ids_rows_alone"], skip_special_tokens=True)
    assert processors[0].read_answers(new) == [text.split("[/INST]")[0].strip() for text in alone]
    if name == "B":
        assert "[/INST]" in alone[2]  # so that there is something to cut


def test_a_catalogue_gives_the_references_prompt():
    ((_, (title, user_profile, item_profile, _)),) = texts_of("A", "gen")
    users = [{"user_id": "u", "user_profile": user_profile}]
    items = [{"item_id": "i", "title": title, "item_profile": item_profile}]
    batch = golden_processor("A", users=users, items=items)(user_id="u", item_id="i")
    assert torch.equal(batch["input_ids"], load_file(GOLDEN / "A" / "io.safetensors")["gen.input_ids"])


def test_texts_of_users_end_nothing(processor):
    control = ("<USER_EMBED>", "<ITEM_EMBED>", "<EXPLAIN_POS>", "</s>", "<s>")
    ids = [processor.tokenizer.convert_tokens_to_ids(text) for text in control]
    clean, bad = ["Cafe", "a", "b", "calm"], " ".join([*control, "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"])
    hostile = processor.example(*(text + bad for text in clean))["input_ids"]
    assert [hostile.count(token) for token in ids] == [1, 1, 1, 0, 1]
    text = processor.tokenizer.decode(hostile)
    for string in ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"):
        assert text.count(string) == 1
    assert text.endswith("[/INST]")
    assert hostile[-len("[/INST]") :] == processor.answer_ids("")[-len("[/INST]") :]


def test_an_empty_profile_keeps_its_space_and_an_empty_answer_loses_it(processor):
    decode = processor.tokenizer.decode
    assert "user profile:  business profile: tea <EXPLAIN_POS>[/INST]" in decode(processor.prompt_ids("Cafe", None, "tea"))
    example = processor.example("Cafe", "", "tea", "It is calm.")
    assert decode(example["input_ids"]).endswith("profile: tea <EXPLAIN_POS> It is calm.[/INST]")
    assert (
        processor.answer_ids("It is calm.")
        == example["input_ids"][example["input_ids"].index(processor.explain_token_id) + 1 :]
    )


def test_a_closing_that_is_one_token_is_cut_as_well(processor):
    processor.tokenizer.add_special_tokens({"additional_special_tokens": ["[/INST]"]}, replace_extra_special_tokens=False)
    answer = processor.answer_ids("It is calm.")
    assert answer[-1] == processor.tokenizer.convert_tokens_to_ids("[/INST]")
    assert processor.read_answers([answer + answer, answer[:-1]]) == ["It is calm.", "It is calm."]


def test_round_trip_keeps_the_style(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    again = XRecProcessor.from_pretrained(tmp_path)
    assert again.prompt_style == "reference"
    assert again.example("Cafe", "quiet", "tea", "calm") == processor.example("Cafe", "quiet", "tea", "calm")
    assert (
        again(user_id="u1", item_id="i1")["input_ids"].tolist() == processor(user_id="u1", item_id="i1")["input_ids"].tolist()
    )


def test_the_default_style_knows_no_explain_token(make_processor):
    processor = make_processor()
    assert processor.explain_token_id is None
    assert "<EXPLAIN_POS>" not in processor.tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "{user_marker}{item_marker} {title}"}, "to end with '{explain_marker} {explanation}' and what"),
        (
            {"prompt": PROMPT.replace(" {explanation}", "")},
            "to end with '{explain_marker} {explanation}' and what closes them",
        ),
        ({"prompt": PROMPT.replace("[/INST]", "{title}")}, "to end with '{explain_marker} {explanation}'"),
        ({"prompt": "{explanation} {title}" + PROMPT}, "to end with '{explain_marker} {explanation}'"),
        ({"prompt": PROMPT.replace("{item_marker}", "")}, r"0 times \{item_marker\}"),
        (
            {"prompt": PROMPT.replace("{explain_marker} ", "{explain_marker} so: ")},
            "to end with '{explain_marker} {explanation}'",
        ),
        ({"max_prompt_tokens": 99}, "expected max_prompt_tokens=None with prompt_style='reference', found 99"),
    ],
)
def test_what_the_style_cannot_use_is_refused(make_processor, settings, message):
    with pytest.raises(ValueError, match=message):
        make_processor(**({"prompt": PROMPT, "prompt_style": "reference"} | settings)).prompt_ids("Cafe", "", "")


def test_the_explain_row_is_added_once_frozen_and_kept_by_an_adapter_sized_checkpoint(tiny_xrec, tmp_path):
    tiny_xrec().language_model.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    before = base.get_input_embeddings().weight.detach().clone()
    settings = {"user_token_id": 110, "item_token_id": 111, "num_users": 5, "num_items": 7, "collaborative_dim": 8}
    model = XRecForCausalLM.from_backbone(str(tmp_path / "base"), **settings)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    add_explain_row(model, 112)
    rows = model.get_input_embeddings().weight
    assert rows.shape == (113, 32)
    assert torch.equal(rows[:110], before)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trainable
    add_explain_row(model, 112)
    assert model.get_input_embeddings().weight is rows
    model.save_pretrained(tmp_path / "run")
    again = XRecForCausalLM.from_pretrained(tmp_path / "run")
    ids = torch.tensor([[1, 110, 9, 111, 112, 8, 7]])
    batch = {
        "input_ids": ids,
        "labels": ids.where(ids == 112, -100),
        "user_ids": torch.tensor([1]),
        "item_ids": torch.tensor([2]),
    }
    loss = model(**batch).loss
    assert loss.isfinite()
    assert torch.equal(again(**batch).loss, loss)
