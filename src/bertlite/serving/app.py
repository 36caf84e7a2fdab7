"""The endpoints."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ..version import VERSION
from . import requests
from .access import Access, describe_keys
from .engine import Engine
from .errors import Refused, of_validation
from .openai import embeddings_reply, models_reply, to_embed
from .preparing import Prepare, prepare_answer, prepare_classify, prepare_embed, prepare_tag
from .writing import prepare_fill_mask, prepare_summarize, prepare_translate

# Name of the endpoint: the fields of its requests, and what cuts them into rows.
ENDPOINTS: dict[str, tuple[type[requests.Asked], Prepare]] = {
    "embed": (requests.EmbedRequest, prepare_embed),
    "classify": (requests.ClassifyRequest, prepare_classify),
    "tag": (requests.TagRequest, prepare_tag),
    "answer": (requests.AnswerRequest, prepare_answer),
    "translate": (requests.TranslateRequest, prepare_translate),
    "summarize": (requests.SummarizeRequest, prepare_summarize),
    "fill-mask": (requests.FillMaskRequest, prepare_fill_mask),
}
# The page loads nothing from anywhere, and asks this server alone.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
COUNTED = ("texts", "text_pair", "question", "context", "input")
DESCRIPTION = """\
Models behind bertlite's own functions: each reply is what the function of that name returns.

Errors are JSON: `{"error": {"message": ..., "type": ..., "param": the field, "code": null}}`.
400: a field is wrong. 401: no key, or another. 404: no such model. 413: too large. 429: too much is
under way, come again after `Retry-After` seconds. 504: not done in time.
"""
Handle = Callable[[Request, bytes, float], Awaitable[dict[str, Any]]]


def make_app(engine: Engine, access: Access) -> FastAPI:
    """The application: endpoints, the page, figures, and the description of it all.

    Args:
        engine: the models at work.
        access: the keys.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        engine.start()
        yield
        engine.stop()

    app = FastAPIOffline(
        title="bertlite", version=VERSION, description=DESCRIPTION, lifespan=lifespan
    )
    for name, (model, prepare) in ENDPOINTS.items():
        if any(name in served.tasks for served in engine.catalog.models.values()):
            add_endpoint(app, engine, access, f"/{name}", model, reply_of(engine, name, prepare))
    if any("embed" in served.tasks for served in engine.catalog.models.values()):
        add_endpoint(
            app,
            engine,
            access,
            "/v1/embeddings",
            requests.OpenAIEmbeddingsRequest,
            openai_reply(engine),
        )
    add_pages(app, engine, access)
    app.add_exception_handler(Refused, refusal)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, no_endpoint)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, fault)
    describe_keys(app, access)
    return app


async def refusal(request: Request, refused: Refused) -> Response:
    """The reply to a request that is refused."""
    return as_json(refused.body(), refused.status, refused.headers)


async def no_endpoint(request: Request, error: HTTPException) -> Response:
    """The reply to a request for what is not here."""
    said = (
        f"{request.method} {request.url.path[:80]} is no endpoint here ({error.detail}); see /docs"
    )
    return as_json(Refused(error.status_code, said).body(), error.status_code, error.headers)


async def fault(request: Request, error: Exception) -> Response:
    """The reply where the server is at fault, of which the log tells more."""
    refused = Refused(500, f"the server failed on this request: {type(error).__name__}")
    return as_json(refused.body(), 500)


def as_json(content: Any, status: int = 200, headers: Any = None) -> Response:
    """A reply in JSON."""
    return Response(to_json(content), status, headers, "application/json")


def reply_of(engine: Engine, task: str, prepare: Prepare) -> Any:
    """What answers the requests of one task."""
    key = "vectors" if task == "embed" else "results"

    async def reply(request: Request, asked: Any, until: float) -> dict[str, Any]:
        served = engine.catalog.find(task, asked.model)
        found, work = await engine.answer(prepare, served, asked, request.receive(), until)
        made = found.tolist() if task == "embed" else found
        notes = {"warnings": work.notes} if work.notes else {}
        return {"model": served.name, key: made, "tokens": sum(work.lengths()), **notes}

    return reply


