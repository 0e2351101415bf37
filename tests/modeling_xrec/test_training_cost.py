"""A training step with `skip_logits` is the plain one for less: the same loss and gradients, fewer logits, less kept."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CohereConfig,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

from modeling_xrec import XRecForCausalLM, answer_loss
from modeling_xrec.prompt_prefix import PromptPrefix, can_stand_apart, is_padded_on_the_right

from .conftest import FAMILIES, ITEM_TOKEN, SIZES, USER_TOKEN

MODES = ["qkv", "attention", "input"]
EXACT = {"rtol": 1e-9, "atol": 1e-13}
FRAME = [1, 7, 8, 9]


def ragged(markers=1, shared=True):
    """Three prompts of unequal length with answers of unequal length, padded on the right."""
    generator = torch.Generator().manual_seed(3)
    ids, labels = torch.zeros(3, 30, dtype=torch.long), torch.full((3, 30), -100)
    mask = torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(((14, 9), (20, 10), (11, 6))):
        ids[row, : prompt + answer] = torch.randint(10, 100, (prompt + answer,), generator=generator)
        ids[row, : len(FRAME)] = torch.tensor(FRAME) + (0 if shared else row)
        first = len(FRAME) + row
        ids[row, first : first + markers] = USER_TOKEN
        ids[row, first + markers + 1 : first + 2 * markers + 1] = ITEM_TOKEN
        labels[row, prompt : prompt + answer] = ids[row, prompt : prompt + answer]
        mask[row, : prompt + answer] = 1
    signal = {"user_ids": torch.tensor([0, 3, 1]), "item_ids": torch.tensor([2, 6, 0])}
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, **signal}


def precise_loss(logits, labels, num_items_in_batch=None, shift_labels=None, **kwargs):
    """The next-token cross-entropy as it is defined, in the precision of the logits."""
    if shift_labels is None:
        logits, shift_labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    kept = shift_labels != -100
    chosen = logits[kept].log_softmax(-1).gather(1, shift_labels[kept, None])
    return -chosen.sum() / (kept.sum() if num_items_in_batch is None else num_items_in_batch)


def trained(model, batch, plainly=False, **settings):
    """Loss and the gradient of every trained weight; `plainly`, with a loss in full precision."""
    usual = model.loss_function
    if plainly:
        model.loss_function = precise_loss
    model.zero_grad()
    loss = model(**batch, **settings).loss
    loss.backward()
    model.loss_function = usual
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_equal(found, wanted, **close):
    assert set(found[1]) == set(wanted[1]) != set()
    torch.testing.assert_close(found[0].to(wanted[0].dtype), wanted[0], **(close or EXACT))
    for name, gradient in wanted[1].items():
        assert gradient.abs().max() > 0 or "noise" in name
        torch.testing.assert_close(found[1][name], gradient, msg=lambda text, name=name: f"{name}: {text}", **(close or EXACT))


@pytest.fixture
def precise(xrec_over):
    """Builds XRec over a family's tiny backbone in float64."""
    return lambda family, **config: xrec_over(family, **config).double()


@pytest.mark.parametrize("mode", MODES)
def test_loss_and_gradients_are_the_plain_ones(family, mode, precise):
    model, batch = precise(family, injection=mode), ragged()
    wanted = trained(model, batch, plainly=True)
    # Through the vendor's own forward, then with the fused head where it may be used.
    # Gemma's norms are in float32 whatever the weights are.
    close = {"rtol": 1e-6, "atol": 1e-7} if family.startswith("gemma") else EXACT
    check_equal(trained(model, batch, plainly=True, skip_logits=True), wanted, **close)
    assert can_stand_apart(model.language_model)
    fused = answer_loss.plain_head(model.language_model) is not None
    assert fused == (not family.startswith("gemma"))
    if fused:
        check_equal(trained(model, batch, skip_logits=True), wanted)
        check_equal(trained(model, batch, skip_logits=True, prompt_prefix=PromptPrefix()), wanted)


@pytest.mark.parametrize("mode", MODES)
def test_in_float32_too(mode, tiny_xrec):
    model, batch = tiny_xrec(injection=mode), ragged()
    wanted, found = trained(model, batch), trained(model, batch, skip_logits=True)
    assert abs(found[0] - wanted[0]) <= 1e-6 * wanted[0]
    for name, gradient in wanted[1].items():
        assert (found[1][name] - gradient).norm() <= 1e-6 * gradient.norm(), name


