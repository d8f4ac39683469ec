"""`python -m benchmarks`: measure Homeroom and its peers in turn, print tables, and save JSON and a plot."""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report
from benchmarks.cores import CORES, DATABASE_CORES, LOAD_CORES
from benchmarks.load import LoadError, build
from benchmarks.report import Outcome
from benchmarks.scenarios import FULL, QUICK, SCENARIOS, Bench
from benchmarks.servers import SERVERS, Nchan, StartError

RESULTS = Path(__file__).parent / "results"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    usual = [server for server in SERVERS if server != "nchan" or Nchan.nginx()]
    parser.add_argument(
        "--quick", action="store_true", help="shorter and smaller: less accurate figures in about a minute and a half"
    )
    parser.add_argument(
        "--only", type=_some_of(SCENARIOS), help=f"scenarios to run, such as A,B ({','.join(SCENARIOS)})"
    )
    parser.add_argument(
        "--servers", type=_some_of(SERVERS), default=usual, help=f"servers to measure, such as {','.join(SERVERS)}"
    )
    parser.add_argument("--seconds", type=float, help="how many seconds to measure each load")
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often to repeat each scenario; the tables have medians"
    )
    parser.add_argument(
        "--database-cores", choices=DATABASE_CORES, default="both", help="the cores on which PostgreSQL runs"
    )
    parser.add_argument(
        "--python-load", action="store_true", help="use the generator in Python instead of the one in C"
    )
    parser.add_argument("--json", type=Path, help="the file for the results; the plot has the same name")
    return parser


def _some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a parser of comma-separated names, all of which have to be known."""

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}. Choose from {', '.join(known)}.")
        return chosen

    return names


def main() -> int:
    """Run the scenarios. Return 1 if there was any problem."""
    options = parser().parse_args()
    size = QUICK if options.quick else FULL
    if options.seconds:
        size = replace(size, seconds=options.seconds)
    letters = options.only or [letter for letter in SCENARIOS if letter != "G" or not options.quick]
    os.sched_setaffinity(0, LOAD_CORES)
    began = time.monotonic()
    outcomes: dict[str, dict[str, Outcome]] = {}
    with tempfile.TemporaryDirectory(prefix="homeroom-bench-") as directory:
        generator = build(Path(directory), python=options.python_load)
        for letter in letters:
            servers = [server for server in options.servers if server in SCENARIOS[letter].servers]
            outcomes[letter] = {server: Outcome() for server in servers}
            for _ in range(options.rounds):
                for server in servers:
                    progress(f"{letter} {server} …")
                    bench = Bench(generator, size)
                    measure(bench, letter, server, DATABASE_CORES[options.database_cores], outcomes[letter][server])
            progress("")
            print(report.table(letter, outcomes[letter]), flush=True)
    setting = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - began),
        "python": platform.python_version(),
        "machine": f"{platform.platform()}, {len(CORES)} cores",
        "generator": Path(generator[-1]).name,
        "database_cores": options.database_cores,
        "seconds": size.seconds,
        "rounds": options.rounds,
    }
    path = options.json or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(report.as_json(outcomes, setting))
    report.plot(outcomes, path.with_suffix(".png"))
    print(f"{path} and {path.with_suffix('.png').name}, in {setting['took_s']} s")
    return int(any(outcome.problems for servers in outcomes.values() for outcome in servers.values()))


def progress(text: str) -> None:
    """Print the present step to a terminal, in a line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def measure(bench: Bench, letter: str, name: str, database_cores: set[int], outcome: Outcome) -> None:
    """Run one scenario on a new server. A failure is recorded in `outcome`, and the benchmark continues."""
    try:
        with SERVERS[name](database_cores=database_cores) as server:
            try:
                outcome.rounds.append(SCENARIOS[letter].run(bench, server))
            except LoadError as error:
                outcome.problems.append(f"{error}\n{server.log_tail()}")
    except StartError as error:
        outcome.problems.append(str(error))
    outcome.problems += bench.problems
    outcome.doubts += bench.doubts


if __name__ == "__main__":
    sys.exit(main())
