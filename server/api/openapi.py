"""OpenAPI 3.1, generated from the rows and Structs that serve the routes."""

import re
from typing import Any

import msgspec
from aiohttp import web

import server
from actors.session.errors import Reason
from server.api.routes import (
    ActionRoute,
    Api,
    CommandRoute,
    ContentRoute,
    DirectCommandRoute,
    DownloadRoute,
    ReplayRoute,
    Row,
    SocketRoute,
    StreamRoute,
    UploadRoute,
)
from server.http.problems import STATUS, Problem

STREAMS = (StreamRoute, ReplayRoute)
COMMANDS = (CommandRoute, DirectCommandRoute)
REF_TEMPLATE = "#/components/schemas/{name}"
BINARY = {"audio/*": {"schema": {"type": "string", "format": "binary"}}}


def document(api: Api) -> dict[str, Any]:
    """Describe an API."""
    types = [
        api.refused,
        *(t for row in api.rows for t in (row.body, row.query, row.answer, form(row)) if t is not None),
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF_TEMPLATE)
    known = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in api.rows:
        paths.setdefault(api.prefix + row.path, {})[row.method.lower()] = operation(api, row, known, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": api.title, "version": server.VERSION, "description": api.about},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def operation(api: Api, row: Row, known: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": row.summary,
        "operationId": operation_id(row),
        "security": [] if row.public else [{"bearer": []}],
        "parameters": [*path_parameters(api, row), *query_parameters(api, row, known, components), *cased(api, row)],
        "responses": {str(row.status): answer(row, known), **refusals(api, row, known)},
    }
    if row.body is not None:
        described["requestBody"] = body(api, row, known)
    if isinstance(row, UploadRoute):
        described["requestBody"] = {
            "required": True, "content": {"multipart/form-data": {"schema": known[id(row.form)]}}
        }  # fmt: skip
    if isinstance(row, ContentRoute):
        described["responses"]["304"] = {"description": "Not modified"}
        described["responses"]["206"] = {"description": "The requested range", "content": BINARY}
    if row.keyed:
        again = "Repeating a request with the same key and body returns the first answer; another body is refused"
        described["parameters"].append(header("Idempotency-Key", again, 64))
    if isinstance(row, DirectCommandRoute):
        described["responses"]["202"] = {"description": "Relayed, and not stored", **answer(row, known)}
    return described


def body(api: Api, row: Row, known: dict[int, Any]) -> dict[str, Any]:
    schema = {"schema": known[id(row.body)]}
    if not (api.forms or row.forms):
        return {"required": not row.bare, "content": {"application/json": schema}}
    kinds = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    return {"required": False, "content": dict.fromkeys(kinds, schema)}


def refusals(api: Api, row: Row, known: dict[int, Any]) -> dict[str, Any]:
    """Describe every status that a refusal of a row may have."""
    texts: dict[int, set[str]] = {}
    for problem in [*possible(api, row), *[Problem(422, "invalid", "invalid") for _ in cased(api, row)]]:
        reply = api.refusal(problem, row, {"ref": "…"})
        texts.setdefault(reply.status, set()).add(problem.reason)
    content = {api.refused_as: {"schema": known[id(api.refused)]}}
    if row.error_body is not None:
        content = {api.refused_as: {"schema": {}}}
    return {
        str(status): {"description": ", ".join(sorted(reasons)), "content": content}
        for status, reasons in sorted(texts.items())
    }


