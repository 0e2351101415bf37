import ast
import json
import pickle
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch

from xrec_dataset_builder.errors import DataError
from xrec_hub_card.code_scan import STANDARD, check_code, code_files, code_hash, file_problems, problems
from xrec_hub_card.file_kinds import check_kinds, kind_of

SOURCES = Path(__file__).parents[2] / "modeling_xrec"


def scan(tmp_path, text, others=()):
    (tmp_path / "one.py").write_text(textwrap.dedent(text))
    return file_problems(tmp_path / "one.py", {"one.py", *others})


def test_the_code_that_goes_to_the_hub_keeps_to_itself(tiny_run):
    assert problems(SOURCES) == []
    assert check_code(tiny_run) == code_files(tiny_run)
    assert {"modeling_xrec.py", "processing_xrec.py", "pipeline_xrec.py"} <= {file.name for file in code_files(tiny_run)}


def test_the_allowed_modules_exist_and_none_of_the_forbidden_is_among_them():
    assert set(sys.stdlib_module_names) >= STANDARD - {"__future__"}
    assert not STANDARD & {
        "os",
        "sys",
        "io",
        "subprocess",
        "socket",
        "pickle",
        "importlib",
        "ctypes",
        "shutil",
        "urllib",
        "http",
    }


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "import os.path",
        "import subprocess as quiet",
        "from socket import create_connection",
        "import pickle",
        "from importlib import import_module",
        "import ctypes",
        "import shutil",
        "from urllib.request import urlopen",
        "import http.client",
        "import asyncio",
        "import antigravity",
        "import requests",
        "import numpy",
        "import jinja2",  # not in try
        "def f():\n    import multiprocessing",
        "try:\n    import requests\nexcept ImportError:\n    requests = None",
        "try:\n    import jinja2\nexcept Exception:\n    jinja2 = None",
        "from torch import hub",
        "import torch.utils.cpp_extension",
        "from torch.utils import cpp_extension as quick",
        "import torch\ntorch.load('x')",
        "import torch as t\ndef f():\n    return t.hub.load('a', 'b')",
        "import torch\ndef f():\n    torch.ops.load_library('x.so')",
        "import torch\ndef f():\n    torch.os.system('id')",
        "from transformers.utils import os",
        "from transformers.utils.hub import os as quiet",
        "from torch import *",
        "from . import sibling",
        "from ..above import name",
        "from .missing import name",
        "from .sibling import *",
        "from .sub.part import name",
        "def f():\n    '''Such as\n    from .gone import it\n    '''",
        "eval('1')",
        "def f(text):\n    exec(text)",
        "f = compile('1', '', 'eval')",
        "__import__('os')",
        "def f():\n    return open('x')",
        "().__class__.__bases__[0].__subclasses__()",
        "getattr(print, '__globals__')",
        "class A:\n    def __reduce__(self):\n        return print, ()",
        "from pathlib import Path\nTEXT = Path('x').read_text()",
        "from pathlib import Path\nclass A:\n    text = Path('x').read_text()",
        "from pathlib import Path\ndef f(text=Path('x').read_text()):\n    pass",
        "from huggingface_hub import hf_hub_download\nPATH = hf_hub_download('a/b', 'c')",
        "def f(:",
    ],
)
def test_each_kind_of_violation_is_found(tmp_path, text):
    assert scan(tmp_path, text, {"sibling.py"})


@pytest.mark.parametrize(
    "text",
    [
        "import json, math\nfrom collections.abc import Mapping\nimport torch.nn.functional as F\nfrom torch import nn",
        "from .sibling import name\ndef f():\n    from .sibling import other",
        "try:\n    import jinja2\nexcept ImportError:\n    jinja2 = None",
        "import re\nWORD = re.compile('a')\ndef f(path):\n    return path.read_text()",
        "from transformers.utils.hub import resolve_revision\nfrom torch.utils.data import Dataset",
        "import ast\ndef f(text):\n    return ast.literal_eval(text)",
    ],
)
def test_what_is_allowed_passes(tmp_path, text):
    assert scan(tmp_path, text, {"sibling.py"}) == []


