"""The command line. Nothing heavy is imported at the top: ``dakit --help`` must answer at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dakit.errors import DakitError

if TYPE_CHECKING:
    from rich.console import Console

    from dakit.recipe import Recipe

app = typer.Typer(
    help="Image domain adaptation with few labelled target images: recipes of plugins.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich doubles the time
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped recipe's name.")]
Profile = Annotated[str | None, typer.Option("--profile", metavar="P", help="A set of overrides, such as demo.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one value.")]
PluginFiles = Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE", help="A plugin in a file.")]
Variants = Annotated[list[str] | None, typer.Option("--variant", metavar="V", help="Only this row; repeatable.")]
AllVariants = Annotated[bool, typer.Option("--all-variants", help="Every row of the recipe.")]
Until = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
Fold = Annotated[int | None, typer.Option("--fold", metavar="K", help="Only fold K, from 0.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of results.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines on standard output.")]


def main() -> None:
    """Run the command line; a user's mistake ends in one message and exit code 2."""
    try:
        app()
    except DakitError as error:
        typer.echo(f"dakit: {error}", err=True)
        raise SystemExit(2) from None


def _load(recipe: str, profile: str | None, settings: list[str] | None, plugins: list[Path] | None) -> Recipe:
    from dakit.recipe import load_recipe

    return load_recipe(recipe, profile=profile, overrides=settings or (), plugins=plugins or ())


def _rows(recipe: Recipe, variants: list[str] | None, everything: bool) -> list[str]:
    if variants and everything:
        raise DakitError("--variant and --all-variants exclude each other")
    return list(recipe.plans) if everything else list(variants or recipe.rows)


@app.command()
def run(
    recipe: RecipeArgument,
    variant: Variants = None,
    all_variants: AllVariants = False,
    profile: Profile = None,
    set_: Settings = None,
    until: Until = None,
    fold: Fold = None,
    fresh: Annotated[
        list[str] | None, typer.Option("--fresh", metavar="STAGE", help="Make this stage anew; repeatable.")
    ] = None,
    out: Out = None,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Run a recipe: every stage that is not there yet, then the table."""
    from dakit import pipeline
    from dakit.progress import TerminalProgress

    loaded = _load(recipe, profile, set_, plugin)
    console = _console(stderr=as_json)
    outcome = pipeline.run(
        loaded,
        rows=_rows(loaded, variant, all_variants),
        out=out,
        until=until,
        fold=fold,
        fresh=fresh or (),
        observers=[TerminalProgress(console)],
    )
    if as_json:
        typer.echo(json.dumps(pipeline.results_json(loaded, outcome), indent=1))
        return
    if outcome.made == 0:
        console.print(f"nothing to do: all {outcome.reused} stage results were already made")
    else:
        console.print(f"made {outcome.made} stage results, reused {outcome.reused}")
    if outcome.summaries:
        from dakit.report.tables import ladder

        console.print(ladder(outcome.summaries, loaded.published, loaded.title))
        missing = [row for row in loaded.plans if row not in outcome.summaries]
        if missing:
            console.print(f"rows not run: {', '.join(missing)} (--all-variants, or --variant NAME)")
        console.print(f"table, JSON and pictures: {outcome.folder}")


@app.command()
def plan(
    recipe: RecipeArgument,
    variant: Variants = None,
    all_variants: AllVariants = False,
    profile: Profile = None,
    set_: Settings = None,
    until: Until = None,
    fold: Fold = None,
    out: Out = None,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Show what `run` would do: which stages run, which are cached, and which key changed."""
    from dakit import pipeline

    loaded = _load(recipe, profile, set_, plugin)
    steps = pipeline.plan(loaded, rows=_rows(loaded, variant, all_variants), out=out, until=until, fold=fold)
    rows = [
        {
            "stage": s.stage.name,
            "for": s.row,
            "seed": s.seed,
            "fold": s.fold,
            "key": s.key[:16],
            "state": state,
        }
        for s, state in steps
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    _table(
        [f"{len(rows)} stage results", "first for", "seed", "fold", "key", "state"],
        [list(r.values()) for r in rows],
    )


@app.command()
def check(
    recipe: RecipeArgument,
    profile: Profile = None,
    set_: Settings = None,
    plugin: PluginFiles = None,
) -> None:
    """Check a recipe, with all its variants and profiles, and the data where it is there."""
    from dakit import pipeline
    from dakit.errors import RecipeError

    loaded = _load(recipe, profile, set_, plugin)
    problems: dict[str, None] = {}
    for name in loaded.profiles if profile is None else ():
        try:
            _load(recipe, name, set_, plugin)
        except RecipeError as error:
            problems |= {f"(profile {name}) {problem}": None for problem in error.problems}
    if problems:
        raise RecipeError(problems)
    data = pipeline.check_data(loaded)
    typer.echo(f"{loaded.file}: good; rows: {', '.join(loaded.plans)}; profiles: {', '.join(loaded.profiles)}")
    typer.echo(data)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="Such as translator or stage.")] = None,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """List what recipes may name, of one kind or all."""
    from dakit.plugins import find_plugins
    from dakit.registry import KINDS, Registry

    registry = Registry(find_plugins(plugin or ()))
    entries = [entry for name in ([kind] if kind else KINDS) for entry in registry.entries(name)]
    rows = [[e.kind, e.name, e.distribution, _first_line(e.factory)] for e in entries]
    if as_json:
        typer.echo(json.dumps([dict(zip(("kind", "name", "from", "what"), row, strict=True)) for row in rows]))
        return
    _table(["kind", "name", "from", "what"], rows)


