"""OpenAPI 3.1 descriptions, generated from the rows and Structs that serve the routes."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

import server
from actors.session.access import Ask
from actors.session.commands import Connect, Disconnect
from actors.session.refusals import ALL as OF_ANY_COMMAND
from actors.session.refusals import reasons
from server.api.routes import (
    ActionRoute,
    Api,
    CommandRoute,
    ContentRoute,
    CreateRoute,
    DirectCommandRoute,
    DownloadRoute,
    HookRoute,
    ReplayRoute,
    Row,
    SocketRoute,
    StreamRoute,
    UploadRoute,
)
from server.http.problems import STATUS, Problem
from server.http.refusals import READING, refusals_of
from server.usecases.command_inputs import LOOKUPS
from server.usecases.session_creation import create_session_idempotent

# Any: JSON of any shape.
Json = dict[str, Any]
STREAMS = (StreamRoute, ReplayRoute)
REF_TEMPLATE = "#/components/schemas/{name}"
BINARY = {"audio/*": {"schema": {"type": "string", "format": "binary"}}}


def document(api: Api) -> Json:
    """Return the OpenAPI document of an API."""
    types = [
        api.refused,
        *(t for row in api.rows for t in (row.body, row.query, row.answer, form(row)) if t is not None),
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF_TEMPLATE)
    known = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, Json] = {}
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


# Any: JSON of any shape.
def operation(api: Api, row: Row, known: dict[int, Any], components: Json) -> Json:
    """Return the description of a row. `known` has the schemas of types by their `id()`."""
    described: Json = {
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


# Any: JSON of any shape.
def body(api: Api, row: Row, known: dict[int, Any]) -> Json:
    """Return the description of a row's request body."""
    schema = {"schema": known[id(row.body)]}
    if not (api.forms or row.forms):
        return {"required": not row.bare, "content": {"application/json": schema}}
    kinds = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    return {"required": False, "content": dict.fromkeys(kinds, schema)}


# Any: JSON of any shape.
def refusals(api: Api, row: Row, known: dict[int, Any]) -> Json:
    """Return the descriptions of every status with which a row may refuse."""
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
    """Return every refusal of a row: those of its kind, and those that its functions declare."""
    found = {("too_fast", 429), ("unavailable", 503)}
    for step in (of_caller, of_request, of_session, of_kind):
        found |= step(api, row)
    for function in functions(row):
        found |= refusals_of(function).items()
    return [Problem(status, reason, reason) for reason, status in sorted(found)]


Found = set[tuple[str, int]]


def of_caller(api: Api, row: Row) -> Found:
    """Return the refusals that depend on the caller alone."""
    found: Found = set()
    if isinstance(row, HookRoute):
        return found
    if not row.public or isinstance(row, StreamRoute):
        found |= {(reason, 401) for reason in ("unauthenticated", "expired", "revoked")}
    if not row.public and not row.scoped:
        found.add(("wrong_scope", 403))
    if row.teachers:
        found.add(("not_a_teacher", 403))
    if api.user_field is not None:
        found |= {("somebody_else", 403), *([("invalid", 422)] if api.trusting else [])}
    return found


def of_request(api: Api, row: Row) -> Found:
    """Return the refusals that depend on the content of the request."""
    found: Found = set()
    if row.query is not None or api.cased or (api.strict and row.method == "GET"):
        found.add(("invalid", 422))
    if row.body is not None or isinstance(row, UploadRoute | HookRoute):
        found |= {("malformed", 400), ("too_slow", 408), ("too_large", 413), ("unsupported_encoding", 415)}
    if row.body is not None:
        found |= {("invalid", 422), ("too_deep", 422)}
    if row.keyed:
        found |= {("invalid", 422), ("key_reused", 422)}
    elif row.method != "GET" and not isinstance(row, HookRoute):
        found.add(("key_not_taken", 422))
    return found


