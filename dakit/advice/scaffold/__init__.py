"""``dakit new``: a complete distribution with one component, its tests and a recipe, to be changed into one's own.

What is written are the templates beside this file: those of every kind, and three of the kind itself.
"""

from __future__ import annotations

import keyword
import re
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import dakit
from dakit import interfaces
from dakit.errors import DakitError, did_you_mean
from dakit.hookspecs import INTERFACE_VERSION
from dakit.registry import KINDS, Registry

_NAME = r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*"
_LONGEST = 32  # longer ones would not fit into the lines of the templates


def write(kind: str, name: str, folder: Path, registry: Registry) -> list[Path]:
    """Write the distribution ``name`` with a component of a kind into ``folder``, whole or not at all.

    The package and the component are called like the distribution, in lower case with "_" for "-".

    Args:
        kind: one of :data:`dakit.registry.KINDS`.
        name: letters, digits, "-" and "_".
        folder: is made; its parent is there.
        registry: whose components cannot be called the same.

    Returns:
        The files, below ``folder``.

    Raises:
        DakitError: the kind is unknown, the name cannot be one or is taken, or ``folder`` is there or cannot be made.
    """
    if kind not in KINDS:
        raise DakitError(f'there is no kind "{kind}"{did_you_mean(kind, KINDS)}')
    _check_name(name)
    package = name.lower().replace("-", "_")
    class_name = "".join(part[:1].upper() + part[1:] for part in re.split("[-_]", name))
    taken = [entry.distribution for entry in registry.entries(kind) if entry.name == package]
    if taken:
        raise DakitError(f'{name}: there is a {kind} "{package}" already, from {taken[0]}; choose another name')
    if package in sys.stdlib_module_names or keyword.iskeyword(package) or find_spec(package):
        raise DakitError(f'{name}: its package would be "{package}", which Python has already; choose another name')
    if hasattr(interfaces, class_name):
        raise DakitError(f'{name}: its class would be "{class_name}", which dakit has already; choose another name')
    texts = _render(
        name=name,
        package=package,
        class_name=class_name,
        kind=kind,
        hook=KINDS[kind].hook,
        dakit_version=dakit.__version__,
        interface_version=INTERFACE_VERSION,
    )
    try:
        if folder.exists():
            raise DakitError(f"{folder}: is there already; nothing was written")
        if not folder.parent.is_dir():
            raise DakitError(f"{folder}: there is no folder {folder.parent}")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as part:
            for path, text in texts.items():
                file = Path(part, "made", path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            Path(part, "made").rename(folder)
    except OSError as error:
        raise DakitError(f"{folder}: cannot be written: {error.strerror}") from error
    return [folder / path for path in texts]


def _check_name(name: str) -> None:
    """Refuse what cannot be the name of a distribution and of a package, and say what would do."""
    if re.fullmatch(_NAME, name) and len(name) <= _LONGEST:
        return
    near = re.sub("[^A-Za-z0-9]+", "-", re.sub("^[^A-Za-z]+", "", name))[:_LONGEST].strip("-")
    raise DakitError(
        f'"{name}" cannot be a name: expected at most {_LONGEST} letters, digits, and single "-" or "_" between them, '
        f"such as {near or 'my-method'}"
    )


def _render(**given: object) -> dict[str, str]:
    """The text of every file of the distribution, by its path in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    house = Environment(
        loader=PackageLoader("dakit.advice.scaffold"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kind, package = given["kind"], given["package"]
    places = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        f"src/{package}/__init__.py": "init.py",
        f"src/{package}/hooks.py": "hooks.py",
        f"src/{package}/{package}.py": f"{kind}/component.py",
        f"tests/test_{package}.py": f"{kind}/test.py",
        f"recipes/{package}.yaml": f"{kind}/recipe.yaml",
    }
    return {path: house.get_template(f"{template}.jinja").render(**given) for path, template in places.items()}
