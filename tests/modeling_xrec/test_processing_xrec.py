import copy
import json
import pickle
import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoProcessor, PreTrainedTokenizerFast

from modeling_xrec import XRecProcessor
from modeling_xrec.processing_xrec import ITEM_MARKER, USER_MARKER

CHAT = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>"


def byte_tokenizer(**special):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **({"pad_token": "<pad>", "eos_token": "</s>"} | special))


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


@pytest.mark.parametrize("chat", [None, CHAT])
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
    for _ in range(300):
        texts = ["".join(rng.choices(pieces, k=rng.randint(1, 6))) for _ in range(4)]
        example = processor.example(*texts)
        prompt = processor.prompt_ids(*texts[:3])
        assert [token for token in prompt if token in control] == wanted
        assert [token for token in example["input_ids"][len(prompt) :] if token in control] == [
            processor.tokenizer.eos_token_id
        ]


def test_batches_are_padded_on_the_left_and_rows_are_what_they_are_alone(processor):
    batch = processor(user_id=["u1", "u2"], item_id=["i1", "i2"])
    assert batch["user_ids"].tolist() == [0, 1]
    assert batch["item_ids"].tolist() == [0, 1]
    for row, (user, item) in enumerate([("u1", "i1"), ("u2", "i2")]):
        alone = processor(user_id=user, item_id=item)["input_ids"][0]
        assert torch.equal(batch["input_ids"][row][batch["attention_mask"][row] == 1], alone)
    assert batch["attention_mask"][:, -1].all()


@pytest.mark.parametrize(
    ("history", "item_id", "rows"),
    [
        ([["i2", "i1"]], ["i1"], [[1, 0]]),
        (["i2", "i1"], "i1", [[1, 0]]),
        ([["i2"]], "i1", [[1]]),
        ((("i2",), ["i1"]), ("i1", "i2"), [[1], [0]]),
    ],
)
def test_histories_become_item_rows(processor, history, item_id, rows):
    batch = processor(history=history, item_id=item_id)
    assert batch["histories"] == rows
    assert "user_ids" not in batch
    alone = processor.prompt_ids("Blue Cafe", "", "serves tea")
    assert batch["input_ids"][0][batch["attention_mask"][0] == 1].tolist() == alone


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"user_id": "nobody", "item_id": "i1"}, "unknown user 'nobody': expected one of the model's 2 users"),
        ({"user_id": "u1", "item_id": "nothing"}, "unknown item 'nothing': expected one of the model's 2 items"),
        ({"user_id": "u1"}, "expected item_id and either user_id or history"),
        ({"user_id": "u1", "history": [["i1"]], "item_id": "i1"}, "expected item_id and either user_id or history"),
        ({"user_id": ["u1", "u2"], "item_id": ["i1"]}, "found 2 and 1"),
        ({"user_id": 1, "item_id": "i1"}, r"expected user_id as text or a list of texts, found 1 \(int\)"),
        ({"user_id": [1], "item_id": ["i1"]}, r"expected user ids as text, found 1 \(int\)"),
        ({"user_id": "u1", "item_id": [None]}, r"expected item ids as text, found None \(NoneType\)"),
        ({"user_id": [], "item_id": []}, "expected at least one user and item, found none"),
        ({"history": [], "item_id": "i1"}, "history 0 is empty"),
        ({"history": [["i1"], []], "item_id": ["i1", "i2"]}, "history 1 is empty"),
        ({"history": "i1", "item_id": "i1"}, "expected history as a list of item ids, found the text 'i1'"),
        ({"history": [["i1"], "i2"], "item_id": ["i1", "i2"]}, "history 1: expected a list of item ids, found the text 'i2'"),
        ({"history": ["i1", "i2"], "item_id": ["i1", "i2"]}, "found 1 and 2"),
        ({"history": [["nothing"]], "item_id": "i1"}, "unknown item 'nothing'"),
        ({"user_id": "u1", "item_id": "i1", "return_tensors": "np"}, "expected return_tensors='pt', found 'np'"),
    ],
)
def test_wrong_calls_say_what_was_found(processor, call, message):
    with pytest.raises(ValueError, match=message):
        processor(**call)


def test_nothing_to_pad_is_refused(processor):
    with pytest.raises(ValueError, match="expected at least one row to pad"):
        processor.pad([])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"markers_per_side": -1}, "expected markers_per_side to be a whole number from 0 up, found -1"),
        ({"prompt_style": "other"}, "expected a prompt_style among xrec, reference, found 'other'"),
        ({"max_profile_tokens": -1}, "expected max_profile_tokens to be a whole number from 0 up, found -1"),
        ({"max_prompt_tokens": 0.5}, "expected max_prompt_tokens to be a whole number from 1 up, found 0.5"),
    ],
)
def test_wrong_settings_are_refused(make_processor, settings, message):
    with pytest.raises(ValueError, match=message):
        make_processor(**settings)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"user_id": "u1"}, {"user_id": "u1"}], "rows 0 and 1 of the users both have user_id 'u1'"),
        ([{"user_id": 7}], "row 0 of the users: expected user_id as text, found 7"),
        ([{"name": "u1"}], "row 0 of the users: expected user_id as text, found None"),
    ],
)
def test_a_catalogue_with_wrong_ids_is_refused(processor, rows, message):
    with pytest.raises(ValueError, match=message):
        processor.set_catalogue(rows, [])


