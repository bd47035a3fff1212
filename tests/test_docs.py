"""Every block of code and every command in README.md and docs/ is run, and what it prints is compared.

Each page is run from top to bottom in an empty folder that has the shipped ``recipes`` in it:

- a block after "Save this as `NAME`" becomes that file; other TOML must be TOML, and other YAML a part of a recipe;
- ``python`` blocks of a page share their names;
- ``bash`` blocks may use ``dakit``, ``cd`` and ``NAME=value`` and must succeed;
- a ``text`` block is what the block before it prints, "..." standing for anything;
- a block without a language is a drawing, and ``pyi`` blocks belong to ``test_reference.py``.

A comment above a block says what differs: ``<!-- slow -->``, ``<!-- exit 2 -->``, ``<!-- not run: why -->``.
"""

from __future__ import annotations

import doctest
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml

from dakit.cli import app
from dakit.files import shipped_recipes
from dakit.interfaces import Prediction
from dakit.plugins import find_plugins
from dakit.recipe.load import load_recipe
from dakit.registry import Registry

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"save this as `([^`]+)`[^`]*$", re.IGNORECASE)


@dataclass
class Block:
    """A fenced block: where it stands, its language and text, its marker and the file that it is saved as."""

    line: int
    language: str
    text: str
    mark: str
    file: str | None


def blocks(text: str) -> list[Block]:
    found, end = [], 0
    for match in BLOCK.finditer(text):
        mark, language, body = match.groups()
        saved = SAVED.search(text[end : match.start()].rstrip())
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Block(line, language, body, mark or "", saved and saved[1]))
        end = match.end()
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(found), (
        "a fence is not closed, or is not at the start of its line"
    )
    return found


class Page:
    """One page that is run from top to bottom."""

    def __init__(self, path, dakit, capsys, monkeypatch):
        self.path = path
        self.dakit = dakit
        self.capsys = capsys
        self.monkeypatch = monkeypatch
        self.names = {"__name__": path.stem}

    def run(self, slow):
        printed = None  # by the block before, if that was run
        for block in blocks(self.path.read_text(encoding="utf-8")):
            where = f"{self.path.relative_to(ROOT)}:{block.line}"
            try:
                if block.mark.startswith("not run: ") or (block.mark == "slow" and not slow):
                    printed = None
                elif block.language == "text":
                    self.compare(block.text, printed)
                else:
                    printed = self.do(block)
            except Exception as error:
                pytest.fail(f"{where}: {type(error).__name__}: {error}")

    def do(self, block):
        """What the block prints; "" where it is only data."""
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, self.path.name, "exec"), self.names)
            return "".join(self.capsys.readouterr())
        elif block.language == "bash":
            code = int(block.mark.removeprefix("exit ")) if block.mark.startswith("exit ") else 0
            return "".join(self.command(line, code) for line in block.text.replace("\\\n", " ").splitlines())
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "yaml":
            recipe = yaml.safe_load((ROOT / "recipes" / "cycleat_sfew.yaml").read_text(encoding="utf-8"))
            Path("part.yaml").write_text(
                yaml.safe_dump(recipe | yaml.safe_load(block.text), sort_keys=False), encoding="utf-8"
            )
            load_recipe("part.yaml")
        else:
            assert block.language in ("", "pyi"), f"nobody runs {block.language}"
        return ""

    def command(self, line, expected):
        words = shlex.split(line, comments=True)
        with self.monkeypatch.context() as patch:
            while words and re.match(r"\w+=", words[0]):
                patch.setenv(*words.pop(0).split("=", 1))
            if not words:
                return ""
            if words[0] == "cd":
                self.monkeypatch.chdir(words[1])
                return ""
            assert words[0] == "dakit", f"{words[0]} is not run here"
            code, out, err = self.dakit(*words[1:])
        assert code == expected, f"{line} ends with {code}: {out}{err}"
        return out + err

    def compare(self, wanted, printed):
        if printed is not None:
            alike = doctest.OutputChecker().check_output(
                wanted, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            )
            assert alike, f"it prints\n{printed}"


def runs():
    for path in PAGES:
        yield pytest.param(path, False, id=path.stem)
        if any(block.mark == "slow" for block in blocks(path.read_text(encoding="utf-8"))):
            yield pytest.param(path, True, id=f"{path.stem}-slow", marks=pytest.mark.slow)


@pytest.mark.parametrize(("path", "slow"), [*runs()])
def test_what_a_page_shows_is_so(path, slow, dakit, tmp_path, capsys, monkeypatch):
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.syspath_prepend(tmp_path)  # where a user's Python looks for the modules that a page saves
    Page(path, dakit, capsys, monkeypatch).run(slow)


