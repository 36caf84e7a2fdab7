"""Refusals, each a status, a sentence, and the field that it is about."""

from typing import Any

from pydantic import ValidationError

SHOWN = 80  # characters of what came


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: what is wrong, what came, and what was expected.
        field: of the request, where it is one.
        headers: that the reply carries.
    """

    def __init__(
        self,
        status: int,
        message: str,
        field: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The reply, in the shape that clients of OpenAI's interface read."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(
            self.status, "server_error" if self.status >= 500 else "invalid_request_error"
        )
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.field,
                "code": None,
            }
        }


def of_value(error: ValueError, fields: list[str]) -> Refused:
    """The refusal of what one of bertlite's functions does not take.

    Its message begins with the argument, which is the field's name.
    """
    message = str(error)
    first = message.removeprefix("translate: ").removeprefix("summarize: ").split()[0]
    name = first.split("[")[0]
    return Refused(400, message, name if name in fields else None)


def of_validation(error: ValidationError, model: Any) -> Refused:
    """The refusal of a body that has not the fields of `model`."""
    every = error.errors(include_url=False)
    found = next((each for each in every if each["type"] == "extra_forbidden"), every[0])
    fields = model.model_fields
    if found["type"] == "json_invalid":
        return Refused(400, f"body must be JSON: {found['ctx']['error']}")
    if not found["loc"]:
        return Refused(400, f"body must be a JSON object, got {shown(found['input'])}")
    name = str(found["loc"][0])
    if found["type"] == "extra_forbidden":
        known = ", ".join(fields)
        return Refused(400, f"{name[:SHOWN]} is no field here; known are {known}", name)
    expected = (fields[name].json_schema_extra or {})["expected"]
    if found["type"] == "missing":
        return Refused(400, f"{name} must be given: {expected}", name)
    # Of a field that may be one or many, the complaint that looked deepest.
    found = max(
        (each for each in every if each["loc"][0] == name), key=lambda each: len(places(each))
    )
    where = name + "".join(f"[{place}]" for place in places(found))
    expected = "a string" if places(found) else expected
    return Refused(400, f"{where} must be {expected}, got {shown(found['input'])}", name)


def places(error: Any) -> list[int]:
    """Where in the lists of a field an error lies."""
    return [part for part in error["loc"][1:] if isinstance(part, int)]


def shown(value: Any) -> str:
    """A value as a message has it: its kind, and its beginning.

    >>> shown([1, 2])
    'list: [1, 2]'
    """
    text = repr(value)
    return f"{type(value).__name__}: {text[:SHOWN]}{'...' if len(text) > SHOWN else ''}"
