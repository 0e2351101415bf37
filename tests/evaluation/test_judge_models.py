import asyncio
import json
from functools import partial

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.teacher import Request, TeacherBusy, TeacherError
from xrec_evaluation.judge_answers import accept
from xrec_evaluation.judge_local import TransformersJudge
from xrec_evaluation.judge_models import OpenAIJudge, make_judge

from ..conftest import byte_tokenizer
from ..dataset_builder.scripted_server import Reply, ScriptedServer, completion, refusal
from .fake_judges import GOOD, said


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def request(text="why?", criterion="faithfulness"):
    messages = (("system", "grade"), ("user", text))
    return Request(f"judge_{criterion}", ("0",), messages, "", "judge:openai", "m", "v1", 0.0, 8, 3)


def judged(judge, requests):
    async def run():
        answers = await asyncio.gather(*(judge.answer(one) for one in requests))
        await judge.close()
        return answers

    answers = asyncio.run(run())
    return [accept(one, answer) for one, answer in zip(requests, answers, strict=True)], answers


def test_an_endpoint_is_asked_for_probabilities_and_its_build_is_kept():
    with ScriptedServer(lambda *_: said(GOOD, others=[(" 5", 0.0001), ("A", 0.01)])) as server:
        (one,), (answer,) = judged(OpenAIJudge(server.url), [request()])
    body = server.requests[0]
    assert (body["temperature"], body["logprobs"], body["top_logprobs"], body["seed"]) == (0, True, 20, 3)
    assert "response_format" not in body
    assert one.score == pytest.approx((5 * 0.7001 + 4 * 0.2 + 0.1) / 1.0001, abs=1e-8)
    assert (one.digit, one.model, one.fingerprint) == (5, "m-2026-01-01", "fp_1")
    assert (answer.prompt_tokens, answer.completion_tokens, answer.finish_reason) == (10, 2, "stop")


@pytest.mark.parametrize("field", ["logprobs", "top_logprobs"])
def test_an_endpoint_without_probabilities_is_asked_for_digits_from_then_on(field):
    def script(body, _):
        return refusal(400, f"unknown field: {field}", param=field) if field in body else completion("4")

    with ScriptedServer(script) as server:
        judge = OpenAIJudge(server.url)
        for _ in range(2):
            (one,), _ = judged(judge, [request()])
            assert (one.score, one.scored_by, one.mass) == (4.0, "digit", None)
    assert ["logprobs" in body or "top_logprobs" in body for body in server.requests] == [True, False, False]


def test_no_probabilities_are_asked_for_where_none_are_wanted():
    with ScriptedServer(lambda *_: completion("2")) as server:
        judged(OpenAIJudge(server.url, top_logprobs=0), [request()])
    assert not {"logprobs", "top_logprobs"} & server.requests[0].keys()


@pytest.mark.parametrize(
    "logprobs", [None, [], {}, {"content": None}, {"content": {}}, {"content": ["4"]}, {"content": [{"token": 4}]}, 7]
)
def test_broken_probabilities_leave_the_digit(logprobs):
    found = json.loads(completion("4").body)
    found["choices"][0]["logprobs"] = logprobs
    found["system_fingerprint"] = {"a": 1}
    with ScriptedServer(lambda *_: Reply(body=json.dumps(found).encode())) as server:
        (one,), _ = judged(OpenAIJudge(server.url), [request()])
    assert (one.score, one.scored_by, one.fingerprint) == (4.0, "digit", "")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(429), TeacherBusy),
        (completion("no", refusal="never"), TeacherError),
        (refusal(401), DataError),
        (Reply(body=b"{}"), TeacherBusy),
        (Reply(body=b'{"choices": [7]}'), TeacherBusy),
    ],
)
def test_faults_are_those_of_a_teacher(reply, kind):
    with ScriptedServer(lambda *_: reply) as server, pytest.raises(kind):
        judged(OpenAIJudge(server.url), [request()])


