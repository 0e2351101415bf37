"""The equalities of XRec over every backbone family, each beside a twin that must differ."""

import copy
import io
import threading

import pytest
import torch
from transformers import AutoModelForCausalLM, LogitsProcessor

from modeling_xrec import XRecForCausalLM

from .over_backbones import CLOSE, DEEP, HEARD, IDS, PROMPT, apart, logits

OTHER_USERS = {**IDS, "user_ids": torch.tensor([1, 4])}
EVERY = [*DEEP, *((family, "input") for family in ("llama", "gemma2", "gpt2"))]


@pytest.fixture(params=EVERY, ids="-".join)
def case(request):
    """Family and injection."""
    return request.param


@pytest.fixture
def model(case, xrec_over):
    return xrec_over(case[0], injection=case[1])


def generated(model, **settings):
    """New tokens and the logits that chose them."""
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, **IDS, **settings}
    prompt = settings.pop("prompt", PROMPT)
    mask = settings.pop("attention_mask", torch.ones_like(prompt))
    out = model.generate(prompt, attention_mask=mask, return_dict_in_generate=True, output_logits=True, **settings)
    return out.sequences[:, prompt.shape[1] :], torch.stack(out.logits, dim=1)


def test_the_user_is_heard_after_the_marker_and_not_before(model):
    before, after = logits(model), logits(model, **OTHER_USERS)
    for row, marker in enumerate((2, 1)):
        assert torch.equal(before[row, :marker], after[row, :marker])
        assert (before[row, marker:] - after[row, marker:]).abs().amax(dim=-1).min() > HEARD


def test_batched_equals_single(model):
    together = logits(model)
    for row in range(2):
        alone = logits(model, PROMPT[row : row + 1], **{name: ids[row : row + 1] for name, ids in IDS.items()})
        torch.testing.assert_close(together[row : row + 1], alone, **CLOSE)
    assert apart(together[0], together[1]) > HEARD


def test_left_padded_equals_unpadded(model):
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), PROMPT], dim=1)
    mask = (padded != 0).long()
    wanted, wanted_logits = generated(model)
    found, found_logits = generated(model, prompt=padded, attention_mask=mask)
    assert torch.equal(found, wanted)
    torch.testing.assert_close(found_logits, wanted_logits, **CLOSE)
    other = generated(model, prompt=padded, attention_mask=mask, **OTHER_USERS)[1]
    assert apart(other[:, 0], wanted_logits[:, 0]) > HEARD
    unmasked = generated(model, prompt=padded, attention_mask=torch.ones_like(padded))[1]
    assert apart(unmasked[:, 0], wanted_logits[:, 0]) > HEARD


WAYS = {
    "uncached": {"use_cache": False},
    "static cache": {"cache_implementation": "static"},
    "chunked prefill": {"prefill_chunk_size": 3},
}


@pytest.mark.parametrize("way", WAYS)
def test_generation_is_the_same_however_the_prompt_is_fed(model, way):
    wanted, wanted_logits = generated(model)
    found, found_logits = generated(model, **WAYS[way])
    assert torch.equal(found, wanted)
    torch.testing.assert_close(found_logits, wanted_logits, **CLOSE)
    assert apart(generated(model, **OTHER_USERS)[1][:, 0], wanted_logits[:, 0]) > HEARD


def test_prompt_lookup_and_assistants_change_nothing_but_speed(case, model, xrec_over, backbone_of):
    family, _ = case
    one = {"prompt": PROMPT[:1], "user_ids": IDS["user_ids"][:1], "item_ids": IDS["item_ids"][:1], "max_new_tokens": 12}
    wanted, _ = generated(model, **one)
    assert torch.equal(generated(model, prompt_lookup_num_tokens=3, **one)[0], wanted)
    assistant = xrec_over(family, injection="input")
    assert torch.equal(generated(model, assistant_model=assistant, **one)[0], wanted)
    assert torch.equal(generated(model, assistant_model=backbone_of(family), **one)[0], wanted)


def test_beams_and_samples_are_rows_of_their_own(model):
    settings = {"num_beams": 3, "num_return_sequences": 2}
    together, _ = generated(model, **settings)
    alone, _ = generated(model, prompt=PROMPT[1:], user_ids=IDS["user_ids"][1:], item_ids=IDS["item_ids"][1:], **settings)
    assert torch.equal(together[2:], alone)
    torch.manual_seed(0)
    samples, sample_logits = generated(model, do_sample=True, num_return_sequences=3)
    assert samples.shape == (6, 6)
    # The first logits are the prompt's own: three times row 0's, then three times row 1's.
    torch.testing.assert_close(sample_logits[:, 0], logits(model)[:, -1].repeat_interleave(3, dim=0), **CLOSE)


