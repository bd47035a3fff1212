"""Put faults into dakit one by one and count those that the tests do not see; a script, not a test.

    python tests/mutants.py --count 300 --seed 0 --out /tmp/before
    python tests/mutants.py --again /tmp/before --out /tmp/after     # only what lived and is not explained

``--out`` is a folder; the same command with it goes on where it was stopped, another folder begins anew.

A mutant is one small change of the source: a comparison, a sign, an operator, a number, a string, a slice, a keyword
argument, a part of a seed, a statement left out ... They are drawn from all places where one could be, so many of each
file as its share of the places says, and at least one. The working tree is only read: every process has a copy.

Each mutant is tried on the file's own tests first (the mirrored path, and doctests). Where it lives it goes on to the
tests that name the module, to the own tests of modules that import it, and to ``LAST``. A test that fails without a
mutant is told and left out. ``tests/mutants.md`` says of the survivors that are known why no test can, or should,
see them.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import ast
import copy
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
AREAS = {
    "stages": ["dakit/stages"],
    "data": ["dakit/data"],
    "statistics": ["dakit/statistics"],
    "training": ["dakit/training"],
    "store": ["dakit/results/store.py"],
    "built-ins": ["plugins/dakit_builtins"],
}
# Its numbers draw a face: with another one it is another face. Named on the command line it is tried too.
LEFT_OUT = {"plugins/dakit_builtins/datasets/synthetic_faces.py"}
LAST = ["tests/recipe/test_schema.py"]
# These read the source or its documents, or measure: what they see is no wrong result. The last runs the shipped
# recipes whole, for minutes.
NEVER = {f"tests/test_{name}.py" for name in ("reference", "docs", "docs_meta", "layers", "benchmarks", "end_to_end")}
# Every test needs these; a process that has them is forked for each mutant.
PRELOADED = (
    "numpy torch torchvision kornia timm accelerate safetensors.torch sklearn.metrics sklearn.neighbors scipy.stats "
    "openTSNE pydantic typer rich jinja2 imagehash matplotlib.pyplot PIL.Image hypothesis pytest _pytest.assertion"
).split()

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
SWAPPED = [("min", "max"), ("argmin", "argmax"), ("any", "all"), ("ceil", "floor"), ("zeros", "ones"), ("mean", "sum"),
           ("minimum", "maximum")]  # fmt: skip
NAMES = dict(SWAPPED) | {b: a for a, b in SWAPPED} | {"eval": "train"}
IDENTITY = {"dataclass", "property", "staticmethod", "classmethod", "overload", "runtime_checkable", "hookimpl"}


class Mutant(NamedTuple):
    """One change: the text of ``file`` from ``start`` to ``end`` becomes ``after``."""

    key: str
    file: str
    line: int
    start: int
    end: int
    after: str


# ---------------------------------------------------------------------------------------------- places
class _Places(ast.NodeVisitor):
    """All places of a file: lists of mutants, of which one place gives at most one."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.text = (ROOT / file).read_bytes()
        self.lines = [0]
        for line in self.text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.scope: list[str] = []
        self.places: list[list[Mutant]] = []
        self.seen: Counter[str] = Counter()
        self.visit(ast.parse(self.text))

    def place(self, node: Any, *changed: ast.AST | None) -> None:
        """``node`` may become one of these; None: it is left out."""
        start = self.lines[node.lineno - 1] + node.col_offset
        end = self.lines[node.end_lineno - 1] + node.end_col_offset
        mutants = []
        for new in changed:
            after = "pass" if new is None else ast.unparse(new)
            if isinstance(new, ast.expr) and not isinstance(new, (ast.Constant, ast.Name, ast.Call, ast.Slice)):
                after = f"({after})"
            before = re.sub(r"\s+", " ", self.text[start:end].decode())
            key = f"{Path(self.file).stem}.{'.'.join(self.scope)}: {before[:90]} -> {re.sub(chr(10), ' ', after)[:90]}"
            self.seen[key] += 1
            key += f" #{self.seen[key]}" if self.seen[key] > 1 else ""
            mutants.append(Mutant(key, self.file, node.lineno, start, end, after))
        self.places.append(mutants)

    def changed(self, node: ast.AST, **fields: Any) -> ast.AST:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return new

    def negated(self, test: ast.expr) -> None:
        if not isinstance(test, (ast.Compare, ast.UnaryOp)):  # which have places of their own
            self.place(test, ast.UnaryOp(ast.Not(), test))

    def body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):  # a docstring
                self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            name = re.split(r"[.(]", ast.unparse(decorator))
            if not IDENTITY & set(name) and "setter" not in name:
                self.place(decorator, ast.parse("(lambda f: f)", mode="eval").body)
        self.scope.append(node.name)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self.body(node.body)
        self.scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.append(node.name)
        self.body(node.body)
        self.scope.pop()

    def visit_Module(self, node: ast.Module) -> None:
        self.body(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and getattr(node.target, "id", "") != "version":  # part of keys, not of results
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = {getattr(target, "id", "") for target in node.targets}
        literal = isinstance(node.value, ast.Subscript) and ast.unparse(node.value.value) == "Literal"
        if not names & {"__all__", "version"} and not literal:
            self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        """For mypy."""

    def visit_Import(self, node: ast.Import) -> None:
        """No place."""

    visit_ImportFrom = visit_Import
    visit_JoinedStr = visit_Import  # positions within are not to be relied on, and most are messages

    def visit_Raise(self, node: ast.Raise) -> None:
        self.place(node, None)  # its message is left alone

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.place(node, None)
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.place(node, None)
        if type(node.op) in OPERATORS and not _text(node.value):
            self.place(node, self.changed(node, op=OPERATORS[type(node.op)]()))
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self.place(node, ast.Break())

    def visit_Break(self, node: ast.Break) -> None:
        self.place(node, ast.Continue())

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            if not isinstance(node.value, ast.Constant):
                self.place(node, ast.Return(ast.Constant(None)))
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.negated(node.test)
            self.visit(node.test)
            self.body(node.body)
            self.body(node.orelse)

    def visit_While(self, node: ast.While) -> None:
        self.negated(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.negated(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.negated(test)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for i, op in enumerate(node.ops):
            ops = [COMPARISONS[type(op)]() if i == j else old for j, old in enumerate(node.ops)]
            self.place(node, self.changed(node, ops=ops))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OPERATORS and not _text(node.left) and not _text(node.right):
            self.place(node, self.changed(node, op=OPERATORS[type(node.op)]()))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.place(node, self.changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And()))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.place(node, node.operand)
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        for side in ("lower", "upper"):
            bound = getattr(node, side)
            if bound is not None:
                more, less = (self.changed(node, **{side: ast.BinOp(bound, op, ast.Constant(1))})
                              for op in (ast.Add(), ast.Sub()))  # fmt: skip
                self.place(node, more, less, self.changed(node, **{side: None}))
        for bound in (node.lower, node.upper, node.step):
            if bound is not None and not isinstance(bound, (ast.Constant, ast.UnaryOp)):
                self.visit(bound)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in NAMES:
            self.place(node, self.changed(node, attr=NAMES[node.attr]))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in {"min", "max", "any", "all"}:
            self.place(node, ast.Name(NAMES[node.id]))

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called.endswith(("Error", "cast", "TypeVar")):
            return
        for keyword in node.keywords:
            if keyword.arg is not None:
                rest = [other for other in node.keywords if other is not keyword]
                self.place(node, self.changed(node, keywords=rest))
        if ("seed" in called or "chance" in called) and len(node.args) > 1:
            for part in node.args:
                self.place(node, self.changed(node, args=[other for other in node.args if other is not part]))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.place(node, ast.Constant(not value))
        elif isinstance(value, int):
            self.place(node, ast.Constant(value + 1), ast.Constant(value - 1))
        elif isinstance(value, float):
            self.place(node, ast.Constant(value * 2 or 1.0), ast.Constant(value / 2 or -1.0))
        elif isinstance(value, str) and value and not re.search(r"\s", value):  # what has spaces is prose
            self.place(node, ast.Constant(value + "X"))


def _text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def draw(files: list[str], count: int, seed: int) -> list[Mutant]:
    """So many mutants, of each file by its share of the places, at least one."""
    places = {file: _Places(file).places for file in files}
    total = sum(map(len, places.values()))
    drawn = []
    for file, all_places in places.items():
        chance = random.Random(f"{seed} {file}")
        for options in chance.sample(all_places, min(len(all_places), max(1, round(count * len(all_places) / total)))):
            drawn.append(chance.choice(options))
    return drawn


# ---------------------------------------------------------------------------------------------- which tests
def module(file: str) -> str:
    return file.removeprefix("plugins/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def mirrored(file: str) -> str:
    path = Path(file.removeprefix("plugins/").removeprefix("dakit/"))
    return f"tests/{path.with_name(f'test_{path.name}')}"


def imports(name: str, text: str) -> bool:
    parent, _, last = name.rpartition(".")
    return bool(re.search(rf"\b{re.escape(name)}\b", text)) or bool(
        re.search(rf"from {re.escape(parent)} import [^\n]*\b{last}\b", text)
    )


def tests_of(file: str, further: int) -> list[str]:
    """The test files of a source file: its own, so many of those that are near, and ``LAST``."""
    read = {str(path.relative_to(ROOT)): path.read_text() for top in ("tests", "dakit", "plugins")
            for path in (ROOT / top).rglob("*.py")}  # fmt: skip
    own = [path for path in (mirrored(file), file if ">>>" in read[file] else "") if path in read]
    users = [path for path in read if imports(module(file), read[path])]
    near = sorted((path for path in users if Path(path).name.startswith("test_")), key=lambda path: len(read[path]))
    near += sorted(mirrored(path) for path in users if not path.startswith("tests/"))
    near = [path for path in dict.fromkeys(near) if path in read and path not in own and path not in NEVER]
    near = [path for path in near if "third_party" not in path][:further]
    return [*own, *near, *(path for path in LAST if further and path not in (*own, *near))]


# ---------------------------------------------------------------------------------------------- trying
class Outcome(NamedTuple):
    state: str  # "passed", "failed" or "timeout"
    by: str
    seconds: float
    said: str = ""

    @property
    def usable(self) -> bool:
        """Whether the file can be run at all: it ended, and what failed in it were tests."""
        return self.state == "passed" or (self.state == "failed" and all("::" in name for name in self.by.split("\n")))


class _Failures:
    """A pytest plugin that writes down what failed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.note(report)

    def pytest_collectreport(self, report: Any) -> None:
        self.note(report)

    def note(self, report: Any) -> None:
        if report.failed:
            with self.path.open("a") as file:
                file.write(f"{report.nodeid}\n")


def attempt(tree: Path, test: str, limit: float, usual: Outcome | None = None) -> Outcome:
    """Run one test file in a forked process, in a tree, for so many seconds of computing.

    Given how it ends usually, without the tests that fail then, and to the first that fails.
    """
    scratch = Path(tempfile.mkdtemp(prefix="try-", dir=tree.parent))
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
            os.chdir(tree)
            sink = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            (scratch / "tmp").mkdir()
            os.environ |= {"PYTHONPATH": f"{tree}:{tree / 'plugins'}", "DAKIT_CACHE": str(scratch / "cache"),
                           "TMPDIR": str(scratch / "tmp")}  # fmt: skip
            tempfile.tempdir = None
            sys.path[:0] = [str(tree), str(tree / "plugins")]
            import hypothesis
            import pytest

            phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # a smaller example is of no use here
            hypothesis.settings.register_profile(
                "mutants", derandomize=True, database=None, deadline=None, phases=phases
            )
            hypothesis.settings.load_profile("mutants")
            which = [] if usual is None else ["-x", *(f"--deselect={name}" for name in usual.by.split("\n") if name)]
            flags = [*which, "-q", "-p", "no:cacheprovider", "-W", "ignore:Module already imported",
                     f"--basetemp={scratch / 'base'}"]  # fmt: skip
            code = int(pytest.main([*flags, test], plugins=[_Failures(scratch / "failed")]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done or time.monotonic() - began > 20 * limit:  # it hangs; the machine may be busy with other things
            break
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and what it left behind
    if not done:
        os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status) if done else -signal.SIGXCPU
    failed = scratch / "failed"
    by = failed.read_text().strip() if failed.exists() else test
    state = "passed" if code in (0, 5) else "timeout" if code == -signal.SIGXCPU else "failed"  # 5: no tests
    said = "" if state == "passed" else (scratch / "output").read_text(errors="replace")[-2000:]
    shutil.rmtree(scratch, ignore_errors=True)
    return Outcome(state, "" if state == "passed" else by, round(used.ru_utime + used.ru_stime, 1), said)


def judge(mutant: Mutant, tree: Path, base: Path, limit: float, further: int) -> dict[str, Any]:
    """Try a mutant on the tests of its file until one sees it."""
    target = tree / mutant.file
    right = (ROOT / mutant.file).read_bytes()
    result = {**mutant._asdict(), "state": "survived", "by": "", "own": False, "seconds": 0.0}
    own = (mirrored(mutant.file), mutant.file)
    for test in tests_of(mutant.file, further):
        known = base / test.replace("/", "+")
        if not known.exists():
            usual = attempt(tree, test, limit)
            part = known.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(usual))
            part.replace(known)  # two may do this at once
        usual = Outcome(*json.loads(known.read_text()))
        if not usual.usable:
            continue
        target.write_bytes(right[: mutant.start] + mutant.after.encode() + right[mutant.end :])
        outcome = attempt(tree, test, min(limit, 3 * usual.seconds + 10), usual)
        target.write_bytes(right)
        result["seconds"] += outcome.seconds
        if outcome.state != "passed":
            state = "killed" if outcome.state == "failed" else "timeout"
            return {**result, "state": state, "by": outcome.by, "own": test in own}
    return result


def work(number: int, folder: Path, out: Path, mutants: list[Mutant], queue: int, limit: float, further: int) -> None:
    """One process: its own copy of the tree, and mutants from the queue until there are none."""
    tree = folder / f"tree-{number}"
    while record := os.read(queue, 4):
        place = int.from_bytes(record, "little")
        result = judge(mutants[place], tree, out / "usual", limit, further)
        with (out / "results.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{result['state']:9} {result['seconds']:5.0f} s  {result['key']}  {result['by']}", flush=True)


def copies(folder: Path, jobs: int) -> Iterator[Path]:
    import compileall
    import py_compile

    for number in range(jobs):
        tree = folder / f"tree-{number}"
        unneeded = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", ".hypothesis", ".venv", "dist", "runs")
        shutil.copytree(ROOT, tree, ignore=unneeded, symlinks=True)
        # By content: two mutants of one size within a second must not be taken for each other.
        by_content = py_compile.PycInvalidationMode.CHECKED_HASH
        for part in ("dakit", "plugins"):
            compileall.compile_dir(tree / part, quiet=2, invalidation_mode=by_content)
        yield tree


def area(file: str) -> str:
    return next((name for name, parts in AREAS.items() if any(file.startswith(part) for part in parts)), "others")


def table(results: list[dict[str, Any]], explained: set[str]) -> str:
    lines = ["| area | mutants | killed | by own tests | survived | of these explained |", "|---|---|---|---|---|---|"]
    areas = sorted({area(r["file"]) for r in results}, key=[*AREAS, "others"].index)
    for name in (*areas, "all"):
        its = [r for r in results if name in ("all", area(r["file"]))]
        alive = [r for r in its if r["state"] == "survived"]
        killed = len(its) - len(alive)
        own = sum(r["own"] for r in its)
        why = sum(r["key"] in explained for r in alive)
        lines.append(
            f"| {name} | {len(its)} | {killed} ({killed / len(its):.0%}) | {own} ({own / len(its):.0%}) | "
            f"{len(alive)} | {why} |"
        )
    return "\n".join(lines)


def _read(folder: Path) -> list[dict[str, Any]]:
    """What was found so far."""
    file = folder / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="source files or folders; as it is, those of AREAS")
    parser.add_argument("--count", type=int, default=300, help="about so many mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--again", type=Path, help="folder of an earlier call: try its survivors that are not explained"
    )
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "mutants")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=300, help="seconds of computing for a test file")
    parser.add_argument("--further", type=int, default=12, help="how many test files beside a file's own")
    parser.add_argument("--list", action="store_true", help="show the mutants and try none")
    options = parser.parse_args()

    wanted = options.files or [part for parts in AREAS.values() for part in parts]
    files = sorted({str(path.relative_to(ROOT)) for part in wanted
                    for path in ([ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.py"))}
                   - (set() if options.files else LEFT_OUT))  # fmt: skip
    explanations = ROOT / "tests/mutants.md"
    explained = set(re.findall(r"^- `(.+?)`: ", explanations.read_text(), re.M)) if explanations.exists() else set()
    done: list[dict[str, Any]] = []
    if options.again:
        before = _read(options.again)
        lived = {r["key"] for r in before if r["state"] == "survived"} - explained
        files = sorted({r["file"] for r in before if r["key"] in lived})
        options_of = [option for file in files for place in _Places(file).places for option in place]
        mutants = [option for option in options_of if option.key in lived]
        for gone in sorted(lived - {mutant.key for mutant in mutants}):
            print(f"not there any more: {gone}")
        done = [r for r in before if r["key"] not in lived]
    else:
        mutants = draw(files, options.count, options.seed)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.file}:{mutant.line}  {mutant.key}")
        return

    (options.out / "usual").mkdir(parents=True, exist_ok=True)
    tried = {r["key"] for r in _read(options.out)}
    with (options.out / "results.jsonl").open("a") as file:
        file.writelines(json.dumps(r) + "\n" for r in done if r["key"] not in tried)
    mutants = [mutant for mutant in mutants if mutant.key not in tried]
    os.nice(10)
    threads = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
    os.environ |= {f"{name}_NUM_THREADS": "1" for name in threads} | {"PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (ROOT, ROOT / "plugins")]
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    assert not {"dakit", "dakit_builtins"} & set(sys.modules)
    random.Random(0).shuffle(mutants)
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        list(copies(folder, options.jobs))
        queue, feed = os.pipe()
        os.write(feed, b"".join(place.to_bytes(4, "little") for place in range(len(mutants))))  # a pipe holds 16384
        os.close(feed)
        workers = []
        for number in range(options.jobs):
            worker = os.fork()
            if worker == 0:
                try:
                    work(number, folder, options.out, mutants, queue, options.limit, options.further)
                finally:
                    os._exit(0)
            workers.append(worker)
        for worker in workers:
            os.waitpid(worker, 0)
    for path in sorted((options.out / "usual").iterdir()):
        usual = Outcome(*json.loads(path.read_text()))
        if usual.state != "passed":
            print(f"left out, as it fails without a mutant:\n{usual.by}\n{usual.said}")
    results = sorted(_read(options.out), key=lambda r: (r["file"], r["line"], r["key"]))
    for result in results:
        if result["state"] == "survived" and result["key"] not in explained:
            print(f"survived: {result['file']}:{result['line']}  {result['key']}")
    print(table(results, explained))


if __name__ == "__main__":
    main()
