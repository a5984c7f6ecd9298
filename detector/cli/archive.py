"""Archived logs as `model` commands read them: the options that say which, and their activities batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.activity import Activity
    from detector.config import Settings

Paths: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="PATH", help="Files, folders, globs, or - for stdin; plain, .gz or .zst.")
]
FormatName: TypeAlias = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="auto, or the name of a format.")
]
TrustedProxies: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="CIDR", help="A proxy whose X-Forwarded-For is believed; repeatable.")
]
Since: TypeAlias = Annotated[str | None, typer.Option(metavar="TIME", help="Only events from this time on, RFC 3339.")]
Until: TypeAlias = Annotated[str | None, typer.Option(metavar="TIME", help="Only events before this time, RFC 3339.")]


@dataclass(frozen=True, slots=True)
class Archive:
    """Which logs to read, and how, as given on the command line."""

    paths: list[str]
    format_name: str | None
    trusted_proxy: list[str] | None
    since: str | None
    until: str | None

    def read(self, settings: "Settings") -> "Iterator[tuple[list[Activity], datetime | None]]":
        """The activities, batch by batch, with the event time that is reached after each."""
        from detector.activity import activities
        from detector.address import Locator
        from detector.cli.replay import network_of, time_of
        from detector.formats import Format
        from detector.normalise import normalise
        from detector.sources.file import FileSource, find_files
        from detector.watermark import Watermark

        decode = Format(self.format_name or settings.format).decode
        keep = partial(normalise, since=time_of("--since", self.since), until=time_of("--until", self.until))
        locator = Locator([*settings.trusted_proxies, *(network_of(text) for text in self.trusted_proxy or [])])
        watermark = Watermark()
        files = find_files(self.paths)
        if not files:
            raise UsageError("no files to read")
        for batch in FileSource(files):
            events = keep(decode(batch.values, batch.positions).events)
            stream = batch.positions[0].stream if batch.positions else ""
            yield activities(events, locator.locate), watermark.update(stream, events, ())
