"""A stand-in for the hub, on the loopback: as much of its protocol as a client needs to push and
to load a model.

Repositories lie in memory: commits, branches, large files. Faults are put in a queue by the test:
each is taken by the next request whose path fits.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

OWNER, TOKEN, STRANGER = "me", "hf_owner" + "0" * 26, "hf_stranger" + "0" * 24


@dataclass
class Commit:
    """Files of a revision, by path."""

    files: dict[str, bytes]
    large: set[str]

    @property
    def oid(self) -> str:
        digest = hashlib.sha1()
        for name in sorted(self.files):
            digest.update(name.encode() + b"\0" + hashlib.sha1(self.files[name]).digest())
        return digest.hexdigest()


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    branches: dict[str, Commit] = field(default_factory=lambda: {"main": Commit({}, set())})
    commits: dict[str, Commit] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        return self.branches.get(revision) or self.commits.get(revision)


@dataclass
class Fault:
    """What a request gets in the place of its answer.

    Args:
        method: of the request.
        path: a regular expression.
        status: the answer's; 0: the connection is cut.
        after: bytes of the right answer that go out before the cut.
        times: how often.
    """

    method: str
    path: str
    status: int
    after: int | None = None
    times: int = 1


@dataclass
class Hub:
    """What the server holds, and what was asked of it."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, dict]] = field(default_factory=list)

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        return self.repositories[name].branches[revision].files

    def fault_for(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and re.search(fault.path, path):
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, content: Any = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str = "") -> None:
        headers = {"X_Error_Code": code} if code else {}
        self.answer(status, {"error": code or f"status {status}"}, **headers)

    def account(self) -> str | None:
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return {TOKEN: OWNER, STRANGER: "stranger"}.get(given)

    def handle_request(self) -> None:
        path = unquote(urlparse(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append((self.command, self.path, headers))
        fault = self.hub.fault_for(self.command, path)
        self.cut_after = None
        if fault is not None and fault.after is None:
            self.read()
            if fault.status:
                self.refuse(fault.status)
            else:
                self.close_connection = True
                self.connection.close()
            return
        self.cut_after = fault.after if fault is not None else None
        for method, pattern, act in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                act(self, **match.groupdict())
                return
        self.read()
        self.refuse(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    # Accounts and repositories.

    def whoami(self) -> None:
        if self.account() is None:
            self.refuse(401)
        else:
            self.answer(200, {"name": self.account(), "type": "user", "orgs": []})

    def create(self) -> None:
        asked = json.loads(self.read())
        account = self.account()
        owner = asked.get("organization") or account
        name = f"{owner}/{asked['name']}"
        if account is None:
            self.refuse(401)
        elif owner != account:
            self.refuse(403)
        elif name in self.hub.repositories:
            self.answer(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        else:
            private = asked.get("visibility") == "private"
            self.hub.repositories[name] = Repository(private=private)
            self.answer(200, {"url": f"{self.hub.url}/{name}", "id": name, "name": name})

    def repository(self, name: str, writes: bool = False) -> Repository | None:
        """The repository, where the account may see it; the answer has gone out where not."""
        found, account = self.hub.repositories.get(name), self.account()
        if found is None or (found.private and account != OWNER):
            self.read()
            status = 401 if account is None else 404
            self.refuse(status, "RepoNotFound")
            return None
        if writes and account != OWNER:
            self.read()
            self.refuse(401 if account is None else 403)
            return None
        return found

    def branch(self, name: str, branch: str) -> None:
        found = self.repository(name, writes=True)
        if found is None:
            return
        self.read()
        if branch in found.branches:
            self.refuse(409)
            return
        main = found.branches["main"]
        found.branches[branch] = Commit(dict(main.files), set(main.large))
        self.answer(200, {})

    # Sending.

    def preupload(self, name: str, revision: str) -> None:
        if self.repository(name, writes=True) is None:
            return
        asked = json.loads(self.read())["files"]
        files = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for each in asked
        ]
        self.answer(200, {"files": files})

    def batch(self, name: str) -> None:
        if self.repository(name, writes=True) is None:
            return
        objects = []
        for each in json.loads(self.read())["objects"]:
            href = f"{self.hub.url}/large/{each['oid']}"
            actions = {} if each["oid"] in self.hub.large else {"upload": {"href": href}}
            objects.append({**each, "actions": actions} if actions else dict(each))
        self.answer(200, {"transfer": "basic", "objects": objects})

    def put_large(self, oid: str) -> None:
        content = self.read()
        if hashlib.sha256(content).hexdigest() != oid:
            self.refuse(400)
            return
        self.hub.large[oid] = content
        self.answer(200, {})

    def commit(self, name: str, revision: str) -> None:
        found = self.repository(name, writes=True)
        if found is None:
            return
        lines = [json.loads(line) for line in self.read().splitlines() if line.strip()]
        before = found.branches.get(revision)
        if before is None:
            self.refuse(404, "RevisionNotFound")
            return
        files, large = dict(before.files), set(before.large)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                large.discard(value["path"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
                large.add(value["path"])
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
        commit = Commit(files, large)
        found.branches[revision] = found.commits[commit.oid] = commit
        url = f"{self.hub.url}/{name}/commit/{commit.oid}"
        self.answer(200, {"success": True, "commitUrl": url, "commitOid": commit.oid})

    def validate(self) -> None:
        self.read()
        self.answer(200, {"errors": [], "warnings": []})

    # Loading.

    def info(self, name: str, revision: str = "main") -> None:
        found = self.repository(name)
        if found is None:
            return
        commit = found.at(revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound")
            return
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        fields = {"id": name, "modelId": name, "sha": commit.oid, "siblings": siblings}
        self.answer(200, {**fields, "private": found.private, "gated": found.gated, "tags": []})

    def tree(self, name: str, revision: str, folder: str = "") -> None:
        found = self.repository(name)
        if found is None:
            return
        commit = found.at(revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound")
            return
        entries = [
            {"type": "file", "path": path, "size": len(content), "oid": hashed(content)}
            for path, content in sorted(commit.files.items())
            if path.startswith(folder)
        ]
        if folder and not entries:
            self.refuse(404, "EntryNotFound")
        else:
            self.answer(200, entries)

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self.repository(name)
        if found is None:
            return
        if found.gated and self.account() != OWNER:
            self.refuse(401 if self.account() is None else 403, "GatedRepo")
            return
        commit = found.at(revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound")
            return
        headers = {"X_Repo_Commit": commit.oid}
        if path not in commit.files:
            self.answer(404, {"error": "no"}, X_Error_Code="EntryNotFound", **headers)
            return
        content = commit.files[path]
        headers |= {"ETag": f'"{hashed(content)}"', "Accept_Ranges": "bytes"}
        if path in commit.large:
            headers |= {"X_Linked_Size": str(len(content))}
            headers |= {"X_Linked_ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        start = int(re.sub(r"\D", "", (self.headers.get("Range") or "0").split("-")[0]) or 0)
        rest = content[start:]
        headers["Content_Length"] = str(len(rest))
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.cut_after is not None and self.command == "GET":
            rest, self.close_connection = rest[: self.cut_after], True
        self.answer(206 if start else 200, rest, **headers)


def hashed(content: bytes) -> str:
    """The name that git has for a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


NAME = r"(?P<name>[^/]+/[^/]+)"
ROUTES = [
    (("GET",), "/api/whoami-v2", Handler.whoami),
    (("POST",), "/api/repos/create", Handler.create),
    (("POST",), "/api/validate-yaml", Handler.validate),
    (("POST",), rf"/api/models/{NAME}/branch/(?P<branch>.+)", Handler.branch),
    (("POST",), rf"/api/models/{NAME}/preupload/(?P<revision>.+)", Handler.preupload),
    (("POST",), rf"/api/models/{NAME}/commit/(?P<revision>.+)", Handler.commit),
    (("POST",), rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (("PUT",), "/large/(?P<oid>.+)", Handler.put_large),
    (("GET",), rf"/api/models/{NAME}/tree/(?P<revision>[^/]+)/?(?P<folder>.*)", Handler.tree),
    (("GET",), rf"/api/models/{NAME}/revision/(?P<revision>.+)", Handler.info),
    (("GET",), rf"/api/models/{NAME}", Handler.info),
    (("GET", "HEAD"), rf"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
]


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub that answers on the loopback while the block runs."""
    hub = Hub()
    handler = type("Bound", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
