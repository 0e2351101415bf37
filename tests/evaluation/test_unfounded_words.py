import pytest

from xrec_evaluation.unfounded_words import found_stems, template_words, unfounded_names, unfounded_words

EVIDENCE = found_stems(["A tavern known for craft beers.", "The user loved the family-run garden of Rosa Lee."])


def test_words_found_nowhere_are_listed_once_and_in_order():
    text = "The user would enjoy the Craft beer, a rooftop pool, the rooftop and the gardens."
    assert unfounded_words(text, EVIDENCE) == ["rooftop", "pool"]


def test_inflected_and_hyphenated_words_are_found():
    assert unfounded_words("Beer in a taverns' gardening family", EVIDENCE) == []
    assert unfounded_words("A family-owned garden", EVIDENCE) == []


def test_words_of_the_template_need_no_evidence():
    training = [
        "They came for tea.",
        "They came for bread.",
        "They came late.",
        "They came.",
        "They came for jam.",
        "They came.",
    ]
    template = template_words(training)
    assert "came" in template
    assert not {"tea", "bread", "jam"} & template
    assert unfounded_words("They came for tea", frozenset(), template) == ["tea"]
    assert template_words([]) == frozenset()


def test_names_found_nowhere_are_listed_as_written():
    text = 'Rosa Lee cooks. The user met Dr Noor of the Golden Hall in Rosa. "Bob Ray" sang; Then Lee left. Nice.'
    assert unfounded_names(text, EVIDENCE) == ["Dr Noor of the Golden Hall", "Bob Ray"]


@pytest.mark.parametrize("text", ["", "Great!", "The user would enjoy it."])
def test_nothing_said_is_nothing_unfounded(text):
    assert unfounded_words(text, frozenset()) == []
    assert unfounded_names(text, frozenset()) == []


def test_other_scripts():
    assert unfounded_words("Живая музыка", found_stems(["живая"])) == ["музыка"]
    assert unfounded_words("川菜很辣", frozenset()) is None
    assert unfounded_names("川菜很辣", frozenset()) == []
