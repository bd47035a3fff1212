"""``dakit init``."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dakit.cli.common import Json, Overwrite, one_of, table
from dakit.errors import DakitError

if TYPE_CHECKING:
    from dakit.advice.starter import Found

_Place = "folder of class folders, or CSV file (path,label,split,group)"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds the domains' folders or CSV files.")],
    source: Annotated[Path | None, typer.Option("--source", metavar="PATH", help=f"Many labels: {_Place}.")] = None,
    auxiliary: Annotated[
        str | None, typer.Option("--auxiliary", metavar="PATH", help="No labels: any folder, CSV file, or none.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--target", metavar="PATH", help=f"Few labels: {_Place}.")] = None,
    test: Annotated[
        str | None,
        typer.Option("--test", metavar="PART", help="Published part of the target to test on, or each, or none."),
    ] = None,
    outside: Annotated[
        bool, typer.Option("--outside", help="A CSV file's paths may be absolute or lead out of its folder.")
    ] = False,
    groups: Annotated[
        str | None,
        typer.Option("--groups", metavar="REGEX", help="Captures the person in a target file's name; or none."),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="ROLE=BLACK,WHITE", help="Values in files of more than 8 bits; repeatable."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="A,B", help="Which, and their order; else those of both.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", metavar="N", min=16, help="Side of the images in pixels.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="ARCH", help="A pretrained network of timm; needs --weights.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Its weights, under timm's names.")
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="D", help="Sizes for auto, cpu or gpu.")] = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The recipe; else <DIR's name>.yaml.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Look at your images and write a recipe for them, in sizes that fit them and this machine.

    What cannot be known is asked; without a terminal the missing flags are named instead (exit code 2).
    """  # fmt: skip
    if not folder.is_dir():
        raise DakitError(f"{folder}: there is no such folder")
    name = re.sub(r"[^\w-]", "_", out.stem if out else folder.resolve().name, flags=re.ASCII)
    name = name if re.match(r"[A-Za-z_]", name) else f"data_{name}"
    out = out or Path(f"{name}.yaml")
    if out.exists() and not overwrite:
        raise DakitError(f"{out}: is there already; nothing was written (--overwrite replaces it, --out names another)")
    if not out.parent.is_dir():
        raise DakitError(f"--out {out}: there is no folder {out.parent}")
    one_of("--device", device, ("auto", "cpu", "gpu"))
    if (backbone is None) != (weights is None):
        raise DakitError("--backbone ARCH and --weights FILE belong together: the network, and what it starts from")
    if weights is not None and not weights.is_file():
        raise DakitError(f"--weights {weights}: there is no such file")

    from dakit.advice.starter import choose_size, guess_roles, look, write_recipe
    from dakit.files import write_text
    from dakit.plugins import find_plugins
    from dakit.registry import Registry

    registry = Registry(find_plugins())
    given = {"source": source and str(source), "auxiliary": auxiliary, "target": target and str(target)}
    guesses = guess_roles(folder)
    questions = _Questions()
    places = {
        role: given[role] or questions.ask(f"--{role}", _which(role, folder), [str(p) for p in guesses[role]])
        for role in given
    }
    questions.stop()
    chosen = {role: Path(place) for role, place in places.items() if not (role == "auxiliary" and place == "none")}
    if len({path.resolve() for path in chosen.values()}) < len(chosen):
        raise DakitError(f"one place cannot be two domains: {', '.join(f'{r} {p}' for r, p in chosen.items())}")
    if outside and not any(path.is_file() for path in chosen.values()):
        raise DakitError("--outside: it is for a CSV file, but no domain is one")
    more: dict[str, dict[str, Any]] = {
        role: {"outside": True} if outside and path.is_file() else {} for role, path in chosen.items()
    }
    domains, problems = {}, []
    stated = dict(_range(stated_range, chosen) for stated_range in ranges or ())
    for role, path in chosen.items():
        try:
            domains[role] = look(role, path, registry, more[role] | stated.get(role, {}))
        except DakitError as error:
            problems.append(str(error))
    if problems:
        raise DakitError("\n".join(problems))
    if not as_json:
        _show(domains)

    if groups and groups != "none" and domains["target"].params["use"] != "image_folder":
        raise DakitError(f'--groups: the images of {chosen["target"]} are grouped by its column "group"')
    groups = groups or _ask_groups(questions, domains["target"])
    test = test or _ask_test(questions, domains["target"])
    names = classes.split(",") if classes else _ask_classes(questions, domains["source"], domains["target"])
    questions.stop()
    names = [name.strip() for name in names]
    if len(names) < 2 or len({*names}) < len(names):
        raise DakitError(f"--classes: expected two or more different names, not {', '.join(names)}")
    for role in ("source", "target"):
        lacking = [name for name in names if name not in domains[role].counts]
        if lacking:
            have = ", ".join(domains[role].counts)
            raise DakitError(f"--classes: {', '.join(lacking)}: not in the {role}; there are: {have}")
        dropped = sorted(set(domains[role].counts) - set(names))
        changed: dict[str, Any] = {"ignore": dropped} if dropped else {}
        known = more[role] | stated.get(role, {})
        if role == "target" and groups != "none":
            changed["group_by"] = groups
        if changed:
            try:
                domains[role] = look(role, chosen[role], registry, changed | known)
            except DakitError as error:
                raise DakitError(f"--groups {groups}: {error}" if "group_by" in changed else str(error)) from error
    memory = _gpu_gigabytes() if device != "cpu" else None
    if device == "gpu" and memory is None:
        memory = 16.0  # of another machine
    side = size or choose_size(domains["target"], memory, pretrained=backbone is not None)
    command = shlex.join(["dakit", "init", *sys.argv[2:]])
    text = write_recipe(
        name, list(domains.values()), names, side, gpu=memory is not None, command=command, tested=test or None,
        backbone=(backbone, str(weights.resolve())) if backbone and weights else None,
    )  # fmt: skip
    try:
        write_text(out, text.replace("THIS_FILE", shlex.quote(str(out))))
    except OSError as error:
        raise DakitError(f"--out {out}: cannot be written: {error.strerror}") from error
    if as_json:
        typer.echo(json.dumps({"recipe": str(out), "size": side, "classes": names,
                               "found": [domain.plain() for domain in domains.values()]}, indent=1))  # fmt: skip
        return
    typer.echo(f"{out}: written; {len(names)} classes at {side} x {side} pixels, "
               f"for {'a GPU' if memory is not None else 'a machine without a GPU'}")  # fmt: skip
    typer.echo(f"next: dakit check {shlex.quote(str(out))}, then dakit run {shlex.quote(str(out))} --profile quick")