def test_logits_hidden_states_and_attentions_are_the_backbones(model):
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(PROMPT, output_hidden_states=True, output_attentions=True, **IDS)
        last = model(PROMPT, logits_to_keep=1, **IDS).logits
    assert len(out.hidden_states) == 3
    assert [tuple(a.shape) for a in out.attentions] == [(2, 4, 10, 10)] * 2
    torch.testing.assert_close(last, out.logits[:, -1:], **CLOSE)
    if model.language_model._supports_sdpa:
        model.set_attn_implementation("sdpa")
        torch.testing.assert_close(logits(model), out.logits, **CLOSE)


def test_compiled_in_one_graph_equals_eager(model):
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(logits(compiled, use_cache=False), logits(model), **CLOSE)
    torch.testing.assert_close(logits(compiled, use_cache=False, **OTHER_USERS), logits(model, **OTHER_USERS), **CLOSE)


def test_exported_equals_eager(model):
    inputs = {"input_ids": PROMPT, "use_cache": False, **IDS}
    program = torch.export.export(model, (), inputs, strict=False)
    again = program.module()
    torch.testing.assert_close(again(**inputs).logits, logits(model), **CLOSE)
    other = {**inputs, **OTHER_USERS}
    torch.testing.assert_close(again(**other).logits, logits(model, **OTHER_USERS), **CLOSE)


def gradients(model, **inputs):
    model.zero_grad()
    model(PROMPT, labels=PROMPT, use_cache=False, **{**IDS, **inputs}).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_checkpointed_gradients_equal_plain(model):
    plain = gradients(model.eval())
    model.activation_checkpointing_enable()
    model.train()
    for module in model.modules():  # dropout would draw anew
        module.training = hasattr(module, "gradient_checkpointing")
    recomputed = gradients(model)
    assert (
        set(plain)
        == set(recomputed)
        == {name for name in dict(model.named_parameters()) if "adapter" in name}
        - {f"{side}_adapter.noise_weight" for side in ("user", "item")}
    )
    for name, value in plain.items():
        torch.testing.assert_close(recomputed[name], value, **CLOSE)
    assert apart(gradients(model, **OTHER_USERS)["user_adapter.expert_weight"], plain["user_adapter.expert_weight"]) > 1e-6


def test_two_forwards_before_one_backward(model):
    one, two = gradients(model), gradients(model, **OTHER_USERS)
    model.zero_grad()
    losses = [model(PROMPT, labels=PROMPT, **signal).loss for signal in (IDS, OTHER_USERS)]
    sum(losses).backward()
    assert apart(one["user_adapter.expert_weight"], two["user_adapter.expert_weight"]) > 1e-6
    for name in one:
        torch.testing.assert_close(model.get_parameter(name).grad, one[name] + two[name], **CLOSE)


def test_threads_hear_their_own_user(model):
    users = range(4)
    wanted = {user: logits(model, user_ids=torch.tensor([user, user])) for user in users}
    found, start = {}, threading.Barrier(len(users))

    def explain(user):
        start.wait()
        for _ in range(3):
            found[user] = logits(model, user_ids=torch.tensor([user, user]))

    threads = [threading.Thread(target=explain, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[user], wanted[user]) for user in users)


def test_saved_equals_loaded(model, tmp_path, sized):
    sized(model)
    model.save_pretrained(tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(logits(again), logits(model), **CLOSE)


def test_copies_are_models_of_their_own(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        torch.testing.assert_close(logits(twin), logits(model), **CLOSE)
        with torch.no_grad():
            twin.user_adapter.expert_weight.zero_()
        assert apart(logits(twin), logits(model)) > HEARD


def test_resized_vocabulary_changes_no_logit(model):
    before = logits(model)
    model.resize_token_embeddings(128, mean_resizing=False)
    after = logits(model)
    assert after.shape[-1] == 128
    torch.testing.assert_close(after[..., :110], before, **CLOSE)


class Forbid(LogitsProcessor):
    """Lets only one token through."""

    def __init__(self, token):
        self.token = token

    def __call__(self, input_ids, scores):
        only = torch.full_like(scores, -torch.inf)
        only[:, self.token] = 0
        return only


def test_a_marker_that_is_written_is_an_ordinary_token(model):
    forced, step_logits = generated(model, suppress_tokens=None, logits_processor=[Forbid(104)])
    assert (forced == 104).all()
    whole = torch.cat([PROMPT, forced], dim=1)
    with torch.no_grad():
        wanted = model(whole, marker_columns=model.marker_columns(PROMPT), **IDS).logits[:, 9:-1]
    torch.testing.assert_close(step_logits, wanted, **CLOSE)


def test_half_precision_backbones_keep_full_precision_adapters(model, tmp_path):
    model.save_pretrained(tmp_path)
    half = XRecForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    dtypes = {name.split(".")[0]: p.dtype for name, p in half.named_parameters()}
    assert dtypes == {
        "language_model": torch.bfloat16, "user_adapter": torch.float32, "item_adapter": torch.float32,
        "lightgcn": torch.float32,
    }  # fmt: skip
    assert torch.equal(half.user_adapter.expert_weight, model.user_adapter.expert_weight)
    found, wanted = logits(half).float(), logits(model)
    assert apart(found, wanted) < 0.05 * float(wanted.abs().max()) + 0.1
