from pathlib import Path

import yaml

from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.distill import distill
from xrec_dataset_builder.schema import DatasetFolder


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
    assert "unknown: check the source's terms" in text


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
