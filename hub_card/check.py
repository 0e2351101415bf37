"""Check a published model as a stranger meets it: into an empty cache, by its code on the Hub, online and then offline."""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_token

from xrec_dataset_builder.errors import DataError

from .code_scan import code_files, code_hash

SECONDS = 3600
"""After how long a load counts as stuck; the backbone may have to be downloaded."""
CALLERS_OWN = (
    "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_MODULES_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE", "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE", "TRANSFORMERS_CACHE", "HF_TOKEN_PATH", "PYTHONPATH"
)  # fmt: skip
"""Variables that would lead a load to what the caller has already."""
LOAD = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoProcessor

repo, revision = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(repo, revision=revision, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(repo, revision=revision, trust_remote_code=True)
where = type(model).__module__
if not where.startswith("transformers_modules."):
    sys.exit(f"the model's class is {where}, not the repository's own code")
user, item = processor.users[0]["user_id"], processor.items[0]["item_id"]
torch.manual_seed(0)
batch = processor(user_id=user, item_id=item)
rows = model.generate(**batch, max_new_tokens=80, do_sample=False)
text = processor.read_answers(rows[:, batch["input_ids"].shape[1]:])[0]
print(json.dumps({"user_id": user, "item_id": item, "explanation": text}))
"""


@dataclass(frozen=True)
class Checked:
    """What a stranger gets.

    Args:
        repo_id: the repository.
        revision: the commit that was loaded.
        code_hash: one hash over the code files that came.
        user_id: the user who was explained to.
        item_id: the item that was explained.
        explanation: the text, the same online and offline.
    """

    repo_id: str
    revision: str
    code_hash: str
    user_id: str
    item_id: str
    explanation: str

    def summary(self) -> str:
        """Lines for people."""
        return (
            f"Checked {self.repo_id} at {self.revision}: it loads into an empty cache, and offline with the same text.\n"
            f"  code hash {self.code_hash}\n"
            f"  {self.user_id}, {self.item_id}: {self.explanation}\n"
        )


def check(repo_id: str, revision: str, expected_code_hash: str | None = None, token: str | bool | None = None) -> Checked:
    """Load what was published as a stranger would, and explain one pair.

    Args:
        repo_id: the repository.
        revision: the commit to load.
        expected_code_hash: what was published, as `code_scan.code_hash` gives it; not compared when None.
        token: for a private repository, as `huggingface_hub` takes it.

    Raises:
        DataError: it does not load, online or offline, does not say the same, or runs other code.
    """
    with tempfile.TemporaryDirectory(prefix="xrec-check-") as room:
        environment = _environment(Path(room), token)
        online = _load(repo_id, revision, room, environment)
        offline = _load(repo_id, revision, room, environment | {"HF_HUB_OFFLINE": "1"})
        if online != offline:
            raise DataError(
                f"{repo_id}: expected the same text online and offline, found {online['explanation']!r} and "
                f"{offline['explanation']!r}; publish it again"
            )
        snapshot = Path(room) / "hub" / f"models--{repo_id.replace('/', '--')}" / "snapshots" / revision
        found = code_hash(code_files(snapshot))
        if expected_code_hash is not None and found != expected_code_hash:
            raise DataError(
                f"{repo_id}: expected code with the hash {expected_code_hash}, found {found}; someone changed it: publish "
                "again"
            )
        return Checked(repo_id, revision, found, **online)


def _environment(room: Path, token: str | bool | None) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in CALLERS_OWN}
    environment |= {"HF_HOME": str(room), "HF_ENDPOINT": constants.ENDPOINT, "TRANSFORMERS_VERBOSITY": "error"}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | (
        {"HF_HUB_DISABLE_XET": "1"} if constants.HF_HUB_DISABLE_XET else {}
    )
    found = token if isinstance(token, str) else None if token is False else get_token()
    return environment | ({"HF_TOKEN": found} if found else {})


def _load(repo_id: str, revision: str, room: str, environment: dict[str, str]) -> dict[str, Any]:
    how = "offline" if "HF_HUB_OFFLINE" in environment else "online"
    command = [sys.executable, "-c", LOAD, repo_id, revision]
    try:
        ran = subprocess.run(  # noqa: S603 - our own interpreter and our own lines
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=room, env=environment, timeout=SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{repo_id}: expected it to load {how}, found it still at it after {SECONDS} s; try again") from error
    if ran.returncode:
        reason = _reason(ran)
        raise DataError(f"{repo_id}: expected it to load {how} at {revision}, found {reason}; mend that and publish again")
    result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return result


def _reason(ran: subprocess.CompletedProcess[str]) -> str:
    """The line of a traceback that names the error: the last of its kind, before what the error adds on further lines."""
    lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()] or [f"exit code {ran.returncode}"]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt): ", line)]
    return (named or lines)[-1].rstrip(".")
