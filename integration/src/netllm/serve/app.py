"""The server's routes and their description by OpenAPI."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from socket import socket
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from msgspec import Meta
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles

from netllm.serve import pensieve
from netllm.serve.guard import PLAYERS, TokenRequired, body, decoded
from netllm.serve.puffer import Puffer
from netllm.serve.schema import described
from netllm.serve.seat import Seat
from netllm.serve.service import Refused, Service

JSON = "application/json"
_SCHEMAS = "#/components/schemas/{name}"
Handler = Callable[[Request], Awaitable[Response]]


class NewSessions(msgspec.Struct, forbid_unknown_fields=True):
    """What opens sessions."""

    count: Annotated[int, Meta(ge=1, le=1_024, description="How many.")] = 1


class Sessions(msgspec.Struct):
    """The ids of open sessions."""

    sessions: list[str]


class Answer(msgspec.Struct):
    """One decision."""

    answer: Any
    """As the task's policies answer."""
    by: Annotated[str, Meta(description="`model`, or the fallback's name.")]
    session: str | None = None
    step: int | None = None


class Answers(msgspec.Struct):
    """The decisions, in the order of the questions."""

    decisions: list[Answer]


class Error(msgspec.Struct):
    """Why a request is not served."""

    error: str


def application(
    service: Service,
    *,
    token: str | None = None,
    allow_origins: Sequence[str] = (),
    puffer: socket | None = None,
    routes: Sequence[BaseRoute] = (),
) -> FastAPI:
    """The server of some tasks as an ASGI application.

    Args:
        service: what it does.
        token: what requests must carry, but for health, readiness and scripts; None: nothing.
        allow_origins: pages of these origins may ask.
        puffer: where Puffer's viewers are answered.
        routes: others beside them.
    """
    life = partial(_life, service, puffer)
    app = FastAPI(title="netllm serve", version=version("netllm"), lifespan=life)
    schemas: dict[str, Any] = {}
    route = partial(_route, app, service, schemas)
    route("GET", "/health", partial(_health, service), "Whether the server lives.", bytes)
    route("GET", "/ready", partial(_ready, service), "Whether it answers decisions.", bytes)
    route("GET", "/metrics", partial(_metrics, service), "Counters for Prometheus.", bytes)
    route("GET", "/v1/tasks", partial(_tasks, service), "What is served, and what it reads.", bytes)
    for name, seat in service.seats.items():
        _route_task(route, service, name, seat)
    asked = pensieve.PensieveMessage
    for path, level in pensieve.routes(service, allow_origins).items():
        route("POST", path, level, "What Pensieve's players ask.", str, asks=asked)
    app.mount(PLAYERS, StaticFiles(packages=[("netllm.serve", "players")]))
    app.router.routes.extend(routes)
    _describe(app, schemas)
    if token is not None:
        refuse = partial(_refused, service, Refused(401, "A token is required, or another one."))
        app.add_middleware(TokenRequired, token=token, refuse=refuse)
    if allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[*allow_origins],
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"],
        )
    return app


def _route_task(route: Callable[..., None], service: Service, name: str, seat: Seat) -> None:
    """Add the routes of one task."""
    asked = service.requests[name]
    decide = partial(_decide, service, name, msgspec.json.Decoder(asked))
    route("POST", f"/v1/{name}/decisions", decide, "Decide.", Answers, asks=asked)
    if not seat.remembers:
        return
    opened = partial(_open, service, name)
    route("POST", f"/v1/{name}/sessions", opened, "Open sessions.", Sessions, asks=NewSessions)
    closed = partial(_close, service, name)
    route("DELETE", f"/v1/{name}/sessions/{{session}}", closed, "Close a session.", bytes)


@asynccontextmanager
async def _life(service: Service, puffer: socket | None, app: FastAPI) -> AsyncIterator[None]:
    """From the first request to the last one, after which the worker ends."""
    service.worker.start()
    beside = [asyncio.create_task(service.run_eviction())]
    if puffer is not None:
        beside.append(asyncio.create_task(Puffer(service).run(puffer)))
    service.ready = True
    try:
        yield
    finally:
        service.ready = False
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await asyncio.to_thread(service.worker.stop)


def _route(
    app: FastAPI,
    service: Service,
    schemas: dict[str, Any],
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    gives: Any,
    *,
    asks: Any = None,
) -> None:
    """Add one route, and the schemas of what it asks and gives."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as refused:
            return _refused(service, refused)

    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        summary=summary,
        response_class=Response,
        openapi_extra=_operation(path, asks, gives, schemas),
        operation_id=re.sub(r"\W+", "-", f"{method.lower()}{path}").strip("-"),
    )


def _operation(path: str, asks: Any, gives: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """What the description says of a route; the schemas that it refers to go to `schemas`."""
    kinds = [Error, *(kind for kind in (asks, gives) if kind not in (None, bytes, str))]
    found, components = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS)
    schemas.update(components)
    of = dict(zip(kinds, found, strict=True))
    failed = {"description": "Refused.", "content": {JSON: {"schema": of[Error]}}}
    told: dict[str, Any] = {"responses": {"4XX": failed, "503": failed}}
    if asks is not None:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": of[asks]}}}
    if gives is str:
        text = {"description": "Done.", "content": {"text/plain": {"schema": {"type": "string"}}}}
        told["responses"]["200"] = text
    elif gives is not bytes:
        done = {"description": "Done.", "content": {JSON: {"schema": of[gives]}}}
        told["responses"]["200"] = done
    for name in re.findall(r"{(\w+)}", path):
        named = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        told["parameters"] = [named]
    return told


def _describe(app: FastAPI, schemas: dict[str, Any]) -> None:
    """Let the description hold the schemas that routes refer to."""
    usual = app.openapi

    def whole() -> dict[str, Any]:
        description = usual()
        description.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        return description

    app.openapi = whole  # type: ignore[method-assign]


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, JSON)


def _refused(service: Service, refused: Refused) -> Response:
    service.metrics.refused(refused.status)
    headers = {} if refused.retry_s is None else {"Retry-After": str(refused.retry_s)}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _json(Error(str(refused)), refused.status, headers)


async def _health(service: Service, request: Request) -> Response:
    alive = service.worker.alive
    return _json({"alive": alive}, 200 if alive else 503)


async def _ready(service: Service, request: Request) -> Response:
    ready = service.ready and service.worker.alive
    return _json({"ready": ready}, 200 if ready else 503)


async def _metrics(service: Service, request: Request) -> Response:
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _tasks(service: Service, request: Request) -> Response:
    return _json({name: _told(service, seat) for name, seat in service.seats.items()})


def _told(service: Service, seat: Seat) -> dict[str, Any]:
    return {
        "setting": seat.setting.name,
        "fallback": seat.fallback_name,
        "deadline_ms": service.limits.deadline_s * 1e3,
        "sessions": seat.remembers,
        "observation": described(seat.fields),
        **seat.about,
    }


async def _decide(
    service: Service, task: str, decoder: msgspec.json.Decoder[Any], request: Request
) -> Response:
    asked = decoded(decoder, await body(request, service.limits))
    return _json({"decisions": await service.decide(task, asked)})


async def _open(service: Service, task: str, request: Request) -> Response:
    asked = decoded(msgspec.json.Decoder(NewSessions), await body(request, service.limits))
    return _json({"sessions": [session.id for session in service.open(task, asked.count)]})


async def _close(service: Service, task: str, request: Request) -> Response:
    service.sessions.close(service.session(task, request.path_params["session"]))
    return Response(status_code=204)
