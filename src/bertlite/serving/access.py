"""Keys: who may ask. They come from a file, and are written nowhere."""

import hmac
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request

from .errors import Refused

SHORTEST = 8  # characters of a key


class Access:
    """Whether a request carries a key.

    Args:
        keys: any of which opens; none: nobody is asked for one.
    """

    def __init__(self, keys: list[str] | None = None):
        self.keys = [key.encode() for key in keys or []]

    def check(self, request: Request) -> None:
        """Let a request pass, or refuse it.

        Raises:
            Refused: without a key, or with another.
        """
        if not self.keys:
            return
        given = request.headers.get("authorization", "")
        kind, _, key = given.partition(" ")
        came = key.strip().encode() if kind.lower() == "bearer" else b""
        matches = [hmac.compare_digest(came, each) for each in self.keys]
        if not any(matches):
            raise Refused(
                401,
                "a key must be given as 'Authorization: Bearer KEY', got "
                + ("another key" if came else "none"),
                headers={"WWW-Authenticate": "Bearer"},
            )


def read_keys(file: str | os.PathLike[str]) -> list[str]:
    """The keys of a file, one a line; empty lines and those that begin with # are passed over.

    Raises:
        ValueError: no such file, none in it, or one that is short or holds white space.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"--api-key-file must be a file with a key a line, got {file}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"--api-key-file must hold a key a line, got none in {file}")
    for number, key in enumerate(keys, start=1):
        if len(key) < SHORTEST or len(key.split()) > 1 or not key.isascii():
            raise ValueError(
                f"--api-key-file must hold keys of at least {SHORTEST} ASCII characters without "
                f"spaces, got another as number {number} of {file}"
            )
    return keys


def describe_keys(app: FastAPI, access: Access) -> None:
    """Say in the description of the interface that a key is needed, so that its page asks."""
    make = app.openapi

    def described() -> dict[str, Any]:
        schema = make()
        if access.keys:
            schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["key"] = {"type": "http", "scheme": "bearer"}
            schema["security"] = [{"key": []}]
        return schema

    app.openapi = described  # type: ignore[method-assign]