def openai_reply(engine: Engine) -> Any:
    """What answers in the shape of OpenAI's interface."""

    async def reply(request: Request, asked: Any, until: float) -> dict[str, Any]:
        served = engine.catalog.find("embed", asked.model)
        found, work = await engine.answer(
            prepare_embed, served, to_embed(asked), request.receive(), until
        )
        return embeddings_reply(served.name, found, work, asked)

    return reply


def add_endpoint(
    app: FastAPI, engine: Engine, access: Access, path: str, model: type[BaseModel], reply: Any
) -> None:
    """Add a POST endpoint that reads `model` and answers by `reply`."""

    async def endpoint(request: Request) -> Response:
        started = time.monotonic()
        status = 500
        try:
            access.check(request)
            until = engine.loop.time() + engine.options.timeout  # type: ignore[union-attr]
            response = await admitted(request, until)
            status = response.status_code
            return response
        except Refused as refused:
            status = refused.status
            raise
        finally:
            engine.metrics.seen_request(path, status, time.monotonic() - started)

    async def admitted(request: Request, until: float) -> Response:
        body = await read_body(request, engine, until)
        engine.admit(len(body))
        try:
            asked = parse(model, body, engine.options.max_texts)
            return as_json(await reply(request, asked, until))
        finally:
            engine.leave(len(body))

    schema = model.model_json_schema()
    app.post(
        path,
        summary=(model.__doc__ or "").strip(),
        openapi_extra={
            "requestBody": {"content": {"application/json": {"schema": schema}}, "required": True}
        },
    )(endpoint)


async def read_body(request: Request, engine: Engine, until: float) -> bytes:
    """The body of a request, if it is small enough and comes in time.

    Raises:
        Refused: it is not, or does not.
    """
    most = engine.options.max_bytes
    too_large = Refused(413, f"body must have at most {most} bytes", None)
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > most:
        raise Refused(413, f"body must have at most {most} bytes, got {told}")
    body = bytearray()
    try:
        async with asyncio.timeout_at(until):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise Refused(408, f"body must come within {engine.options.timeout:g} seconds") from None
    except ClientDisconnect:
        raise Refused(499, "the client has left") from None
    return bytes(body)


def parse(model: type[BaseModel], body: bytes, most: int) -> Any:
    """The request that a body holds.

    Raises:
        Refused: no such fields, or too many texts.
    """
    try:
        asked = model.model_validate_json(body)
    except ValidationError as error:
        raise of_validation(error, model) from None
    for name in COUNTED:
        given = getattr(asked, name, None)
        if isinstance(given, list) and len(given) > most:
            raise Refused(413, f"{name} must hold at most {most} texts, got {len(given)}", name)
    return asked


def add_pages(app: FastAPI, engine: Engine, access: Access) -> None:
    """Add what is asked for with GET: the page to try it in, health, figures, the models."""
    page = files("bertlite.serving").joinpath("page.html").read_bytes()

    @app.get("/", include_in_schema=False)
    async def try_it() -> Response:
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        return Response(page, 200, headers, "text/html; charset=utf-8")

    @app.get("/health", summary="Whether the process works")
    async def health() -> Response:
        works = engine.is_alive
        return as_json({"status": "ok" if works else "failed"}, 200 if works else 503)

    @app.get("/ready", summary="Whether requests are taken")
    async def ready() -> Response:
        takes = engine.is_alive and not engine.stopping
        return as_json({"ready": takes}, 200 if takes else 503)

    @app.get("/metrics", summary="Figures for Prometheus")
    async def metrics(request: Request) -> Response:
        access.check(request)
        return Response(engine.metrics.page(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", summary="The models, and what each can do")
    async def models(request: Request) -> Response:
        access.check(request)
        return as_json(models_reply(engine.catalog))
