"""A run's folder, read again: its networks, predictions and pictures. Neither data nor recipe need be there.

It is one thing: rows, jobs, evaluations and networks are found by the same index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dakit.data.given import Given, given_images
from dakit.data.sets import read_image
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Engine
from dakit.objects import HERE, with_components
from dakit.plugins import find_plugins
from dakit.registry import Registry
from dakit.results.store import MARKER, Result, read_marker
from dakit.signatures import EvaluationStage
from dakit.statistics.metrics import Round
from dakit.training.surroundings import undisturbed

INDEX = "index.json"
"""Written by :func:`dakit.run` when it starts: which result belongs to which row, seed, fold and stage."""

_EVALUATE = {"test": "test", "models": ["model"], "evaluation": "evaluation"}


@dataclass(frozen=True)
class RecordedJob:
    """One stage of one row, seed and fold of a run. Several jobs may share one result.

    Attributes:
        stage: its name in the recipe.
        do: which verb it is.
        folder: of its result.
        inputs: input name -> what it read, such as ``source.train`` or ``stage_2.translator``.
        images: how many images were in those inputs that are data.
        outputs: the names of what it makes.
        repeat: of the split; its folds are counted through all repeats.
        evaluates: what it calls test images, classifiers and result where it is an evaluation; None where it is none.
    """

    row: str
    seed: int
    fold: int
    stage: str
    do: str
    folder: Path
    inputs: Mapping[str, str] = field(hash=False)
    images: Mapping[str, int] = field(hash=False)
    outputs: tuple[str, ...]
    repeat: int = 0
    evaluates: EvaluationStage | None = None

    def __str__(self) -> str:
        return f"{self.stage} (for {self.row}, seed {self.seed}, fold {self.fold})"

    @property
    def done(self) -> bool:
        """Whether its result is complete."""
        return (self.folder / MARKER).is_file()


@dataclass(frozen=True)
class RunData:
    """One role of a row's data.

    Attributes:
        use: the dataset's name,
        params: and its parameters.
        split: the recipe's, as plain values; None = the whole set is read.
        images: how many there are in all,
        labelled: and how many of them have a label that the run may know.
        fit: how files are brought to the row's size, see :class:`~dakit.data.sets.FileImages`; None = it has no files.
        range: the values that are black and white in files of more than 8 bits, see there; None = none was stated.
    """

    use: str
    params: Mapping[str, Any]
    split: Mapping[str, Any] | None
    images: int
    labelled: int
    fit: Literal["crop", "squash"] | None
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class RunRow:
    """What one row of a run's table was.

    Attributes:
        final: the stage that it ends in.
        size: height and width of its images in pixels.
        classes: that the recipe names; None = those of the data.
        data: by role.
    """

    final: str
    size: int
    classes: tuple[str, ...] | None
    data: Mapping[str, RunData]


@dataclass(frozen=True)
class Model:
    """A network of a run, ready to use.

    Attributes:
        network: in evaluation mode, on the CPU; takes float ``(B, 3, size, size)`` in [-1, 1].
        classes: names in the order of a classifier's logits; empty for a translator.
        size: height and width of its images in pixels,
        fit: and how a file is brought to it.
        range: the values that are black and white in files of more than 8 bits; None = they must say it themselves.
        origin: the job that trained it.
    """

    network: nn.Module
    classes: tuple[str, ...]
    size: int
    fit: Literal["crop", "squash"]
    origin: RecordedJob
    range: tuple[float, float] | None = None

    def read(self, path: Path) -> Tensor:
        """A file as the run itself would have read it: uint8 ``(3, size, size)``.

        Raises:
            DakitError: it cannot be read as an image.
        """
        return read_image(path, self.size, self.fit, self.range)

    @undisturbed()
    def predict(self, images: Given, *, batch_size: int = 64) -> npt.NDArray[np.float32]:
        """What a classifier says of images at hand: the probability of each class, in the order of ``classes``.

        Each image is brought to the size that the network takes as a file would be. Computed where the network is (on
        the CPU, unless it was moved), in fp32.

        Args:
            images: a path, a PIL image, a uint8 array or tensor, or several, see
                :func:`dakit.data.given.given_images`.
            batch_size: images per forward pass; does not change the result beyond rounding.

        Returns:
            float32 ``(K,)`` for one image, ``(N, K)`` for several.

        Raises:
            DakitError: it is a translator, or an image cannot be read or is not of values from 0 to 255.
        """
        if not self.classes:
            raise DakitError(f"{self.origin}: is a translator, which predicts no class; see `dakit translate`")
        pixels, alone = given_images(images, self.size, self.fit, self.read)
        device = next(iter(self.network.state_dict().values()), pixels).device
        with torch.no_grad():
            parts = [
                self.network(part.to(device).float() / 127.5 - 1).logits.float().softmax(1).cpu()
                for part in torch.split(pixels, batch_size)
                if len(part)
            ]
        probabilities = torch.cat([torch.zeros(0, len(self.classes)), *parts]).numpy()
        return probabilities[0] if alone else probabilities


@dataclass(frozen=True)
class Run:
    """A finished or partly finished run, as its last ``dakit run`` left it; see :func:`open_run`.

    Attributes:
        folder: the run's own.
        about: ``run.json``: the command, the recipe, versions, machine.
        rows: by name, in the order of the table.
        jobs: of all rows, in the order of running.
        engine: how it computed.
        registry: where the components of its networks are looked up.
    """

    folder: Path
    about: Mapping[str, Any] = field(repr=False)
    rows: Mapping[str, RunRow] = field(repr=False)
    jobs: tuple[RecordedJob, ...] = field(repr=False)
    engine: Engine = field(repr=False)
    registry: Registry = field(repr=False)

    @property
    def results(self) -> Mapping[str, Any] | None:
        """``results.json``, the table as plain values, of the last `dakit run` that came to its end, or None."""
        path = self.folder / "results.json"
        return _read(path) if path.is_file() else None

    @property
    def method(self) -> str:
        """The row that the recipe is about; where it was not run, the last of those that were."""
        method = str(self.about["recipe"]["method"])
        return method if method in self.rows else list(self.rows)[-1]

    def row(self, name: str) -> RunRow:
        """One row.

        Raises:
            DakitError: it is not among those that were run.
        """
        if name not in self.rows:
            known = self.about["recipe"].get("variants") or {}
            why = f"; the recipe has it: dakit run --variant {name}" if name in known else did_you_mean(name, self.rows)
            raise DakitError(f'{self.folder}: no row "{name}" was run{why}')
        return self.rows[name]

    def rounds_of(self, row: str) -> list[tuple[int, int]]:
        """The (seed, fold) pairs of a row, finished or not."""
        self.row(row)
        return list(dict.fromkeys((job.seed, job.fold) for job in self.jobs if job.row == row))

    def jobs_of(self, row: str, seed: int, fold: int) -> dict[str, RecordedJob]:
        """The stages of one round of a row, by name in the order of running.

        Raises:
            DakitError: there is no such row, or it was not run with this seed and fold.
        """
        rounds = self.rounds_of(row)
        if (seed, fold) not in rounds:
            known = ", ".join(f"seed {s} fold {f}" for s, f in rounds)
            raise DakitError(f"{self.folder}: {row} was not run with seed {seed} fold {fold}; there are: {known}")
        return {job.stage: job for job in self.jobs if (job.row, job.seed, job.fold) == (row, seed, fold)}

    def result(self, job: RecordedJob) -> Result:
        """A job's result. An output that is a part of the data cannot be read: a folder of results holds no data.

        Raises:
            DakitError: it is not complete.
        """
        if not job.done:
            raise DakitError(f"{self.folder}: {job} is not finished; the same `dakit run` again goes on with it")
        above = self.jobs_of(job.row, job.seed, job.fold)
        inputs = {name: partial(self._input, above, reference) for name, reference in job.inputs.items()}
        return Result(job.folder, inputs, self.registry)

    def rounds(self, row: str) -> list[Round]:
        """Every finished evaluation of a row, for ``summarise`` and ``compare``.

        Raises:
            DakitError: there is no such row, or an evaluation was altered.
        """
        final = self.row(row).final
        return [
            Round(job.seed, job.fold, self.result(job).output(job.evaluates.evaluation), job.repeat)
            for job in self.jobs
            if (job.row, job.stage) == (row, final) and job.evaluates and job.done
        ]

    @undisturbed()
    def classifier(self, row: str | None = None, seed: int | None = None, fold: int | None = None) -> Model:
        """The classifier that a row's evaluation tests.

        Args:
            row: of the table; None = the recipe's method, see :attr:`method`.
            seed: of the round,
            fold: and its fold; None = the first that there is.

        Raises:
            DakitError: there is none or several, it is not finished, was altered, or needs a plugin that is not here.
        """
        row = row or self.method
        rounds = [place for place in self.rounds_of(row) if seed in (None, place[0]) and fold in (None, place[1])]
        seed, fold = rounds[0] if rounds else (seed or 0, fold or 0)
        above = self.jobs_of(row, seed, fold)
        final, model = self._tested(row, above)
        assert final.evaluates is not None
        return self._model(above, model, final.inputs[final.evaluates.test])

    def _tested(self, row: str, above: Mapping[str, RecordedJob]) -> tuple[RecordedJob, str]:
        """The evaluation of one round of a row, and the one classifier that it reads."""
        final = above.get(self.row(row).final)
        if final is None or final.evaluates is None:
            raise DakitError(f"{self.folder}: {row} was not run to its evaluation, so no classifier is its result")
        models = [final.inputs[name] for name in final.evaluates.models if name in final.inputs]
        if len(models) != 1:
            names = " and ".join(models) or "none"
            raise DakitError(f"{self.folder}: {row} has no one classifier: its evaluation ({final.do}) reads {names}")
        return final, models[0]

    @undisturbed()
    def translator(self, row: str, seed: int, fold: int, *, stage: str | None = None, inverse: bool = False) -> Model:
        """A row's translator, from the look of the source to that of the auxiliary domain.

        Args:
            row: of the table.
            seed: of the round,
            fold: and its fold.
            stage: that trained it; None = the last that trains one.
            inverse: the one back.

        Raises:
            DakitError: there is none, it is not finished, was altered, or needs a plugin that is not here.
        """
        above = self.jobs_of(row, seed, fold)
        output, origin = ("inverse", "target") if inverse else ("translator", "source")
        makers = [job.stage for job in above.values() if output in job.outputs]
        if not makers:
            having = dict.fromkeys(job.row for job in self.jobs if output in job.outputs)
            raise DakitError(f"{self.folder}: {row} trains no {output}; rows that do: {', '.join(having) or 'none'}")
        if stage is not None and stage not in makers:
            raise DakitError(
                f'{self.folder}: {row} has no stage "{stage}" with a {output}{did_you_mean(stage, makers)}'
            )
        maker = above[stage or makers[-1]]
        return self._model(above, f"{maker.stage}.{output}", maker.inputs.get(origin, ""))

    def trained(self, row: str, seed: int, fold: int, *, translator: bool = False) -> tuple[Result, str]:
        """Where the network lies that :meth:`classifier` or :meth:`translator` gives: a result, and which output.

        Raises:
            DakitError: as they do.
        """
        if translator:
            origin, output = self.translator(row, seed, fold).origin, "translator"
        else:
            self.classifier(row, seed, fold)
            above = self.jobs_of(row, seed, fold)
            producer, _, output = self._tested(row, above)[1].partition(".")
            origin = above[producer]
        return self.result(origin), output

    @property
    def made_with(self) -> list[dict[str, Any]]:
        """For each result that is there what it was made with, see :func:`dakit.results.record.made_with`."""
        folders = dict.fromkeys(job.folder for job in self.jobs if job.done)
        return [read_marker(folder).get("made_with", {}) for folder in folders]

    def _model(self, above: Mapping[str, RecordedJob], reference: str, images: str) -> Model:
        """The network ``reference``, and how images of the role that ``images`` names are read."""
        origin = above[reference.partition(".")[0]]
        row = self.rows[origin.row]
        data = row.data.get(images.partition(".")[0])
        trained = self._input(above, reference)
        try:
            network = trained.build()
        except RuntimeError as error:
            raise DakitError(
                f"{origin.folder}: the weights do not fit the {trained.spec.kind} {trained.spec.name} "
                f"as its plugin makes it now: {error}"
            ) from error
        fit, stated = (data.fit, data.range) if data else (None, None)
        return Model(network, trained.classes, row.size, fit or "crop", origin, stated)

    def _input(self, above: Mapping[str, RecordedJob], reference: str) -> Any:
        producer, _, output = reference.partition(".")
        if producer not in above:
            raise DakitError(f"{self.folder}: {reference} is data, which a folder of results does not hold")
        result = self.result(above[producer])
        about = result.marker["outputs"].get(output, {})
        if about.get("type") == "trained":
            try:
                self.registry.find(about["kind"], about["name"])
            except DakitError as error:
                self._plugin_missing(error)
        return result.output(output)

    def _plugin_missing(self, error: DakitError) -> NoReturn:
        here = {plugin.distribution for plugin in self.registry.plugins.found if plugin.state == "active"}
        missing = [p for p in self.about["plugins"] if p["distribution"] not in here]
        files = {p["distribution"] for p in missing if p["version"].startswith("sha256 ")}
        names = [
            f"components={{{p['distribution'].removeprefix(f'{HERE}/')!r}: ...}}"
            if p["distribution"].startswith(f"{HERE}/")
            else f"--plugin {p['distribution']}"
            if p["distribution"] in files
            else f"{p['distribution']} {p['version']}"
            for p in missing
        ]
        versions = f"\nThe run was made with: {', '.join(names)}" if names else ""
        raise DakitError(f"{self.folder}: {error}{versions}") from error


def _listed(index: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The jobs that an ``index.json`` lists; before dakit 0.4 they were called steps."""
    listed: list[dict[str, Any]] = index["jobs"] if "jobs" in index else index["steps"]
    return listed


