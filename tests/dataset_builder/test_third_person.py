import pytest

from xrec_dataset_builder.third_person import is_first_person, to_third_person


@pytest.mark.parametrize(
    ("first", "third"),
    [
        ("I loved my pizza", "The user loved their pizza"),
        ("I I've eaten", "The user they have eaten"),
        ("I am happy", "The user is happy"),
        ("I've been here", "The user has been here"),
        ("I'm a fan and I'll return", "The user is a fan and they will return"),
        ("I'd buy it", "The user would buy it"),
        ("I'd never been so cold", "The user had never been so cold"),
        ("I was wrong", "The user was wrong"),
        ("i think it's great and I was wrong", "The user thinks it's great and they were wrong"),
        ("I don't like it", "The user doesn't like it"),
        ("I haven't used it", "The user hasn't used it"),
        ("I can send it", "The user can send it"),
        ("I really love it", "The user really loves it"),
        ("I love it and use it daily", "The user loves it and uses it daily"),
        ("I want to buy and send it", "The user wants to buy and send it"),
        ("I try them, I watch them, I go", "The user tries them, they watch them, they go"),
        ("I need it", "The user needs it"),
        ("I got mine", "The user got theirs"),
        ("We loved our meal", "They loved their meal"),
        ("We're happy and we've won", "They are happy and they have won"),
        ("My daughter gave me hers", "The user's daughter gave them hers"),
        ("It was made for me", "It was made for the user"),
        ("My wife and I love it", "The user and their wife love it"),
        ("Do I need it", "Does the user need it"),
        ("If only I had known", "If only the user had known"),
        ("It's 'my way' or $5", "It's 'the user's way' or $5"),
        ("The soup was cold", "The soup was cold"),
        ("the iPhone, i.e. the thing", "The iPhone, i.e. the thing"),
    ],
)
def test_sentences_about_me_become_sentences_about_the_user(first: str, third: str):
    assert to_third_person(first) == third
    assert not is_first_person(third)


def test_what_is_first_person():
    assert is_first_person("It suits me")
    assert is_first_person("I've seen it")
    assert not is_first_person("The music was mined for hours")