def possible(api: Api, row: Row) -> list[Problem]:
    """List what a row may be refused for."""
    found = {("too_fast", 429), ("unavailable", 503), *((reason, status) for reason, (status, _) in row.errors.items())}
    if not row.public or isinstance(row, STREAMS):
        found |= {("unauthenticated", 401), ("wrong_scope", 403), ("not_owner", 403), ("not_a_teacher", 403)}
    if row.public:
        found |= {("bad_credentials", 401), ("bad_signature", 403), ("registration_off", 403), ("ended", 410)}
    # An unknown parameter is refused by a strict API only.
    if row.query is not None or row.method != "GET" or api.strict:
        found.add(("invalid", 422))
    if "{" in row.path or isinstance(row, (*COMMANDS, UploadRoute)):
        found |= {("unknown_session", 404), ("not_joined", 403), ("invalid", 422)}
        found |= {(reason.value, STATUS[reason]) for reason in LOOKING}
    if row.method != "GET":
        found |= {("malformed", 400), ("too_slow", 408), ("taken", 409), ("too_large", 413), ("unsupported_type", 415)}
    if row.method != "GET":
        found.add(("key_reused" if row.keyed else "key_not_taken", 422))
    if isinstance(row, COMMANDS):
        found |= {*((reason.value, status) for reason, status in STATUS.items())}
    if isinstance(row, ContentRoute):
        found |= {("changed", 412), ("bad_range", 416)}
    if isinstance(row, SocketRoute):
        found |= {("upgrade_required", 426), ("wrong_origin", 403)}
    return [Problem(status, reason, reason) for reason, status in sorted(found)]


LOOKING = (
    Reason.NOT_JOINED, Reason.KICKED, Reason.WAITING, Reason.ENDED, Reason.CANCELLED, Reason.UNKNOWN_PARTICIPANT,
    Reason.NOT_PERMITTED, Reason.FEATURE_OFF,
)  # fmt: skip
"""What a look at a session may be refused for."""


def form(row: Row) -> Any:
    return row.form if isinstance(row, UploadRoute) else None


def operation_id(row: Row) -> str:
    words = re.findall(r"[a-z]+", row.path)
    return "_".join([row.method.lower(), *words])


def answer(row: Row, known: dict[int, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": row.summary}
    if isinstance(row, SocketRoute):
        return described
    if isinstance(row, DownloadRoute):
        described["content"] = {row.content_type: {"schema": {"type": "string"}}}
    elif isinstance(row, STREAMS):
        described["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    elif isinstance(row, ContentRoute):
        described["content"] = BINARY
    elif row.answer is not None:
        described["content"] = {"application/json": {"schema": known[id(row.answer)]}}
    if isinstance(row, ActionRoute):
        described.setdefault("content", {}).update({kind: {"schema": {"type": "string"}} for kind in row.text_types})
    return described


def path_parameters(api: Api, row: Row) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": api.names_sessions if name == "ref" else "id",
        }
        for name in re.findall(r"\{(\w+)\}", row.path)
    ]


def query_parameters(api: Api, row: Row, known: dict[int, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    described = [text("token", "Instead of the `Authorization` header")] if row.query_token else []
    if isinstance(row, StreamRoute):
        described.append(text("cursor", "Where to resume"))
        if api.tickets:
            described.append(text("ticket", "Instead of a bearer token"))
        described.append(header("Last-Event-ID", "Where to resume", 24))
    if row.query is not None:
        schema = components[known[id(row.query)]["$ref"].rpartition("/")[2]]
        described += [{"name": name, "in": "query", "schema": kind} for name, kind in schema["properties"].items()]
    return described


def text(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string"}, "description": description}


def cased(api: Api, row: Row) -> list[dict[str, Any]]:
    if not api.cased or isinstance(row, STREAMS):
        return []
    schema = {"enum": ["snake", "camel"], "default": "snake"}
    return [
        {
            "name": "case",
            "in": "query",
            "schema": schema,
            "description": "The case of an answer's keys. This document has them in snake_case",
        }
    ]


def header(name: str, description: str, length: int) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string", "maxLength": length}, "description": description}


def add(app: web.Application, api: Api) -> None:
    body = msgspec.json.encode(document(api))

    async def show(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async def docs(request: web.Request) -> web.Response:
        # Relative, so that it leads there behind a proxy that puts something before all paths, too.
        up = "../" * (request.path.count("/") - 1)
        return web.Response(status=303, headers={"Location": f"{up}docs?api={api.name}"})

    app.router.add_get(api.description_path, show)
    for path in api.docs_paths:
        app.router.add_get(path, docs)
