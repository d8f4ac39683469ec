"""Settings: defaults and config.toml agree, and every mistake is named before the server starts."""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect, structs

from server.settings.loader import NAMED_SECTIONS, Given, load, render
from server.settings.schema import FIELDS, SECTIONS
from server.settings.sections import BadSetting, IssuerSettings, Settings
from server.settings.types import Secret

CONFIG = Path(__file__).parents[3] / "config.toml"
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
    lines = CONFIG.read_text("utf-8").splitlines()
    section, named = "", []
    for line in lines:
        if found := re.fullmatch(r"#?\[(.*)\]", line):
            section = found[1].replace("issuers.example", "issuers.*")
        elif found := re.match(r"#?(\w+) = ", line):
            named.append((section, found[1]))
    assert named == list(FIELDS)


def test_config_toml_has_a_comment_above_every_setting() -> None:
    lines = CONFIG.read_text("utf-8").splitlines()
    bare = [line for before, line in pairwise(lines) if re.match(r"#?\w+ = ", line) and not before.startswith("# ")]
    assert bare == []


def test_config_toml_says_the_bounds_of_every_number() -> None:
    section, comment, said = "", "", dict[tuple[str, str], tuple[float, float] | None]()
    for line in CONFIG.read_text("utf-8").splitlines():
        if found := re.fullmatch(r"#?\[(.*)\]", line):
            section = found[1].replace("issuers.example", "issuers.*")
        if line.startswith("# "):
            comment += line
            continue
        if found := re.match(r"#?(\w+) = ", line):
            bounds = re.search(r"Allowed: (\S+) to (\S+)\.$", comment)
            said[section, found[1]] = None if bounds is None else (float(bounds[1]), float(bounds[2]))
        comment = ""
    for name, field in FIELDS.items():
        kind = inspect.type_info(field.type)
        bounds_of = (kind.ge, kind.le) if isinstance(kind, inspect.IntType | inspect.FloatType) else None
        assert said[name] == bounds_of, name


def test_the_example_of_an_issuer_has_the_defaults(file: Path) -> None:
    text = CONFIG.read_text("utf-8")
    file.write_text("\n".join(line.removeprefix("#") for line in text.splitlines() if re.match(r"#[\[\w]", line)))
    example = load(file, {}, {}).auth.issuers["example"]
    assert example == IssuerSettings(issuer=example.issuer, jwks_url=example.jwks_url)


@pytest.mark.parametrize("name", FIELDS, ids=".".join)
def test_every_number_has_bounds_and_its_default_keeps_them(name: tuple[str, str]) -> None:
    section, key = name
    default = FIELDS[name].default
    if name == ("auth.issuers.*", "issuer"):
        assert default == ""  # It must be given.
        return
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


def test_texts_become_numbers_lists_and_booleans() -> None:
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
        ("server", "{file} is not TOML in UTF-8: "),
        (
            "[dialects.seeds]\nprefix = 'seeds'",
            'dialects.seeds.prefix = "seeds" (from {file}): must be empty, or a path',
        ),
        ("[dialects.seeds]\nprefix = '/seeds/'", 'dialects.seeds.prefix = "/seeds/" (from {file}): must be empty, or'),
        ("[dialects.seeds]\nprefix = '/'", 'dialects.seeds.prefix = "/" (from {file}): must be empty, or'),
        ("[dialects.seeds]\nprefix = '/a/../b'", 'dialects.seeds.prefix = "/a/../b" (from {file}): must be empty, or'),
        ('[dialects.seeds]\nprefix = "/a\\n"', 'dialects.seeds.prefix = "/a\\n" (from {file}): must be empty, or'),
        (
            "[dialects.interview]\nttl_s = 0",
            "dialects.interview.ttl_s = 0 (from {file}): must be a whole number from 1",
        ),
        (
            "[dialects.seeds]\ntrust_userid = true",
            "dialects.seeds.trust_userid (from {file}): no such setting; did you mean dialects.seeds.trust_user_id?",
        ),
        ("[dialects.sedes]\nopen = 1", "[dialects.sedes] (from {file}): no such section; did you mean dialects.seeds?"),
        ("[dialects]\nprefix = ''", "dialects.prefix (from {file}): no such setting; did you mean dialects."),
        ("dialects = 5", "dialects (from {file}): must be a section, [dialects]"),
        ("[dialects]\nseeds = 5", "dialects.seeds (from {file}): must be a section, [dialects.seeds]"),
        ("[server.host]\nname = 5", "[server.host] (from {file}): no such section"),
    ],
)
def test_a_mistake_in_the_file_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    assert refusal(file).startswith(message.format(file=file))