@pytest.mark.parametrize(
    "change",
    [
        {"markers_per_side": 2},
        {"injection_scale": "learned"},
        {"injection_scale": 0.5},
        {"layer_maps": True, "soft_prompt": True},
        {"user_token_id": 500, "item_token_id": 501},
    ],
)
def test_whatever_is_injected(change, precise):
    model, batch = precise("llama-grouped", **change), ragged(change.get("markers_per_side", 1))
    if model.injection_scale is not None:
        nn.init.uniform_(model.injection_scale, 0.5, 1.5)
    if model.config.layer_maps:
        nn.init.normal_(model.item_adapter.place_weight)
    for token, wanted in ((USER_TOKEN, model.config.user_token_id), (ITEM_TOKEN, model.config.item_token_id)):
        batch["input_ids"].masked_fill_(batch["input_ids"] == token, wanted)
    check_equal(trained(model, batch, skip_logits=True), trained(model, batch, plainly=True))


def test_rows_that_begin_differently_and_labels_on_the_prompt(precise):
    model, batch = precise("llama"), ragged(shared=False)
    check_equal(trained(model, batch, skip_logits=True), trained(model, batch, plainly=True))
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    check_equal(trained(model, batch, skip_logits=True), trained(model, batch, plainly=True))


def test_padding_on_the_left_and_holes_are_kept(precise):
    model, batch = precise("llama"), ragged()
    for name, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", -100)):
        batch[name] = nn.functional.pad(batch[name], (3, 0), value=fill)
    check_equal(trained(model, batch, skip_logits=True), trained(model, batch, plainly=True))
    for mask, right in (([[1, 1, 0]], True), ([[0, 1, 1]], False), ([[1, 0, 1]], False), ([[1, 1, 1]], True)):
        assert is_padded_on_the_right(torch.tensor(mask)) == right


def test_a_batch_is_its_rows_one_at_a_time(precise):
    model, batch = precise("qwen3"), ragged()
    count = (batch["labels"] != -100).sum()
    together = trained(model, batch, skip_logits=True, num_items_in_batch=count)
    model.zero_grad()
    total = 0
    for row in range(3):
        one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        loss = model(**one, skip_logits=True, num_items_in_batch=int(count)).loss
        loss.backward()
        total += loss.detach()
    torch.testing.assert_close(total, together[0], **EXACT)
    for name, gradient in together[1].items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, **EXACT)


@pytest.mark.parametrize("config", [CohereConfig(**SIZES, logit_scale=0.3), GraniteConfig(**SIZES, logits_scaling=4.0)])
def test_what_a_vendor_does_to_logits_is_done(config):
    torch.manual_seed(0)
    markers = {"user_token_id": USER_TOKEN, "item_token_id": ITEM_TOKEN, "num_users": 5, "num_items": 7}
    model = XRecForCausalLM.from_backbone(AutoModelForCausalLM.from_config(config), collaborative_dim=8, **markers).double()
    for table in (model.lightgcn.user_embeddings, model.lightgcn.item_embeddings):
        table.data.normal_()
    check_equal(trained(model, ragged(), plainly=True, skip_logits=True), trained(model, ragged(), plainly=True))


