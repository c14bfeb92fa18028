"""A CSV table that knows the file line of each row, and which cells of each column are filled."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from lsemvae.data.cells import is_missing, number
from lsemvae.ecg.errors import FormatError

T = TypeVar("T")
# Lines or columns that an error lists before it stops: enough to see what they share.
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class CsvTable:
    """Rows with the columns that are wanted; `filled` and `numeric` speak of every column of the file.

    Attributes
    ----------
    rows, lines
        One dict of cells per recording, and the line of the file on which it ends.
    filled
        For each column bool `[row]`: whether the cell holds something.
    numeric
        Columns whose filled cells are all numbers.
    """

    path: Path
    rows: list[dict[str, str]]
    lines: list[int]
    filled: dict[str, np.ndarray]
    numeric: frozenset[str]

    def error(self, row: int, found: str, expected: str, advice: str) -> FormatError:
        """Return the error of one row."""
        return FormatError(f"{self.path}, line {self.lines[row]}: found {found}, expected {expected}", advice=advice)

    def each(self, read: Callable[[dict[str, str]], T]) -> list[T]:
        """Call `read` on every row; the error names the line of the first cell that it refuses, and where the others are."""
        values: list[T] = []
        errors: list[tuple[int, FormatError]] = []
        for k, row in enumerate(self.rows):
            try:
                values.append(read(row))
            except FormatError as error:
                errors.append((self.lines[k], error))
        if errors:
            line, first = errors[0]
            lines = ", ".join(str(line) for line, _ in errors[:_SHOWN]) + (" ..." if len(errors) > _SHOWN else "")
            more = f"; {len(errors)} such lines: {lines}" if len(errors) > 1 else ""
            raise FormatError(
                f"{self.path}, line {line}: {first.message.removeprefix('?: ')}{more}",
                advice=f"Correct the cell in {self.path.name}, empty it where nothing was measured, "
                "or correct the task in the cohort file.",
            )
        return values


def read_table(path: Path, columns: Sequence[str], *, missing: Sequence[str] = ()) -> CsvTable:
    """Read a CSV in UTF-8; cells that hold one of the texts `missing` become empty.

    Refused: a file that cannot be read, a column that is not there or stands twice, a row with another number of cells.
    """
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if lost := [name for name in columns if name not in header]:
                shown = f"{', '.join(header[:_SHOWN])}{' ...' if len(header) > _SHOWN else ''}"
                raise FormatError(
                    f"{path}, line 1: found the columns {shown}, expected also {', '.join(lost)}",
                    advice="Correct the names in the cohort file, or the header of the table: they must be equal, case included.",
                )
            if twice := [name for name, count in Counter(header).items() if count > 1 and name in columns]:
                raise FormatError(
                    f"{path}, line 1: found the column {twice[0]!r} twice, expected each name once",
                    advice="Rename one of them: nobody can tell which is meant.",
                )
            filled: dict[str, list[bool]] = {name: [] for name in header}
            numeric = set(header)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise FormatError(
                        f"{path}, line {reader.line_num}: found {len(cells)} cells, expected {len(header)} as in the header",
                        advice="The table may be cut off or wrongly quoted: copy it again.",
                    )
                stripped = (cell.strip() for cell in cells)
                row = {name: "" if cell in missing else cell for name, cell in zip(header, stripped, strict=True)}
                for name, has in filled.items():
                    has.append(not is_missing(row, name))
                for name in list(numeric):
                    try:
                        number(row, name)
                    except FormatError:
                        numeric.discard(name)
                rows.append({name: row[name] for name in columns})
                lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(
            f"{path}: cannot be read as CSV in UTF-8 ({error}), expected a table with one row per recording",
            advice="Check the path (csv = ... in the cohort file), or save the table as CSV with UTF-8 encoding.",
        ) from error
    if not rows:
        raise FormatError(
            f"{path}: found a header and 0 recordings, expected at least 1", advice="Give a table with rows."
        )
    return CsvTable(path, rows, lines, {name: np.array(has, bool) for name, has in filled.items()}, frozenset(numeric))
