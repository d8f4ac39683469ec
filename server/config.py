"""Settings: one frozen Struct per section of `config.toml`, read once at the start.

Every setting has a default here and stands in `config.toml` with a comment; a test holds the two equal. What is wrong
stops the start with the setting's name, its value, what is allowed and where it came from.
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta, Struct, inspect
from msgspec.structs import FieldInfo

ENV_PREFIX = "HOMEROOM_"
COMMAND_LINE = "the command line"
DAY_S = 86_400
GIB = 1 << 30


class BadSetting(ValueError):
    """A setting that the server does not start with; the message is meant for whoever wrote it."""


class Secret:
    """A text that is shown only when asked for by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(hidden)" if self else "Secret()"


def within(least: float, most: float) -> Meta:
    return Meta(ge=least, le=most)


def at_least_32_bytes(key: Secret) -> None:
    if key and len(key.reveal().encode()) < 32:
        raise ValueError(key)


# The bounds catch slips (kilobytes for bytes, milliseconds for seconds), and let a load test lift any limit.
Count = Annotated[int, within(1, 1_000_000)]
Bytes = Annotated[int, within(1_024, GIB)]
Size = Annotated[int, within(1_024, 1 << 50)]
Lifetime = Annotated[int, within(1, 3_660 * DAY_S)]
Wait = Annotated[float, within(0.01, DAY_S)]
WaitOrNone = Annotated[float, within(0, DAY_S)]
File = Annotated[str, Meta(description="the path of a file, or empty")]
Origin = Annotated[
    str,
    Meta(pattern=r"^(\*|https?://[^/\s]+)$", description='an origin such as "https://app.example.org", or "*"'),
]
Network = Annotated[
    str,
    Meta(description='an address or a network such as "10.0.0.0/8"', extra={"check": ip_network}),
]


class Server(Struct, frozen=True, kw_only=True):
    host: Annotated[str, Meta(min_length=1, description="a host name or an address")] = "127.0.0.1"
    port: Annotated[int, within(0, 65_535)] = 8080
    public_url: Annotated[
        str, Meta(pattern=r"^(https?://\S+)?$", description='a URL such as "https://live.example.org", or empty')
    ] = ""
    cors_origins: tuple[Origin, ...] = ("http://localhost:3000",)
    trusted_proxies: tuple[Network, ...] = ()
    metrics: Literal["open", "local", "off"] = "local"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_s: WaitOrNone = 10.0


class Data(Struct, frozen=True, kw_only=True):
    dir: Annotated[str, Meta(min_length=1, description="the path of a directory")] = "data"


class Database(Struct, frozen=True, kw_only=True):
    dsn: Secret = Secret()
    dsn_file: File = ""
    pool_size: Annotated[int, within(1, 1_000)] = 8
    connect_timeout_s: Wait = 5.0
    statement_timeout_s: Wait = 10.0


