"""The command line, one file per command. Nothing heavy is imported at the top: ``--help`` must answer at once."""

from __future__ import annotations

import typer

from dakit.cli import check, components, export, plan, plugins, predict, recipes, run, translate
from dakit.errors import DakitError

app = typer.Typer(
    help="Image domain adaptation with few labelled target images: recipes of plugins.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich doubles the time
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("predict")(predict.predict)
app.command("translate")(translate.translate)
app.command("export")(export.export)
app.command("check")(check.check)
app.command("list")(components.list_)
app.command("show")(components.show)
app.command("plugins")(plugins.plugins)
app.command("recipes")(recipes.recipes)


def main() -> None:
    """Run the command line; a user's mistake ends in one message and exit code 2."""
    try:
        app()
    except DakitError as error:
        typer.echo(f"dakit: {error}", err=True)
        raise SystemExit(2) from None