def of_session(api: Api, row: Row) -> Found:
    """Return the refusals of the session: it is unknown, the caller may not read it, or it refuses the command."""
    found: Found = {("unknown_session", 404)} if row.names_session else set()
    if isinstance(row.reads, Ask):
        found |= READING[row.reads].items()
    match row:
        case CommandRoute():
            found |= {(reason.value, STATUS[reason]) for command in row.commands for reason in reasons(command)}
            lookups = [LOOKUPS[command] for command in row.commands if command in LOOKUPS]
        case DirectCommandRoute():
            found |= {(reason.value, STATUS[reason]) for reason in OF_ANY_COMMAND}
            lookups = list(LOOKUPS.values())
        case StreamRoute():
            joins = Connect if row.join else Disconnect
            found |= {(reason.value, STATUS[reason]) for reason in reasons(joins)} | READING[Ask.STATE].items()
            lookups = []
        case _:
            lookups = []
    for lookup in lookups:
        found |= refusals_of(lookup).items()
    return found


def of_kind(api: Api, row: Row) -> Found:
    """Return the refusals that all rows of this kind share."""
    match row:
        case CreateRoute():
            return set(refusals_of(create_session_idempotent).items())
        case ContentRoute():
            return {("changed", 412), ("bad_range", 416), ("not_found", 404)}
        case DownloadRoute() | ReplayRoute():
            return {("too_many_streams", 429)}
        case StreamRoute():
            found: Found = {("too_many_streams", 429), ("invalid", 422)}
            if isinstance(row, SocketRoute):
                found |= {("upgrade_required", 426), ("wrong_origin", 403)}
            return found | ({("bad_ticket", 401)} if api.tickets else set())
    return set()


def functions(row: Row) -> list[Callable[..., Any]]:  # Any: functions of every signature
    """Return the functions of a row that may refuse."""
    names = ("identify", "lookup", "find", "ask", "new", "into", "act", "play", "see", "then", "view")
    return [function for name in names if (function := getattr(row, name, None)) is not None]


# Any: JSON of any shape.
def form(row: Row) -> Any:
    """Return the type that documents an upload's form, or None for other rows."""
    return row.form if isinstance(row, UploadRoute) else None


def operation_id(row: Row) -> str:
    """Return the id of an operation, made of its method and the words of its path."""
    words = re.findall(r"[a-z]+", row.path)
    return "_".join([row.method.lower(), *words])


# Any: JSON of any shape.
def answer(row: Row, known: dict[int, Any]) -> Json:
    """Return the description of a row's success."""
    described: Json = {"description": row.summary}
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


def path_parameters(api: Api, row: Row) -> list[Json]:
    """Return the descriptions of the parameters in a row's path."""
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


# Any: JSON of any shape.
def query_parameters(api: Api, row: Row, known: dict[int, Any], components: Json) -> list[Json]:
    """Return the descriptions of a row's query parameters, and of a stream's `Last-Event-ID`."""
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


def text(name: str, description: str) -> Json:
    """Return the description of a query parameter that is a string."""
    return {"name": name, "in": "query", "schema": {"type": "string"}, "description": description}


def cased(api: Api, row: Row) -> list[Json]:
    """Return the description of `?case=`, if the API and the row have it."""
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


def header(name: str, description: str, length: int) -> Json:
    """Return the description of a request header."""
    return {"name": name, "in": "header", "schema": {"type": "string", "maxLength": length}, "description": description}


def add(app: web.Application, api: Api) -> None:
    """Add routes for an API's description and for the redirects to its page in `/docs`."""
    body = msgspec.json.encode(document(api))

    async def show(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async def docs(request: web.Request) -> web.Response:
        # A relative URL also works behind a proxy that adds a prefix to all paths.
        up = "../" * (request.path.count("/") - 1)
        return web.Response(status=303, headers={"Location": f"{up}docs?api={api.name}"})

    app.router.add_get(api.description_path, show)
    for path in api.docs_paths:
        app.router.add_get(path, docs)