class Auth(Struct, frozen=True, kw_only=True):
    issuer: Annotated[str, Meta(min_length=1)] = "homeroom"
    audience: Annotated[str, Meta(min_length=1)] = "homeroom"
    # RFC 7518, 3.2: a key for HS256 has at least as many bits as the hash.
    signing_key: Annotated[Secret, Meta(description="32 bytes or more", extra={"check": at_least_32_bytes})] = Secret()
    signing_key_file: File = ""
    access_ttl_s: Lifetime = 1_800
    refresh_ttl_s: Lifetime = 30 * DAY_S
    ticket_ttl_s: Lifetime = 30
    session_token_ttl_s: Lifetime = 6 * 3_600
    registration: bool = True
    hash_workers: Annotated[int, within(1, 64)] = 2
    hash_queue: Count = 64
    argon2_time_cost: Annotated[int, within(1, 64)] = 2
    # Argon2 needs 8 KiB per lane, so that the least memory suits the most lanes.
    argon2_memory_kib: Annotated[int, within(128, 4 * GIB // 1_024)] = 19_456
    argon2_parallelism: Annotated[int, within(1, 16)] = 1
    login_attempts_per_minute: Count = 20
    address_attempts_per_minute: Count = 300


class Sessions(Struct, frozen=True, kw_only=True):
    default_capacity: Annotated[int, within(1, 10_000)] = 100
    grace_s: WaitOrNone = 10.0
    passivate_after_s: Lifetime = 300
    snapshot_events: Count = 500
    snapshot_s: Lifetime = 60
    idempotency_ttl_s: Lifetime = DAY_S


class Recordings(Struct, frozen=True, kw_only=True):
    url_ttl_s: Lifetime = 3_600


class Limits(Struct, frozen=True, kw_only=True):
    mailbox: Count = 1_000
    log_queue_rows: Count = 10_000
    user_commands_per_s: Count = 20
    user_burst: Count = 40
    session_commands_per_s: Count = 200
    join_attempts_per_minute: Count = 10
    guests_per_minute: Count = 60
    connections_per_ip: Count = 50
    streams_per_user: Count = 10
    body_bytes: Bytes = 65_536
    header_bytes: Bytes = 16_384
    # Past about a thousand levels the decoder runs out of stack.
    json_depth: Annotated[int, within(1, 256)] = 32
    header_timeout_s: Wait = 10.0
    body_timeout_s: Wait = 30.0


class Streams(Struct, frozen=True, kw_only=True):
    heartbeat_s: Wait = 15.0
    lifetime_s: Wait = 3_600.0
    buffer_bytes: Bytes = 262_144
    send_buffer_bytes: Bytes = 65_536
    replay_events: Count = 256
    replay_bytes: Bytes = 262_144


class Commit(Struct, frozen=True, kw_only=True):
    batch_rows: Annotated[int, within(1, 10_000)] = 256
    batch_bytes: Bytes = 262_144


class Audio(Struct, frozen=True, kw_only=True):
    max_bytes: Size = GIB // 2
    quota_bytes: Size = 5 * GIB
    uploads_per_user: Annotated[int, within(1, 100)] = 2
    uploads: Annotated[int, within(1, 1_000)] = 8
    min_bytes_per_s: Count = 16_384
    url_ttl_s: Lifetime = 3_600


class Blobs(Struct, frozen=True, kw_only=True):
    store: Literal["local", "s3"] = "local"
    s3_bucket: str = ""
    s3_endpoint: Annotated[
        str, Meta(pattern=r"^(https?://\S+)?$", description='a URL such as "https://s3.example.org", or empty')
    ] = ""
    s3_region: Annotated[str, Meta(min_length=1)] = "us-east-1"
    s3_access_key: Secret = Secret()
    s3_access_key_file: File = ""
    s3_secret_key: Secret = Secret()
    s3_secret_key_file: File = ""
    s3_path_style: bool = True


class Settings(Struct, frozen=True, kw_only=True):
    server: Server = Server()
    data: Data = Data()
    database: Database = Database()
    auth: Auth = Auth()
    sessions: Sessions = Sessions()
    recordings: Recordings = Recordings()
    limits: Limits = Limits()
    streams: Streams = Streams()
    commit: Commit = Commit()
    audio: Audio = Audio()
    blobs: Blobs = Blobs()


SECTIONS: Mapping[str, type[Struct]] = {field.name: field.type for field in msgspec.structs.fields(Settings)}
FIELDS: Mapping[tuple[str, str], FieldInfo] = {
    (section, field.name): field for section, struct in SECTIONS.items() for field in msgspec.structs.fields(struct)
}
FROM_FILE = {
    ("auth", "signing_key"): "signing_key_file",
    ("database", "dsn"): "dsn_file",
    ("blobs", "s3_access_key"): "s3_access_key_file",
    ("blobs", "s3_secret_key"): "s3_secret_key_file",
}


@dataclass(frozen=True)
class Given:
    """A setting as someone wrote it."""

    section: str
    key: str
    value: object = field(repr=False)
    origin: str
    """The file, the variable or the option that it came from."""
    is_text: bool = False
    """Written where there are only texts: numbers and lists are still to be read from it."""

    @property
    def kind(self) -> inspect.Type:
        return inspect.type_info(FIELDS[self.section, self.key].type)

    def read(self) -> Any:
        value = self.value
        if self.is_text and isinstance(self.kind, inspect.VarTupleType):
            value = [part.strip() for part in str(value).split(",") if part.strip()]
        try:
            read = msgspec.convert(
                value, FIELDS[self.section, self.key].type, strict=not self.is_text, dec_hook=_from_text
            )
            _check(self.kind, read)
        except (msgspec.ValidationError, ValueError):
            self.refuse(_allowed(self.kind))
        return read

    def refuse(self, allowed: str) -> NoReturn:
        shown = "(hidden)" if (self.section, self.key) in FROM_FILE else _toml(self.value)
        # No cause: the decoder's message may quote a secret.
        raise BadSetting(f"{self.section}.{self.key} = {shown} (from {self.origin}): must be {allowed}") from None


def load(path: Path | None, env: Mapping[str, str], overrides: Mapping[str, object]) -> Settings:
    """Read the settings: the defaults, under the file, under the environment, under `overrides`.

    `overrides` is keyed `section.key`; None there means not given, as an option's default on a command line.

    Raises:
        BadSetting: at the first setting that is unknown, of the wrong type or out of range.
    """
    given: dict[tuple[str, str], Given] = {}
    for found in (*_in_file(path), *_in_environment(env), *_in_overrides(overrides)):
        given[found.section, found.key] = found
    values = {name: found.read() for name, found in given.items()}
    for (section, key), file_key in FROM_FILE.items():
        if not values.get((section, file_key)):
            continue
        if values.get((section, key)):
            given[section, key].refuse(f"left out where {section}.{file_key} is set")
        values[section, key] = _secret_of(given[section, file_key], key).read()
    sections: dict[str, Any] = {
        name: struct(**{key: value for (section, key), value in values.items() if section == name})
        for name, struct in SECTIONS.items()
    }
    return Settings(**sections)


def render(settings: Settings) -> str:
    """Write the settings as TOML, secrets hidden."""
    parts = []
    for name, struct in SECTIONS.items():
        section = getattr(settings, name)
        lines = (f"{field.name} = {_toml(getattr(section, field.name))}\n" for field in msgspec.structs.fields(struct))
        parts.append(f"[{name}]\n" + "".join(lines))
    return "\n".join(parts)


def _in_file(path: Path | None) -> Iterable[Given]:
    if path is None:
        return
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadSetting(f"{path} cannot be read: {error}") from error
    for section, table in document.items():
        if section not in SECTIONS:
            raise BadSetting(f"[{section}] (from {path}): no such section{_instead(section, SECTIONS)}")
        if not isinstance(table, dict):
            raise BadSetting(f"{section} (from {path}): must be a section, [{section}]")
        for key, value in table.items():
            yield _named(section, key, value, str(path))


def _in_environment(env: Mapping[str, str]) -> Iterable[Given]:
    names = {f"{ENV_PREFIX}{section}__{key}".upper(): (section, key) for section, key in FIELDS}
    for name, text in env.items():
        if name in names:
            yield Given(*names[name], text, name, is_text=True)
        elif name.startswith(ENV_PREFIX) and "__" in name:
            raise BadSetting(f"{name} (from the environment): no such setting{_instead(name, names)}")


def _in_overrides(overrides: Mapping[str, object]) -> Iterable[Given]:
    for name, value in overrides.items():
        if value is not None:
            section, _, key = name.partition(".")
            yield _named(section, key, value, COMMAND_LINE)


def _named(section: str, key: str, value: object, origin: str) -> Given:
    if (section, key) not in FIELDS:
        # Its value stays unsaid: it may be a secret under a mistyped name.
        instead = _instead(f"{section}.{key}", [".".join(name) for name in FIELDS])
        raise BadSetting(f"{section}.{key} (from {origin}): no such setting{instead}")
    return Given(section, key, value, origin, is_text=isinstance(value, str) and origin == COMMAND_LINE)


def _instead(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _secret_of(given: Given, key: str) -> Given:
    """The secret in the file that `given` names, as the setting `key`."""
    try:
        text = Path(str(given.value)).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        given.refuse(f"a file that can be read ({error})")
    if not text:
        given.refuse("a file that holds the secret; it is empty")
    return Given(given.section, key, text, str(given.value))


def _from_text(kind: type, value: object) -> object:
    if not isinstance(value, str):
        raise TypeError(kind)
    return kind(value)


def _check(kind: inspect.Type, value: Any) -> None:
    """Apply the checks that Meta's own constraints cannot express. Raises: ValueError."""
    match kind:
        case inspect.VarTupleType(item_type=item):
            for each in value:
                _check(item, each)
        case inspect.Metadata(extra={"check": check}):
            check(value)


def _allowed(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(extra_json_schema={"description": str(text)}):
            return text
        case inspect.VarTupleType(item_type=item):
            return f"a list, each of it {_allowed(item)}"
        case inspect.IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case inspect.FloatType(ge=least, le=most):
            return f"a number from {least:g} to {most:g}"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(map(_toml, values))
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType(min_length=1):
            return "a text that is not empty"
    return "a text"


def _toml(value: object) -> str:
    """Spell a value as TOML does; for these types JSON does as well."""
    if isinstance(value, Secret):
        value = "(hidden)" if value else ""
    return json.dumps(value, ensure_ascii=False, default=str)
