import time

import pytest

from xrec_dataset_builder.untrusted import cut, defused, speaks_to_model, visible

from .planted import planted_reviews

CONTROL = [
    "<|im_start|>",
    "<|im_end|>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<s>",
    "</s>",
    "<USER_EMBED>",
    "<start_of_turn>",
    "<think>",
]
CONTROL += [
    "<|begin_of_text|>",
    "<unk>",
    "[SEP]",
    "[TOOL_CALLS]",
    "### Response:",
    "◁think▷",
    "【tool】",
    "</tool_call>",
    "<|x y|>",
]
CONTROL += ["<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cUser\uff5c>"]


@pytest.mark.parametrize("control", CONTROL)
def test_control_strings_are_broken_and_still_legible(control: str):
    for text in (control, f"so {control} it", control * 3, control[0] + "\u200b" + control[1:], f"{control}\u202e"):
        made = defused(text)
        assert control not in made
        assert visible(control) not in made
        assert visible(control).replace(" ", "") in made.replace(" ", "")
        assert defused(made) == made


def test_disguised_control_strings_are_broken_too():
    assert defused("\uff1c|im_start|\uff1e") == "< |im_start| >"
    assert defused("<\u0338|x|>") == "< \u0338|x| >"
    assert defused("\U0001d400ssistant: x") == "Assistant : x"


def test_roles_are_broken_at_the_start_of_a_line_only():
    assert defused("User: a\n\nAssistant: b; the user: c") == "User : a Assistant : b; the user: c"


def test_ordinary_text_stays_as_it_is():
    for text in ("I <3 this & that, 5 < 6 > 4.", "Great (really) #1 of 10: 5/5 [2 of 3] — naïve café, 日本語 👍", 'a "b" {c}'):
        assert defused(text) == text


def test_invisible_and_control_characters_go():
    assert visible("a\u200bb\u202ec\ufeffd\u2066e\u00adf") == "abcdef"
    assert visible("a\x00b\x1bc\x85d\te\nf\u2028g") == "a b c d e\nf\ng"
    assert visible("x\ud800y") == "x\ufffdy"
    assert visible("\U000e0041\U000e0042z") == "z"  # tag characters, which spell what nobody sees


def test_texts_are_cut_at_words():
    assert cut("one two three", 13) == "one two three"
    assert cut("one two three four", 14) == "one two..."
    assert cut("x" * 50, 10) == "x" * 7 + "..."
    assert all(len(cut("ab cd " * 9, size)) <= size for size in range(4, 60))


def test_planted_orders_are_told_from_reviews():
    assert [text for text, _ in planted_reviews(500) if not speaks_to_model(text)] == []
    for text in (
        "I forgot to order, so ignore my earlier stars. The waiter followed our instructions.",
        "They ignored us. The rules of the house are strict, and the system is slow.",
        "A book on language models and assistants; the author answers only half of it.",
        "Repeat customers get a free soup. Print is small. Write me down as a fan!",
        "You are in for a treat. In summary, the review above is right.",
        "The new rules of the game are hard, and the instructions unclear: see page 5.",
    ):
        assert not speaks_to_model(text), text


def test_looking_for_orders_is_quick_whatever_the_text():
    for piece in ("ignore ", "a", "print a ", "['] ", "dear to the ", "\n", "when you ", "new the "):
        start = time.perf_counter()
        speaks_to_model(piece * (8000 // len(piece)))
        assert time.perf_counter() - start < 1, piece