def _evaluates(job: Mapping[str, Any]) -> EvaluationStage | None:
    """What an evaluation calls its own; before dakit 0.4 there was one such stage, and it was not written down."""
    about = job.get("evaluates", _EVALUATE if job["do"] == "evaluate" else None)
    return about and EvaluationStage(about["test"], tuple(about["models"]), about["evaluation"])


def earlier_jobs(folder: Path) -> dict[str, set[tuple[int, int, str]]]:
    """By row the (seed, fold, stage) of all jobs that ``index.json`` lists; nothing where it cannot be read."""
    places: dict[str, set[tuple[int, int, str]]] = {}
    try:
        for job in _listed(_read(folder / INDEX)):
            places.setdefault(job["row"], set()).add((job["seed"], job["fold"], job["stage"]))
    except (DakitError, KeyError, TypeError):
        return {}
    return places


def open_run(
    folder: str | Path,
    *,
    plugins: Iterable[Path] = (),
    components: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Run:
    """Read a run's folder; neither the data nor the recipe's file need be there.

    Args:
        folder: such as ``runs/cycleat_sfew-demo``.
        plugins: Python files with further plugins. Those that the run was made with are not imported
            unless they are named here: a folder of results must not run code.
        components: classes and functions that the run was given as objects, as for :func:`dakit.load_recipe`.
        registry: to look names up in, instead of finding the plugins anew.

    Raises:
        DakitError: it is not the folder of a run, or was altered.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        near = {path.parent.name for path in (folder if folder.is_dir() else folder.parent).glob("*/run.json")}
        if folder.is_dir():
            inside = f"; in it are the runs {', '.join(sorted(near))}" if near else ""
            raise DakitError(f"{folder}: is not the folder of a run: it has no run.json{inside}")
        raise DakitError(f"{folder}: there is no such folder{did_you_mean(folder.name, near) if near else ''}")
    if not (folder / INDEX).is_file():
        raise DakitError(f"{folder}: has no {INDEX}; run the recipe again (nothing is computed twice)")
    about, index = _read(folder / "run.json"), _read(folder / INDEX)
    try:
        rows = {
            name: RunRow(
                row["final"],
                row["size"],
                row["classes"] and tuple(row["classes"]),
                {role: RunData(**{**data, "range": _pair(data.get("range"))}) for role, data in row["data"].items()},
            )
            for name, row in index["rows"].items()
        }
        jobs = tuple(
            RecordedJob(
                **{
                    **job,
                    "folder": folder / job["folder"],
                    "outputs": tuple(job["outputs"]),
                    "evaluates": _evaluates(job),
                }
            )
            for job in _listed(index)
        )
        engine = Engine(**about["engine"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DakitError(f"{folder}: run.json or {INDEX} is not what this dakit writes ({error}); run again") from error
    known = registry or Registry(find_plugins(plugins))
    return Run(folder, about, rows, jobs, engine, with_components(known, components) if components else known)


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DakitError(f"{path}: cannot be read: {error}") from error
