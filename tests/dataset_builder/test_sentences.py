import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrec_dataset_builder.sentences import clean_text, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good card. Works well!", ["Good card", "Works well"]),
        ("great card...love it!!!", ["great card", "love it"]),
        ("It was good.Love it", ["It was good", "Love it"]),
        ("We met Dr. Smith at 5 p.m. for tea", ["We met Dr. Smith at 5 p.m. for tea"]),
        ("Amazon.com cards cost 5.50 each", ["Amazon.com cards cost 5.50 each"]),
        ("I like Applebee's. I hope so", ["I like Applebee's", "I hope so"]),
        ("First line\nSecond line", ["First line", "Second line"]),
        ("one that\ngoes on", ["one that goes on"]),
        ("Who knows? I do", ["Who knows?", "I do"]),
        ("dont like it", ["don't like it"]),
        ("GREAT CARD", ["great card"]),
        ("I LOVED the BBQ grill", ["I loved the BBQ grill"]),
        ("\u201cNice\u201d caf\u00e9 &amp; bar \U0001f600", ['"Nice" caf\u00e9 & bar']),
        ("5/5 !!! ... ?", []),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]):
    assert sentences(text) == expected


def test_long_sentences_are_cut_at_clauses_or_left_out():
    parts = sentences("The bread was " + "very " * 30 + "fresh, but the soup was " + "so " * 20 + "cold")
    assert [part.split()[1] for part in parts] == ["bread", "soup"]
    assert sentences("word " * 100) == []


@pytest.mark.parametrize("text", ["<|eot_id|>Nice<|x|>", "[INST] Nice [/INST]", "<s>Nice</s>", "<user>Nice</user>"])
def test_control_tokens_and_tags_are_gone(text: str):
    assert clean_text(text) == "Nice"


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str):
    for sentence in sentences(text):
        assert sentence == sentence.strip() != ""
        assert "\n" not in sentence
        assert len(sentence.split()) <= 40
