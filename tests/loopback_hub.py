"""A Hub on the loopback interface, on disk: repositories of files at commits, to read from and write to as huggingface.co.

    python loopback_hub.py FOLDER      # prints its address and serves until killed

Models lie at FOLDER/<owner>/<name>/<commit>/..., datasets at FOLDER/datasets/<owner>/<name>/<commit>/... A file `main` (or
of another branch's name) in a repository's folder names the commit that the branch stands at, and `tags/NAME` a tag's; a
file `private` marks a private repository. A test that wants another state, such as a base model that has moved on or a file
that is gone, writes these files. FOLDER/requests.log lists the requests.

What goes wrong is written in FOLDER, too. A file `stall` makes uploads wait until it is gone, and `stalled` says that one
does; a file `refuse` makes them fail. `faults.json` holds a list of {"match": regular expression on "METHOD path", "times":
how often}, each with "status" and perhaps "headers", or with "cut": the connection ends half-way through the request, or,
with "cut": "answer", when the request is done and only the answer is to come.

Not spoken: Xet storage (clients set HF_HUB_DISABLE_XET=1), multipart uploads and their verification, redirects to another
host, pagination, pull requests, Spaces, moving and deleting repositories. No token is checked: a fault says what to answer.
"""

import base64
import hashlib
import json
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

REPO = r"([^/]+/[^/]+)"
LFS_SUFFIXES = (".parquet", ".safetensors")


