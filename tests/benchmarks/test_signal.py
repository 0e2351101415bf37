"""The signal benchmark: its parts keep test rows apart, its figures are the plain ones, and it goes on where it stopped."""

import dataclasses
import json
import os

import numpy as np
import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from modeling_xrec.processing_xrec import XRecProcessor

USERS, ITEMS, PAIRS = 40, 30, 240


@pytest.fixture(scope="module")
def worlds(benchmark_script):
    return benchmark_script("worlds")


@pytest.fixture(scope="module")
def sizes(worlds):
    return worlds.Sizes(held_out=0.1, rows=12, profiles=10, tested_profiles=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"), "dish")


def write_source(folder, thing):
    """Tables as the published ones are: integers for ids, explained pairs among the interactions."""
    generator = np.random.default_rng(0)
    pairs = [(user, item) for user in range(USERS) for item in generator.permutation(ITEMS)[:14].tolist()]
    interactions = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    interactions.with_columns(split=pl.lit("train")).write_parquet(folder / "interactions.parquet")
    food = ["tacos", "ramen", "pizza", "curry"]
    profiles = [f"Fans of {food[item % 4]} would enjoy the {thing} of place {item}." for item in range(ITEMS)]
    # One item in three is explained to nobody, so that its profile can be tested.
    free = interactions.filter(pl.col("item_id") % 3 > 0).sample(PAIRS, seed=0)
    explained = free.with_columns(
        title=pl.format("Place {}", "item_id"),
        user_profile=pl.format("User {} likes food.", "user_id"),
        item_profile=pl.col("item_id").map_elements(lambda item: profiles[item], return_dtype=pl.String),
        explanation=pl.format(f"The user would enjoy {thing} {{}}.", pl.col("item_id") % 4),
    )
    explained.write_parquet(folder / "explanations.parquet")
    items = pl.DataFrame({"item_id": range(ITEMS), "item_profile": profiles})
    items.write_parquet(folder / "item_profiles.parquet")
    return folder


@pytest.fixture(scope="module")
def world(worlds, source, sizes, tmp_path_factory):
    return worlds.prepare_world(source, tmp_path_factory.mktemp("worlds") / "small", sizes)


@pytest.fixture(scope="module")
def other(worlds, sizes, tmp_path_factory):
    """Another dataset."""
    source = write_source(tmp_path_factory.mktemp("other"), "film")
    return worlds.prepare_world(source, tmp_path_factory.mktemp("worlds") / "other", sizes)


def explanations(world, task, split):
    return pl.read_parquet(world.task(task) / "data" / "explanations" / f"{split}.parquet")


def test_parts_hold_whole_users_and_items_out(world):
    parts = pl.read_parquet(world.parts)
    of = {part: parts.filter(pl.col("part") == part) for part in ("train", "validation", "row", "user", "item")}
    assert sum(len(table) for table in of.values()) == len(parts) == PAIRS
    assert min(len(table) for table in of.values()) > 0
    assert len(of["row"]) == len(of["validation"]) == 12
    rest = pl.concat([of["train"], of["validation"], of["row"]])
    assert not set(of["user"]["user_id"]) & set(rest["user_id"])
    assert not set(of["item"]["item_id"]) & set(rest["item_id"])


def test_no_explained_pair_is_an_edge(world):
    explained = set(pl.read_parquet(world.parts).select("user_id", "item_id").rows())
    for task in ("profile", "full", "bare", "history"):
        for split in ("train", "validation", "test"):
            edges = pl.read_parquet(world.task(task) / "data" / "interactions" / f"{split}.parquet")
            assert not explained & set(edges.select("user_id", "item_id").rows())


def test_tested_profiles_stand_in_no_training_text(world):
    tested = set(explanations(world, "profile", "test")["explanation"])
    assert len(tested) == 4
    seen = set(explanations(world, "profile", "train")["explanation"])
    seen |= {text for task in ("full", "bare", "history") for text in explanations(world, task, "train")["item_profile"]}
    assert not tested & seen
    assert explanations(world, "profile", "train")["user_id"].n_unique() == 1


def test_a_backbone_reads_nothing_that_its_adapters_learn_or_are_tested_on(benchmark_script, world, other):
    backbones = benchmark_script("backbones")
    tables = backbones.backbone_tables(world, (other,))
    assert set(tables["profile"]["explanation"]) > set(pl.read_parquet(world.more_profiles)["explanation"])
    for task, table in tables.items():
        assert len(table)
        for split in ("train", "validation", "test"):
            assert not set(table["explanation"]) & set(explanations(world, task, split)["explanation"])
    with pytest.raises(ValueError, match="two datasets or more"):
        backbones.backbone_tables(world, ())


def test_users_known_by_history_are_folded_in(worlds, world):
    from xrec_training.graph_folder import read_graph
    from xrec_training.tables import Catalogue

    catalogue = Catalogue.read(world.base)
    encoded, heard = (read_graph(world.root / name, catalogue) for name in ("graph-history-without-users", "graph-history"))
    cold = set(pl.read_parquet(world.parts).filter(pl.col("part") == "user")["user_id"])
    edges = pl.read_parquet(world.base / "data" / "interactions" / "train.parquet")
    places = {item: row for row, item in enumerate(catalogue.items["item_id"])}
    for row, user in enumerate(catalogue.users["user_id"]):
        history = [places[item] for item in edges.filter(pl.col("user_id") == user)["item_id"]]
        expected = encoded.fold_in([history])[0] if user in cold else encoded.user_embeddings[row]
        torch.testing.assert_close(heard.user_embeddings[row], expected)
    edges = pl.read_parquet(world.root / "without-users" / "data" / "interactions" / "train.parquet")
    assert not cold & set(edges["user_id"])


def test_the_probe_compares_encoders_on_validation_rows(benchmark_script, worlds, world, sizes, monkeypatch):
    probe, cells = benchmark_script("probe"), benchmark_script("cells")
    options = ("--dim", "8", "--epochs", "1")
    monkeypatch.setitem(cells.LEVERS, "narrow", {"encode": options})
    worlds.prepare_graph(world, "bare", sizes, options)
    found = probe.encoder_bits(world, "bare", ["narrow"])
    assert set(found) == {"plain", "narrow"}
    assert set(found["plain"]) == {"alone", "beside texts"}
    assert found["plain"]["alone"]["over_plain"]["value"] == 0
    tables, counts = probe.words_of(world, "bare")
    catalogue = probe.Catalogue.read(world.task("bare"))
    items = probe.read_graph(world.graph("bare", options), catalogue).item_embeddings.detach().numpy()
    assert items.shape[1] == 8
    rows = {row["item_id"]: items[place] for place, row in enumerate(catalogue.items.to_dicts())}
    features = {split: np.stack([rows[one] for one in table["item_id"]]) for split, table in tables.items()}
    (bits,) = probe.bits_of([features], counts, "validation")
    assert found["narrow"]["alone"]["bits"]["value"] == pytest.approx(bits.mean())
    assert bits.any()
    gain = found["narrow"]["alone"]["bits"]["value"] - found["plain"]["alone"]["bits"]["value"]
    assert found["narrow"]["alone"]["over_plain"]["value"] == pytest.approx(gain)


def test_the_grid_is_full_for_the_full_prompt_alone(benchmark_script):
    cells = benchmark_script("cells")
    found = list(cells.grid(("bare", "full"), cells.CONDITIONS, cells.INJECTIONS, (0, 1), ("plain",)))
    assert len(found) == len(set(found)) == len({cell.name for cell in found}) == 2 * (4 + 3 * 4)
    assert {cell.injection for cell in found if cell.task == "bare"} == {"qkv"}


def test_levers_in_the_layers_have_no_cell_where_nothing_is_injected_there(benchmark_script):
    cells = benchmark_script("cells")
    found = list(cells.grid(("full",), ("graph",), cells.INJECTIONS, (0,), ("layer-maps", "plain", "learned-scale+contrast")))
    assert {(cell.lever, cell.injection) for cell in found if cell.injection == "input"} == {("plain", "input")}
    assert len(found) == 3 + 2 + 2


def test_levers_joined_change_what_each_changes(benchmark_script, tmp_path):
    cells = benchmark_script("cells")
    recipe = cells.Cell("bare", "graph", "attention", 1, "layer-maps+scale-8+rate-triple+contrast").recipe(tmp_path)
    assert recipe.config == {"injection": "attention", "layer_maps": True, "injection_scale": 8.0}
    assert (recipe.trainer["learning_rate"], recipe.trainer["seed"]) == (3 * cells.Setting().learning_rate, 1)
    assert recipe.contrast == 0.3


def test_a_setting_is_that_of_every_cell_and_levers_multiply_it(benchmark_script, tmp_path):
    cells = benchmark_script("cells")
    trainer = cells.Cell("bare", "graph", lever="rate-third+longer").recipe(tmp_path, cells.Setting(3e-3, 8, 0.5)).trainer
    assert (trainer["learning_rate"], trainer["per_device_train_batch_size"]) == (pytest.approx(1e-3), 8)
    assert trainer["num_train_epochs"] == 1.0


@pytest.mark.parametrize(("workers", "seconds"), [(1, None), (2, None), (2, -1.0)])
def test_jobs_side_by_side_keep_their_order(benchmark_script, workers, seconds):
    side_by_side = benchmark_script("side_by_side").side_by_side
    found = side_by_side(pow, [(number, 2) for number in range(7)], workers, "squares", seconds)
    assert found == ([None] * 7 if seconds else [0, 1, 4, 9, 16, 25, 36])


def test_a_job_that_fails_leaves_the_others_to_their_end(benchmark_script, tmp_path):
    side_by_side = benchmark_script("side_by_side").side_by_side
    with pytest.raises(FileNotFoundError):
        side_by_side(os.mkdir, [(tmp_path / name,) for name in ("one", "missing/two", "three")], 2, "folders")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three"]


@pytest.mark.parametrize("task", ["profile", "full", "bare", "history"])
def test_every_lever_leaves_the_markers_in_the_prompt(benchmark_script, task, tmp_path):
    cells = benchmark_script("cells")
    for lever in cells.LEVERS:
        recipe = cells.Cell(task, "graph", lever=lever).recipe(tmp_path)
        assert [recipe.prompt.count(f"{{{side}_marker}}") for side in ("user", "item")] == [1, 1]
        assert ("{user_profile}" in recipe.prompt) == (task == "full")
        assert ("{item_profile}" in recipe.prompt) == (task in ("full", "history"))


def scored(own, part=None, **others):
    rows = len(own)
    columns = {name: others.get(name, np.zeros(rows)) for name in ("other_pair", "other_user", "other_item")}
    ids = [str(row) for row in range(rows)]
    given = {"user_id": ids, "item_id": ids, "part": part or ["row"] * rows, "tokens": [2] * rows, "own": own}
    return pl.DataFrame({**given, **columns})


def test_differences_are_of_each_rows_mean_over_the_seeds(benchmark_script):
    cells, figures = benchmark_script("cells"), benchmark_script("figures")
    part = ["row", "row", "user", "user"]
    graph = [np.array([-8.0, -6, -4, -2]), np.array([-6.0, -6, -6, -6])]
    tables = {cells.Cell("bare", "graph", seed=seed): scored(own, part) for seed, own in enumerate(graph)}
    tables[cells.Cell("bare", "permuted")] = scored(np.array([-9.0, -9, -9, -9]), part)
    tables[cells.Cell("bare", "graph", lever="markers-4")] = scored(np.array([-1.0, -1, -1, -1]), part)
    found = figures.task_figures("bare", tables)
    entry = found["bare.graph.qkv.plain"]
    assert entry["seeds"] == [0, 1]
    assert entry["bits"]["value"] == pytest.approx(5.5)
    assert entry["bits_a_token"] == pytest.approx(5.5 / 2)
    over = entry["over"]["permuted"]
    assert (over["all"]["value"], over["row"]["value"], over["user"]["value"]) == pytest.approx((3.5, 2.5, 4.5))
    assert over["all"]["low"] < 3.5 < over["all"]["high"]
    assert found["bare.graph.qkv.markers-4"]["over_plain"]["all"]["value"] == pytest.approx(4.5)
    assert found["bare.graph.qkv.markers-4"]["over"] == {}


def test_seeds_must_agree_on_the_rows(benchmark_script):
    cells, figures = benchmark_script("cells"), benchmark_script("figures")
    tables = {cells.Cell("bare", "graph", seed=seed): scored(np.zeros(3 + seed)) for seed in (0, 1)}
    with pytest.raises(ValueError, match="the same rows"):
        figures.task_figures("bare", tables)


def test_swaps_give_every_row_another_of_its_part(benchmark_script):
    scoring = benchmark_script("scoring")
    rows = scored(np.zeros(40), ["row", "user"] * 20)
    others = scoring._others(rows)
    assert sorted(others) == list(range(40))
    assert (others != np.arange(40)).all()
    assert (others % 2 == np.arange(40) % 2).all()


def test_a_prompts_gain_is_what_each_row_gains_by_itself(benchmark_script, tiny_run):
    context = benchmark_script("context")
    processor = XRecProcessor.from_pretrained(str(tiny_run))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    backbone = LlamaForCausalLM(LlamaConfig(vocab_size=len(processor.tokenizer), initializer_range=0.5, **sizes)).eval()
    texts = [(f"Place {row}", f"likes dish {row}", "known " * row, f"It has dish{row} and more{row % 3}.") for row in range(8)]
    rows = pl.DataFrame(texts, schema=["title", "user_profile", "item_profile", "explanation"], orient="row")
    found = context.prompt_gains(backbone, processor, rows, most_keywords=3)
    cycle = np.random.default_rng(0).permutation(len(rows))
    other = dict(zip(cycle.tolist(), np.roll(cycle, 1).tolist(), strict=True))

    def nats(prompt, row):
        answer = processor.answer_ids(texts[row][3])
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            chances = backbone(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        return -chances[torch.arange(len(answer)), torch.tensor(answer)].sum().item(), len(answer)

    prompts = [processor.prompt_ids(*row[:3]) for row in texts]
    own, heard = ([nats(prompts[of(row)], row) for row in range(8)] for of in (int, other.get))
    tokens = sum(count for _, count in own)
    assert found["texts"] == pytest.approx((sum(n for n, _ in heard) - sum(n for n, _ in own)) / tokens, rel=1e-3)
    alike = pl.DataFrame([texts[0]] * 8, schema=rows.columns, orient="row")
    same = context.prompt_gains(backbone, processor, alike, most_keywords=3)
    assert same == pytest.approx({"texts": 0.0, "keywords": 0.0}, abs=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_grid_runs_and_goes_on_where_it_stopped(benchmark_script, source, sizes, tmp_path, monkeypatch):
    backbones, grid = benchmark_script("backbones"), benchmark_script("grid")
    small = backbones.BackboneSize(32, 64, 2, 16, 400, drawings=2, explanation_drawings=1)
    monkeypatch.setitem(backbones.SIZES, "15m", small)
    options = grid.Options(
        tmp_path / "grid", {"small": source, "film": write_source(tmp_path, "film")}, tasks=("bare", "profile"),
        conditions=("graph", "soft-prompt"),
        injections=("qkv",), seeds=(0,), test=True, texts=True, sizes=sizes,
    )  # fmt: skip
    first = grid.run(options)
    assert json.loads(json.dumps(first))["datasets"]["small"]["bare"]["texts"]["bare.graph.qkv.plain.0"]
    over = first["datasets"]["small"]["bare"]["cells"]["bare.graph.qkv.plain"]["over"]["soft-prompt"]
    assert set(over) == {"all", "row", "user", "item"}

    def fail(*_):
        raise AssertionError("it was trained before")

    monkeypatch.setattr(backbones, "Trainer", fail)
    with monkeypatch.context() as patch:
        patch.setattr(benchmark_script("cells"), "train", fail)
        again = grid.run(options)
    assert again["datasets"] == first["datasets"]
    benchmark_script("plotting").plot(first["datasets"], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setitem(backbones.SIZES, "15m", dataclasses.replace(small, seed=1))
    with pytest.raises(RuntimeError, match="other settings"):
        grid.run(options)

    # A pre-trained backbone needs no other dataset, and keeps its cells apart.
    setting = benchmark_script("cells").Setting(2e-3, 4, 1)
    given = dataclasses.replace(
        options, data={"small": source}, backbone=tmp_path / "grid" / "small" / "backbone-15m", setting=setting,
        tasks=("profile",), texts=False,
    )  # fmt: skip
    found = grid.run(given)
    cell = found["datasets"]["small"]["profile"]["cells"]["profile.graph.qkv.plain"]
    assert cell["bits"] != first["datasets"]["small"]["profile"]["cells"]["profile.graph.qkv.plain"]["bits"]
    assert cell["over_others_embeddings"]["other_user"]["all"]["value"] == 0  # all profiles stand beside one user
    assert json.loads((tmp_path / "grid" / "small" / "runs-backbone-15m" / "setting.json").read_text())["passes"] == 1
    with pytest.raises(RuntimeError, match="was trained with"):
        grid.run(dataclasses.replace(given, setting=benchmark_script("cells").Setting()))
