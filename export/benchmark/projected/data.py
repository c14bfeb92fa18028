"""The figures that projections rest on: counts of this project and published measurements, as they lie beside this file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from export.benchmark.errors import BenchmarkError

CALIBRATION_SCHEMA: Final = "lsemvae-calibration/1"
PUBLISHED_SCHEMA: Final = "lsemvae-published/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where figures come from; None where the source does not say.

    Attributes
    ----------
    machine
        What the figures were taken on, and how.
    """

    title: str
    version: str | None
    machine: str
    url: str | None
    date: str | None

    def to_dict(self) -> dict[str, str | None]:
        """Return the source for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one source; each row is a mapping from column to value."""

    name: str
    source: str
    rows: tuple[Mapping[str, Any], ...]

    def where(self, **wanted: object) -> tuple[Mapping[str, Any], ...]:
        """Return the rows in which the named columns hold the wanted values; none at all is an error."""
        found = tuple(row for row in self.rows if all(row[column] == value for column, value in wanted.items()))
        if not found:
            raise BenchmarkError(f"table {self.name}: found no row with {wanted}, expected at least one")
        return found

    def one(self, **wanted: object) -> Mapping[str, Any]:
        """Return the only row in which the named columns hold the wanted values."""
        found = self.where(**wanted)
        if len(found) != 1:
            raise BenchmarkError(f"table {self.name}: found {len(found)} rows with {wanted}, expected one")
        return found[0]


@dataclass(frozen=True, slots=True)
class Store:
    """One file of figures: its tables and their sources."""

    tables: Mapping[str, Table]
    sources: Mapping[str, Source]

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    def sources_of(self, names: Iterable[str]) -> dict[str, Source]:
        """Return the sources of the named tables by their id."""
        ids = dict.fromkeys(self.tables[name].source for name in names)
        return {source: self.sources[source] for source in ids}


def read_store(text: str, *, schema: str) -> Store:
    """Return the tables of a JSON text.

    Raises
    ------
    BenchmarkError
        The text has another schema, a row has too many or too few cells, or a table names a source that is not there.
    """
    content = json.loads(text)
    if content.get("schema") != schema:
        raise BenchmarkError(f"found figures of schema {content.get('schema')!r}, expected {schema!r}")
    sources = {name: Source(**fields) for name, fields in content["sources"].items()}
    tables = {}
    for name, fields in content["tables"].items():
        columns, source = fields["columns"], fields["source"]
        if source not in sources:
            raise BenchmarkError(f"table {name}: found the source {source!r}, expected one of {', '.join(sources)}")
        if crooked := [row for row in fields["rows"] if len(row) != len(columns)]:
            raise BenchmarkError(f"table {name}: found the row {crooked[0]}, expected {len(columns)} cells: {columns}")
        rows = tuple(MappingProxyType(dict(zip(columns, row, strict=True))) for row in fields["rows"])
        tables[name] = Table(name, source, rows)
    return Store(MappingProxyType(tables), MappingProxyType(sources))


def _packaged(name: str, schema: str) -> Store:
    text = resources.files("export.benchmark.projected").joinpath(name).read_text(encoding="utf-8")
    return read_store(text, schema=schema)


def percent(fraction: float, *, digits: int = 1, signed: bool = False) -> str:
    """Return a fraction as text in percent."""
    return f"{fraction * 100:{'+' if signed else ''}.{digits}f} %"


@cache
def calibration() -> Store:
    """Return the instruction counts of the calibration models."""
    return _packaged("calibration.json", CALIBRATION_SCHEMA)


@cache
def published() -> Store:
    """Return the published measurements."""
    return _packaged("published.json", PUBLISHED_SCHEMA)
