"""Which API a path belongs to, and that no two APIs claim the same one."""

from collections.abc import Iterable, Sequence

from server.config import BadSetting
from server.routes import Api, Row


def api_at(apis: Sequence[Api], path: str) -> Api:
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
        for row in api.rows:
            path = api.prefix + row.path
            for owner, method, other in claims:
                if owner != api.name and method == row.method and overlap(path, other):
                    raise BadSetting(
                        f"dialects.{api.name}.prefix = {api.prefix!r}: {row.method} {path} is claimed by "
                        f"{owner} already, as {other}. Give one of them another prefix, or set enabled = false."
                    )
            claims.append((api.name, row.method, path))


def overlap(one: str, other: str) -> bool:
    """Say whether some path is of both patterns."""
    segments = one.strip("/").split("/"), other.strip("/").split("/")
    return len(segments[0]) == len(segments[1]) and all(
        a == b or a.startswith("{") or b.startswith("{") for a, b in zip(*segments, strict=True)
    )
