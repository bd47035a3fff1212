"""The command line, one file per command. It never computes: a command reads its options, calls
a room, and prints.

Nothing heavy is imported at the top: ``--help`` must answer at once.
"""

from __future__ import annotations

import shlex
import sys
import warnings

import typer

from dakit.cli import (
    bench,
    check,
    check_plugin,
    compare,
    components,
    curve,
    doctor,
    export,
    init,
    new,
    plan,
    plugins,
    predict,
    prepare,
    recipes,
    report,
    run,
    schema,
    translate,
    verify,
    weights,
)
from dakit.errors import DakitError

app = typer.Typer(
    help="Image domain adaptation with few labelled target images: recipes of plugins.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich doubles the time
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("init")(init.init)
app.add_typer(prepare.group, name="prepare")
app.command("doctor")(doctor.doctor)
app.command("weights")(weights.weights)
app.command("run")(run.run)
app.command("curve")(curve.curve)
app.command("plan")(plan.plan)
app.command("predict")(predict.predict)
app.command("translate")(translate.translate)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("verify")(verify.verify)
app.command("check")(check.check)
app.command("list")(components.list_)
app.command("show")(components.show)
app.command("new")(new.new)
app.command("check-plugin")(check_plugin.check_plugin)
app.command("bench")(bench.bench)
app.command("plugins")(plugins.plugins)
app.command("schema")(schema.schema)
app.command("recipes")(recipes.recipes)


def main() -> None:
    """Run the command line; a user's mistake, or a file or disk that cannot be used, ends in one message and exit
    code 2, a signal in 128 + its number.
    """
    from dakit import processes
    from dakit.training.stopping import Stopped, signals

    warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # Pillow's; such an image is refused, and named
    who = f"dakit, process {processes.rank()} of {processes.count()}" if processes.count() > 1 else "dakit"
    try:
        with signals():
            app()
    except DakitError as error:
        typer.echo(f"{who}: {error}", err=True)
        processes.leave(well=False)
        raise SystemExit(2) from None
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"{who}: {error.filename}: cannot be read or written: {error.strerror}", err=True)
        processes.leave(well=False)
        raise SystemExit(2) from None
    except Stopped as stopped:
        again = _again(sys.argv[1:]) if processes.count() == 1 else "the same command, without --fresh"
        typer.echo(f"{who}: stopped by {stopped}; to go on: {again}", err=True)
        raise SystemExit(128 + stopped.number) from None


def _again(arguments: list[str]) -> str:
    """The command that goes on; ``--fresh`` would throw away what there is to go on from."""
    command, rest = ["dakit"], iter(arguments)
    for argument in rest:
        if argument == "--fresh":
            next(rest, None)
        elif not argument.startswith("--fresh="):
            command.append(argument)
    return shlex.join(command)
