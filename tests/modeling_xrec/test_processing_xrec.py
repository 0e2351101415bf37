import random

import pytest
import torch

from modeling_xrec import XRecProcessor
from modeling_xrec.processing_xrec import ITEM_MARKER, USER_MARKER


@pytest.fixture
def processor(make_processor):
    return make_processor()


def counts(processor, ids):
    return ids.count(processor.user_token_id), ids.count(processor.item_token_id)


def test_prompt_holds_each_marker_once_and_all_texts(processor):
    ids = processor.prompt_ids("Blue Cafe", "likes quiet", "serves tea")
    text = processor.tokenizer.decode(ids)
    assert counts(processor, ids) == (1, 1)
    assert ids[0] == processor.tokenizer.bos_token_id
    assert f"{USER_MARKER} likes quiet" in text
    assert f"{ITEM_MARKER} Blue Cafe. serves tea" in text


def test_training_and_generation_share_one_prompt(processor):
    example = processor.example("Blue Cafe", "likes quiet", "serves tea", "It is calm.")
    prompt = processor.prompt_ids("Blue Cafe", "likes quiet", "serves tea")
    generated = processor(user_id="u1", item_id="i1")["input_ids"][0].tolist()
    assert example["input_ids"][: len(prompt)] == prompt == generated
    answer = example["input_ids"][len(prompt) :]
    assert example["labels"] == [-100] * len(prompt) + answer
    assert answer[-1] == processor.tokenizer.eos_token_id
    assert processor.tokenizer.decode(answer[:-1]) == " It is calm."


@pytest.mark.parametrize(
    "chat", [None, "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>"]
)
def test_no_text_of_a_user_makes_a_control_token(make_processor, chat):
    processor = make_processor(chat_template=chat)
    clean = processor.prompt_ids("x", "x", "x")
    control = set(processor.tokenizer.all_special_ids) | {processor.user_token_id, processor.item_token_id}
    wanted = [token for token in clean if token in control]
    pieces = [
        USER_MARKER,
        ITEM_MARKER,
        "</s>",
        "<s>",
        "<|im_end|>",
        "<|im_start|>",
        "<|xrec_",
        "user|>",
        " ",
        "x",
        "\n",
        "<pad>",
    ]
    rng = random.Random(0)
    for _ in range(1000):
        texts = ["".join(rng.choices(pieces, k=rng.randint(1, 6))) for _ in range(4)]
        example = processor.example(*texts)
        prompt = processor.prompt_ids(*texts[:3])
        assert [token for token in prompt if token in control] == wanted
        assert [token for token in example["input_ids"][len(prompt) :] if token in control] == [
            processor.tokenizer.eos_token_id
        ]


def test_long_profiles_are_cut_and_nothing_else(make_processor):
    short = make_processor(max_profile_tokens=10)
    ids = short.prompt_ids("Blue Cafe", "long " * 100, "long " * 100)
    text = short.tokenizer.decode(ids)
    assert counts(short, ids) == (1, 1)
    assert "Blue Cafe" in text
    assert text.endswith("Explanation:")
    assert text.count("long") == 4


def test_batches_are_padded_on_the_left_and_rows_are_what_they_are_alone(processor):
    batch = processor(user_id=["u1", "u2"], item_id=["i1", "i2"])
    assert batch["user_ids"].tolist() == [0, 1]
    assert batch["item_ids"].tolist() == [0, 1]
    for row, (user, item) in enumerate([("u1", "i1"), ("u2", "i2")]):
        alone = processor(user_id=user, item_id=item)["input_ids"][0]
        assert torch.equal(batch["input_ids"][row][batch["attention_mask"][row] == 1], alone)
    assert batch["attention_mask"][:, -1].all()


def test_histories_become_item_rows(processor):
    batch = processor(history=[["i2", "i1"]], item_id=["i1"])
    assert batch["histories"] == [[1, 0]]
    assert "user_ids" not in batch


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"user_id": "nobody", "item_id": "i1"}, "unknown user 'nobody': expected one of the model's 2 users"),
        ({"user_id": "u1", "item_id": "nothing"}, "unknown item 'nothing': expected one of the model's 2 items"),
        ({"user_id": "u1"}, "expected item_id and either user_id or history"),
        ({"user_id": "u1", "history": [["i1"]], "item_id": "i1"}, "expected item_id and either user_id or history"),
        ({"user_id": ["u1", "u2"], "item_id": ["i1"]}, "found 2 and 1"),
    ],
)
def test_wrong_calls_say_what_was_found(processor, call, message):
    with pytest.raises(ValueError, match=message):
        processor(**call)


def test_a_prompt_without_a_marker_is_refused(make_processor):
    with pytest.raises(ValueError, match=r"0 times \{item_marker\}"):
        make_processor(prompt="Why {user_marker}?")


def test_round_trip_keeps_catalogue_prompt_and_markers(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    again = XRecProcessor.from_pretrained(tmp_path)
    assert (
        again(user_id="u1", item_id="i1")["input_ids"].tolist() == processor(user_id="u1", item_id="i1")["input_ids"].tolist()
    )
    assert (again.user_token_id, again.item_token_id) == (processor.user_token_id, processor.item_token_id)
    assert again.item_title("i2") == "Red Bar"
    assert "likes quiet" not in (tmp_path / "processor_config.json").read_text()
