"""Print the results as a table, as JSON and as a plot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import matplotlib as mpl
import msgspec
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.scenarios import SCENARIOS, Column, Figures

US = "homeroom"


@dataclass
class Outcome:
    """The figures of one server in one scenario, for each round."""

    rounds: list[Figures] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def figures(self) -> Figures:
        """The median of each figure over the rounds."""
        return {key: median(figures[key] for figures in self.rounds) for key in (self.rounds or [{}])[0]}


Outcomes = Mapping[str, Mapping[str, Outcome]]
"""Outcomes by scenario and server."""


def ratios(column: Column, outcomes: Mapping[str, Outcome]) -> dict[str, float]:
    """Return by which factor Homeroom is better than each peer: 2 is twice the rate, or half the cost."""
    ours = outcomes[US].figures.get(column.key) if US in outcomes else None
    factors = {}
    for server, outcome in outcomes.items():
        peer = outcome.figures.get(column.key)
        if column.better and server != US and ours and peer:
            factors[server] = ours / peer if column.better == "more" else peer / ours
    return factors


def table(letter: str, outcomes: Mapping[str, Outcome]) -> str:
    """Return the table of a scenario: a line for each server, then the factors of `ratios`."""
    scenario = SCENARIOS[letter]
    columns = [
        column for column in scenario.columns if any(column.key in outcome.figures for outcome in outcomes.values())
    ]
    lines = [["", *(column.title for column in columns)]]
    for server, outcome in outcomes.items():
        figures = outcome.figures
        lines.append([server, *(number(figures[column.key]) if figures else "" for column in columns)])
    compared = [ratios(column, outcomes) for column in columns]
    for server in outcomes:
        if any(server in column for column in compared):
            cells = (f"{column[server]:.1f} ×" if server in column else "" for column in compared)
            lines.append([f"{US} : {server}", *cells])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    text = [
        "  "
        + line[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    ]
    text += [f"  ! {server}: {problem}" for server, outcome in outcomes.items() for problem in outcome.problems]
    text += [f"  ~ {server}: {doubt}" for server, outcome in outcomes.items() for doubt in outcome.doubts]
    return "\n".join([f"{letter}  {scenario.title}", *text, ""])


def number(value: float) -> str:
    """Return a figure as text with at least three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def as_json(outcomes: Outcomes, setting: Mapping[str, object]) -> bytes:
    """Encode the outcomes and the setting of a run as JSON."""
    scenarios = {
        letter: {
            "title": SCENARIOS[letter].title,
            "servers": {
                server: {
                    "figures": outcome.figures,
                    "rounds": outcome.rounds,
                    "problems": outcome.problems,
                    "doubts": outcome.doubts,
                }
                for server, outcome in servers.items()
            },
            "homeroom_compared": {
                column.key: found for column in SCENARIOS[letter].columns if (found := ratios(column, servers))
            },
        }
        for letter, servers in outcomes.items()
    }
    return msgspec.json.format(msgspec.json.encode({"setting": setting, "scenarios": scenarios}), indent=1)


def plot(outcomes: Outcomes, path: Path) -> None:
    """Plot the first compared figure of each scenario, and the growth of costs."""
    mpl.use("agg")
    measured = {
        letter: {server: outcome.figures for server, outcome in servers.items() if outcome.rounds}
        for letter, servers in outcomes.items()
        if letter == "G" or SCENARIOS[letter].columns[0].better
    }
    drawn = {letter: servers for letter, servers in measured.items() if servers}
    if not drawn:
        return
    wide, high = min(len(drawn), 3), -(-len(drawn) // 3)
    figure, grid = plt.subplots(high, wide, figsize=(4.2 * wide, 3.6 * high), squeeze=False, layout="constrained")
    for axis in grid.flat[len(drawn) :]:
        axis.axis("off")
    for axis, (letter, servers) in zip(grid.flat, drawn.items(), strict=False):
        axis.spines[["top", "right"]].set_visible(False)
        if letter == "G":
            _curves(axis, servers[US])
        else:
            _bars(axis, letter, servers)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(axis: Axes, letter: str, servers: Mapping[str, Figures]) -> None:
    column = SCENARIOS[letter].columns[0]
    values = [figures[column.key] for figures in servers.values()]
    bars = axis.bar(list(servers), values, color=["#2563eb" if server == US else "#9ca3af" for server in servers])
    axis.bar_label(bars, labels=[number(value) for value in values], fontsize=8)
    axis.set_title(f"{letter}  {column.title} ({column.better} is better)", fontsize=10)
    axis.tick_params(axis="x", rotation=30, labelsize=8)
    axis.set_yticks([])


def _curves(axis: Axes, figures: Figures) -> None:
    for of in ("subscribers", "rooms"):
        points = {int(key.rpartition("_")[2]): value for key, value in figures.items() if key.startswith(of)}
        axis.plot(list(points), list(points.values()), marker="o", label=of)
    axis.set(xscale="log", yscale="log")
    axis.set_title("G  CPU µs of a delivery, by number of", fontsize=10)
    axis.legend(frameon=False)
