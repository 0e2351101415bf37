import re
from pathlib import Path

from xrec_training.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_come_first_and_exist():
    commands = [line.split()[1] for line in README.splitlines() if line.startswith("make ")]
    assert commands[:2] == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{command}:", makefile, re.MULTILINE) for command in commands)


def test_every_command_of_the_readme_exists_and_every_command_is_in_it():
    used = set(re.findall(r"^xrec ([a-z]+)", README, re.MULTILINE)) | set(re.findall(r"`xrec ([a-z]+)`", README))
    assert used == set(COMMANDS)
