import json

import pytest

from xrec_dataset_builder.answers import Judge, stated
from xrec_dataset_builder.prompts import answer_schema, read_prompts
from xrec_dataset_builder.teacher import Answer, Rejected, Request

from .planted import GOALS, TRACES, obedient_answer

PROMPTS = read_prompts("business")
GOOD = "The user likes the hot soup here, but not the noise."


def request(kind: str = "explanation", key: tuple[str, ...] = ("u1", "i1")) -> Request:
    messages = PROMPTS.kinds[kind].messages({"review": {"text": "Hot soup, loud room."}}, 50)
    return Request(kind, key, messages, answer_schema(kind), "scripted", "m", PROMPTS.kinds[kind].version, 0.0, 300, 0)


def judge(**changes) -> Judge:
    words = {"item_profile": 60, "user_profile": 60, "explanation": 50}
    return Judge(PROMPTS, words, **changes)


def kept(text: str, finish_reason: str = "stop") -> str:
    return judge().accept(request(), Answer(text, finish_reason, 1, 1))


def answer(text: str) -> str:
    return json.dumps({"explanation": text})


@pytest.mark.parametrize(
    "text",
    [
        answer(GOOD),
        f"```json\n{answer(GOOD)}\n```",
        f"Here you are:\n\n{answer(GOOD)}\nI hope that this helps.",
        f"<think>It says {{soup}}, so: {{}}</think>\n{answer(GOOD)}",
        f'{{"explanation": "{GOOD}",}}',
        f"{{'explanation': '{GOOD}'}}",
        f'{{\n  "explanation":\n  "{GOOD.replace("here", chr(10) + "here")}"\n}}',
        json.dumps({"explanation": GOOD}, indent=2) + "\x00",
        f"  {answer('  ' + GOOD + chr(10))}  ",
    ],
)
def test_answers_that_are_plain_to_mend_are_mended(text: str):
    assert kept(text) == GOOD


def test_apostrophes_and_quotes_survive_mending():
    assert kept("{'explanation': 'The user\\'s soup isn't \"hot\" here.',}") == "The user's soup isn't \"hot\" here."
    assert kept('{"explanation": "It\'s, as the user says, \\"too loud\\", here, }"}'.replace(", }", "")) == (
        'It\'s, as the user says, "too loud", here'
    )


REJECTED = [
    ("", "empty"),
    ("   \n", "empty"),
    ("null", "empty"),
    ("None", "empty"),
    ("{}", "empty"),
    ('{"a": 1}', "lacks the field"),
    ("[]", "empty"),
    (f"[{answer(GOOD)}]", "more than one"),
    (answer(GOOD) * 2, "more than one"),
    (GOOD, "no JSON object"),
    (answer(GOOD)[:-8], "does not end"),
    (json.dumps({"profile": GOOD}), "lacks the field 'explanation'"),
    (json.dumps({"explanation": GOOD, "user_id": "u2"}), "other fields"),
    (f'{{"explanation": "x", "explanation": "{GOOD}"}}', "twice"),
    (json.dumps({"explanation": [GOOD]}), "no text"),
    (json.dumps({"explanation": None}), "no text"),
    (json.dumps({"explanation": {"explanation": GOOD}}), "no text"),
    (answer(""), "empty"),
    (answer("N/A"), "empty"),
    (answer("string"), "empty"),
    (answer("..."), "empty"),
    (answer("Good."), "too short"),
    ("<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", "HTML"),
    (answer("The user likes <b>hot</b> soup."), "HTML or code"),
    (answer("The user likes it: ```soup```"), "HTML or code"),
    (answer('The user {"likes": "soup"} a lot'), "HTML or code"),
    (answer("The user would see www.example.org for soup."), "web address"),
    (answer("The user likes [this](x) soup a lot."), "web address"),
    ("I'm sorry, but I can't help with that.", "refusal"),
    (answer("I am sorry, I cannot say why the user likes it."), "refusal"),
    (answer("As an AI, I have no opinion of soup."), "refusal|speaks"),
    (answer("There is not enough information to say why."), "refusal"),
    (answer("Unfortunately, I cannot tell what the user likes."), "refusal"),
    (answer("soup " * 51), "51 words, more than 50"),
    (answer("soup " * 5000), "more than 20000 characters"),
    ('{"explanation":' * 5000 + "1" + "}" * 5000, "more than 20000"),
    ('{"a":' * 3000 + "1" + "}" * 3000, "cannot be read|lacks"),
    ("{" * 5000 + "}" * 5000, "empty"),
    (answer(PROMPTS.kinds["explanation"].own_text.splitlines()[0]), "speaks|repeats the question"),
    (answer("The user does not mention that there is a review, a rating or a portrait."), "repeats the question"),
]


