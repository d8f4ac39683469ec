"""The command line: `homeroom serve | demo | migrate | token | replay | check-config`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import server
from server.bootstrap import logging
from server.settings.loader import load, render
from server.settings.sections import BadSetting, Settings
from storage.errors import StorageError

DEFAULT_CONFIG = Path("config.toml")
TRIAL_KEY = "YSBzZWNyZXQgdG8gdHJ5IGl0IHdpdGgsIG9uIHRoaXMgbWFjaGluZQ=="
"""The default key with which `fake-daily` signs webhooks. It is public, and of no use anywhere else."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="homeroom", description="A server for live sessions.")
    parser.add_argument("--version", action="version", version=f"homeroom {server.VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument("--config", type=Path, help="the settings file (default: config.toml, if it exists)")
    settings.add_argument("--data", help="the data directory, instead of data.dir")
    address = argparse.ArgumentParser(add_help=False)
    address.add_argument("--host", help="the address to listen on, instead of server.host")
    address.add_argument("--port", help="the port to listen on, instead of server.port; 0 takes a free one")
    add = commands.add_parser
    add("serve", parents=[settings, address], help="run the server")
    add("demo", parents=[settings, address], help="run the server with a class that plays itself")
    add("migrate", parents=[settings], help="apply the migrations of the database and exit")
    token = add("token", parents=[settings], help="print an access token of an account")
    token.add_argument("--user", required=True, help="the account's id or email address")
    token.add_argument("--ttl", type=int, default=1800, help="its lifetime in seconds (default: %(default)s)")
    replay = add("replay", parents=[settings], help="print a session's timeline")
    replay.add_argument("session", help="the session's id, number, name or code")
    replay.add_argument("--speed", type=speed, help="print at the original pace times this factor (0.25 to 100)")
    replay.add_argument("--from", type=int, default=1, dest="first", metavar="SEQ", help="start at this row")
    replay.add_argument("--follow", action="store_true", help="continue with new rows until the session ends")
    daily = add("fake-daily", parents=[settings], help='run a stand-in for Daily.co, to try rooms.provider = "daily"')
    daily.add_argument(
        "--port", type=int, default=8081, help="the port to listen on (default: %(default)s)", dest="daily_port"
    )
    daily.add_argument("--key", default="a-key-to-try-with", help="the API key to accept (default: %(default)s)")
    daily.add_argument("--secret", default=TRIAL_KEY, help="the secret that signs webhooks, in base64")
    daily.add_argument(
        "--webhook", default="http://127.0.0.1:8080/v1/webhooks/daily", help="where webhooks go (default: %(default)s)"
    )
    add("check-config", parents=[settings, address], help="print the settings in effect, with secrets hidden")
    return parser


def speed(text: str) -> float:
    """Return a factor of speed. Raise ArgumentTypeError if it is out of range."""
    value = float(text)
    if not 0.25 <= value <= 100:
        raise argparse.ArgumentTypeError("must be from 0.25 to 100")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Return the exit status: 0 for success, 1 for an error, 2 for wrong usage, 130 after Ctrl-C."""
    options = build_parser().parse_args(arguments)
    try:
        settings = load(
            config_path(options.config),
            os.environ,
            {
                "server.host": getattr(options, "host", None),
                "server.port": getattr(options, "port", None),
                "data.dir": options.data,
            },
        )
        logging.set_up(settings.server.log_level)
        return COMMANDS[options.command](settings, options)
    except (BadSetting, StorageError) as error:
        print(f"homeroom: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def config_path(given: Path | None) -> Path | None:
    """Return the settings file; None if none is given and there is no default one."""
    return given or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)


def say(text: str) -> None:
    """Print a line for the operator."""
    print(f"homeroom: {text}", flush=True)


def run(work: Coroutine[None, None, int | None]) -> int:
    """Run a coroutine, on uvloop except on Windows. Return its exit status."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work) or 0


def serve(settings: Settings, options: argparse.Namespace) -> int:
    """Run `homeroom serve`. Each command imports what it needs, so that the others start fast."""
    from server.bootstrap.lifecycle import serve

    return run(serve(settings, say))


def demo(settings: Settings, options: argparse.Namespace) -> int:
    """Run `homeroom demo`."""
    from server.demo import demo

    return run(demo(settings, say))


def migrate(settings: Settings, options: argparse.Namespace) -> int:
    """Run `homeroom migrate`."""
    from server.bootstrap.offline_commands import migrate

    return run(migrate(settings, say))


def token(settings: Settings, options: argparse.Namespace) -> int:
    """Run `homeroom token`."""
    from server.bootstrap.offline_commands import token

    return run(token(settings, options.user, options.ttl))


def replay(settings: Settings, options: argparse.Namespace) -> int:
    """Run `homeroom replay`."""
    from server.bootstrap.offline_commands import replay

    return run(replay(settings, options.session, first=options.first, speed=options.speed, follow=options.follow))


def fake_daily(settings: Settings, options: argparse.Namespace) -> int:
    """Run `homeroom fake-daily`."""
    from server.demo.daily import serve

    return run(serve(say, "127.0.0.1", options.daily_port, options.key, options.secret, options.webhook))


def check_config(settings: Settings, options: argparse.Namespace) -> int:
    """Run `homeroom check-config`."""
    from server.api import mounting
    from server.dialects import tables
    from server.v1.table import API

    mounting.check((API, *tables(settings)), [])
    print(render(settings), end="")
    return 0


COMMANDS = {
    "serve": serve,
    "demo": demo,
    "migrate": migrate,
    "token": token,
    "replay": replay,
    "fake-daily": fake_daily,
    "check-config": check_config,
}

if __name__ == "__main__":
    sys.exit(main())
