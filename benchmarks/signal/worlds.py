"""The data of the signal benchmark: published explanations, a graph without their pairs, and four tasks on the same splits.

Pairs are parted once. Some users and some items are held out whole, and of the rest some rows; what remains trains. So one
trained model answers for all three kinds of test rows. No pair that is explained, in whatever part, is an edge of the graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from modeling_xrec.lightgcn import LightGCN
from xrec_dataset_builder.schema import (
    EXPLANATIONS,
    INTERACTIONS,
    ITEMS,
    SPLITS,
    USERS,
    DatasetFolder,
    atomic_folder,
    read_table,
    write_json,
    write_table,
)
from xrec_training.cli import main as xrec
from xrec_training.graph_folder import read_graph, write_graph
from xrec_training.tables import Catalogue

PROFILE, FULL, BARE, HISTORY = "profile", "full", "bare", "history"
TASKS = (PROFILE, FULL, BARE, HISTORY)
"""T1: the item's profile from its embedding alone. T2: the explanation with the full prompt. T3: without profiles. T4: for a
user whom the graph does not know, by history, without a profile of the user."""
PROMPTS = {
    PROFILE: "About:{user_marker}{item_marker}\nWho would enjoy it:",
    FULL: "User:{user_marker} {user_profile}\nItem:{item_marker} {title}. {item_profile}\nWhy:",
    BARE: "User:{user_marker}\nItem:{item_marker} {title}.\nWhy:",
    HISTORY: "User:{user_marker}\nItem:{item_marker} {title}. {item_profile}\nWhy:",
}
TESTED = ("row", "user", "item")
REST = "rest"


@dataclass(frozen=True)
class Sizes:
    """How the pairs and items are parted.

    Args:
        held_out: share of the users, and of the items, whose explanations are all test rows.
        rows: explanations of the others for the validation, and as many for the test by row.
        profiles: item profiles that train adapters; the others that are not tested are text for the backbone.
        tested_profiles: item profiles for the test; half as many for the validation.
        seed: of all parts.
    """

    held_out: float = 0.1
    rows: int = 300
    profiles: int = 6000
    tested_profiles: int = 800
    seed: int = 0


@dataclass(frozen=True)
class World:
    """Folders of one dataset.

    Args:
        root: of all of them.
    """

    root: Path

    @property
    def base(self) -> Path:
        """The dataset as `xrec build table --repair-leaks` makes it."""
        return self.root / "base"

    @property
    def parts(self) -> Path:
        """Every explained pair with its part."""
        return self.root / "parts.parquet"

    @property
    def more_profiles(self) -> Path:
        """Item profiles that neither train an adapter nor are tested: the backbone's."""
        return self.task(PROFILE) / "more_profiles.parquet"

    def task(self, task: str) -> Path:
        """A dataset folder whose explanations are a task's."""
        return self.root / "tasks" / task

    def graph(self, task: str, options: Sequence[str] = ()) -> Path:
        """The graph that a task's models hear, made with these options of `xrec encode`."""
        name = "graph-history" if task == HISTORY else "graph"
        return self.root / "-".join([name, *(option.lstrip("-") for option in options)])


def prepare_world(source: Path, root: Path, sizes: Sizes) -> World:
    """Makes what is missing of a world.

    Args:
        source: folder with `interactions`, `explanations` and `item_profiles` as Parquet.
        root: where the world goes.
        sizes: of its parts.
    """
    world = World(root)
    root.mkdir(parents=True, exist_ok=True)
    if not world.base.is_dir():
        files = {"interactions": "interactions", "explanations": "explanations", "items": "item_profiles"}
        given = [word for flag, name in files.items() for word in (f"--{flag}", str(source / f"{name}.parquet"))]
        _run(["build", "table", *given, "--repair-leaks", "--seed", str(sizes.seed), "--out", str(world.base)])
    if not world.parts.is_file():
        _parts(world.base, sizes).write_parquet(world.parts)
    for task in TASKS:
        if not world.task(task).is_dir():
            _write_task(world, task, sizes)
    for task in (FULL, HISTORY):
        prepare_graph(world, task, sizes)
    return world


def prepare_graph(world: World, task: str, sizes: Sizes, options: Sequence[str] = ()) -> None:
    """Encodes a task's graph where it is missing, with these options of `xrec encode`."""
    place = world.graph(task, options)
    if place.is_dir():
        return
    if task == HISTORY:
        _encode_without_users(world, sizes, options)
    else:
        _run(["encode", str(world.base), "--out", str(place), "--seed", str(sizes.seed), *options])


def part_rows(table: pl.DataFrame, sizes: Sizes) -> pl.Series:
    """The part of every explained pair, by `user_id` and `item_id` alone."""
    generator = np.random.default_rng(sizes.seed)
    held: dict[str, set[str]] = {}
    for side in ("user", "item"):
        ids = np.array(sorted(set(table[f"{side}_id"])))
        held[side] = set(generator.choice(ids, round(sizes.held_out * len(ids)), replace=False).tolist())
    parts = np.full(len(table), "train", dtype=object)
    of_user, of_item = (np.array([one in held[side] for one in table[f"{side}_id"]]) for side in ("user", "item"))
    parts[of_item], parts[of_user] = "item", "user"
    free = generator.permutation(np.flatnonzero(~of_user & ~of_item))
    parts[free[: sizes.rows]], parts[free[sizes.rows : 2 * sizes.rows]] = "row", "validation"
    return pl.Series("part", parts.tolist(), dtype=pl.String)


