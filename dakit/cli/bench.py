"""``dakit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dakit.cli.common import DEVICES, Device, Json, one_of, table, terminal
from dakit.errors import DakitError, did_you_mean

SAVED = Path(".benchmarks")


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND/NAME...]", help="Such as translator, timm or step/classifier.")
    ] = None,
    device: Device = "auto",
    size: Annotated[str, typer.Option("--size", metavar="N,...", help="Pixels.")] = "64",
    batch: Annotated[str, typer.Option("--batch", metavar="N,...", help="Images.")] = "4",
    precision: Annotated[str, typer.Option("--precision", metavar="P", help="fp32, bf16 or fp16.")] = "fp32",
    save: Annotated[str | None, typer.Option("--save", metavar="NAME", help="Keep as .benchmarks/NAME.json.")] = None,
    compare: Annotated[str | None, typer.Option("--compare", metavar="NAME", help="Ratios to a saved run.")] = None,
    json_: Json = False,
) -> None:
    """Time components, steps and stages on this machine, those of plugins included."""
    import json
    import subprocess
    import sys
    import tempfile

    from dakit.cli.benchmarks import summary
    from dakit.files import shipped, write_json

    earlier = None if compare is None else _saved(compare)
    if save is not None and not save.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise DakitError(f"--save {save}: a name of letters, digits, dots, - and _ was expected")
    for option, given in (("--size", size), ("--batch", batch)):
        if not all(part.isdecimal() and int(part) for part in given.split(",")):
            raise DakitError(f"{option} {given}: positive whole numbers separated by commas were expected")
    one_of("--device", device, DEVICES)
    one_of("--precision", precision, ("fp32", "bf16", "fp16"))
    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch, "results.json")
        folder = str(shipped("benchmarks"))
        command = [
            sys.executable, "-m", "pytest", folder, "-c", str(Path(scratch, "none.ini")),
            f"--rootdir={folder}", "-p", "no:cacheprovider", "-o", "python_files=bench_*.py",
            "-o", "python_functions=bench_*", "--benchmark-quiet", f"--benchmark-json={written}", "-q",
            *(f"--{key}={value}" for key, value in
              (("device", device), ("size", size), ("batch", batch), ("precision", precision))),
            *(f"--only={name}" for name in names or ()),
        ]  # fmt: skip
        Path(scratch, "none.ini").write_text("[pytest]\n")
        done = subprocess.run(command, stdout=2)  # pytest's own progress
        if done.returncode == 4:  # pytest has told what is wrong with the names
            raise SystemExit(2)
        if not written.is_file() or not written.stat().st_size:
            raise DakitError("the benchmarks did not run; see above")
        run = summary(json.loads(written.read_text(encoding="utf-8")), device=device, precision=precision)
    if save is not None:
        SAVED.mkdir(exist_ok=True)
        write_json(SAVED / f"{save}.json", run)
    if json_:
        typer.echo(json.dumps(run if earlier is None else run | {"compared_with": earlier}, indent=1))
    else:
        _print(run, earlier, compare)
    if done.returncode:
        raise SystemExit(1)


def _saved(name: str) -> dict[str, Any]:
    import json

    path = SAVED / f"{name}.json"
    if not path.is_file():
        there = [file.stem for file in SAVED.glob("*.json")]
        raise DakitError(f"--compare {name}: there is no {path}{did_you_mean(name, there)}")
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return run


def _print(run: dict[str, Any], earlier: dict[str, Any] | None, name: str | None) -> None:
    from dakit.cli.benchmarks import ratio

    machine = ", ".join(f"{key} {value}" for key, value in run["machine"].items())
    most = {name: value / 1e9 for name, value in run["ceilings"].items()}
    ceilings = (
        f"ceilings in this run: {most['flops']:.0f} GFLOP/s (a matrix product, or a benchmark that did more), "
        f"{most['bytes']:.0f} GB/s in a copy"
    )
    terminal().print(f"{machine}\n{ceilings}", highlight=False)
    before = {} if earlier is None else {row["name"]: row for row in earlier["benchmarks"]}
    headings = ["benchmark", "median", "spread", "images/s", "of ceiling", "peak", "side by side"]
    rows = []
    for row in run["benchmarks"]:
        against = row.get("against")
        cells = [
            row["name"],
            _time(row["median"]),
            f"±{100 * row['spread'] / row['median']:.0f} %",
            f"{row['images_per_second']:.3g}" if row["images_per_second"] else "",
            f"{100 * row['share']:.0f} %" if row["share"] else "",
            f"{row['peak'] / 2**20:.0f} MiB" if row["peak"] else "",
            f"{against['ratio']:.2f}x as fast as {against['name']}" if against else "",
        ]
        if earlier is not None:
            cells.append(ratio(before[row["name"]], row) if row["name"] in before else "new")
        rows.append(cells)
    table(headings + ([] if earlier is None else [f"speed, {name} = 1"]), rows)
    for row in run["benchmarks"]:
        if row["also"]:
            figures = ", ".join(f"{what} {value:.3g}" for what, value in row["also"].items())
            terminal().print(f"{row['name']}: {figures}", highlight=False)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.2f} ms"
