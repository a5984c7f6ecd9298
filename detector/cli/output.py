"""Lists on stdout: a table for people, JSON or CSV for programs; and safe text for a terminal."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from detector.cli.options import OutputFormat
from detector.errors import UsageError

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], output_format: OutputFormat | None) -> None:
    """Write rows in the format asked for, or in the one that fits where stdout leads."""
    chosen = output_format or (OutputFormat.TABLE if sys.stdout.isatty() else OutputFormat.NDJSON)
    match chosen:
        case OutputFormat.TABLE:
            table = Table(*columns, box=None, header_style="bold")
            for row in rows:
                table.add_row(*(Text(_cell(row.get(column))) for column in columns))
            Console(soft_wrap=True).print(table)
        case OutputFormat.JSON:
            sys.stdout.write(json.dumps(list(rows), indent=2) + "\n")
        case OutputFormat.NDJSON:
            sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
        case OutputFormat.CSV:
            writer = csv.writer(sys.stdout)
            writer.writerow(columns)
            writer.writerows([_csv_cell(row.get(column)) for column in columns] for row in rows)


def write_text(path: Path, text: str) -> None:
    """Write a file that an option names; raises UsageError if that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _csv_cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = _cell(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