def _parts(base: Path, sizes: Sizes) -> pl.DataFrame:
    folder = DatasetFolder(base)
    table = pl.concat([read_table(folder.explanations(split), EXPLANATIONS) for split in SPLITS]).sort("user_id", "item_id")
    return table.with_columns(part_rows(table, sizes))


def _write_task(world: World, task: str, sizes: Sizes) -> None:
    parts = pl.read_parquet(world.parts)
    rows = _profiles(world, parts, sizes) if task == PROFILE else parts
    with atomic_folder(world.task(task)) as folder:
        made = _write_graph_tables(world, folder)
        for split in SPLITS:
            chosen = pl.col("part").is_in(TESTED) if split == "test" else pl.col("part") == split
            write_table(rows.filter(chosen).select(*EXPLANATIONS), made.explanations(split), EXPLANATIONS)
        rows.filter(pl.col("part") != REST).select("user_id", "item_id", "part").write_parquet(folder / "parts.parquet")
        if task == PROFILE:
            rest = rows.filter(pl.col("part") == REST).select(*EXPLANATIONS)
            rest.write_parquet(folder / world.more_profiles.name)


def _write_graph_tables(world: World, folder: Path, kept: pl.Expr | None = None) -> DatasetFolder:
    """The world's users, items and interactions, of these only the kept ones where an expression says which."""
    base, made = DatasetFolder(world.base), DatasetFolder(folder)
    for split in SPLITS:
        table = read_table(base.interactions(split), INTERACTIONS)
        write_table(table if kept is None else table.filter(kept), made.interactions(split), INTERACTIONS)
    write_table(read_table(base.users, USERS), made.users, USERS)
    write_table(read_table(base.items, ITEMS), made.items, ITEMS)
    write_json({"format": 1, "source": "signal benchmark"}, made.build_json)
    return made


def _profiles(world: World, parts: pl.DataFrame, sizes: Sizes) -> pl.DataFrame:
    """Item profiles in the place of explanations, all beside one and the same user, so that only the item tells anything.

    What is tested stands in no training prompt: its items have no training explanation.
    """
    items = read_table(DatasetFolder(world.base).items, ITEMS).filter(pl.col("item_profile").str.len_chars() > 0)
    seen = set(parts.filter(pl.col("part").is_in(["train", "validation"]))["item_id"])
    generator = np.random.default_rng(sizes.seed)
    free = generator.permutation(np.array([one for one in items["item_id"] if one not in seen], dtype=object))
    tested, validation, _ = np.split(free, np.cumsum([sizes.tested_profiles, sizes.tested_profiles // 2]))
    rest = [one for one in items["item_id"] if one not in set(tested) | set(validation)]
    shuffled = generator.permutation(np.array(rest, dtype=object))
    train, more = shuffled[: sizes.profiles], shuffled[sizes.profiles :]
    user = min(parts["user_id"])
    chosen = pl.concat(
        pl.DataFrame({"item_id": ids.tolist()}).with_columns(part=pl.lit(part))
        for ids, part in ((train, "train"), (validation, "validation"), (tested, "row"), (more, REST))
    )
    return chosen.join(items, on="item_id", maintain_order="left").select(
        pl.lit(user).alias("user_id"), "item_id", pl.lit("").alias("title"), pl.lit("").alias("user_profile"),
        pl.lit("").alias("item_profile"), pl.col("item_profile").alias("explanation"), "part",
    )  # fmt: skip


def _encode_without_users(world: World, sizes: Sizes, options: Sequence[str]) -> None:
    """A graph that never saw the held-out users; their rows are folded in from what they touched."""
    parts = pl.read_parquet(world.parts)
    cold = sorted(set(parts.filter(pl.col("part") == "user")["user_id"]))
    place = world.root / "without-users"
    if not place.is_dir():
        with atomic_folder(place) as folder:
            _write_graph_tables(world, folder, ~pl.col("user_id").is_in(cold))
    heard = world.graph(HISTORY, options)
    encoded = heard.with_name(f"{heard.name}-without-users")
    if not encoded.is_dir():
        _run(["encode", str(place), "--out", str(encoded), "--seed", str(sizes.seed), *options])
    catalogue = Catalogue.read(world.base)
    lightgcn = read_graph(encoded, catalogue)
    fold_in_users(lightgcn, catalogue, read_table(DatasetFolder(world.base).interactions("train"), INTERACTIONS), cold)
    with atomic_folder(heard) as folder:
        write_graph(lightgcn, folder, catalogue)


def fold_in_users(lightgcn: LightGCN, catalogue: Catalogue, interactions: pl.DataFrame, users: Sequence[str]) -> None:
    """Puts the fold-in of their histories in the place of some users' rows."""
    table = interactions.filter(pl.col("user_id").is_in(list(users)))
    rows = torch.from_numpy(catalogue.rows(table))
    for user in rows[0].unique().tolist():
        lightgcn.user_embeddings[user] = lightgcn.fold_in([rows[1][rows[0] == user]])[0]


def _run(command: list[str]) -> None:
    if xrec(command):
        raise RuntimeError(f"xrec {' '.join(command)} failed")
