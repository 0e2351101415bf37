"""Equality with numbers that the XRec reference computed (tests/golden/README.md)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_xrec import LightGCN
from modeling_xrec.bipartite_graph import count_duplicates, normalized_adjacency
from xrec_training.objectives import bpr_loss

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ["A", "B", "F"]
CLOSE = {"atol": 1e-5, "rtol": 0.0}


@pytest.mark.parametrize("name", [*CASES, "C"])
def test_adapter_and_gates(golden_case, name):
    case = golden_case(name)
    for side in ("user", "item"):
        adapter, embeddings = getattr(case.model, f"{side}_adapter"), case.io[f"{side}_cf"]
        torch.testing.assert_close(adapter(embeddings)[:, 0], case.io[f"{side}_adapter_out"], **CLOSE)
        torch.testing.assert_close(adapter.gates(embeddings), case.io[f"{side}_gates"], **CLOSE)
        noisy = adapter.train().gates(embeddings, case.io[f"{side}_gate_noise"])
        torch.testing.assert_close(noisy, case.io[f"{side}_gates_train_given_noise"], **CLOSE)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", CASES)
def test_forward_loss_and_gradients(golden_case, name, attention):
    case = golden_case(name, attention)
    labels = torch.full_like(case.io["train.input_ids"], -100)
    labels[:, 1:] = case.io["train.labels"]
    output = case.model(case.io["train.input_ids"], labels=labels, output_hidden_states=True, **case.signal)
    torch.testing.assert_close(output.logits, case.io["train.logits"], **CLOSE)
    torch.testing.assert_close(torch.stack(output.hidden_states), case.io["train.hidden_states"], **CLOSE)
    torch.testing.assert_close(output.loss, case.io["train.loss"], **CLOSE)
    output.loss.backward()
    for side in ("user", "item"):
        adapter = getattr(case.model, f"{side}_adapter")
        golden = {k.removeprefix(f"grad.{side}_adapter."): v for k, v in case.io.items() if k.startswith(f"grad.{side}")}
        torch.testing.assert_close(adapter.gate_weight.grad, golden["w_gate"], **CLOSE)
        for expert in range(len(adapter.expert_bias)):
            torch.testing.assert_close(adapter.expert_bias.grad[expert], golden[f"experts.{expert}.bias"], **CLOSE)
            weight = adapter.expert_weight.grad[expert].T
            torch.testing.assert_close(weight, golden[f"experts.{expert}.lin.weight"], **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_prompt_logits_and_greedy_ids(golden_case, name):
    case = golden_case(name)
    prompt = case.io["gen.input_ids"]
    torch.testing.assert_close(case.model(prompt, **case.signal).logits, case.io["gen.logits"], **CLOSE)
    ids = case.model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=24,
        do_sample=False,
        suppress_tokens=None,
        **case.signal,
    )
    new = ids[:, prompt.shape[1] :]
    assert torch.equal(new, case.io["gen.generated_ids"][:, : new.shape[1]])


def test_a_marker_that_the_model_writes_is_an_ordinary_token(golden_case):
    generated = golden_case("A").io["gen.generated_ids"]
    # What makes the test above cover it: case A really generates markers.
    assert ((generated == 104) | (generated == 105)).any()


def test_each_padded_row_equals_the_row_alone(golden_case):
    """The reference pads without a mask (case C); here each row is what it is on its own."""
    case = golden_case("C")
    prompt, wanted = case.io["gen.input_ids"], case.io["gen.generated_ids_rows_alone"]
    lengths = [int((row != 107).sum()) for row in prompt]
    width = max(lengths)
    left = torch.stack([torch.cat([row.new_full((width - n,), 107), row[:n]]) for row, n in zip(prompt, lengths, strict=True)])
    ids = case.model.generate(
        left, attention_mask=(left != 107).long(), max_new_tokens=24, do_sample=False, suppress_tokens=None,
        pad_token_id=0, **case.signal,
    )[:, width:]  # fmt: skip
    for row, golden in zip(ids, wanted, strict=True):
        end = (golden == 2).nonzero()
        stop = int(end[0]) + 1 if len(end) else len(golden)
        assert torch.equal(row[:stop], golden[:stop])


@pytest.fixture(scope="module")
def graph():
    return load_file(GOLDEN / "lightgcn" / "lightgcn.safetensors")


def golden_lightgcn(graph, aggregation):
    model = LightGCN(50, 40, 64, num_layers=4, aggregation=aggregation)
    model.load_state_dict(
        {"user_embeddings": graph["init_user_embeds"], "item_embeddings": graph["init_item_embeds"]}, strict=False
    )
    return model


def test_adjacency_merges_repeated_edges(graph):
    adjacency = normalized_adjacency(graph["edges"].T, 50, 40)
    torch.testing.assert_close(adjacency.to_dense(), graph["adj_dense"], **CLOSE)
    assert adjacency.values().numel() == 542
    assert count_duplicates(graph["edges"].T, 40) == len(graph["edges"]) - 542 // 2 > 0


def test_propagation_sums_as_the_reference_and_averages_as_the_paper(graph):
    users, items = golden_lightgcn(graph, "sum").propagate(graph["edges"].T)
    torch.testing.assert_close(users, graph["prop_user_embeds"], **CLOSE)
    torch.testing.assert_close(items, graph["prop_item_embeds"], **CLOSE)
    mean, _ = golden_lightgcn(graph, "mean").propagate(graph["edges"].T)
    torch.testing.assert_close(mean * 5, users, **CLOSE)


@pytest.mark.parametrize("decay", ["1e-6", "1e-2", "0"])
def test_bpr_loss_and_gradients(graph, decay):
    model = golden_lightgcn(graph, "sum")
    users, items = model.propagate(graph["edges"].T)
    rows = users[graph["batch_user"]], items[graph["batch_pos"]], items[graph["batch_neg"]]
    loss = bpr_loss(*rows, weight_decay=float(decay))
    torch.testing.assert_close(loss, graph[f"loss_wd{decay}"], **CLOSE)
    loss.backward()
    torch.testing.assert_close(model.user_embeddings.grad, graph[f"grad_user_wd{decay}"], **CLOSE)
    torch.testing.assert_close(model.item_embeddings.grad, graph[f"grad_item_wd{decay}"], **CLOSE)


def test_five_adam_steps(graph):
    model = golden_lightgcn(graph, "sum")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        users, items = model.propagate(graph["edges"].T)
        bpr_loss(users[graph["batch_user"]], items[graph["batch_pos"]], items[graph["batch_neg"]], 1e-6).backward()
        optimizer.step()
    torch.testing.assert_close(model.user_embeddings.detach(), graph["adam5_user_embeds"], **CLOSE)
    torch.testing.assert_close(model.item_embeddings.detach(), graph["adam5_item_embeds"], **CLOSE)
