"""What a server refuses, and how it says so; what it shows to those who watch it; how it ends."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from inference_cases import TEXTS
from serving_cases import Client, Running, save_models

import bertlite
from bertlite.cli.main import main
from bertlite.serving.access import read_keys
from bertlite.serving.catalog import named_folders
from bertlite.serving.options import ServingOptions
from bertlite.serving.server import Place

KEY = "correct-horse-battery"
LIMITS = ServingOptions(
    queue=3, timeout=5, max_bytes=2000, max_texts=4, max_tokens=40, batch_tokens=64, dtype="none"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(folders):
    running = Running({name: folders[name] for name in ("classes", "tags")}, LIMITS, [KEY])
    yield running
    running.stop()


def expect(server, path, body, status, message, field=None, **options):
    """A refusal whose message matches a pattern and whose `param` is the field."""
    came, said, param = server.refusal(path, body, **options)
    assert (came, param) == (status, field), said
    assert re.search(message, said), said


REFUSALS = [
    (b"{", 400, "body must be JSON: EOF", None),
    (b"[1]", 400, r"body must be a JSON object, got list: \[1\]", None),
    (b'{"texts": "\xff"}', 400, "body must be JSON", None),
    (b'{"texts": "\\ud800"}', 400, "body must be JSON", None),
    ({}, 400, "texts must be given: a string or a list of strings", "texts"),
    ({"text": "a"}, 400, "text is no field here; known are model, texts, text_pair", "text"),
    ({"texts": 3}, 400, "texts must be a string or a list of strings, got int: 3", "texts"),
    ({"texts": ["a", None]}, 400, r"texts\[1\] must be a string, got NoneType", "texts"),
    ({"texts": ["a", " "]}, 400, r"texts\[1\] must hold some text, got ' '", "texts"),
    (
        {"texts": "a", "top_k": 0},
        400,
        "top_k must be a whole number from 1 to .*, got int",
        "top_k",
    ),
    ({"texts": "a", "top_k": "1"}, 400, "top_k must be a whole number .*, got str: '1'", "top_k"),
    ({"texts": "a", "threshold": 2}, 400, "threshold must be a number from 0 to 1", "threshold"),
    ({"texts": ["a"], "text_pair": ["a", "b"]}, 400, "text_pair must hold as many", "text_pair"),
    ({"texts": "a", "model": "x"}, 404, "model must be one of classes, tags, got 'x'", "model"),
    ({"texts": "a", "model": "tags"}, 400, "one that can classify: classes; got 'tags'", "model"),
    ({"texts": ["a"] * 5}, 413, "texts must hold at most 4 texts, got 5", "texts"),
    ({"texts": "cat " * 60}, 413, "at most 40 tokens, got 6[0-9]; send its texts", None),
    ({"texts": "a" * 3000}, 413, "body must have at most 2000 bytes, got 3013", None),
]


@pytest.mark.parametrize(
    ("body", "status", "message", "field"), REFUSALS, ids=lambda each: str(each)[:40]
)
def test_refusals_name_the_field(server, body, status, message, field):
    expect(server, "/classify", body, status, message, field)


def test_a_model_is_asked_for_where_several_can(server):
    expect(
        server, "/embed", {"texts": "a"}, 400, "model must be given: one of classes, tags", "model"
    )


def test_a_body_without_a_length_is_cut_off(server):
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        chunks = iter([b'{"texts": "'] + [b"a" * 1000] * 10)
        headers = {"Authorization": f"Bearer {KEY}"}
        connection.request("POST", "/classify", chunks, headers, encode_chunked=True)
        response = connection.getresponse()
        assert response.status == 413
        assert b"at most 2000 bytes" in response.read()


def test_paths_and_methods_that_are_none(server):
    expect(server, "/translate", {"texts": "a"}, 404, "POST /translate is no endpoint here")
    expect(server, "/classify", None, 405, "GET /classify is no endpoint here", method="GET")


def test_a_key_is_needed(server):
    asked = {"texts": TEXTS[0]}
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {KEY}"}):
        status, message, _ = server.refusal("/classify", asked, headers=headers)
        assert status == 401
        assert "Authorization: Bearer KEY" in message
        assert "nonsense" not in message
        for path in ("/metrics", "/v1/models"):
            assert server.ask(path, headers=headers)[0] == 401
    for path in ("/", "/health", "/ready", "/docs", "/openapi.json"):
        assert server.ask(path, headers={})[0] == 200
    assert server.ask("/classify", asked)[0] == 200


def test_keys_are_read_from_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# two of them\n{KEY}\n\nanother-good-key\n")
    assert read_keys(file) == [KEY, "another-good-key"]
    file.write_text(f"{KEY}\n", encoding="utf-8-sig")  # as Windows' editor writes it
    assert read_keys(file) == [KEY]
    for words, message in (
        ("", "got none"),
        ("short", "at least 8"),
        ("a b c d e f", "as number 1"),
    ):
        file.write_text(words)
        with pytest.raises(ValueError, match=message) as error:
            read_keys(file)
        assert not words or words not in str(error.value)
    with pytest.raises(ValueError, match="must be a file"):
        read_keys(tmp_path / "none")


class Slow:
    """Holds the models' thread until it is let go."""

    def __init__(self, server):
        self.gate = threading.Event()
        self.batcher = server.engine.batcher
        self.run = self.batcher.run

    def __enter__(self):
        def run(shares):
            self.gate.wait(20)
            self.run(shares)

        self.batcher.run = run
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.batcher.run = self.run