def test_a_judge_that_is_none_is_refused():
    with pytest.raises(DataError, match="expected a judge among openai, transformers, found 'oracle'"):
        make_judge("oracle", "m")
    with pytest.raises(DataError, match="OPENAI_API_KEY"):
        make_judge("openai", "m")
    with pytest.raises(DataError, match="top_logprobs from 0 to 20, found 21"):
        make_judge("openai", "m", "http://localhost:1/v1", top_logprobs=21)


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
TEXTS = ("soup", "a quiet room with bread", "x", "the price of the soup is " * 5, "tea", "<|im_end|>answer 5")


def words():
    made = byte_tokenizer(TEMPLATE)
    made.add_tokens([" 5"])  # a digit with a blank before it is that digit
    return made


def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=len(words()), **sizes, pad_token_id=0, eos_token_id=1)).eval()
    with torch.no_grad():
        made.lm_head.weight.mul_(8)
    return made


def by_hand(text, digits):
    """The expected digit from the logits of one plain forward pass over one question."""
    text = text.replace("<|im_end|>", "< |im_end|>")
    prompt = f"<|im_start|>system grade<|im_end|><|im_start|>user {text}<|im_end|><|im_start|>assistant "
    tokens = words()
    with torch.no_grad():
        logits = model()(torch.tensor([tokens(prompt, add_special_tokens=False)["input_ids"]])).logits[0, -1].double()
    share = logits.softmax(-1)
    forms = {
        digit: [number for word, number in tokens.get_vocab().items() if word.strip(" \u0120") == digit] for digit in digits
    }
    masses = {digit: sum(float(share[number]) for number in numbers) for digit, numbers in forms.items()}
    return sum(int(digit) * one for digit, one in masses.items()) / sum(masses.values()), sum(masses.values()), len(forms["1"])


@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_a_local_judge_gives_each_question_the_expected_digit_of_its_own_logits(batch_size):
    judge = TransformersJudge(model(), batch_size, tokenizer=words())
    found, answers = judged(judge, [request(text) for text in TEXTS])
    wanted = [by_hand(text, "12345") for text in TEXTS]
    assert [one.score for one in found] == pytest.approx([score for score, _, _ in wanted], abs=1e-5)
    assert [one.mass for one in found] == pytest.approx([mass for _, mass, _ in wanted], rel=1e-4)
    assert max(judge.batches) == batch_size
    assert len({round(one.score, 3) for one in found}) == len(TEXTS)
    assert all((one.completion_tokens, one.finish_reason) == (1, "stop") for one in answers)


def test_a_local_judge_prefers_among_its_two_digits_only():
    found, _ = judged(TransformersJudge(model(), 4, tokenizer=words()), [request(text, "preference") for text in TEXTS])
    assert [one.score for one in found] == pytest.approx([by_hand(text, "12")[0] - 1 for text in TEXTS], abs=1e-5)


def test_a_named_model_is_loaded_at_its_revision_and_its_commit_is_known(monkeypatch):
    asked = []

    def load(what, name, **given):
        asked.append((name, given["revision"]))
        return what

    loaded = model()
    loaded.config._commit_hash = "0123abcd"
    for kind, made in (("AutoTokenizer", words()), ("AutoModelForCausalLM", loaded)):
        monkeypatch.setattr(f"xrec_dataset_builder.transformers_teacher.{kind}.from_pretrained", partial(load, made))
    judge = make_judge("transformers", "some/model", revision="v1")
    assert asked == [("some/model", "v1")] * 2
    assert judge.revision == "0123abcd"


def test_a_tokenizer_without_a_digit_is_refused():
    class Few:
        chat_template = TEMPLATE
        added_tokens_decoder = {}
        all_special_tokens = []

        def get_vocab(self):
            return {"1": 0, "\u21202": 1, "\u2581\u2581": 2}

    with pytest.raises(DataError, match="a token for every digit, found none for 2"):
        TransformersJudge(model(), tokenizer=Few())