def issuer(**settings: object) -> str:
    table = {"issuer": "https://login.example.org", "jwks_file": "keys.json"} | settings
    return "[auth.issuers.acme]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in table.items() if v is not None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            issuer(issuer=None),
            'auth.issuers.acme.issuer = "" (from the defaults): must be the "iss" claim of the tokens',
        ),
        (
            issuer(issuer="homeroom"),
            'auth.issuers.acme.issuer = "homeroom" (from {file}): must be different from auth.iss',
        ),
        (
            issuer() + issuer().replace("acme", "other"),
            'auth.issuers.other.issuer = "https://login.example.org" (from {file}): must be different from auth.issu',
        ),
        (issuer(jwks_file=None), "auth.issuers.acme.secret = (hidden) (from the defaults): must be set, or one of"),
        (issuer(secret=KEY), "auth.issuers.acme.secret = (hidden) (from {file}): must be set, or one of"),
        (
            issuer(public_key_file="key.pem"),
            "auth.issuers.acme.secret = (hidden) (from the defaults): must be set, or",
        ),
        (
            issuer(jwks_file=None, secret="hunter2"),
            "auth.issuers.acme.secret = (hidden) (from {file}): must be 32 bytes",
        ),
        (issuer(algorithms=[]), "auth.issuers.acme.algorithms = [] (from {file}): must be HS256 with"),
        (issuer(algorithms=["HS256"]), 'auth.issuers.acme.algorithms = ["HS256"] (from {file}): must be HS256 with'),
        (
            issuer(algorithms=["RS256", "HS256"]),
            'auth.issuers.acme.algorithms = ["RS256", "HS256"] (from {file}): must',
        ),
        (
            issuer(jwks_file=None, secret=KEY),
            'auth.issuers.acme.algorithms = ["RS256"] (from the defaults): must be HS256',
        ),
        (
            issuer(algorithms=["none"]),
            'auth.issuers.acme.algorithms = ["none"] (from {file}): must be a list, of which each item',
        ),
        (
            issuer(jwks_file=None, jwks_url="http://login.example.org/keys"),
            'auth.issuers.acme.jwks_url = "http://login.example.org/keys" (from {file}): must be an https:// URL',
        ),
        (
            issuer(jwks_file=None, jwks_url="http://localhost.example.org/keys"),
            'auth.issuers.acme.jwks_url = "http://localhost.example.org/keys" (from {file}): must be an https:// URL',
        ),
        (issuer(subject_claim=""), 'auth.issuers.acme.subject_claim = "" (from {file}): must be the name of a claim'),
        (issuer(leeway_s=301), "auth.issuers.acme.leeway_s = 301 (from {file}): must be a number from 0 to 300"),
        (
            issuer(teacher="x"),
            "auth.issuers.acme.teacher (from {file}): no such setting; did you mean auth.issuers.acme.te",
        ),
        ("[auth.issuers.acme]", "[auth.issuers.acme] (from {file}): must not be empty"),
        ("[auth.issuers]\nissuer = 'x'", "auth.issuers.issuer (from {file}): must be a section, [auth.issuers.issuer]"),
        ("[auth]\nissuers = 5", "auth.issuers (from {file}): must be a section, [auth.issuers]"),
        (issuer().replace("acme", "Acme"), "[auth.issuers.Acme] (from {file}): its name must be a word of at most 32"),
        (issuer().replace("acme", '"*"'), "[auth.issuers.*] (from {file}): its name must be a word of at most 32"),
        (issuer().replace("acme", "a" * 33), f"[auth.issuers.{'a' * 33}] (from {{file}}): its name must be a word of"),
        (issuer().replace("acme", '"a.b"'), "[auth.issuers.a.b] (from {file}): no such section"),
    ],
)
def test_a_mistake_in_an_issuer_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    assert refusal(file).startswith(message.format(file=file))


def test_issuers_are_bounded_in_number(file: Path) -> None:
    file.write_text("".join(issuer(issuer=f"i{n}").replace("acme", f"i{n}") for n in range(NAMED_SECTIONS)))
    assert len(load(file, {}, {}).auth.issuers) == NAMED_SECTIONS
    env = {"HOMEROOM_AUTH__ISSUERS__ONE_MORE__LEEWAY_S": "1"}
    assert refusal(file, env) == "[auth.issuers]: must contain at most 32 sections, not 33"