def ask_many(server, count):
    pool = ThreadPoolExecutor(count)
    return [pool.submit(server.ask, "/classify", {"texts": TEXTS[0]}) for _ in range(count)]


def until(happens):
    limit = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_too_many_are_told_to_come_again(server):
    with Slow(server) as slow:
        waiting = ask_many(server, LIMITS.queue)
        until(lambda: server.engine.under_way == LIMITS.queue)
        with closing(Client(server.port, [KEY])) as client:
            status, reply = client.ask("/classify", {"texts": "a"})
            assert status == 429
            assert "3 requests under way" in reply["error"]["message"]
            assert 1 <= int(client.last.headers["Retry-After"]) <= 60
        assert server.ask("/health")[0] == 200  # who watches is answered all the same
        slow.gate.set()
        assert [each.result()[0] for each in waiting] == [200] * LIMITS.queue
    assert server.ask("/classify", {"texts": "a"})[0] == 200


def test_a_request_ends_in_time(server, monkeypatch):
    monkeypatch.setattr(server.engine, "options", ServingOptions(timeout=0.3))
    with Slow(server):
        expect(server, "/classify", {"texts": "a"}, 504, "no reply within 0.3 seconds")
    until(lambda: server.engine.under_way == 0)


def test_nothing_is_kept_for_a_client_that_left(server):
    with Slow(server):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            body = b'{"texts": "a"}'
            head = f"POST /classify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
            connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            until(lambda: server.engine.under_way == 1)
        until(lambda: server.engine.under_way == 0)


