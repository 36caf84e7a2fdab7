"""Small models in folders, a server of them in a thread, and a client that speaks JSON."""

import asyncio
import contextlib
import http.client
import json
import threading
import time

import torch
from inference_cases import LABELS, bert, byte_pairs, tiny_writer, wordpiece
from torch import nn

import bertlite
from bertlite.serving.access import Access
from bertlite.serving.options import ServingOptions
from bertlite.serving.server import make_engine, make_server

HEADS = {
    "classes": ("SequenceClassification", ["bad", "good", "odd"]),
    "tags": ("TokenClassification", LABELS),
    "answers": ("QuestionAnswering", None),
    "words": ("MaskedLM", None),
}


def save_models(folder):
    """One model of each head, one that writes and one without a head: folder by name."""
    tokenizer = wordpiece()
    found = {}
    for name, (head, labels) in HEADS.items():
        found[name] = folder / name
        model = bert(head, tokenizer, labels=labels)
        if head == "MaskedLM":
            nn.init.normal_(model.cls.predictions.bias)
        model.save_pretrained(found[name])
        tokenizer.save_pretrained(found[name])
    found["vectors"] = folder / "vectors"
    torch.manual_seed(5)
    config = bert("MaskedLM", tokenizer).config
    bertlite.BertLiteModel(config).save_pretrained(found["vectors"])
    tokenizer.save_pretrained(found["vectors"])
    found["writer"] = folder / "writer"
    tiny_writer(byte_pairs()).save_pretrained(found["writer"])
    byte_pairs().save_pretrained(found["writer"])
    return {name: str(path) for name, path in found.items()}


class Running:
    """A server in a thread of this process."""

    def __init__(self, folders, options=None, keys=None):
        options = options or ServingOptions()
        self.engine = make_engine(folders, options)
        self.server = make_server(self.engine, Access(keys), options)
        self.keys = keys
        self.server.config.port = 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        until = time.monotonic() + 30
        while not self.server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def run(self):
        asyncio.run(self.server.serve())

    def stop(self):
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()

    def ask(self, path, body=None, **options):
        """Status and reply of one request; see `Client.ask`."""
        with contextlib.closing(Client(self.port, self.keys)) as client:
            return client.ask(path, body, **options)

    def good(self, path, **fields):
        """The reply to a request that must succeed."""
        status, reply = self.ask(path, fields)
        assert status == 200, reply
        return reply

    def refusal(self, path, body, **options):
        """Status and message of a request that must fail."""
        status, reply = self.ask(path, body, **options)
        assert status >= 400, reply
        return status, reply["error"]["message"], reply["error"]["param"]


class Client:
    """One connection that is kept."""

    def __init__(self, port, keys=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}

    def close(self):
        self.connection.close()

    def ask(self, path, body=None, *, method=None, headers=None):
        """Status and reply, read as JSON where it is; `body` is sent as it is or as JSON."""
        sent = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
        method = method or ("GET" if body is None else "POST")
        given = self.headers if headers is None else headers
        self.connection.request(method, path, sent, given)
        response = self.connection.getresponse()
        self.last = response
        content = response.read()
        if response.headers.get("content-type") == "application/json":
            return response.status, json.loads(content)
        return response.status, content.decode()
