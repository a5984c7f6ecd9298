"""`detector identity`: what is usual for one identity."""

from math import expm1
from pathlib import Path
from typing import Annotated

import typer

from detector.cli.options import Common, OutputFormatOption, command
from detector.errors import UsageError

app = typer.Typer(help="Look at what is usual for an identity.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `show` a command of its own."""


@command(app, "show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="User name, as the API server logs it.")],
    *,
    model: Annotated[Path | None, typer.Option(metavar="DIR", help="Model; that of the settings if left out.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many habits of each kind.")] = 5,
    output_format: OutputFormatOption = None,
    common: Common,
) -> None:
    """Show an identity's habits beside those of its peers.

    Example: detector identity show alice@corp.example --model models/sample/1
    """
    import difflib

    from detector.cli.output import print_rows
    from detector.config import load
    from detector.habits import DIMENSIONS
    from detector.model.store import load as load_model

    directory = model or load(common.config).model.path
    if directory is None:
        raise UsageError("no model: give --model DIR or set model.path")
    baselines = load_model(directory).baselines
    habit = baselines.identities.get(name)
    if habit is None:
        close = difflib.get_close_matches(name, baselines.identities, n=1)
        raise UsageError(f"{name} is not known to {directory}{f'; did you mean {close[0]}?' if close else ''}")
    view = baselines.view(name, habit.peer_group, habit.last_seconds)
    mean, _ = view.usual_rate or (0.0, 0.0)
    rows = [{"habit": "peers", "usual": habit.peer_group, "windows": None, "peers": None}]
    rows.append({"habit": "hours known", "usual": f"{view.windows:.1f}", "windows": None, "peers": None})
    rows.append({"habit": "requests an hour", "usual": f"{expm1(mean):.0f}", "windows": None, "peers": None})
    for dimension in DIMENSIONS:
        common_here = view.peers_usual(dimension, count)
        rows += [
            {
                "habit": dimension,
                "usual": token,
                "windows": f"{view.own(dimension, token):.1f}",
                "peers": "yes" if token in common_here else None,
            }
            for token in view.usual(dimension, count)
        ]
    print_rows(rows, ("habit", "usual", "windows", "peers"), output_format)