def test_a_fault_of_the_server_tells_nothing_of_its_inside(server, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(server.engine.catalog.models["tags"].model, "forward", broken)
    status, message, _ = server.refusal("/tag", {"texts": "a"})
    assert status == 500
    assert "secret" not in message
    monkeypatch.undo()
    assert server.ask("/tag", {"texts": "a"})[0] == 200


def test_idle_connections_outlive_those_of_clients(server):
    """Httpx, and so openai's client, drops an idle connection after 5 seconds."""
    assert server.server.config.timeout_keep_alive >= 2 * 5


def test_figures_for_prometheus(server):
    from prometheus_client.parser import text_string_to_metric_families

    server.good("/classify", texts=TEXTS[:2])
    server.ask("/classify", {"texts": 3})
    families = text_string_to_metric_families(server.ask("/metrics")[1])
    found = {each.name: each for each in families}
    counts = {
        (each.labels["endpoint"], each.labels["status"]): each.value
        for each in found["bertlite_requests"].samples
        if each.name.endswith("_total")
    }
    assert counts["/classify", "200"] >= 1
    assert counts["/classify", "400"] >= 1
    assert found["bertlite_requests_under_way"].samples[0].value == 0
    assert "bertlite_pass_tokens" in found
    assert "process_resident_memory_bytes" in found


def test_the_description_has_every_field(server):
    schema = server.ask("/openapi.json")[1]
    operation = schema["paths"]["/classify"]["post"]
    fields = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"texts", "text_pair", "top_k", "threshold", "model"} <= set(fields)
    assert all(each["description"] for each in fields.values())
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: FOLDER"),
        (["no-such-folder"], "model must be a folder with a config.json"),
        (["a=x", "a=y"], "must have different names, got a for x and y"),
        (["x", "--port", "99999"], "--port must be an address that is free here"),
        (["x", "--queue", "0"], "queue must be a whole number of at least 1, got 0"),
        (["x", "--timeout", "0"], "timeout must be a number from 0.001"),
        (["x", "--dtype", "fp8"], "invalid choice: 'fp8'"),
        (["x", "--batch_tokens", "many"], "invalid int value: 'many'"),
        (["x", "--api-key-file", "nowhere"], "--api-key-file must be a file"),
        (["x", "--quue", "3"], "is --queue meant"),
    ],
    ids=str,
)
def test_the_command_refuses_in_one_line(words, message, capsys):
    assert main(["serve", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert re.search(re.escape(message), said), said
    assert "\n" not in said


def test_names_of_folders():
    assert named_folders(["out/a/", "b=hub/name"]) == {"a": "out/a/", "b": "hub/name"}


def test_names_of_folders_that_are_there(tmp_path, monkeypatch):
    """A sign of equality in a path is no name, and the folder where one stands has one too."""
    folder = tmp_path / "lr=0.1" / "best model"
    folder.mkdir(parents=True)
    assert named_folders([str(folder)]) == {"best model": str(folder)}
    assert named_folders([f"a={folder}"]) == {"a": str(folder)}
    monkeypatch.chdir(folder)
    assert named_folders(["."]) == {"best model": "."}


def test_places_to_listen_at():
    assert Place("::1").address(80) == "http://[::1]:80"
    assert Place("127.0.0.1").address(80) == "http://127.0.0.1:80"
    with pytest.raises(ValueError, match="threads must be a whole number of at least 1, got 0"):
        Place(threads=0)


def start(folders, *words):
    """The command in a process of its own, its port, and what it says."""
    command = [sys.executable, "-m", "bertlite.cli.main", "serve", *folders, "--port", "0", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"ready on http://127.0.0.1:(\d+)", line):
            return process, int(found[1]), said
    raise AssertionError("".join(said))


@pytest.mark.slow
def test_a_kill_a_restart_and_a_quiet_end(folders, tmp_path):
    """Clients of a server that is killed get an error, not a wait; the next one serves.

    SIGTERM under load: every request that was taken is answered, and the status is 0.
    """
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    words = ([folders["writer"]], "--api-key-file", str(keys))
    texts = [each * 3 for each in TEXTS] * 2
    process, port, _ = start(*words)

    def ask(text, tokens):
        with closing(Client(port, [KEY])) as client:
            return client.ask("/translate", {"texts": text, "max_new_tokens": tokens})

    threading.Timer(0.2, process.kill).start()
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(texts * 20, 100)
    assert process.wait(10) == -signal.SIGKILL

    process, port, said = start(*words)
    expected = bertlite.translate(TEXTS[:1], folders["writer"], max_new_tokens=5)
    assert ask(TEXTS[:1], 5)[1]["results"] == expected
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(ask, texts, 60) for _ in range(4)]
        with closing(Client(port, [KEY])) as watcher:
            page = "bertlite_requests_under_way 4.0"
            until(lambda: page in watcher.ask("/metrics")[1])
        process.send_signal(signal.SIGTERM)
        assert [each.result()[0] for each in waiting] == [200] * 4
    assert process.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert KEY not in "".join(said) + process.stderr.read()