def test_missing_texts_are_empty_texts(processor):
    processor.set_catalogue([{"user_id": "u1"}], [{"item_id": "i1", "title": None}])
    ids = processor(user_id="u1", item_id="i1")["input_ids"][0].tolist()
    assert ids == processor.prompt_ids("", "", "") == processor.prompt_ids(None, " \n", "\x00\t")
    assert f"User:{USER_MARKER}\nItem:{ITEM_MARKER}.\nExplanation:" in processor.tokenizer.decode(ids)
    assert processor.answer_ids("") == [processor.tokenizer.eos_token_id]


def test_a_tokenizer_without_an_end_is_refused_and_one_without_padding_pads_with_the_end():
    with pytest.raises(ValueError, match=r"the tokenizer \w+ has no end-of-sequence token"):
        XRecProcessor(byte_tokenizer(eos_token=None))
    tokenizer = byte_tokenizer(pad_token=None)
    batch = XRecProcessor(tokenizer).pad([{"input_ids": [9, 9]}, {"input_ids": [9]}])
    assert batch["input_ids"].tolist() == [[9, 9], [9, tokenizer.eos_token_id]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_answers_continue_plain_text_with_a_space_and_start_afresh_after_a_control_token(make_processor):
    plain, chat = make_processor(), make_processor(chat_template=CHAT)
    assert plain.tokenizer.decode(plain.answer_ids("It is calm.")) == " It is calm.</s>"
    assert chat.tokenizer.decode(chat.answer_ids("It is calm.")) == "It is calm.</s>"


def test_a_new_chat_template_or_prompt_is_seen(processor):
    before = processor.prompt_ids("Cafe", "quiet", "tea")
    processor.tokenizer.chat_template = CHAT
    with_chat = processor.prompt_ids("Cafe", "quiet", "tea")
    assert (
        processor.tokenizer.decode(with_chat) == f"<|im_start|>{processor.tokenizer.decode(before[1:])}<|im_end|><|im_start|>"
    )
    processor.prompt = "{user_marker}{item_marker} Why?"
    assert processor.tokenizer.decode(processor.prompt_ids("Cafe", "quiet", "tea")) == (
        f"<|im_start|>{USER_MARKER}{ITEM_MARKER} Why?<|im_end|><|im_start|>"
    )


def test_copies_and_pickles_make_the_same_prompts(processor):
    wanted = processor.prompt_ids("Cafe", "quiet", "tea")
    for again in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):  # noqa: S301 - our own bytes
        assert again.prompt_ids("Cafe", "quiet", "tea") == wanted


def test_a_prompt_without_a_marker_is_refused(make_processor):
    with pytest.raises(ValueError, match=r"0 times \{item_marker\}"):
        make_processor(prompt="Why {user_marker}?")


def test_without_markers_the_prompt_is_the_same_text(make_processor, tmp_path):
    with_markers, without = make_processor(), make_processor(markers_per_side=0)
    text = with_markers.tokenizer.decode(with_markers.prompt_ids("Cafe", "quiet", "tea"))
    plain = text.replace(USER_MARKER, "").replace(ITEM_MARKER, "")
    without.save_pretrained(tmp_path)
    for processor in (without, XRecProcessor.from_pretrained(tmp_path)):
        ids = processor.prompt_ids("Cafe", "quiet", "tea")
        assert counts(processor, ids) == (0, 0)
        assert processor.tokenizer.decode(ids) == plain
        hostile = processor.prompt_ids("Cafe", f"quiet{USER_MARKER}", "tea")
        assert counts(processor, hostile) == (0, 0)


def test_without_markers_the_template_may_leave_them_out_but_not_repeat_or_spell_them(make_processor):
    assert "Why Cafe?" in make_processor(markers_per_side=0, prompt="Why {title}?").tokenizer.decode(
        make_processor(markers_per_side=0, prompt="Why {title}?").prompt_ids("Cafe", "", "")
    )
    with pytest.raises(ValueError, match=r"2 times \{user_marker\}"):
        make_processor(markers_per_side=0, prompt="{user_marker}{user_marker} {title}")
    with pytest.raises(ValueError, match=r"expected 0 of <\|xrec_user\|> in a prompt"):
        make_processor(markers_per_side=0, prompt=f"{USER_MARKER} {{title}}")


@pytest.mark.parametrize("load", [XRecProcessor.from_pretrained, AutoProcessor.from_pretrained])
def test_round_trip_keeps_catalogue_prompt_and_markers(make_processor, tmp_path, load):
    processor = make_processor(chat_template=CHAT, prompt="{user_marker} {title}{item_marker}", max_prompt_tokens=99)
    processor(user_id="u1", item_id="i1")
    processor.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert (again.prompt, again.max_profile_tokens, again.max_prompt_tokens) == (processor.prompt, 128, 99)
    assert (
        again(user_id="u1", item_id="i1")["input_ids"].tolist() == processor(user_id="u1", item_id="i1")["input_ids"].tolist()
    )
    assert (again.user_token_id, again.item_token_id) == (processor.user_token_id, processor.item_token_id)
    assert again.item_title("i2") == "Red Bar"
    settings = {"processor_class", "auto_map", "prompt", "markers_per_side", "max_profile_tokens", "max_prompt_tokens"}
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert set(saved) <= settings | {"prompt_style"}
    del saved["prompt_style"]  # as a folder of before has it
    (tmp_path / "processor_config.json").write_text(json.dumps(saved))
    assert load(tmp_path).prompt_ids("Cafe", "quiet", "tea") == processor.prompt_ids("Cafe", "quiet", "tea")
