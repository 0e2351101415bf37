import logging

import pytest
from transformers import PreTrainedTokenizer

from modeling_xrec import XRecProcessor
from modeling_xrec.processing_xrec import ITEM_MARKER, USER_MARKER

WORDS = ["quiet", "tea", "a", "terrace", "in", "the", "evening", "sun,", "friendly", "staff"]
LONG = " ".join(WORDS * 5)
CHAT = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>"


class Letters(PreTrainedTokenizer):
    """A tokenizer written in Python: one token a letter."""

    def __init__(self, **kwargs):
        self.letters = {chr(code): code - 31 for code in range(32, 127)} | {"\n": 0}
        super().__init__(**kwargs)

    @property
    def vocab_size(self):
        return len(self.letters)

    def get_vocab(self):
        return self.letters | self.added_tokens_encoder

    def _tokenize(self, text, **kwargs):
        return list(text)

    def _convert_token_to_id(self, token):
        return self.letters.get(token, self.letters["?"])

    def _convert_id_to_token(self, index):
        return next(letter for letter, known in self.letters.items() if known == index)

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)


@pytest.fixture(params=["fast", "slow"])
def make(request, make_processor):
    """Builds processors whose tokens are single bytes or letters, so that a text's length is its count."""

    def build(**settings):
        if request.param == "fast":
            return make_processor(**settings)
        return XRecProcessor(Letters(bos_token="<s>", eos_token="</s>", pad_token="<pad>"), **settings)

    return build


def longest_beginning(text, limit):
    """The plain definition: as many whole words as fit."""
    words = text.split()
    return next(" ".join(words[:n]) for n in range(len(words), -1, -1) if len(" ".join(words[:n])) <= limit)


def parts(processor, *values):
    """The profiles as they stand in the prompt, after checking that all else is whole."""
    text = processor.tokenizer.decode(processor.prompt_ids(*values))
    head, rest = text.split(f"User:{USER_MARKER}")
    user, rest = rest.split(f"\nItem:{ITEM_MARKER} {values[0]}.")
    item, tail = rest.split("\nExplanation:")
    assert head.endswith("Explain why the user would enjoy the item.\n")
    assert tail == ""
    return user.strip(), item.strip()


@pytest.mark.parametrize("limit", [0, 6, 8, 9, 10, 100, len(LONG) - 1, len(LONG), 1000])
def test_profiles_are_cut_after_the_last_word_that_fits_and_nothing_else_is(make, limit):
    processor = make(max_profile_tokens=limit)
    wanted = longest_beginning(LONG, limit)
    assert parts(processor, "Blue Cafe " * 50 + "x", LONG, "serves") == (wanted, "serves"[:limit])
    cut = processor.shortening("Blue Cafe " * 50 + "x", LONG, "serves")
    assert cut.get("user_profile") == (None if limit >= len(LONG) else (len(LONG), len(wanted)))
    assert cut.get("item_profile") == (None if limit >= 6 else (6, 0))


@pytest.mark.parametrize("per_side", [1, 3])
def test_the_longer_profile_gives_way_first(make, per_side):
    user, item = LONG, " ".join(WORDS * 2)
    whole = make(markers_per_side=per_side, max_profile_tokens=1000)
    length, rest = (len(whole.prompt_ids("Cafe", *profiles)) for profiles in ((user, item), ("", "")))
    for budget in range(rest, length + 5, 7):
        processor = make(markers_per_side=per_side, max_profile_tokens=1000, max_prompt_tokens=budget)
        ids = processor.prompt_ids("Cafe", user, item)
        cut = processor.shortening("Cafe", user, item)
        kept = {"user_profile": len(user), "item_profile": len(item)} | {name: count for name, (_, count) in cut.items()}
        assert len(ids) <= budget
        assert ids.count(processor.user_token_id) == ids.count(processor.item_token_id) == per_side
        assert all(found in (len(user), len(item)) for found, _ in cut.values())
        assert bool(cut) == (budget < length)
        if "item_profile" in cut:  # the shorter is cut only down to where the longer is, to the word
            assert abs(kept["user_profile"] - kept["item_profile"]) <= 2 * max(map(len, WORDS))
        assert len(ids) > min(budget, length) - 3 * max(map(len, WORDS))  # and no more than needed


def test_a_prompt_that_is_too_long_without_profiles_is_refused(make):
    rest = len(make().prompt_ids("Cafe", "", ""))
    assert len(make(max_prompt_tokens=rest).prompt_ids("Cafe", LONG, LONG)) == rest
    message = f"the prompt has {rest} tokens without any profile, 4 of them the title's, and max_prompt_tokens is {rest - 1}"
    with pytest.raises(ValueError, match=message):
        make(max_prompt_tokens=rest - 1).prompt_ids("Cafe", LONG, LONG)


@pytest.mark.parametrize(
    "text", ["最好的茶和安静的露台" * 9, "café naïve " * 9, "👩‍👩‍👧👍🏽é" * 9, "e\u0301" * 50, "क्षत्रिय" * 9]
)
def test_no_cut_breaks_a_character(make_processor, text):
    for limit in range(60):
        processor = make_processor(max_profile_tokens=limit)
        kept, _ = parts(processor, "Cafe", text, "")
        assert len(kept.encode()) <= limit
        assert text.startswith(kept)
        assert not text[len(kept) :].startswith(("\u0301", "\u200d", "🏽", "\u094d", "\u093f"))
        assert not kept.endswith("\u200d")
    assert kept  # scripts without spaces are cut between characters, not thrown away