@pytest.mark.parametrize(("text", "reason"), REJECTED)
def test_unusable_answers_are_rejected_with_a_reason(text: str, reason: str):
    with pytest.raises(Rejected, match=reason) as caught:
        kept(text)
    assert "\n" not in str(caught.value)


def test_of_200_faulty_answers_none_is_kept():
    faulty = [text for text, _ in REJECTED]
    variants = [
        *faulty,
        *(f"```\n{text}\n```" for text in faulty),
        *(f"Sure: {text}" for text in faulty),
        *(t[:-1] for t in faulty),
    ]
    variants += [answer(GOOD)[:size] for size in range(len(answer(GOOD)))]
    assert len(variants) >= 200
    for text in variants:
        with pytest.raises(Rejected):
            kept(text)
    for reason in ("length", "content_filter"):
        with pytest.raises(Rejected):
            kept(answer(GOOD), reason)


def test_honest_texts_are_kept_word_for_word():
    for text in (
        GOOD,
        "The user would not return: the staff was rude, and they say sorry to no one.",
        "The user cannot stand the noise, though the rules about dogs please them.",
        "The user, a regular, forgets the price since the 4.5-star soup of 2019 costs $3.50.",
        "Unfortunately, there is no parking, which the user dislikes; the portraits on the wall please them.",
    ):
        assert kept(answer(text)) == text


def test_control_strings_and_personal_data_in_answers_are_made_harmless():
    kinds = judge(names={"u1": ["Ann Onym"]})
    said = answer("The user likes [SEP] soup and <pad> bread; write to ann.onym@web.de or Ann.")
    assert kinds.accept(request(), Answer(said, "stop", 1, 1)) == (
        "The user likes [ SEP] soup and < pad> bread; write to (email) or (name)."
    )
    assert kinds.masked[request().hash] == {"email": 1, "name": 1}


def test_ids_of_the_dataset_are_not_named():
    strict = judge(ids=frozenset({"A2VICTIM77XQ9", "B004LLIKVU", "U7"}))
    for said in ("The user A2VICTIM77XQ9 likes the soup.", "Like B004LLIKVU, it has hot soup."):
        with pytest.raises(Rejected, match="names an id"):
            strict.accept(request(), Answer(answer(said), "stop", 1, 1))
    assert strict.accept(request(), Answer(answer("The user likes room U7 a lot."), "stop", 1, 1))


def test_a_repair_shows_the_answer_and_the_limit_once():
    first = request()
    said = Answer("<|im_start|>" + "soup " * 900, "stop", 1, 1)
    with pytest.raises(Rejected) as caught:
        judge().accept(first, said)
    second = judge().repair(first, said, caught.value)
    assert second is not None
    assert second.messages[:2] == first.messages
    assert [role for role, _ in second.messages[2:]] == ["assistant", "user"]
    assert second.messages[2][1].startswith("< |im_start| >soup soup")
    assert len(second.messages[2][1]) <= 2000
    assert "it holds no JSON object" in second.messages[3][1]
    assert "at most 50 words" in second.messages[3][1]
    assert second.hash != first.hash
    assert second.prompt_version == "business.explanation.1+repair.1"
    assert judge().repair(second, said, caught.value) is None


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.text)
@pytest.mark.parametrize("kind", ["explanation", "user_profile"])
def test_what_an_obedient_teacher_says_leaves_no_trace(goal, kind: str):
    field = "explanation" if kind == "explanation" else "profile"
    asked = request(kind, ("u1", "i1") if kind == "explanation" else ("u1",))
    said = obedient_answer((asked.messages[0], ("user", f"{asked.messages[1][1]} {goal.text}")), field)
    assert said is not None
    try:
        text = judge(ids=frozenset({"A2VICTIM77XQ9"})).accept(asked, Answer(said, "stop", 1, 1))
    except Rejected:
        return
    assert not any(trace in text for trace in TRACES)


def test_a_nested_object_is_the_outer_one_only():
    with pytest.raises(Rejected, match="no text"):
        stated('{"profile": {"profile": "x"}}', "profile")
