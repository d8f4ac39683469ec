"""Loads settings: the command line overrides the environment, which overrides the file, which overrides the defaults.

**Law:** a mistake stops the start. The message says the setting's name, its value, its source and what is allowed; the
value of a secret is never printed.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from msgspec import Struct, inspect
from msgspec.structs import FieldInfo

from server.settings.schema import ANY, FIELDS, FROM_FILE, SECTIONS, SHAPES, section_of
from server.settings.sections import BadSetting, Settings
from server.settings.types import Secret

CREDENTIALS = re.compile(r"(://)[^/?#\s]*@")
"""The user and the password in a URL."""
ENV_PREFIX = "HOMEROOM_"
COMMAND_LINE = "the command line"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""A freely chosen name of a section. Environment variables can name it too."""
NAME_LENGTH = 32
NAMED_SECTIONS = 32
"""The most freely named sections in one group."""


def shape(section: str) -> str:
    """Return a section's name with `*` for the freely chosen part."""
    return _any(section) if may_be_any(section) else section


def may_be_any(section: str) -> bool:
    """Return whether the last part of a section's name is freely chosen."""
    return _any(section) in SHAPES


def _any(section: str) -> str:
    return f"{section.rpartition('.')[0]}.{ANY}"


@dataclass(frozen=True)
class Given:
    """A setting as a source contains it."""

    section: str
    key: str
    value: object = field(repr=False)
    origin: str
    """The file, environment variable or option that contains it."""
    is_text: bool = False
    """The source has texts only, from which numbers and lists are parsed."""

    @property
    def name(self) -> tuple[str, str]:
        """The key of the setting in `FIELDS`."""
        return shape(self.section), self.key

    @property
    def field(self) -> FieldInfo:
        """The type and the default of the setting."""
        return FIELDS[self.name]

    # Any: the type is the setting's.
    def read(self) -> Any:
        """Return the value in the setting's type. Raise BadSetting if it is not allowed."""
        value, kind = self.value, inspect.type_info(self.field.type)
        if self.is_text and isinstance(kind, inspect.VarTupleType):
            value = [part.strip() for part in str(value).split(",") if part.strip()]
        try:
            read = msgspec.convert(value, self.field.type, strict=not self.is_text, dec_hook=_from_text)
            _check(kind, read)
        except (msgspec.ValidationError, ValueError):
            comma = " (here: separated by commas)" if self.is_text and isinstance(kind, inspect.VarTupleType) else ""
            self.refuse(_allowed(kind) + comma)
        return read

    def refuse(self, allowed: str) -> NoReturn:
        """Raise BadSetting, which says what is allowed."""
        shown = "(hidden)" if self.name in FROM_FILE else _toml(self.value)
        # Without a cause: the decoder's message may quote a secret.
        raise BadSetting(f"{self.section}.{self.key} = {shown} (from {self.origin}): must be {allowed}") from None


def load(path: Path | None, env: Mapping[str, str], overrides: Mapping[str, object]) -> Settings:
    """Return the settings from all sources.

    `overrides` come from the command line: their keys are `section.key`, and None means that an option was not given.
    Raise BadSetting at the first setting that is unknown, of the wrong type, out of range or contradicts another.
    """
    given: dict[tuple[str, str], Given] = {}
    for setting in (*_in_file(path), *_in_environment(env), *_in_overrides(overrides)):
        given[setting.section, setting.key] = setting
    values = {name: setting.read() for name, setting in given.items()}
    for (section, file_key), setting in given.items():
        key = file_key.removesuffix("_file")
        if FROM_FILE.get((shape(section), key)) != file_key or not values[section, file_key]:
            continue
        if values.get((section, key)):
            given[section, key].refuse(f"empty if {section}.{file_key} is set")
        values[section, key] = _secret_of(setting, key).read()
    settings: Settings = _built(Settings, "", values)
    _require_agreement(settings, given)
    return settings


def _built(struct: type[Struct], section: str, values: Mapping[tuple[str, str], Any]) -> Any:
    """Construct a section and those in it. Settings that are not in `values` keep their defaults."""
    made: dict[str, Any] = {key: value for (its, key), value in values.items() if its == section}
    for each in msgspec.structs.fields(struct):
        if (within := section_of(each)) is None:
            continue
        name = f"{section}.{each.name}" if section else each.name
        if within[0] == each.name:
            made[each.name] = _built(within[1], name, values)
        else:
            names = dict.fromkeys(its for its, _ in values if its.startswith(f"{name}."))
            if len(names) > NAMED_SECTIONS:
                raise BadSetting(f"[{name}]: must contain at most {NAMED_SECTIONS} sections, not {len(names)}")
            made[each.name] = {its.removeprefix(f"{name}."): _built(within[1], its, values) for its in names}
    return struct(**made)


