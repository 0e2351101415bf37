"""A Hub on the loopback interface, in memory: repositories of files at commits, to read from as from huggingface.co.

    python loopback_hub.py FOLDER      # FOLDER/<owner>/<name>/<commit>/... ; prints its address and serves until killed

A file `main` in a repository's folder names the commit that the branch stands at.
"""

import hashlib
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hub(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks for when it downloads a model."""

    root: Path
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            repo, commit, folder = self.locate(found[1], found[2] or "main")
            if folder is None:
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound" if repo else "RepoNotFound"})
            names = sorted(file.name for file in folder.iterdir())
            info = {"id": found[1], "modelId": found[1], "sha": commit, "private": False, "tags": [], "downloads": 0,
                    "siblings": [{"rfilename": name} for name in names]}  # fmt: skip
            return self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/.*)?", path):
            repo, commit, folder = self.locate(found[1], found[2])
            if folder is None:
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound" if repo else "RepoNotFound"})
            entries = [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": self.etag(file)}
                       for file in sorted(folder.iterdir())]  # fmt: skip
            return self.answer(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repo, commit, folder = self.locate(found[1], found[2])
            if folder is None:
                return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound" if repo else "RepoNotFound"})
            file = folder / found[3]
            if not file.is_file():
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return self.answer(200, file.read_bytes(), {"X-Repo-Commit": commit, "ETag": f'"{self.etag(file)}"'})
        return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def locate(self, repo, revision):
        folder = self.root / repo
        if not folder.is_dir():
            return False, None, None
        commit = (folder / "main").read_text().strip() if revision == "main" else revision
        return True, commit, folder / commit if (folder / commit).is_dir() else None

    @staticmethod
    def etag(file):
        return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()

    def answer(self, status, body, headers):
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