def plugin_of_the_readme(folder):
    """Its file, as the README says to save it."""
    (block,) = [
        b for b in blocks((ROOT / "README.md").read_text(encoding="utf-8")) if b.file and b.language == "python"
    ]
    (folder / block.file).write_text(block.text, encoding="utf-8")
    return folder / block.file


@pytest.fixture(scope="module")
def similarity(tmp_path_factory):
    """The README's transfer loss, and the registry that has it."""
    registry = Registry(find_plugins([plugin_of_the_readme(tmp_path_factory.mktemp("readme"))]))
    return registry.spec("transfer_loss", "similarity", {"weight": 10.0}), registry


def test_the_readme_s_loss_is_what_its_name_says(similarity):
    # Tung and Mori 2019, Eq. 2 to 4, entry by entry: |G_T - G_S|_F^2 / B^2 with G = Q Q^T, each row of length one.
    spec, _ = similarity
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(5, width)) for width in (2048, 512)]
    total = 0.0
    for i in range(5):
        rows = [np.array([sum(q[i] * q[j]) for j in range(5)]) for q in features]
        total += sum((rows[0] / np.sqrt(sum(rows[0] ** 2)) - rows[1] / np.sqrt(sum(rows[1] ** 2))) ** 2)
    said = [Prediction(torch.zeros(5, 2), torch.from_numpy(q), ()) for q in features]
    assert spec.build()(*said).item() == pytest.approx(10 * total / 25, rel=1e-9)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_the_readme_s_loss_takes_the_networks_of_every_recipe(name, similarity):
    spec, registry = similarity
    recipe = load_recipe(name, registry=registry)
    pairs = set()
    for plan in recipe.plans.values():
        made = {stage.name: stage.spec.params.get("classifier") for stage in plan.stages}
        for stage in (stage for stage in plan.stages if stage.spec.params.get("transfer")):
            pairs.add((made[stage.inputs["teacher"].producer], stage.spec.params["classifier"]))
    assert len(pairs) == (0 if name in ("source_classifiers", "clothes") else 2)
    for teacher, student in pairs:
        images = torch.rand(2, 3, 64, 64) * 2 - 1
        value = spec.build()(teacher.build(7)(images), student.build(7)(images))
        assert value.isfinite()
        assert value > 0


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_and_options_in_the_text_exist(path):
    """Also where they stand in a sentence or a table: `dakit run`, and `--until` in the same line."""
    commands = typer.main.get_command(app).commands
    for number, line in enumerate(BLOCK.sub("", path.read_text(encoding="utf-8")).splitlines(), 1):
        spans = re.findall(r"`([^`]+)`", line)
        named = [words[1] for words in map(str.split, spans) if words[0] == "dakit" and len(words) > 1]
        assert set(named) <= set(commands), f"{path.name}: {line}"
        if named:
            options = {option for name in named for p in commands[name].params for option in p.opts}
            options |= {
                o
                for name in named
                for c in getattr(commands[name], "commands", {}).values()
                for p in c.params
                for o in p.opts
            }
            wrong = {flag for span in spans for flag in re.findall(r"(?<![\w-])--[a-z-]+", span)} - options - {"--help"}
            assert not wrong, f"{path.name}, paragraph line {number}: {wrong}: {line}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_document_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w-]+\.md)", index)) == {page.name for page in PAGES[1:]} - {"index.md"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\n1 / 0\n```\n", "page.md:2: ZeroDivisionError"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "page.md:6: AssertionError: it prints"),
        ("```bash\ndakit no-such-command\n```\n", "page.md:2: AssertionError: dakit no-such-command ends with 2"),
        ("<!-- exit 2 -->\n```bash\ndakit plugins\n```\n", "dakit plugins ends with 0"),
        ("```bash\ncurl example.org\n```\n", "curl is not run here"),
        ("```yaml\nstages: {adopt: {do: evaluate}}\n```\n", "page.md:2: RecipeError"),
        ("```toml\na =\n```\n", "page.md:2: TOMLDecodeError"),
        ("```ruby\n1\n```\n", "nobody runs ruby"),
    ],
)
def test_a_page_that_lies_is_caught(text, message, dakit, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "recipes").symlink_to(Path(__file__).parent.parent / "recipes")
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(pytest.fail.Exception) as caught:
        Page(tmp_path / "page.md", dakit, capsys, monkeypatch).run(slow=False)
    assert message in str(caught.value)