def _range(given: str, roles: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """``target=0,4095`` as the role and the parameter of its dataset."""
    role, _, values = given.partition("=")
    try:
        black, white = map(float, values.split(","))
    except ValueError:
        black = white = 0.0
    if role not in roles or black == white:
        raise DakitError(
            f"--range {given}: expected ROLE=BLACK,WHITE with one of {', '.join(roles)}, such as target=0,4095"
        )
    return role, {"range": [black, white]}


class _Questions:
    """Asks on a terminal; elsewhere gathers the flags that are missing."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def ask(self, flag: str, question: str, guesses: list[str]) -> str:
        """The one guess; else an answer, with the first guess as default; else "" and a missing flag."""
        if len(guesses) == 1:
            return guesses[0]
        if sys.stdin.isatty():
            return str(typer.prompt(question, default=guesses[0] if guesses else None))
        self.missing.append(f"{flag}: {question}" + (f" (perhaps {' or '.join(guesses)})" if guesses else ""))
        return ""

    def stop(self) -> None:
        """Name all missing flags at once."""
        if self.missing:
            raise DakitError(
                "these cannot be guessed, and there is no terminal to ask:\n  " + "\n  ".join(self.missing)
            )


def _which(role: str, folder: Path) -> str:
    there = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir() or p.suffix.lower() == ".csv")[:12])
    what = {
        "source": "the domain with many labels",
        "auxiliary": 'images without labels, or "none"',
        "target": "the domain with few labels",
    }
    return f"{role}, {what[role]}: which folder or CSV file? {folder} holds {there or 'neither'}"


def _ask_groups(questions: _Questions, target: Found) -> str:
    from dakit.advice.starter import suggest_groups

    suggested = suggest_groups(target.images) if target.params["use"] == "image_folder" else None
    if suggested is None:
        return "none"
    pattern, count = suggested
    example = target.images.paths[0]
    what = f"folders, such as {example.parent.name}" if "/" in pattern else f"file names, such as {example.name}"
    question = (
        f"the target's {what}, look like {count} people or videos of several images each, "
        'which must not stand on both sides of a split; a regular expression that captures them, or "none"'
    )
    return questions.ask("--groups", question, [pattern, "none"])


def _ask_test(questions: _Questions, target: Found) -> str:
    """The part to test on where the names of the published parts do not say; else ""."""
    from dakit.advice.starter import usual_split
    from dakit.data.parts import part_role

    parts = Counter(target.images.parts or ())
    if len(parts) < 2 or usual_split(target.images):
        return ""
    order = ("test", "val", None, "train")
    guesses = sorted(parts, key=lambda name: (order.index(part_role(name)), name))
    counts = ", ".join(f"{name} ({count} images)" for name, count in sorted(parts.items()))
    question = (
        f"the target's published parts are {counts}, and their names do not say what to test on: the name of one, each "
        "(one after the other) or none (deal the images anew)?"
    )
    return questions.ask("--test", question, guesses)


def _ask_classes(questions: _Questions, source: Found, target: Found) -> list[str]:
    both = [name for name in sorted(source.counts) if name in target.counts]
    if len(both) == len(source.counts) == len(target.counts):
        return both
    only = {f.role: sorted(set(f.counts) - set(both)) for f in (source, target)}
    differ = "; ".join(f"only in the {role}: {', '.join(names)}" for role, names in only.items() if names)
    if len(both) < 2:
        raise DakitError(f"source and target must share at least two classes, by folder name or label; {differ}")
    question = f"the classes differ ({differ}); which to use, separated by commas? The others are left out"
    return questions.ask("--classes", question, [",".join(both), ""]).split(",")


def _gpu_gigabytes() -> float | None:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else None


def _show(domains: dict[str, Found]) -> None:
    rows: list[list[Any]] = []
    for role, domain in domains.items():
        per_class = sorted(domain.counts.values())
        spread = f"{per_class[0]} to {per_class[-1]}" if per_class else "no labels"
        colour = "grey" if domain.grey == 1 else "colour" if domain.grey == 0 else f"{domain.grey:.0%} grey"
        unread = f"{domain.unreadable} of {domain.looked} looked at" if domain.unreadable else "-"
        size = f"{domain.pixels[0]} x {domain.pixels[1]}"
        numbers = [len(domain.images), len(domain.counts) or "-", spread, domain.groups or "-"]
        rows.append([role, domain.path, *numbers, size, colour, unread])
    table(["domain", "place", "images", "classes", "per class", "groups", "median size", "colour", "unreadable"], rows)
    for role, domain in domains.items():
        if domain.unlabelled:
            typer.echo(f"warning: {role}: {domain.unlabelled}")
        if domain.passed_over:
            typer.echo(
                f"warning: {role}: passed over, as they are no images by their suffix or place: {domain.passed_over}"
            )
