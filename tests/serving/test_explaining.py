import dataclasses
import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.explain import Explainer
from xrec_serving.explaining import UNMASKED, ExplainingModel, UnknownIdError, revision_of
from xrec_serving.options import ServeOptions

NEW_TOKENS = 16


@pytest.fixture(scope="module")
def explainer(tiny_run):
    """What `xrec explain` uses, one row at a time."""
    return Explainer(tiny_run, batch_size=1, max_new_tokens=NEW_TOKENS)


def explained(model, rows, silent):
    prepared = [model.prepare(row) for row in rows]
    return model.explain(prepared, [silent() for _ in prepared])


def test_a_batch_of_pairs_and_histories_reads_as_xrec_explain_one_by_one(model, explainer, pairs, silent):
    histories = [[item for _, item in pairs[:3]], [pairs[4][1]]]
    rows = [{"user_id": user, "item_id": item} for user, item in pairs]
    rows += [{"history": history, "item_id": pairs[5][1]} for history in histories]
    found = [answer["explanation"] for answer in explained(model, rows, silent)]
    expected = explainer.pairs(*zip(*pairs, strict=True)) + explainer.histories(histories, [pairs[5][1]] * 2)
    assert found == expected
    assert len(set(found)) > 1


def test_streamed_pieces_make_the_text_and_others_in_the_batch_are_not_changed(model, pairs, silent):
    rows = [{"user_id": user, "item_id": item} for user, item in pairs[:5]]
    plain = [answer["explanation"] for answer in explained(model, rows, silent)]
    heard = [[] for _ in rows]
    ears = [silent(on_text=pieces.append if index % 2 else None) for index, pieces in enumerate(heard)]
    found = model.explain([model.prepare(row) for row in rows], ears)
    assert [answer["explanation"] for answer in found] == plain
    assert ["".join(pieces) for pieces in heard] == [text if index % 2 else "" for index, text in enumerate(plain)]
    assert max(map(len, heard)) > 2


def test_a_row_that_nobody_waits_for_ends_and_the_others_do_not(model, pairs, silent):
    rows = [{"user_id": user, "item_id": item} for user, item in pairs[:2]]
    whole = explained(model, rows, silent)
    found = model.explain([model.prepare(row) for row in rows], [silent(cancelled=True), silent()])
    assert found[1]["explanation"] == whole[1]["explanation"]
    assert len(found[0]["explanation"]) < len(whole[0]["explanation"])


@pytest.mark.parametrize("k", [1, 7, 40])
def test_recommendations_are_the_best_inner_products_without_training_items(model, tiny_run, tiny_data, k):
    tables = {name.split(".")[-1]: table.numpy() for name, table in load_file(tiny_run / "collaborative.safetensors").items()}
    users = [row["user_id"] for row in json.loads((tiny_run / "users.json").read_text())]
    items = [row["item_id"] for row in json.loads((tiny_run / "items.json").read_text())]
    train = pl.read_parquet(tiny_data / "data" / "interactions" / "train.parquet")
    for number in (0, 7, 31):
        known = set(train.filter(pl.col("user_id") == users[number])["item_id"])
        scores = tables["item_embeddings"].astype(np.float64) @ tables["user_embeddings"][number]
        expected = [items[row] for row in np.argsort(-scores) if items[row] not in known][:k]
        found = model.recommend(users[number], k)
        assert known
        assert [item["item_id"] for item in found] == expected
        assert [item["score"] for item in found] == sorted((item["score"] for item in found), reverse=True)


@pytest.mark.parametrize("size", [1, 5])
def test_recommendations_for_a_history_are_the_best_of_its_folded_in_sum(model, tiny_run, pairs, size):
    tables = {name.split(".")[-1]: table.numpy() for name, table in load_file(tiny_run / "collaborative.safetensors").items()}
    items = [row["item_id"] for row in json.loads((tiny_run / "items.json").read_text())]
    history = list(dict.fromkeys(item for _, item in pairs))[:size]
    user = tables["item_fold_in"].astype(np.float64)[[items.index(item) for item in history]].sum(axis=0) / np.sqrt(size)
    lengths = np.linalg.norm(tables["user_embeddings"], axis=1)
    user = user / np.linalg.norm(user) if np.allclose(lengths, 1, atol=1e-3) else user
    scores = tables["item_embeddings"].astype(np.float64) @ user
    order = [items[row] for row in np.argsort(-scores) if items[row] not in history]
    found = model.recommend([*history, history[0]], 6, order[1:3])  # what is said twice counts once
    assert [item["item_id"] for item in found] == [order[0], *order[3:8]]
    assert [item["score"] for item in found] == pytest.approx(
        [scores[items.index(item["item_id"])] for item in found], abs=1e-5
    )
    assert model.recommend(history, 5, items) == []


def test_without_data_nothing_is_masked_no_evidence_is_given_and_the_notes_say_so(tiny_run, model, pairs):
    bare = ExplainingModel(ServeOptions(model=str(tiny_run), max_new_tokens=NEW_TOKENS))
    assert bare.notes == [UNMASKED]
    assert model.notes == []
    assert len(bare.recommend(pairs[0][0], 40)) == 40 > len(model.recommend(pairs[0][0], 40))
    assert bare.evidence(bare.prepare({"user_id": pairs[0][0], "item_id": pairs[0][1]})) is None
    assert bare.revision == model.revision


