"""``green-router settings``: every setting that is declared, as a text and as a document. That the
one in docs/ is this one is in processes/test_documents.py."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from green_router.commands import main
from green_router.commands.options import ROWS
from green_router.settings import SERVICE, SETTINGS


def said(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["settings", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_there_is_something_to_show() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize("name", ROWS)
def test_each_is_shown_with_what_it_may_be(name: str) -> None:
    row, lines = ROWS[name], said().splitlines()
    heads = [line for line in lines if line.split("  ")[0] == " ".join([name, *row.flags])]
    assert heads == [f"{' '.join([name, *row.flags])}  {row.shown()}; {row.rule}"]
    below = lines[lines.index(heads[0]) + 1 :]
    doc = []
    for line in below:
        if not line.startswith("    "):
            break
        doc.append(line.strip())
    assert " ".join(doc) == " ".join(row.doc.split())  # no name of an option is parted


def test_lines_fit_in_a_terminal() -> None:
    assert max(len(line) for line in said().splitlines() if line.startswith("    ")) <= 100


def cells(line: str) -> list[str]:
    """Of a row of a table in Markdown."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_document_has_each_once_in_a_row_of_four_cells() -> None:
    rows = [cells(line) for line in said("--markdown").splitlines() if line.startswith("| `")]
    assert {len(row) for row in rows} == {4}
    names = [re.findall(r"`([^`]+)`", row[0])[0] for row in rows]
    assert sorted(names) == sorted(ROWS)
    assert all(all(row) for row in rows), "no cell is empty"


def test_the_document_has_the_services_apart_from_the_servers() -> None:
    service, _, server = said("--markdown").partition("## The server")
    for rows, text in ((SERVICE, service), (SETTINGS, server)):
        for name in rows.keys() & ROWS.keys():
            assert f"\n| `{name}`" in text, name


def test_no_table_is_broken_by_what_stands_in_it() -> None:
    """In Markdown a bar ends a cell, also within a marker."""
    assert not [
        line
        for line in said("--markdown").splitlines()
        if line.startswith("| ") and len(cells(line)) != 4
    ]


def test_it_takes_no_argument() -> None:
    assert CliRunner().invoke(main, ["settings", "grace"]).exit_code == 2