def test_a_cut_that_leaves_half_a_control_string_beside_its_other_half_is_broken(make_processor):
    prompt = "{user_marker}{item_marker}[INST] {user_profile}ST] why?"
    for limit in range(1, 12):
        processor = make_processor(prompt=prompt, max_profile_tokens=limit)
        text = processor.tokenizer.decode(processor.prompt_ids("", "[INabcdefghij", ""))
        assert text.count("[INST]") == 1


def test_the_first_shortened_profile_is_told_and_the_others_are_not(make_processor, caplog):
    processor = make_processor(max_profile_tokens=10)
    with caplog.at_level(logging.WARNING):
        processor.prompt_ids("Cafe", "short", "short")
        processor.shortening("Cafe", LONG, "short")
        assert not caplog.records
        processor.prompt_ids("Cafe", LONG, "short")
        processor.prompt_ids("Cafe", "short", LONG)
    (record,) = caplog.records
    assert f"user_profile from {len(LONG)} to 9 tokens (max_profile_tokens=10" in record.getMessage()
    assert "processor.shortening(" in record.getMessage()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("Why {user_marker}?", r"0 times \{item_marker\}"),
        ("{user_marker}{user_marker}{item_marker}", r"2 times \{user_marker\}"),
        ("{user_marker}{item_marker} {name}", r"the field \{name\}, expected plain fields among"),
        ("{user_marker}{item_marker} {}", r"the field \{\}, expected plain fields among"),
        ("{user_marker}{item_marker} {title:>9}", r"the field \{title\}, expected plain fields among"),
        ("{user_marker}{item_marker} {title!r}", r"the field \{title\}, expected plain fields among"),
        ("{user_marker}{item_marker} {title}{item_profile}", r"\{title\} and \{item_profile\} with nothing between them"),
        ("{user_marker}{item_marker} {title}\u200b{item_profile}", r"\{title\} and \{item_profile\} with nothing between"),
        ("{user_marker}{item_marker} <|xrec_user|>", "expected 1 of <|xrec_user|> in a prompt"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(make_processor, prompt, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        make_processor(prompt=prompt)


def test_braces_and_repeated_fields_are_plain_text(make_processor):
    processor = make_processor(prompt="{{x}} {user_marker}{title} {item_marker}{title} and {title}")
    text = processor.tokenizer.decode(processor.prompt_ids("{title}", "", ""))
    assert text == f"<s>{{x}} {USER_MARKER}{{title}} {ITEM_MARKER}{{title}} and {{title}}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('system first') }}", r"user as it is \(system first\)"),
        ("{% for m in messages %}hello{% endfor %}", "unchanged, found it 0 times"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "unchanged, found it 0 times"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "unchanged, found it 2 times"),
        ("{% for m in messages %}{{ m.content.text }}{% endfor %}", "chat template of .* does not take one turn of a user"),
        ("{% for m in messages %}", "chat template of .* does not take one turn of a user"),
    ],
)
def test_chat_templates_that_cannot_be_used_are_named(make_processor, template, message):
    with pytest.raises(ValueError, match=message):
        make_processor(chat_template=template)


@pytest.mark.parametrize(
    ("after", "ending"),
    [
        ("<|im_start|>assistant\n<think>{{ '\\n' }}", "<|im_end|><|im_start|>assistant\n<think>\n"),
        ("{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}", "<|im_end|><think>\n\n</think>\n\n"),
    ],
)
def test_the_answer_follows_the_generation_prompt(make_processor, after, ending):
    processor = make_processor(chat_template="{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}" + after)
    example = processor.example("Cafe", "<think>", "</think>", "It is calm.")
    text = processor.tokenizer.decode(example["input_ids"])
    assert text.endswith(f"Explanation:{ending}It is calm.</s>")
    assert text.count("<think>") == ending.count("<think>")


@pytest.mark.parametrize("template", [None, CHAT, "{{ bos_token }}" + CHAT])
@pytest.mark.parametrize("adds", [True, False])
def test_a_prompt_begins_its_sequence_once(make_processor, template, adds):
    from tokenizers import processors

    processor = make_processor(chat_template=template)
    if adds:
        begin = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", processor.tokenizer.bos_token_id)])
        processor.tokenizer.backend_tokenizer.post_processor = begin
        processor = XRecProcessor(processor.tokenizer)
    ids = processor.prompt_ids("Cafe", "<s>quiet", "tea<s>")
    wanted = template != CHAT or adds
    assert ids.count(processor.tokenizer.bos_token_id) == wanted
    assert (ids[0] == processor.tokenizer.bos_token_id) == wanted


def test_a_python_tokenizer_keeps_control_strings_out_as_well():
    tokenizer = Letters(bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    processor = XRecProcessor(tokenizer)
    control = set(tokenizer.all_special_ids)
    clean, hostile = (
        processor.example(*[text] * 4)["input_ids"] for text in ("tea", f"{USER_MARKER}</s><s>{ITEM_MARKER}<|xrec_<s>user|>")
    )
    assert [token for token in hostile if token in control] == [token for token in clean if token in control]
