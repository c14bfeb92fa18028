"""A TOML file whose errors name file, line, what was found, what was expected, and what to do."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lsemvae.ecg.errors import FormatError

_HEADER: Final = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")


def read_toml(path: Path) -> TomlTable:
    """Read the whole file as a table; a file that is missing, not UTF-8 or not TOML is refused."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path}: cannot be read ({error}), expected a text file in UTF-8",
            advice="Give the path of a cohort file; docs/how-to/cohorts.md has a full example.",
        ) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FormatError(
            f"{path}: found no TOML ({error}), expected a cohort file",
            advice="Correct the line that is named; docs/how-to/cohorts.md has a full example.",
        ) from error
    return TomlTable(Path(path), values, text)


@dataclass(frozen=True, slots=True)
class TomlTable:
    """One table of a TOML file: `values`, and where it stands (`header`, and which of the tables of that name)."""

    path: Path
    values: Mapping[str, Any]
    text: str = field(repr=False)
    header: str = ""
    index: int = 0

    def error(self, key: str, found: str, expected: str, advice: str = "") -> FormatError:
        """Return the error of one key, or of the table where `key` is empty or not there."""
        where = " ".join(filter(None, [f"[{self.header}]" if self.header else "", key]))
        advice = advice or f"Correct line {self.line(key)} of {self.path.name}; docs/how-to/cohorts.md lists the keys."
        return FormatError(
            f"{self.path}, line {self.line(key)}: {where}: found {found}, expected {expected}", advice=advice
        )

    def line(self, key: str = "") -> int:
        """Return the line of a key, else of the table's header, else of the key that holds the table."""
        wanted, count, begin = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]"""), -1, 0
        current = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := _HEADER.match(line):
                current = header[1]
                count += current == self.header
                begin = number if current == self.header and count == self.index else begin
            elif key and current == self.header and (count == self.index or not self.header) and wanted.match(line):
                return number
        parent, _, last = self.header.rpartition(".")
        if begin or not last:
            return begin or 1
        return TomlTable(self.path, {}, self.text, parent).line(last)

    def check_keys(self, known: Collection[str]) -> None:
        """Refuse a key that nobody reads: a misspelt mask would mask nothing."""
        for key in self.values:
            if key not in known:
                raise self.error(key, "an unknown key", f"one of {', '.join(known)}")

    def text_of(self, key: str, default: str | None = None) -> str:
        """Return a text that is not empty; `default` where the key is not there."""
        if key not in self.values:
            if default is None:
                raise self.error(key, "nothing", "a text")
            return default
        value = self.values[key]
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, repr(value), "a text")
        return value.strip()

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, or one text as a list; empty where the key is not there."""
        value = self.values.get(key, [])
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise self.error(key, repr(value), "a list of texts")
        return tuple(item.strip() for item in listed)

    def truth(self, key: str, *, default: bool) -> bool:
        """Return true or false; `default` where the key is not there."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, repr(value), "true or false")
        return value

    def number(self, key: str) -> float:
        """Return a finite number; it has to be there."""
        value = self.values.get(key)
        if not _is_number(value):
            raise self.error(key, "nothing" if value is None else repr(value), "a finite number")
        return float(value)  # type: ignore[arg-type]

    def numbers(self, key: str, *, count: int) -> tuple[float, ...]:
        """Return a list of `count` finite numbers."""
        value = self.values.get(key)
        if not isinstance(value, list) or len(value) != count or not all(map(_is_number, value)):
            raise self.error(key, "nothing" if value is None else repr(value), f"a list of {count} finite numbers")
        return tuple(map(float, value))

    def factors(self, key: str) -> dict[str, float]:
        """Return a table of names and finite numbers."""
        value = self.values.get(key)
        if not isinstance(value, dict) or not value or not all(map(_is_number, value.values())):
            raise self.error(
                key, repr(value), "a table of names and finite numbers, { intercept = 1.5, column = 0.07 }"
            )
        return {name: float(number) for name, number in value.items()}

    def table(self, key: str) -> TomlTable:
        """Return a table inside this one; it has to be there."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.error(key, "nothing" if value is None else repr(value), "a table")
        return TomlTable(self.path, value, self.text, f"{self.header}.{key}".lstrip("."))

    def tables(self, key: str) -> list[TomlTable]:
        """Return the tables of an array `[[key]]`; empty where there is none."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, repr(value), f"tables, each under [[{key}]]")
        return [TomlTable(self.path, item, self.text, key, k) for k, item in enumerate(value)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