@pytest.mark.parametrize("model_type", sorted(answer_loss.HEAD_COMES_LAST))
def test_where_the_head_is_said_to_come_last_it_does(model_type):
    sizes = SIZES | {"num_key_value_heads": 4}
    if model_type == "gpt2":
        sizes = {"vocab_size": 110, "n_embd": 32, "n_layer": 2, "n_head": 4}
    experts = {"num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32}
    config = AutoConfig.for_model(model_type, **sizes, **(experts if "moe" in model_type or "mix" in model_type else {}))
    backbone = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.tensor([[5, 9, 11, 40]])
    with torch.no_grad():
        hidden, logits = backbone.get_decoder()(ids).last_hidden_state, backbone(ids).logits
    assert torch.equal(nn.functional.linear(hidden, backbone.get_output_embeddings().weight), logits)


def test_the_fused_head_is_autograds(monkeypatch):
    torch.manual_seed(0)
    head = nn.Linear(6, 23).double().requires_grad_(False)
    hidden, targets = torch.randn(10, 6, dtype=torch.float64, requires_grad=True), torch.randint(23, (10,))
    monkeypatch.setattr(answer_loss, "LOGITS_AT_ONCE", 70)  # three rows at a time
    assert torch.autograd.gradcheck(lambda states: 3 * answer_loss.head_loss(states, head, targets), (hidden,))
    with torch.no_grad():
        wanted = nn.functional.cross_entropy(head(hidden), targets, reduction="sum")
        torch.testing.assert_close(answer_loss.head_loss(hidden, head, targets), wanted, **EXACT)
        large = answer_loss.head_loss(1e4 * hidden, head, targets)
    torch.testing.assert_close(large, nn.functional.cross_entropy(head(1e4 * hidden), targets, reduction="sum"))


class Watch:
    """Rows that reached the head and tokens that reached the layers, with or without a gradient."""

    def __init__(self, model):
        self.head, self.layers = [], []
        self.handles = [
            model.get_output_embeddings().register_forward_hook(lambda *call: self.head.append(call[2][..., 0].numel())),
            model.get_decoder()
            .layers[1]
            .register_forward_hook(lambda *call: self.layers.append((tuple(call[2].shape[:2]), call[2].requires_grad))),
        ]

    def __call__(self, model, **settings):
        self.head.clear()
        self.layers.clear()
        model(**settings)
        return list(self.head), list(self.layers)


def test_only_labelled_positions_reach_the_head_and_the_frame_is_computed_once(xrec_over):
    batch, labels = ragged(), 9 + 10 + 6
    for family in ("llama", "gemma2"):
        model = xrec_over(family)
        watch, kept = Watch(model), PromptPrefix()
        fused = [] if family == "llama" else [labels]  # the fused head is not called as a module
        whole = [((3, 30), True)]
        apart = [((1, 4), False), ((3, 26), True)]
        assert watch(model, **batch) == ([3 * 30], whole)
        assert watch(model, **batch, skip_logits=True) == (fused, apart)
        assert watch(model, **batch, skip_logits=True, prompt_prefix=kept) == (fused, apart)
        assert watch(model, **batch, skip_logits=True, prompt_prefix=kept) == (fused, apart[1:])
        assert watch(model, **ragged(shared=False), skip_logits=True) == (fused, [((3, 4), False), ((3, 26), True)])


def saved_bytes(model, **settings):
    """Bytes of activations that one forward pass keeps for its backward pass; weights are not among them."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**settings).loss
    assert loss.requires_grad
    return sum(kept.values())


def test_neither_logits_nor_the_frame_are_kept_for_the_backward_pass():
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES | {"vocab_size": 5000, "num_hidden_layers": 1})
    markers = {"user_token_id": USER_TOKEN, "item_token_id": ITEM_TOKEN, "num_users": 5, "num_items": 7}
    model = XRecForCausalLM.from_backbone(LlamaForCausalLM(config), collaborative_dim=8, **markers)
    plain, lean = saved_bytes(model, **ragged()), saved_bytes(model, **ragged(), skip_logits=True)
    logits, labels = 3 * 29 * 5000 * 4, 25
    assert plain - lean > logits
    no_labels = ragged() | {"labels": torch.full((3, 30), -100)}
    no_labels["labels"][0, 20] = 5
    assert lean - saved_bytes(model, **no_labels, skip_logits=True) < labels * 32 * 4 * 4  # hidden states, not logits


def test_a_kept_prefix_follows_what_it_was_made_of(precise):
    model, kept = precise("llama"), PromptPrefix()
    batch = ragged()
    trained(model, batch, skip_logits=True, prompt_prefix=kept)
    other = batch | {"input_ids": batch["input_ids"].clone()}
    other["input_ids"][:, 1] = 50
    check_equal(trained(model, other, skip_logits=True, prompt_prefix=kept), trained(model, other, plainly=True))
    with torch.no_grad():
        model.get_decoder().layers[0].self_attn.k_proj.weight.mul_(1.5)
    check_equal(trained(model, other, skip_logits=True, prompt_prefix=kept), trained(model, other, plainly=True))
    model.float()
    wanted, found = (trained(model, other, **way) for way in ({}, {"skip_logits": True, "prompt_prefix": kept}))
    check_equal(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_kept_prefix_keeps_no_graph(precise):
    model, kept = precise("llama"), PromptPrefix()
    model.enable_input_require_grads()
    wanted = trained(model, ragged(), plainly=True)
    for _ in range(2):
        check_equal(trained(model, ragged(), skip_logits=True, prompt_prefix=kept), wanted)


def test_lora_trains_early_tokens_too(precise):
    model = precise("llama-grouped")
    tuned = get_peft_model(model, LoraConfig(target_modules=["k_proj", "down_proj"], modules_to_save=["user_adapter"]))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    tuned.double()
    wanted = trained(model, ragged(), plainly=True)
    assert any("lora" in name for name in wanted[1])
    assert not can_stand_apart(model.language_model)
    check_equal(trained(model, ragged(), skip_logits=True), wanted)


def test_a_trained_head_gets_its_gradient(precise):
    model = precise("llama")
    model.get_output_embeddings().weight.requires_grad_(True)
    assert answer_loss.plain_head(model.language_model) is None
    wanted = trained(model, ragged(), plainly=True)
    assert "language_model.lm_head.weight" in wanted[1]
    check_equal(trained(model, ragged(), plainly=True, skip_logits=True), wanted)


def test_recomputed_activations(precise):
    model = precise("llama").train()
    for adapter in (model.user_adapter, model.item_adapter):  # dropout would draw anew
        adapter.eval()
    wanted = trained(model, ragged(), plainly=True)
    model.activation_checkpointing_enable()
    assert not can_stand_apart(model.language_model)
    check_equal(trained(model, ragged(), skip_logits=True), wanted)


def test_a_backbone_that_draws_is_not_shared_among_rows(precise):
    model = precise("gpt2")  # dropout of 0.1 in training
    assert can_stand_apart(model.language_model)
    model.train()
    assert not can_stand_apart(model.language_model)
    losses = []
    for settings in ({}, {"skip_logits": True}):
        torch.manual_seed(0)
        losses.append(model(**ragged(), **settings).loss.float())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)


def test_adapters_draw_the_same_noise(precise):
    model = precise("llama").train()
    ways = []
    for settings in ({"plainly": True}, {"skip_logits": True}):
        torch.manual_seed(0)
        ways.append(trained(model, ragged(), **settings))
    check_equal(ways[1], ways[0])


def test_positions_that_depend_on_the_whole_length_are_computed_together():
    stretched = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    config = LlamaConfig(**SIZES, rope_parameters=stretched, max_position_embeddings=16)
    assert not can_stand_apart(LlamaForCausalLM(config))
    assert can_stand_apart(LlamaForCausalLM(LlamaConfig(**SIZES)).requires_grad_(False))


def test_half_precision_under_autocast(xrec_over):
    model = xrec_over("llama")
    with torch.autocast("cpu", torch.bfloat16):
        wanted, found = trained(model, ragged()), trained(model, ragged(), skip_logits=True)
    torch.testing.assert_close(found[0], wanted[0], rtol=2e-2, atol=0)
    for name, gradient in wanted[1].items():
        assert torch.cosine_similarity(found[1][name].flatten(), gradient.flatten(), dim=0) > 0.99, name


def test_without_labels_it_is_refused(tiny_xrec):
    batch = ragged() | {"labels": None}
    with pytest.raises(ValueError, match="expected labels, found none: with skip_logits"):
        tiny_xrec()(**batch, skip_logits=True)


def test_nothing_but_the_loss_comes_back_unless_asked(tiny_xrec):
    model = tiny_xrec()
    assert set(model(**ragged(), skip_logits=True).keys()) == {"loss"}
    assert len(model(**ragged(), skip_logits=True, output_hidden_states=True).hidden_states) == 3
    assert model(**ragged()).logits.shape == (3, 30, 110)


def test_a_batch_without_labels_adds_nothing(tiny_xrec):
    model, batch = tiny_xrec(), ragged()
    batch["labels"].fill_(-100)
    loss = model(**batch, skip_logits=True, num_items_in_batch=5).loss
    loss.backward()
    assert loss == 0
    assert (model.user_adapter.expert_weight.grad == 0).all()


class LeanTrainer(Trainer):
    """What a trainer has to do."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        return super().compute_loss(model, {**inputs, "skip_logits": True}, *args, **kwargs)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_under_trainer_the_weights_are_the_plain_ones(tiny_xrec, tmp_path, accumulation):
    rows = [{name: tensor[row] for name, tensor in ragged().items()} for row in (0, 1, 2) for _ in range(4)]
    ended = []
    for kind in (Trainer, LeanTrainer):
        model = tiny_xrec()
        model.lightgcn.user_embeddings.normal_(generator=torch.Generator().manual_seed(1))
        arguments = TrainingArguments(
            str(tmp_path / kind.__name__), per_device_train_batch_size=2, gradient_accumulation_steps=accumulation,
            max_steps=3, learning_rate=1e-2, use_cpu=True, disable_tqdm=True,
            report_to="none", save_strategy="no", optim="sgd", seed=0,
        )  # fmt: skip
        kind(model, arguments, train_dataset=rows).train()
        ended.append(model.user_adapter.state_dict() | model.item_adapter.state_dict())
    for name, value in ended[0].items():
        torch.testing.assert_close(ended[1][name], value, rtol=1e-5, atol=1e-7)


def test_every_family_is_tested():
    assert {name.split("-")[0] for name in FAMILIES} >= {"llama", "gemma2", "gpt2", "gpt_neox", "phi3", "mistral", "qwen3"}
