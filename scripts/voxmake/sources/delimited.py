"""CSV (RFC 4180) in which one forgotten quote can't swallow the rows below it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from voxmake.errors import BadInput
from voxmake.sources.checks import file_label
from voxmake.sources.rows import Line, read_lines

MAX_LINES_IN_A_ROW = 20  # a quoted field may hold line breaks, a transcript does not hold many


@dataclass(frozen=True)
class Row:
    number: int  # its first line, from 1
    cells: list[str]
    reason: str = ""  # why the row can't be used, "" when it can
    detail: str = ""


def read_table(file: Path, delimiter: str) -> tuple[list[str], list[Row]]:
    """The header and every row below it."""
    lines = read_lines(file)
    first = lines[0]
    if first.broken:
        raise BadInput(f"{file_label(file)}:{first.number}: {first.broken}: save the file as UTF-8")
    if "\r" in first.text:
        raise BadInput(f"{file_label(file)}: its lines end in a lone carriage return: save it with line feeds")
    header, problem = _parse(first.text, delimiter)
    if problem:
        raise BadInput(f"{file_label(file)}:{first.number}: the header is no CSV: {problem}")
    header = [name.strip() for name in header]
    if len(set(header)) != len(header):
        raise BadInput(f"{file_label(file)}:{first.number}: two columns have the same name: rename one")
    rows, at = [], 1
    while at < len(lines):
        row, used = _row(lines, at, delimiter, len(header))
        rows.append(row)
        at += used
    if not rows:
        raise BadInput(f"{file_label(file)}: it holds a header and no rows: write one row per recording below it")
    return header, rows


def _row(lines: list[Line], at: int, delimiter: str, columns: int) -> tuple[Row, int]:
    """The row that starts at line `at` and the number of lines it takes."""
    line = lines[at]
    if line.broken:
        return Row(line.number, [], "bad_encoding", line.broken), 1
    if "\r" in line.text:
        return Row(line.number, [], "text_control_chars", "a carriage return inside the line"), 1
    cells, problem = _parse(line.text, delimiter)
    if problem:
        cells, used = _several_lines(lines, at, delimiter, columns)
        if not cells:
            return Row(line.number, [], "bad_columns", f"a quote that is not closed: {problem}"), 1
        return Row(line.number, cells), used
    if len(cells) != columns:
        return Row(line.number, cells, "bad_columns", f"{len(cells)} columns, the header has {columns}"), 1
    return Row(line.number, cells), 1


def _several_lines(lines: list[Line], at: int, delimiter: str, columns: int) -> tuple[list[str], int]:
    """A row whose quoted field goes over line breaks, or no cells.

    When a line on the way would be a row by itself, the quote was forgotten rather than meant.
    """
    text = lines[at].text
    for used, line in enumerate(lines[at + 1 : at + MAX_LINES_IN_A_ROW], start=2):
        if line.broken or len(_parse(line.text, delimiter)[0]) == columns:
            break
        text += "\n" + line.text
        cells, problem = _parse(text, delimiter)
        if not problem:
            return (cells, used) if len(cells) == columns else ([], 1)
    return [], 1


def _parse(text: str, delimiter: str) -> tuple[list[str], str]:
    """The cells, or what is wrong."""
    *head, last = text.split("\n")
    lines = [piece + "\n" for piece in head] + [last]  # csv wants the line breaks that stand inside quotes
    try:
        return next(csv.reader(lines, delimiter=delimiter, strict=True)), ""
    except csv.Error as error:
        return [], str(error)
