"""Which API a path belongs to, and that no two APIs claim the same one."""

from collections.abc import Iterable, Iterator, Sequence

from server.api.routes import Api, CommandRoute, DirectCommandRoute, Row, StreamRoute
from server.settings.sections import BadSetting


def api_for(apis: Sequence[Api], path: str) -> Api:
    """Give the API whose prefix is the longest that a path begins with; where none does, the first of all."""
    within = [api for api in apis if path == api.prefix or path.startswith(api.prefix + "/")]
    return max(within, key=lambda api: len(api.prefix), default=apis[0])


def paths(api: Api, row: Row) -> tuple[str, ...]:
    """List the paths of a row: with a slash at its end and without, where the API takes both."""
    path = api.prefix + row.path
    if not api.slashes or path == "/":
        return (path,)
    return (path, path[:-1]) if path.endswith("/") else (path, path + "/")


def check(apis: Iterable[Api], taken: Iterable[tuple[str, str]]) -> None:
    """See that every method and path is one API's alone, and none of the server's own. Raises: BadSetting."""
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
    """Check that every row which reads a session says what. Raise TypeError for a row that does not."""
    for row in api.rows:
        if row.names_session and row.reads is None and not isinstance(row, DECIDED_BY_SESSION):
            raise TypeError(f"{api.name}: {row.method} {row.path} names a session and does not say what it reads of it")


DECIDED_BY_SESSION = (CommandRoute, DirectCommandRoute, StreamRoute)
"""Rows that the session itself admits or refuses."""


def wanted(api: Api) -> Iterator[tuple[str, str]]:
    """Give every method and path of an API: its rows', and those that its description is at."""
    for row in api.rows:
        yield row.method, api.prefix + row.path
    for path in (api.description_path, *api.docs_paths):
        yield "GET", path


def overlap(one: str, other: str) -> bool:
    """Say whether some path is of both patterns."""
    segments = one.strip("/").split("/"), other.strip("/").split("/")
    return len(segments[0]) == len(segments[1]) and all(
        a == b or a.startswith("{") or b.startswith("{") for a, b in zip(*segments, strict=True)
    )