def test_code_elsewhere_and_code_that_is_missing_are_found(tmp_path):
    (tmp_path / "one.py").write_text("x = 1\n")
    config = {"auto_map": {"AutoModel": "one.A", "AutoConfig": "gone.B"}, "custom_pipelines": {"t": {"impl": "lost.C"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "processor_config.json").write_text(json.dumps({"auto_map": {"AutoProcessor": "else/where--one.D"}}))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "two.py").write_text("")
    (tmp_path / "fast.so").write_bytes(b"\x7fELF")
    found = " ".join(problems(tmp_path))
    for one in ("gone.py", "lost.py", "else/where--one.D", "sub/two.py", "fast.so"):
        assert one in found
    with pytest.raises(DataError, match="and 4 more"):
        check_code(tmp_path)


def test_the_hash_is_what_the_command_on_the_card_prints(tiny_run):
    shell = {"cwd": tiny_run, "capture_output": True, "text": True, "check": True}
    done = subprocess.run(["sh", "-c", "LC_ALL=C sha256sum *.py | sha256sum"], **shell)
    files = code_files(tiny_run)
    assert code_hash(files) == done.stdout.split()[0]
    assert code_hash(reversed(files)) == code_hash(files) != code_hash(files[1:])
    assert sum(file.lines for file in files) == int(subprocess.run(["sh", "-c", "cat *.py | wc -l"], **shell).stdout)


def test_published_files_are_known_by_content_and_no_pickle_is_among_them(tiny_run, tmp_path):
    files = {path.name: path for path in tiny_run.iterdir() if path.is_file()}
    kinds = check_kinds(files)
    assert kinds["model.safetensors"] == "safetensors"
    assert {kinds[name] for name in kinds if name.endswith((".json", ".py"))} == {"text"}
    value = {"a": [1, 2], "path": Path("x")}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / f"{protocol}.json").write_bytes(pickle.dumps(value, protocol))
    (tmp_path / "data.txt").write_bytes(pickle.dumps([1, "a"], 0))  # calls nothing, and is one all the same
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    shutil.copy(tiny_run / "losses.png", tmp_path / "behind.png")
    with zipfile.ZipFile(tmp_path / "behind.png", "a") as archive:
        archive.writestr("data.pkl", pickle.dumps(value))
    weights = (tiny_run / "model.safetensors").read_bytes()
    (tmp_path / "long.safetensors").write_bytes(weights + pickle.dumps(value))
    for path in tmp_path.iterdir():
        with pytest.raises(DataError, match=path.name):
            check_kinds({path.name: path})
    assert "pickle" in kind_of(tmp_path / "0.json")


LOAD = """
import ast, collections, dataclasses, pathlib, sys, typing
makers = {module.__file__ for module in (ast, collections, dataclasses, typing)}  # make classes of strings of their own
folder, cache, seen = sys.argv[1], sys.argv[2], []
writing = lambda a: isinstance(a[1], str) and set(a[1]) & set("wax+") or isinstance(a[2], int) and a[2] & 3
inside = lambda path: str(path).startswith((cache, "/dev/null"))  # a number is a file that was opened by its path before
def hook(event, arguments):
    if not armed:
        return
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.", "urllib.",
                         "ctypes.dlopen", "pickle.find_class", "http.", "ftplib.", "smtplib.")):
        seen.append((event, str(arguments)[:200]))
    elif event == "open" and not isinstance(arguments[0], int) and writing(arguments) and not inside(arguments[0]):
        seen.append((event, str(arguments)[:200]))
    elif event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"):
        if not str(arguments[-3 if event == "os.rename" else 0]).startswith(cache):
            seen.append((event, str(arguments)[:200]))
    elif event == "compile" and not str(arguments[1]).endswith(".py") and sys._getframe(1).f_code.co_filename not in makers:
        seen.append((event, str(arguments)[:200]))
    elif event == "exec":
        code = arguments[0]
        name = getattr(code, "co_filename", "")
        if "transformers_modules" in name:
            ran.add(pathlib.Path(name).name)
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "modeling_xrec":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
armed, ran = False, set()
sys.addaudithook(hook)
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoProcessor, LlamaForCausalLM, Pipeline, PreTrainedTokenizerFast, pipeline
import torch.utils.data, huggingface_hub, safetensors.torch
armed = True
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(user_id=processor.users[0]["user_id"], item_id=processor.items[0]["item_id"])
model.generate(**inputs, max_new_tokens=3)
explain = pipeline("recommendation-explanation", model=folder, trust_remote_code=True)
row = {"user_id": processor.users[0]["user_id"], "item_id": processor.items[0]["item_id"]}
assert isinstance(explain(row, max_new_tokens=3)["explanation"], str)
armed = False
assert type(model).__module__.startswith("transformers_modules")
print(sorted(ran))
print(seen)
"""


def audited(folder, tmp_path):
    cache = tmp_path / "home"
    environment = {"HF_HOME": str(cache), "HOME": str(tmp_path), "PATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, folder, str(cache)], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ran, seen = done.stdout.splitlines()[-2:]
    return set(ast.literal_eval(ran)), ast.literal_eval(seen)


def test_loading_and_explaining_touch_no_network_no_process_and_no_file_outside_the_cache(tiny_run, tmp_path):
    ran, seen = audited(tiny_run, tmp_path)
    assert seen == []
    names = {file.name for file in code_files(tiny_run)}
    assert {"modeling_xrec.py", "pipeline_xrec.py", "processing_xrec.py"} <= ran - {"__init__.py"} <= names


def test_the_audit_hook_sees_what_it_is_there_for(tiny_run, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_run, folder)
    with (folder / "modeling_xrec.py").open("a") as file:
        file.write(
            "\nimport os, pickle, socket, subprocess, pathlib\n"
            "socket.socket().close()\nsubprocess.run(['/bin/true'])\npathlib.Path('outside').write_text('x')\n"
            "pickle.loads(pickle.dumps(pathlib.Path('x')))\nexec('1 + 1')\n"
        )
    _, seen = audited(folder, tmp_path)
    events = {event for event, _ in seen}
    assert events >= {"socket.__new__", "subprocess.Popen", "open", "pickle.find_class", "compile"}
    assert len(problems(folder)) >= 5  # and the scan sees them before anything is loaded
