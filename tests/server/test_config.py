"""Settings: defaults and config.toml agree, and whatever is wrong is named before the server starts."""

import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from server.config import FIELDS, SECTIONS, BadSetting, Given, Secret, Settings, load, render

CONFIG = Path(__file__).parents[2] / "config.toml"
KEY = "a signing key of thirty-two bytes"
DSN = "postgresql://homeroom:hunter2@db/homeroom"


def refusal(
    path: Path | None = None, env: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> str:
    with pytest.raises(BadSetting) as caught:
        load(path, env or {}, overrides or {})
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "homeroom.toml"


def test_config_toml_holds_every_default() -> None:
    assert load(CONFIG, {}, {}) == Settings()


def test_config_toml_names_every_setting_in_the_order_of_the_code() -> None:
    document = tomllib.loads(CONFIG.read_text("utf-8"))
    assert [(section, key) for section, table in document.items() for key in table] == list(FIELDS)


def test_config_toml_has_a_comment_above_every_setting() -> None:
    lines = CONFIG.read_text("utf-8").splitlines()
    bare = [line for before, line in pairwise(lines) if re.match(r"\w+ = ", line) and not before.startswith("# ")]
    assert bare == []


@pytest.mark.parametrize("name", FIELDS, ids=".".join)
def test_every_number_has_bounds_and_its_default_keeps_them(name: tuple[str, str]) -> None:
    section, key = name
    default = getattr(getattr(Settings(), section), key)
    kind = inspect.type_info(FIELDS[name].type)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        assert kind.ge is not None
        assert kind.le is not None
    if not isinstance(default, Secret):
        assert Given(section, key, default, "the code").read() == default


def test_later_sources_override_earlier_ones(file: Path) -> None:
    file.write_text("[server]\nhost = '::1'\nport = 1\ndrain_s = 1")
    env = {"HOMEROOM_SERVER__PORT": "2", "HOMEROOM_SERVER__DRAIN_S": "2", "HOMEROOM_HOME": "elsewhere", "PATH": "/bin"}
    server = load(file, env, {"server.drain_s": 3.0, "server.host": None}).server
    assert (server.host, server.port, server.drain_s) == ("::1", 2, 3.0)


def test_texts_from_outside_become_numbers_lists_and_truth() -> None:
    settings = load(
        None,
        {
            "HOMEROOM_AUTH__REGISTRATION": "false",
            "HOMEROOM_SERVER__TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8",
            "HOMEROOM_SERVER__CORS_ORIGINS": "",
        },
        {"server.port": "0"},
    )
    assert settings.auth.registration is False
    assert settings.server.trusted_proxies == ("10.0.0.0/8", "fd00::/8")
    assert settings.server.cors_origins == ()
    assert settings.server.port == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[limits]\nbody_bytes = 5",
            "limits.body_bytes = 5 (from {file}): must be a whole number from 1024 to 1073741824",
        ),
        ("[limits]\nbody_bytes = '5000'", 'limits.body_bytes = "5000" (from {file}): must be a whole number'),
        ("[limits]\nbody_bytes = true", "limits.body_bytes = true (from {file}): must be a whole number"),
        (
            "[streams]\nheartbeat_s = nan",
            "streams.heartbeat_s = NaN (from {file}): must be a number from 0.01 to 86400",
        ),
        ("[server]\nhost = ''", 'server.host = "" (from {file}): must be a host name or an address'),
        ("[server]\nmetrics = 'on'", 'server.metrics = "on" (from {file}): must be one of "local", "off", "open"'),
        ("[server]\ntrusted_proxies = ['10.0.0.0/99']", 'server.trusted_proxies = ["10.0.0.0/99"] (from {file})'),
        ("[server]\ncors_origins = ['example.org/']", 'server.cors_origins = ["example.org/"] (from {file})'),
        ("[auth]\nregistration = 1979-05-27", 'auth.registration = "1979-05-27" (from {file}): must be true or false'),
        ("[auth]\nissuer = ''", 'auth.issuer = "" (from {file}): must be a text that is not empty'),
        ("[limits]\nbodybytes = 5", "limits.bodybytes (from {file}): no such setting; did you mean limits.body_bytes?"),
        ("[limit]\nbody_bytes = 5", "[limit] (from {file}): no such section; did you mean limits?"),
        ("server = 5", "server (from {file}): must be a section, [server]"),
        ("server", "{file} cannot be read: "),
    ],
)
def test_a_mistake_in_the_file_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    assert refusal(file).startswith(message.format(file=file))


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    assert refusal(file).startswith(f"{file} cannot be read: ")


def test_a_mistake_in_the_environment_is_named() -> None:
    assert refusal(env={"HOMEROOM_SERVER__PORT": "http"}) == (
        'server.port = "http" (from HOMEROOM_SERVER__PORT): must be a whole number from 0 to 65535'
    )
    assert refusal(env={"HOMEROOM_SERVER__PROT": "80"}) == (
        "HOMEROOM_SERVER__PROT (from the environment): no such setting; did you mean HOMEROOM_SERVER__PORT?"
    )


def test_a_mistake_on_the_command_line_is_named() -> None:
    assert refusal(overrides={"server.port": "70000"}).startswith('server.port = "70000" (from the command line)')
    assert refusal(overrides={"server.prot": 80}).startswith("server.prot (from the command line): no such setting")


def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    (tmp_path / "dsn").write_text(DSN + "\n")
    env = {"HOMEROOM_AUTH__SIGNING_KEY_FILE": str(tmp_path / "key")}
    settings = load(None, env, {"database.dsn_file": str(tmp_path / "dsn")})
    assert settings.auth.signing_key.reveal() == KEY
    assert settings.database.dsn == Secret(DSN)


def test_a_secret_file_that_does_not_do_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    overrides = {"auth.signing_key_file": str(path)}
    named = f'auth.signing_key_file = "{path}" (from the command line): must be a file that '
    assert refusal(overrides=overrides).startswith(named + "can be read")
    path.write_text("\n")
    assert refusal(overrides=overrides).startswith(named + "holds the secret")
    path.write_text("hunter2")
    assert refusal(overrides=overrides) == f"auth.signing_key = (hidden) (from {path}): must be 32 bytes or more"
    assert refusal(overrides=overrides, env={"HOMEROOM_AUTH__SIGNING_KEY": KEY}).endswith(
        "must be left out where auth.signing_key_file is set"
    )


def test_secrets_are_never_shown(file: Path) -> None:
    settings = load(None, {"HOMEROOM_DATABASE__DSN": DSN, "HOMEROOM_AUTH__SIGNING_KEY": KEY}, {})
    assert settings.database.dsn.reveal() == DSN
    file.write_text("[auth]\nsigning_key = 'hunter2'")
    mistyped = refusal(overrides={"auth.signingkey": KEY})
    for shown in (repr(settings), str(settings), render(settings), refusal(file), mistyped):
        assert not re.search(rf"hunter2|{KEY}", shown)
    with pytest.raises(TypeError):
        msgspec.json.encode(settings)


def test_render_prints_what_load_reads(file: Path) -> None:
    file.write_text(render(Settings()), "utf-8")
    assert load(file, {}, {}) == Settings()
    assert list(tomllib.loads(render(Settings()))) == list(SECTIONS)


def test_render_says_that_a_secret_is_set() -> None:
    assert 'dsn = "(hidden)"' in render(load(None, {"HOMEROOM_DATABASE__DSN": DSN}, {}))
    assert 'dsn = ""' in render(Settings())