def test_nested_sections_are_read_from_every_source(file: Path) -> None:
    (file.parent / "secret").write_text(KEY)
    file.write_text("[dialects.seeds]\nprefix = ''\n" + issuer(jwks_file=None, algorithms=["HS256"]))
    env = {
        "HOMEROOM_DIALECTS__SEEDS__TRUST_USER_ID": "true",
        "HOMEROOM_AUTH__ISSUERS__ACME__SECRET_FILE": str(file.parent / "secret"),
        "HOMEROOM_AUTH__ISSUERS__TWO_WORDS__ISSUER": "two",
        "HOMEROOM_AUTH__ISSUERS__TWO_WORDS__JWKS_URL": "http://127.0.0.1:8000/keys",
    }
    settings = load(file, env, {"auth.issuers.acme.leeway_s": "0", "dialects.live.enabled": False})
    assert settings.dialects.seeds.prefix == ""
    assert settings.dialects.seeds.trust_user_id
    assert not settings.dialects.live.enabled
    acme, two = settings.auth.issuers["acme"], settings.auth.issuers["two_words"]
    assert (acme.issuer, acme.secret.reveal(), acme.leeway_s) == ("https://login.example.org", KEY, 0)
    assert (two.issuer, two.jwks_url) == ("two", "http://127.0.0.1:8000/keys")
    shown = render(settings)
    assert KEY not in shown
    assert '[auth.issuers.acme]\nissuer = "https://login.example.org"' in shown
    (file.parent / "shown").write_text(shown.replace("(hidden)", ""))
    assert load(file.parent / "shown", {}, {}) == settings


def test_a_mistake_in_a_variable_of_a_nested_section_is_named() -> None:
    assert refusal(env={"HOMEROOM_DIALECTS__SEEDS__TRUST_USERID": "1"}).endswith(
        "no such setting; did you mean HOMEROOM_DIALECTS__SEEDS__TRUST_USER_ID?"
    )
    assert refusal(env={"HOMEROOM_AUTH__ISSUERS__ACME__SECRETS": KEY}) == (
        "HOMEROOM_AUTH__ISSUERS__ACME__SECRETS (from the environment): no such setting; "
        "did you mean HOMEROOM_AUTH__ISSUERS__ACME__SECRET?"
    )
    assert refusal(env={"HOMEROOM_AUTH__ISSUERS__A-B__SECRET": KEY}).startswith(
        "[auth.issuers.a-b] (from HOMEROOM_AUTH__ISSUERS__A-B__SECRET): its name must be a word"
    )
    assert refusal(env={"HOMEROOM_AUTH__ISSUERS": "x"}).startswith("HOMEROOM_AUTH__ISSUERS (from the environment): no")


def test_a_missing_file_is_named(file: Path) -> None:
    assert refusal(file).startswith(f"{file} cannot be read: ")


def test_a_list_in_the_environment_is_separated_by_commas() -> None:
    assert refusal(env={"HOMEROOM_SERVER__TRUSTED_PROXIES": "10.0.0.0/8; fd00::/8"}) == (
        'server.trusted_proxies = "10.0.0.0/8; fd00::/8" (from HOMEROOM_SERVER__TRUSTED_PROXIES): must be a list, '
        'of which each item is an address or a network such as "10.0.0.0/8" (here: separated by commas)'
    )


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


def test_an_unusable_secret_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    overrides = {"auth.signing_key_file": str(path)}
    named = f'auth.signing_key_file = "{path}" (from the command line): must be a file that '
    assert refusal(overrides=overrides).startswith(named + "can be read")
    path.write_text("\n")
    assert refusal(overrides=overrides).startswith(named + "contains the secret")
    path.write_text("hunter2")
    assert refusal(overrides=overrides) == f"auth.signing_key = (hidden) (from {path}): must be 32 bytes or more"
    assert refusal(overrides=overrides, env={"HOMEROOM_AUTH__SIGNING_KEY": KEY}).endswith(
        "must be empty if auth.signing_key_file is set"
    )


def test_earlier_signing_keys_are_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{KEY} of May\n\n{KEY} of March\n")
    overrides = {"auth.earlier_signing_keys_file": str(path)}
    assert load(None, {}, overrides).auth.earlier_signing_keys.lines() == [f"{KEY} of May", f"{KEY} of March"]
    path.write_text(f"{KEY}\nhunter2\n")
    assert refusal(overrides=overrides) == (
        f"auth.earlier_signing_keys = (hidden) (from {path}): must be keys of 32 bytes or more, one a line"
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
    assert re.findall(r"^\[(.*)\]$", render(Settings()), re.M) == [name for name in SECTIONS if "*" not in name]


def test_render_says_that_a_secret_is_set() -> None:
    assert 'dsn = "(hidden)"' in render(load(None, {"HOMEROOM_DATABASE__DSN": DSN}, {}))
    assert 'dsn = ""' in render(Settings())


@pytest.mark.parametrize(
    "url", ["https://ops:hunter2@school.example", "https://hunter2@school.example/a", "x://a:hunter2@"]
)
def test_credentials_in_a_url_are_printed_nowhere(url: str) -> None:
    settings = structs.replace(Settings(), server=structs.replace(Settings().server, public_url=url))
    assert "hunter2" not in render(settings)
    with pytest.raises(BadSetting) as refused:
        load(None, {"HOMEROOM_ROOMS__DAILY_API_URL": f"ftp{url}"}, {})
    assert "hunter2" not in str(refused.value)
    assert "(hidden)@" in str(refused.value)