class Hub(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks for when it downloads from a repository or commits to one."""

    root: Path
    faults = threading.Lock()
    mute = False
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet, which saves a wait for each answer

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.route(
            (r"/api/whoami-v2", lambda: self.answer_json({"type": "user", "name": "me", "orgs": [], "auth": {}})),
            (rf"/api/(model|dataset)s/{REPO}(?:/revision/([^/]+))?", self.info),
            (rf"/api/(model|dataset)s/{REPO}/refs", self.refs),
            (rf"/api/(model|dataset)s/{REPO}/tree/([^/]+)(?:/(.*))?", self.tree),
            (rf"/(datasets/)?{REPO}/resolve/([^/]+)/(.+)", self.resolve),
        )

    def do_POST(self):
        self.route(
            (r"/api/validate-yaml", lambda: self.answer_json({"errors": [], "warnings": []})),
            (r"/api/repos/create", self.create),
            (rf"/api/(model|dataset)s/{REPO}/branch/([^/]+)", self.branch),
            (rf"/api/(model|dataset)s/{REPO}/tag/([^/]+)", self.tag),
            (rf"/api/(model|dataset)s/{REPO}/paths-info/([^/]+)", self.paths_info),
            (rf"/api/(model|dataset)s/{REPO}/preupload/([^/]+)", self.preupload),
            (rf"/(datasets/)?{REPO}\.git/info/lfs/objects/batch", self.lfs_batch),
            (rf"/api/(model|dataset)s/{REPO}/commit/([^/]+)", self.commit),
        )

    def do_PUT(self):
        self.route((r"/lfs/([0-9a-f]{64})", self.lfs_put))

    def route(self, *routes):
        length, fault = int(self.headers.get("Content-Length") or 0), self.fault()
        if fault.get("cut") is True:
            self.rfile.read(length // 2)
            return self.cut()
        self.body = self.rfile.read(length)
        self.mute = fault.get("cut") == "answer"
        if "status" in fault:
            return self.answer(fault["status"], b'{"error": "a fault"}', fault.get("headers", {}))
        path, _, self.query = self.path.partition("?")
        for pattern, handler in routes:
            if found := re.fullmatch(pattern, path):
                return handler(*(unquote(group) if group else group for group in found.groups()))
        return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    # Faults

    def fault(self):
        """Take the first fault that is meant for this request, and count it."""
        plan = self.root / "faults.json"
        with self.faults:
            faults = json.loads(plan.read_text()) if plan.is_file() else []
            for fault in faults:
                if fault["times"] > 0 and re.search(fault["match"], f"{self.command} {self.path}"):
                    fault["times"] -= 1
                    plan.write_text(json.dumps(faults))
                    self.log_message()
                    return fault
        return {}

    def cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    # Reading

    def repository(self, kind, repo):
        return self.root / "datasets" / repo if kind and kind.startswith("dataset") else self.root / repo

    def locate(self, kind, repo, revision):
        """Return whether there is such a repository, and the commit and folder of a revision of it."""
        folder = self.repository(kind, repo)
        if not folder.is_dir():
            return False, None, None
        named = next((path for path in (folder / revision, folder / "tags" / revision) if path.is_file()), None)
        commit = revision if named is None else named.read_text().strip()
        return True, commit, folder / commit if (folder / commit).is_dir() else None

    def missing(self, repo):
        return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound" if repo else "RepoNotFound"})

    def info(self, kind, repo, revision):
        there, commit, folder = self.locate(kind, repo, revision or "main")
        if folder is None:
            return self.missing(there)
        names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        private = (self.repository(kind, repo) / "private").exists()
        return self.answer_json(
            {"id": repo, "modelId": repo, "sha": commit, "private": private, "tags": [], "downloads": 0,
             "siblings": [{"rfilename": name} for name in names]}
        )  # fmt: skip

    def tree(self, kind, repo, revision, below):
        there, commit, folder = self.locate(kind, repo, revision)
        if folder is None:
            return self.missing(there)
        start = folder / (below or "")
        if not start.is_dir():
            return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        found = start.rglob("*") if "recursive=true" in self.query.lower() else start.iterdir()
        return self.answer_json([self.entry(path, folder) for path in sorted(found)])

    def paths_info(self, kind, repo, revision):
        there, _, folder = self.locate(kind, repo, revision)
        if folder is None:
            return self.missing(there)
        return self.answer_json([self.entry(folder / p, folder) for p in self.json()["paths"] if (folder / p).exists()])

    def entry(self, path, folder):
        name = str(path.relative_to(folder))
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()}
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": self.etag(path)}

    def refs(self, kind, repo):
        folder = self.repository(kind, repo)
        if not folder.is_dir():
            return self.missing(False)
        found = {"branches": [], "converts": [], "tags": []}
        for kind, ref, place in (("branches", "heads", folder), ("tags", "tags", folder / "tags")):
            for path in sorted(path for path in place.glob("*") if path.is_file() and path.name != "private"):
                target = path.read_text().strip()
                found[kind].append({"name": path.name, "ref": f"refs/{ref}/{path.name}", "targetCommit": target})
        return self.answer_json(found)

    def resolve(self, kind, repo, revision, path):
        there, commit, folder = self.locate(kind, repo, revision)
        if folder is None:
            return self.missing(there)
        file = folder / path
        if not file.is_file():
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content, headers = file.read_bytes(), {"X-Repo-Commit": commit, "ETag": f'"{self.etag(file)}"'}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self.answer(206, content[first : last + 1], headers)
        return self.answer(200, content, headers)

    @staticmethod
    def etag(file):
        return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()

    # Writing

    def create(self):
        asked = self.json()
        repo = f"{asked['organization'] or 'me'}/{asked['name']}"
        folder = self.repository(asked.get("type", "model"), repo)
        answer = {"url": f"{self.address}/{folder.relative_to(self.root)}", "id": repo}
        if folder.is_dir():
            return self.answer_json(answer | {"error": "You already created this repo"}, 409)
        folder.mkdir(parents=True)
        if asked.get("visibility") == "private":
            (folder / "private").touch()
        self.publish(folder, "main", {".gitattributes": b"*.parquet filter=lfs\n"}, "")
        return self.answer_json(answer)

    def branch(self, kind, repo, name):
        folder = self.repository(kind, repo)
        if (folder / name).exists():
            return self.answer_json({"error": "Reference already exists"}, 409)
        shutil.copy(folder / "main", folder / name)
        return self.answer_json({})

    def tag(self, kind, repo, revision):
        there, commit, folder = self.locate(kind, repo, revision)
        if folder is None:
            return self.missing(there)
        place = self.repository(kind, repo) / "tags" / self.json()["tag"]
        if place.exists():
            return self.answer_json({"error": "Tag reference exists already"}, 409)
        place.parent.mkdir(exist_ok=True)
        place.write_text(commit)
        return self.answer_json({})

    def preupload(self, kind, repo, revision):
        there, _, folder = self.locate(kind, repo, revision)
        if folder is None:
            return self.missing(there)
        files = []
        for path in (file["path"] for file in self.json()["files"]):
            mode, oid = ("lfs" if path.endswith(LFS_SUFFIXES) else "regular"), None
            if (folder / path).is_file():
                content = (folder / path).read_bytes()
                blob = b"blob %d\0" % len(content) + content
                git = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
                oid = hashlib.sha256(content).hexdigest() if mode == "lfs" else git
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return self.answer_json({"files": files})

    def lfs_batch(self, _kind, _repo):
        objects = []
        for one in self.json()["objects"]:
            there = (self.root / "lfs" / one["oid"]).is_file()
            upload = {"actions": {"upload": {"href": f"{self.address}/lfs/{one['oid']}"}}}
            objects.append(one if there else one | upload)
        return self.answer_json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        while (self.root / "stall").exists():
            (self.root / "stalled").touch()
            time.sleep(0.02)
        if (self.root / "refuse").exists() or hashlib.sha256(self.body).hexdigest() != oid:
            return self.answer_json({"error": "refused"}, 403)
        (self.root / "lfs").mkdir(exist_ok=True)
        (self.root / "lfs" / oid).write_bytes(self.body)
        return self.answer(200, b"", {})

    def commit(self, kind, repo, revision):
        there, parent, old = self.locate(kind, repo, revision)
        if old is None:
            return self.missing(there)
        header, *lines = [json.loads(line) for line in self.body.splitlines()]
        if header["value"].get("parentCommit", parent) != parent:
            return self.answer_json({"error": "A commit has happened since"}, 412)
        files = {str(path.relative_to(old)): path.read_bytes() for path in old.rglob("*") if path.is_file()}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = (self.root / "lfs" / value["oid"]).read_bytes()
            else:
                del files[value["path"]]
        oid = self.publish(self.repository(kind, repo), revision, files, parent)
        return self.answer_json({"commitOid": oid, "commitUrl": f"{self.address}/{kind}s/{repo}/commit/{oid}"})

    @staticmethod
    def publish(repository, branch, files, parent):
        """Make a commit of these files and let a branch stand at it."""
        content = parent + "".join(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files))
        oid = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()
        for name, body in files.items():
            (repository / oid / name).parent.mkdir(parents=True, exist_ok=True)
            (repository / oid / name).write_bytes(body)
        with tempfile.NamedTemporaryFile("w", dir=repository, delete=False) as file:
            file.write(oid)
        Path(file.name).rename(repository / branch)
        return oid

    # Answering

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def json(self):
        return json.loads(self.body)

    def answer_json(self, value, status=200):
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(self, status, body, headers):
        if self.mute:
            return self.cut()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        with (self.root / "requests.log").open("a") as log:
            log.write(f"{self.command} {self.path}\n")


if __name__ == "__main__":
    Hub.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