def _require_agreement(settings: Settings, given: Mapping[tuple[str, str], Given]) -> None:
    """Raise BadSetting if an issuer's settings contradict each other, or two issuers have the same name."""
    sections = {settings.auth.issuer: "auth.issuer"}
    for name, issuer in settings.auth.issuers.items():
        section = f"auth.issuers.{name}"
        faults = list(issuer.faults())
        if (other := sections.get(issuer.issuer)) is not None:
            faults.append(("issuer", f"different from {other}"))
        sections[issuer.issuer] = f"{section}.issuer"
        for key, allowed in faults:
            default = Given(section, key, getattr(issuer, key), "the defaults")
            given.get((section, key), default).refuse(allowed)


def render(settings: Settings) -> str:
    """Return the settings as TOML, with secrets hidden."""
    return "\n".join(_rendered(settings, ""))


def _rendered(section: Struct, name: str) -> Iterable[str]:
    lines, below = [], []
    for each in msgspec.structs.fields(section):
        value, path = getattr(section, each.name), f"{name}.{each.name}" if name else each.name
        if isinstance(value, Struct):
            below.append((value, path))
        elif isinstance(value, Mapping):
            below += [(one, f"{path}.{its}") for its, one in value.items()]
        else:
            lines.append(f"{each.name} = {_toml(value)}\n")
    if lines:
        yield f"[{name}]\n" + "".join(lines)
    for each_below in below:
        yield from _rendered(*each_below)


def _in_file(path: Path | None) -> Iterable[Given]:
    if path is None:
        return
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadSetting(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadSetting(f"{path} is not TOML in UTF-8: {error}") from error
    yield from _in_table(document, "", str(path))


def _in_table(table: Mapping[str, object], section: str, origin: str) -> Iterable[Given]:
    for key, value in table.items():
        name = f"{section}.{key}" if section else key
        if shape(name) not in SHAPES and f"{name}.{ANY}" not in SHAPES:
            if not section or isinstance(value, dict):
                raise BadSetting(f"[{name}] (from {origin}): no such section{_instead(name, SECTIONS)}")
            yield _named(section, key, value, origin)
        elif not isinstance(value, dict):
            raise BadSetting(f"{name} (from {origin}): must be a section, [{name}]")
        elif may_be_any(name) and not value:
            raise BadSetting(f"[{name}] (from {origin}): must not be empty")
        else:
            yield from _in_table(value, name, origin)


def _in_environment(env: Mapping[str, str]) -> Iterable[Given]:
    for name, text in env.items():
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue
        parts = name.removeprefix(ENV_PREFIX).lower().split("__")
        section, key = ".".join(parts[:-1]), parts[-1]
        if name != name.upper() or (shape(section), key) not in FIELDS:
            known = [_variable(*setting) for setting in _like(section)]
            raise BadSetting(f"{name} (from the environment): no such setting{_instead(name, known)}")
        yield _named(section, key, text, name, is_text=True)


def _variable(section: str, key: str) -> str:
    return ENV_PREFIX + "__".join((*section.split("."), key)).upper()


def _in_overrides(overrides: Mapping[str, object]) -> Iterable[Given]:
    for name, value in overrides.items():
        if value is not None:
            section, _, key = name.rpartition(".")
            yield _named(section, key, value, COMMAND_LINE, is_text=isinstance(value, str))


def _named(section: str, key: str, value: object, origin: str, *, is_text: bool = False) -> Given:
    """Return a setting of a source. Raise BadSetting if there is no such setting."""
    if (shape(section), key) not in FIELDS:
        # Without its value, which may be a secret under a mistyped name.
        instead = _instead(f"{section}.{key}", map(".".join, _like(section)))
        raise BadSetting(f"{section}.{key} (from {origin}): no such setting{instead}")
    name = section.rpartition(".")[2]
    if may_be_any(section) and (not NAME.fullmatch(name) or len(name) > NAME_LENGTH):
        allowed = f"a word of at most {NAME_LENGTH} characters from a-z, 0-9 and _"
        raise BadSetting(f"[{section}] (from {origin}): its name must be {allowed}")
    return Given(section, key, value, origin, is_text)


def _like(section: str) -> Iterable[tuple[str, str]]:
    """Return all settings, with the last part of `section` in place of freely chosen names."""
    name = section.rpartition(".")[2]
    return [(its.replace(ANY, name), key) for its, key in FIELDS]


def _instead(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _secret_of(given: Given, key: str) -> Given:
    """Return the secret in the file that `given` names, as the setting `key`."""
    try:
        text = Path(str(given.value)).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        given.refuse(f"a file that can be read ({error})")
    if not text:
        given.refuse("a file that contains the secret, but it is empty")
    return Given(given.section, key, text, str(given.value))


def _from_text(kind: type, value: object) -> object:
    if not isinstance(value, str):
        raise TypeError(kind)
    return kind(value)


def _check(kind: inspect.Type, value: Any) -> None:
    """Apply the checks that constraints of Meta cannot express. Raise ValueError."""
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
            return f"a list, of which each item is {_allowed(item)}"
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
    """Print a value as TOML. For these types it is the same as JSON."""
    if isinstance(value, Secret):
        value = "(hidden)" if value else ""
    elif isinstance(value, str):
        value = CREDENTIALS.sub(r"\1(hidden)@", value)
    return json.dumps(value, ensure_ascii=False, default=str)
