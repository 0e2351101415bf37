"""The folder of a Space: a small page that runs from a published model alone."""

import json
from pathlib import Path

from huggingface_hub import SpaceCardData

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import atomic_folder, refuse_existing

from .facts import COMMIT, REPOSITORY
from .plain_text import code, one_line, plain

APP = Path(__file__).with_name("space_app.py")
"""The page's program, as it is copied."""
GRADIO = "6.31.0"
"""The version of gradio that the page was tried with; a Space installs it by its card."""
REQUIREMENTS = ("torch>=2.10,<3", "transformers>=5.24,<6", "safetensors>=0.8,<1", "jinja2")
"""What the page needs beside gradio: what the model needs."""
FILES = ("README.md", "app.py", "requirements.txt", "space.json")


def write_space(
    folder: Path, repo_id: str, revision: str | None, title: str | None = None, licence: str = "apache-2.0"
) -> dict[str, int]:
    """Write a Space folder.

    Args:
        folder: to make.
        repo_id: the published model, `owner/name`.
        revision: its commit; None follows the branch.
        title: the page's heading; made of the repository's name when None.
        licence: of the page's own code.

    Returns:
        File to size in bytes.

    Raises:
        DataError: the folder is there already, or a name or a commit that is none.
    """
    if not REPOSITORY.fullmatch(repo_id):
        raise DataError(f"expected a model as owner/name, found {repo_id!r}; write it so")
    if revision is not None and not COMMIT.fullmatch(revision):
        raise DataError(f"expected a revision of 40 hexadecimal digits, found {revision!r}; give the commit")
    refuse_existing(folder.absolute())
    title = one_line(title or f"Why this? {repo_id.split('/')[1]}")
    settings = {"repo_id": repo_id, "revision": revision, "title": title}
    with atomic_folder(folder) as room:
        (room / "app.py").write_bytes(APP.read_bytes())
        (room / "space.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (room / "requirements.txt").write_text("".join(f"{line}\n" for line in REQUIREMENTS), encoding="utf-8")
        (room / "README.md").write_text(_readme(repo_id, revision, title, licence), encoding="utf-8")
    return {name: (folder / name).stat().st_size for name in FILES}


def _readme(repo_id: str, revision: str | None, title: str, licence: str) -> str:
    data = SpaceCardData(
        title=title,
        emoji="💬",
        colorFrom="blue",
        colorTo="green",
        sdk="gradio",
        sdk_version=GRADIO,
        python_version="3.11",
        app_file="app.py",
        license=licence,
        models=[repo_id],
        tags=["xrec", "explainable-recommendation"],
    )
    at = f" at commit {code(revision)}" if revision else ""
    lines = [
        "---",
        data.to_yaml(line_break="\n"),
        "---",
        "",
        f"# {plain(title)}",
        "",
        "Choose an item and a user, or items that a new user liked: the page shows why the item would suit them, by "
        f"[{repo_id}](https://huggingface.co/{repo_id}){at}, and what the text rests on.",
        "",
        "The model brings code of its own, which the page runs (`trust_remote_code=True`); its card lists the files. For a "
        "private model, set the secret `HF_TOKEN` of the Space.",
    ]
    return "\n".join(lines) + "\n"