@pytest.mark.parametrize("who", ["user", "history"])
def test_evidence_adds_up_to_the_score_of_the_answer(model, pairs, silent, who):
    user, item = pairs[0]
    row = {"item_id": item} | ({"user_id": user} if who == "user" else {"history": [entry for _, entry in pairs[1:9]]})
    score = explained(model, [row], silent)[0]["score"]
    found = model.evidence(model.prepare(row))
    history = sum(entry["share"] for entry in found["history"])
    users = sum(entry["share"] for entry in found["users"])
    assert found["own"] + history + found["history_rest"] == pytest.approx(score, abs=1e-5)
    assert found["item_own"] + users + found["users_rest"] == pytest.approx(score, abs=1e-5)
    titles = {row["item_id"]: row["title"] for row in model.processor.items}
    assert found["history"]
    assert all(entry["title"] == titles[entry["item_id"]] for entry in found["history"])


def test_the_evidence_of_a_user_is_its_training_history_and_the_items_training_users(model, pairs, tiny_data):
    train = pl.read_parquet(tiny_data / "data" / "interactions" / "train.parquet")
    for user, item in pairs[:4]:
        found = model.evidence(model.prepare({"user_id": user, "item_id": item}))
        assert {entry["item_id"] for entry in found["history"]} <= set(train.filter(pl.col("user_id") == user)["item_id"])
        assert {entry["user_id"] for entry in found["users"]} <= set(train.filter(pl.col("item_id") == item)["user_id"])


def test_what_differs_has_different_keys_and_what_is_the_same_the_same(model, pairs):
    user, item = pairs[0]
    stored = next(row["user_profile"] for row in model.processor.users if row["user_id"] == user)
    rows = [
        {"user_id": user, "item_id": item},
        {"user_id": user, "item_id": pairs[1][1]},
        {"user_id": pairs[2][0], "item_id": item},
        {"user_id": user, "item_id": item, "title": "Another"},
        {"user_id": user, "item_id": item, "user_profile": "likes tea"},
        {"history": [pairs[1][1]], "item_id": item},
        {"history": [pairs[1][1], pairs[2][1]], "item_id": item},
        {"history": [pairs[1][1]], "item_id": item, "profile_of": user},
        {"history": [pairs[1][1]], "item_id": item, "user_profile": stored},
    ]
    keys = [model.prepare(row).key for row in rows]
    assert len(set(keys)) == len(rows)
    assert model.prepare(dict(rows[0])).key == keys[0]


def test_unknown_ids_and_prompts_beyond_the_context_are_told_apart(model, pairs):
    user, item = pairs[0]
    for row in ({"user_id": "x", "item_id": item}, {"user_id": user, "item_id": "x"}, {"history": ["x"], "item_id": item}):
        with pytest.raises(UnknownIdError, match=r"unknown (user|item) 'x'"):
            model.prepare(row)
    with pytest.raises(ValueError, match="expected a prompt of at most") as error:
        model.prepare({"user_id": user, "item_id": item, "title": "word " * 5000})
    assert not isinstance(error.value, UnknownIdError)


def test_the_revision_changes_with_any_weight_or_text(tiny_run, tmp_path, model):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    assert revision_of(str(copy), model.model) == model.revision
    items = (copy / "items.json").read_text()
    (copy / "items.json").write_text(items.replace('"title": "', '"title": "The ', 1))
    assert revision_of(str(copy), model.model) != model.revision
    (copy / "items.json").write_text(items)
    (copy / "checksums.json").unlink()
    before = revision_of(str(copy), model.model)
    weights = copy / "collaborative.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0" if weights.read_bytes()[-1:] != b"\0" else b"\1")
    assert revision_of(str(copy), model.model) != before


def test_another_graph_or_other_data_are_refused_in_one_line(options, tiny_graph, tiny_data, tmp_path):
    graph = tmp_path / "graph"
    shutil.copytree(tiny_graph, graph)
    tables = load_file(graph / "collaborative.safetensors")
    name = next(name for name in tables if "item_embeddings" in name)
    save_file(tables | {name: tables[name].flip(0).contiguous()}, graph / "collaborative.safetensors")
    with pytest.raises(DataError, match="found other item_embeddings"):
        ExplainingModel(dataclasses.replace(options, graph=graph))
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    train = data / "data" / "interactions" / "train.parquet"
    table = pl.read_parquet(train)
    table.with_columns(user_id=pl.col("user_id").reverse()).unique(("user_id", "item_id")).write_parquet(train)
    with pytest.raises(DataError, match="interactions that the model's graph was made of"):
        ExplainingModel(dataclasses.replace(options, data=data))
    table.with_columns(user_id=pl.lit("stranger")).head(3).write_parquet(train)
    with pytest.raises(DataError, match="found 3 interactions of others"):
        ExplainingModel(dataclasses.replace(options, data=data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_batch": 0}, "max_batch"),
        ({"timeout": float("nan")}, "timeout"),
        ({"data": None}, "--data beside --graph"),
        ({"data": None, "graph": None, "encoder": "some"}, "--data beside --encoder"),
        ({"keys": ("with space",)}, "keys of printable ASCII"),
    ],
)
def test_options_that_cannot_be_are_refused(options, changes, message):
    with pytest.raises(DataError, match=message):
        dataclasses.replace(options, **changes)


def test_no_gradient_is_kept(model, pairs, silent):
    explained(model, [{"user_id": pairs[0][0], "item_id": pairs[0][1]}], silent)
    model.recommend(pairs[0][0], 3)
    assert all(parameter.grad is None for parameter in model.model.parameters())
    assert torch.is_grad_enabled()
