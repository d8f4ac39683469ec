"""The API that each path belongs to, and the check that no two APIs claim the same path."""

from collections.abc import Iterable, Iterator, Sequence

from server.api.routes import Api, CommandRoute, DirectCommandRoute, Row, StreamRoute
from server.settings.sections import BadSetting


def api_for(apis: Sequence[Api], path: str) -> Api:
    """Return the API with the longest prefix of `path`, or the first API if no prefix matches."""
    within = [api for api in apis if path == api.prefix or path.startswith(api.prefix + "/")]
    return max(within, key=lambda api: len(api.prefix), default=apis[0])


def paths(api: Api, row: Row) -> tuple[str, ...]:
    """Return the paths of a row: with and without a slash at the end, if the API accepts both."""
    path = api.prefix + row.path
    if not api.slashes or path == "/":
        return (path,)
    return (path, path[:-1]) if path.endswith("/") else (path, path + "/")


def check(apis: Iterable[Api], taken: Iterable[tuple[str, str]]) -> None:
    """Check that no two APIs claim the same method and path, and that none claims one of the server. Raise
    BadSetting."""
    claims: list[tuple[str, str, str]] = [("the server itself", method, path) for method, path in taken]
    for api in apis:
        for method, path in wanted(api):
            for owner, taken_method, other in claims:
                if owner != api.name and method == taken_method and overlap(path, other):
                    raise BadSetting(
                        f"dialects.{api.name}.prefix = {api.prefix!r}: {method} {path} is claimed by "
                        f"{owner} already, as {other}. Give one of them another prefix, or set enabled = false."
                    )
            claims.append((api.name, method, path))


def check_reads(api: Api) -> None:
    """Check that every row which names a session declares what it reads. Raise TypeError for a row that does not."""
    for row in api.rows:
        if row.names_session and row.reads is None and not isinstance(row, DECIDED_BY_SESSION):
            raise TypeError(f"{api.name}: {row.method} {row.path} names a session and does not say what it reads of it")


DECIDED_BY_SESSION = (CommandRoute, DirectCommandRoute, StreamRoute)
"""Kinds of rows whose callers the session itself admits or refuses."""


def wanted(api: Api) -> Iterator[tuple[str, str]]:
    """Yield every method and path of an API: those of its rows, its description and its documentation."""
    for row in api.rows:
        yield row.method, api.prefix + row.path
    for path in (api.description_path, *api.docs_paths):
        yield "GET", path


def overlap(one: str, other: str) -> bool:
    """Return whether some path matches both patterns."""
    segments = one.strip("/").split("/"), other.strip("/").split("/")
    return len(segments[0]) == len(segments[1]) and all(
        a == b or a.startswith("{") or b.startswith("{") for a, b in zip(*segments, strict=True)
    )