@app.command()
def show(
    kind: Annotated[str, typer.Argument(help="Such as translator or dataset.")],
    name: Annotated[str, typer.Argument(help="As `dakit list KIND` prints it.")],
    plugin: PluginFiles = None,
) -> None:
    """Show one component: where it comes from, what it does, its parameters and defaults."""
    import inspect

    from dakit.plugins import find_plugins
    from dakit.recipe import describe_parameters, stage_inputs, stage_outputs
    from dakit.registry import KINDS, Registry

    entry = Registry(find_plugins(plugin or ())).find(kind, name)
    version = getattr(entry.factory, "version", 1)
    typer.echo(f"{entry.kind} {entry.name}, version {version}, from {entry.distribution} ({entry.factory.__module__})")
    typer.echo("\n" + (inspect.getdoc(entry.factory) or "It has no docstring.") + "\n")
    _table(
        ["parameter", "type", "default"],
        [list(r) for r in describe_parameters(entry.factory, KINDS[kind].given)],
    )
    if kind == "stage":
        for title, found in (
            ("input", stage_inputs(entry.factory)),
            ("output", stage_outputs(entry.factory)),
        ):
            _table([title, "type"], [[n, _type_name(t)] for n, t in found.items()])


@app.command()
def plugins(plugin: PluginFiles = None, as_json: Json = False) -> None:
    """List the plugins found on this machine: distribution, version, what they offer, state."""
    from dakit.plugins import find_plugins

    rows = [
        [p.distribution, p.name, p.version, " ".join(h.removeprefix("dakit_") for h in p.hooks), p.state]
        for p in find_plugins(plugin or ()).found
    ]
    headings = ["distribution", "plugin", "version", "offers", "state"]
    if as_json:
        typer.echo(json.dumps([dict(zip(headings, row, strict=True)) for row in rows], indent=1))
        return
    _table(headings, rows)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this one.")] = None,
    copy: Annotated[Path | None, typer.Option("--copy", metavar="FILE", help="Copy NAME to FILE.")] = None,
) -> None:
    """List the shipped recipes, print one, or copy one out."""
    from dakit.files import shipped_recipes, write_text

    shipped = shipped_recipes()
    if name is None:
        if copy is not None:
            raise DakitError("--copy needs the NAME of a shipped recipe")
        _table(["recipe", "what it is"], [[n, _first_comment(path)] for n, path in shipped.items()])
        return
    if name not in shipped:
        from dakit.errors import did_you_mean

        raise DakitError(f'there is no shipped recipe "{name}"{did_you_mean(name, shipped)}')
    text = shipped[name].read_text(encoding="utf-8")
    if copy is None:
        typer.echo(text, nl=False)
        return
    target = copy / f"{name}.yaml" if copy.is_dir() else copy
    if target.exists():
        raise DakitError(f"--copy {target}: is there already; nothing was written")
    try:
        write_text(target, text)
    except OSError as error:
        raise DakitError(f"--copy {target}: cannot be written: {error.strerror}") from error
    typer.echo(str(target))


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return next((line.lstrip("# ").rstrip() for line in file if line.startswith("# ")), "")


def _first_line(factory: Any) -> str:
    return ((factory.__doc__ or "").strip().splitlines() or [""])[0]


def _type_name(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", None) or annotation).replace("dakit.interfaces.", "")


def _console(stderr: bool = False) -> Console:
    """A console that does not fold tables when the output goes to a file or a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200)


def _table(headings: list[str], rows: list[list[Any]]) -> None:
    from rich.table import Table

    table = Table(*headings, box=None, header_style="bold")
    for row in rows:
        table.add_row(*(str(cell).replace("[", r"\[") for cell in row))
    _console().print(table)
