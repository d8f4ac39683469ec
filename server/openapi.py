"""OpenAPI 3.1, generated from the rows and Structs that serve the routes."""

import re
from typing import Any

import msgspec
from aiohttp import web

import server
from server.errors import ProblemBody
from server.routes import (
    Api,
    CommandRoute,
    ContentRoute,
    DownloadRoute,
    ReplayRoute,
    Row,
    SocketRoute,
    StreamRoute,
    UploadRoute,
)

REF_TEMPLATE = "#/components/schemas/{name}"
BINARY = {"audio/*": {"schema": {"type": "string", "format": "binary"}}}


def document(api: Api) -> dict[str, Any]:
    """Describe an API."""
    types = [
        ProblemBody,
        *(t for row in api.rows for t in (row.body, row.query, row.answer, form(row)) if t is not None),
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF_TEMPLATE)
    known = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in api.rows:
        paths.setdefault(api.prefix + row.path, {})[row.method.lower()] = operation(row, known, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": api.title, "version": server.VERSION},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def operation(row: Row, known: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": row.summary,
        "operationId": operation_id(row),
        "security": [] if row.public else [{"bearer": []}],
        "parameters": [*path_parameters(row), *query_parameters(row, known, components)],
        "responses": {
            str(row.status): answer(row, known),
            "default": {
                "description": "Refused",
                "content": {"application/problem+json": {"schema": known[id(ProblemBody)]}},
            },
        },
    }
    if row.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": known[id(row.body)]}}}
    if isinstance(row, UploadRoute):
        described["requestBody"] = {
            "required": True, "content": {"multipart/form-data": {"schema": known[id(row.form)]}}
        }  # fmt: skip
    if isinstance(row, ContentRoute):
        described["responses"]["206"] = {"description": "The range that was asked for", "content": BINARY}
    if isinstance(row, CommandRoute):
        described["parameters"].append(header("Idempotency-Key", "The same key and body again does nothing", 64))
        if row.repeat is not None:
            described["responses"]["202"] = {"description": "Passed on, not kept", **answer(row, known)}
    return described


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
    elif isinstance(row, StreamRoute | ReplayRoute):
        described["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    elif isinstance(row, ContentRoute):
        described["content"] = BINARY
    elif row.answer is not None:
        described["content"] = {"application/json": {"schema": known[id(row.answer)]}}
    return described


def path_parameters(row: Row) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": "id, number, name or code" if name == "ref" else "id",
        }
        for name in re.findall(r"\{(\w+)\}", row.path)
    ]


def query_parameters(row: Row, known: dict[int, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(row, StreamRoute):
        return [
            {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": "Where to go on from"},
            {"name": "ticket", "in": "query", "schema": {"type": "string"}, "description": "Instead of a bearer token"},
            header("Last-Event-ID", "Where to go on from", 24),
        ]
    if row.query is None:
        return []
    schema = components[known[id(row.query)]["$ref"].rpartition("/")[2]]
    return [{"name": name, "in": "query", "schema": kind} for name, kind in schema["properties"].items()]


def header(name: str, description: str, length: int) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string", "maxLength": length}, "description": description}


def add(app: web.Application, api: Api) -> None:
    body = msgspec.json.encode(document(api))
    path = "/openapi.json" if api.prefix == "/v1" else f"{api.prefix}/openapi.json"

    async def show(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app.router.add_get(path, show)
