"""The table for spreadsheets runs nothing that people have put into their names."""

import csv
import io

import pytest

from server.v1.attendance import cell

SIGNS = "=+-@＝＋－＠"


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("before", ["", "Ann;", "Ann,", "Ann\t", "Ann\n", "Ann\r", "Ann\r\n", ";", ";;", "\t\t", "\n;"])
def test_no_cell_begins_with_a_formula_whatever_the_separator(sign: str, before: str) -> None:
    printed = cell(f"{before}{sign}cmd()")
    text = io.StringIO(newline="")
    csv.writer(text).writerow([printed])
    for separator in ";,\t":
        for row in csv.reader(io.StringIO(text.getvalue(), newline=""), delimiter=separator):
            for inner in [*row, *(part for value in row for part in value.splitlines())]:
                assert not inner.strip('"').startswith(tuple(SIGNS)), (inner, separator)


@pytest.mark.parametrize("name", ["Ann", "Anne-Marie", "a=b", "x+y", "me@example.org", ""])
def test_names_are_printed_as_they_are(name: str) -> None:
    assert cell(name) == name
