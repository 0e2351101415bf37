import re
from pathlib import Path

import yaml

from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.card import write_card
from xrec_dataset_builder.distill import distill
from xrec_dataset_builder.licences import LICENCES, licence_of
from xrec_dataset_builder.schema import DatasetFolder
from xrec_dataset_builder.source_names import source_names

DOCS = Path(__file__).parents[2] / "docs" / "dataset.md"
COUNTS = {"users": 3, "items": 3, "kept": 9, "train": 7, "validation": 1, "test": 1}


def head(folder: DatasetFolder) -> dict:
    return yaml.safe_load(folder.card.read_text().split("---\n")[1])


def test_the_card_lists_what_is_there_and_nothing_private(built: Path):
    folder = DatasetFolder(built)
    assert [config["config_name"] for config in head(folder)["configs"]] == ["interactions", "users", "items"]
    distill(built, progress=False)
    configs = head(folder)["configs"]
    assert [config["config_name"] for config in configs] == ["explanations", "interactions", "users", "items"]
    assert [config.get("default", False) for config in configs] == [True, False, False, False]
    paths = [file["path"] for config in configs for file in config["data_files"]]
    assert all((built / path).is_file() for path in paths)
    text = folder.card.read_text()
    assert "private" not in text
    assert "| interactions | 80 | 10 | 10 |" in text
    assert "0 of 20 held-out pairs (0.0 %) are training edges." in text
    assert "teacher `extractive`" in text
    assert "come without a stated licence: unknown" in text


def test_a_repaired_dataset_says_how_it_was_published(tmp_path: Path):
    lines = [f"{u},{i},{'train' if i else 'test'}\n" for u in range(9) for i in range(5)]
    (tmp_path / "i.csv").write_text("user_id,item_id,split\n" + "".join(lines))
    (tmp_path / "e.csv").write_text("user_id,item_id,explanation\n" + "".join(f"{u},1,why {u}\n" for u in range(9)))
    inputs = Inputs(interactions=tmp_path / "i.csv", explanations=tmp_path / "e.csv")
    build("table", tmp_path / "out", inputs=inputs, repair_leaks=True)
    text = DatasetFolder(tmp_path / "out").card.read_text()
    assert "0 of 9 held-out pairs (0.0 %) are training edges." in text
    assert "As published it was 9 of 9 (100.0 %)" in text
    assert "Not verified: whether the given explanations" in text
    assert "| explanations | 7 | 1 | 1 |" in text


def test_a_card_states_the_licence_by_an_id_of_the_hub(tmp_path: Path):
    for source, licence in LICENCES.items():
        build_json = {"source": source, "counts": COUNTS, "leak_report": {"count": 0, "total": 9, "overlap": 0.0}}
        (tmp_path / source).mkdir()
        folder = DatasetFolder(tmp_path / source)
        write_card(folder, build_json)
        stated = head(folder)
        assert stated["license"] in ("cc0-1.0", "other", "unknown")
        assert ("license_name" in stated) == ("license_link" in stated) == (stated["license"] == "other")
        text = folder.card.read_text()
        assert licence.text in text
        if source != "synthetic":
            assert "passed on" in text
            assert "no legal advice" in text
            assert "clauses of reviews" in text


def test_every_source_has_a_licence_and_the_documentation_says_the_same():
    assert set(LICENCES) == set(source_names())
    section = DOCS.read_text(encoding="utf-8").split("## Licences")[1]
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `([\w-]+)` \| `([\w.-]+)`[^|]*\| ([^|]+) \|$", section, re.MULTILINE)}
    assert {name: row[0] for name, row in rows.items()} == {name: one.hub for name, one in LICENCES.items()}
    for name, licence in LICENCES.items():
        assert rows[name][1].startswith(licence.raw) or name == "table"


def test_a_source_that_the_table_lacks_is_unknown_and_not_published_unawares():
    assert licence_of("a-new-reader").hub == "unknown"
    assert not licence_of("a-new-reader").known
