"""Stages in several processes, for ``test_processes.py``: python several.py FOLDER PROCESSES CASE ...

Everything is imported once, and each process is a forked child that meets the others as those of torchrun do. The
cases run one after the other, each in FOLDER/CASE, and each process writes what came out into ``said-RANK.json``
and the weights into ``weights-RANK.safetensors``. Prints how each process ended.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import tiny
import toys
from dakit import hookimpl, processes
from dakit.data.features import nearest, share
from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit.interfaces import Context, Engine, ImageSet, Sample, Selection, Selector, Trained
from dakit.pipeline import run as pipeline
from dakit.plugins import find_plugins
from dakit.recipe.load import load_recipe
from dakit.registry import Registry
from dakit.stages import domains
from dakit.stages import translator as translator_module
from dakit.stages.classifier import TrainClassifier
from dakit.stages.domains import MapDomains
from dakit.stages.synthesise import Synthesise
from dakit.stages.translator import TrainTranslator
from dakit.training.optimiser import Optimiser
from dakit.training.schedule import Schedule
from dakit.training.stopping import Stopped, signals
from dakit.training.trainer import Trainer
from dakit_builtins.selectors.feature_knn import FeatureKnn
from dakit_builtins.selectors.tsne_knn import TsneKnn
from dakit_builtins.transfer_losses.attention_transfer import AttentionTransfer

PLAIN, NORM = tiny.spec(tiny.Classifier), tiny.spec(tiny.Classifier, norm=True)
SOURCE, OTHER = tiny.images([0, 1, 2] * 4, seed=1), tiny.images([2, 1, 0] * 4, seed=2)
Weights = Mapping[str, Tensor]


class At(tiny.Unplug):
    """An observer that does something in one of the steps."""

    def __init__(self, at: int, do: Any) -> None:
        super().__init__(at)
        self.do = do

    def step(self, done: int, losses: Mapping[str, float]) -> None:
        if done == self.at:
            self.do()


def context(folder: Path, *observers: Any, every: int = 1) -> Context:
    """The first process works in ``folder`` itself, another in a folder of its own."""
    own = folder if processes.first() else folder / f"of-{processes.rank()}"
    own.mkdir(parents=True, exist_ok=True)
    return Context(own, 3, Engine(device="cpu", checkpoint_steps=every), observers, common_folder=folder)


def classifier(folder: Path) -> Weights:
    """A step of f_T: two sets, a teacher, and a transfer loss that learns."""
    stage = TrainClassifier(classifier=PLAIN, steps=1, batch_size=8, extra_share=0.25, transfer=tiny.spec(tiny.Adapted))
    teacher, start = (tiny.fresh(PLAIN, seed, tiny.CLASSES) for seed in (5, 6))
    return stage.run(context(folder), train=SOURCE, extra=OTHER, teacher=teacher, init=start).model.state


def head(folder: Path) -> Weights:
    """A linear probe: most of the network is frozen."""
    stage = TrainClassifier(classifier=NORM, steps=3, batch_size=4, update="head", choose="validation")
    start = tiny.fresh(NORM, 6, tiny.CLASSES)
    return stage.run(context(folder, every=2), train=SOURCE, init=start).model.state


def averaged(folder: Path) -> Weights:
    """Clipped gradients, an average of weights, and statistics that are estimated anew."""
    stage = TrainClassifier(
        classifier=NORM, steps=3, batch_size=4, lr=0.01, normalisation="adapt", class_weights="balanced",
        optimiser=Optimiser(weight_decay=0.1, body_lr=0.5, clip=0.1, average=0.5), schedule=Schedule(warmup=0.3),
    )  # fmt: skip
    made = stage.run(context(folder), train=SOURCE, target=OTHER, init=tiny.fresh(NORM, 6, tiny.CLASSES))
    return made.model.state


def translator(folder: Path, *observers: Any, every: int = 1, **settings: Any) -> Weights:
    """A step of stage II with every loss, and nothing left to chance."""
    usual = {"steps": 1, "batch_size": 8, "pool": 0, "objective": "least_squares", "identity_weight": 0.5}
    stage = TrainTranslator(
        generator=tiny.spec(tiny.Generator), discriminator=tiny.spec(tiny.Critic),
        **{"classifier": PLAIN, "transfer": tiny.spec(tiny.Lopsided), **usual, **settings},
    )  # fmt: skip
    torch.manual_seed(0)
    ctx = context(folder, *observers, every=every)
    made = stage.run(ctx, source=SOURCE, target=OTHER, teacher=tiny.fresh(PLAIN, 5, tiny.CLASSES))
    (ctx.folder / "notes.json").write_text(json.dumps(ctx.notes))
    networks = {name: one for name, one in made._asdict().items() if isinstance(one, Trained)}
    return {f"{name}.{key}": value for name, one in networks.items() for key, value in one.state.items()}


# All that each process has for itself: flips, image pools, statistics of normalisation; and a teacher that is kept.
CHANCE: dict[str, Any] = {
    "steps": 6, "every": 2, "pool": 3, "augment": {"flip": 0.5}, "classifier": NORM,
    "transfer": tiny.spec(AttentionTransfer),
}  # fmt: skip


def chance(folder: Path) -> Weights:
    """Six steps."""
    return translator(folder, **CHANCE)


def resumed(folder: Path) -> Weights:
    """The same, left in the fifth step and gone on from the checkpoint of the fourth."""
    try:
        return translator(folder, tiny.Unplug(5), **CHANCE)
    except tiny.Interruption:
        return translator(folder, **CHANCE)


def synthesise(folder: Path) -> Weights:
    """Twelve images; both processes are left in the midst of their part, and go on."""
    given = {"translator": tiny.fresh(tiny.spec(tiny.Generator), 4), "judge": tiny.fresh(PLAIN, 5, tiny.CLASSES)}
    start = 6 * processes.rank()
    try:
        Synthesise(batch_size=2).run(context(folder, tiny.Unplug(start + 4)), images=SOURCE, **given)
    except tiny.Interruption:
        ctx = context(folder)
        images = Synthesise(batch_size=2).run(ctx, images=SOURCE, **given).images
        (ctx.folder / "facts.json").write_text(json.dumps(ctx.facts))
        return {"images": torch.stack([images[i].image for i in range(len(images))])}
    raise AssertionError("was not interrupted")


# ------------------------------------------------------------------------------------- selection
class Stemmed(tiny.Classifier):
    """Has a first layer to look at."""

    def stem(self, images: Tensor) -> Tensor:
        return self.body(images)


class Watched(TensorImages):
    """Remembers which of its images were read, in this order; one may be damaged."""

    def __init__(self, images: TensorImages, damaged: int = -1) -> None:
        super().__init__(images.images, images.labels, classes=images.classes)
        self.read: list[int] = []
        self.damaged = damaged

    def __getitem__(self, index: int, /) -> Sample:
        self.read.append(index)
        if index == self.damaged:
            raise DakitError(f"image {index} is damaged")
        return super().__getitem__(index)


POOL, ANCHORS = tiny.images([0, 1, 2] * 15, seed=7), tiny.images([0, 1, 2] * 3, seed=8)
EMBED: dict[str, Any] = {"sample": 20, "perplexity": 5.0, "extractor": "classifier", "batch": 4, "dimensions": 2}


def choose(folder: Path, selector: Selector, damaged: int = -1) -> Weights:
    """What all processes select together, what each does alone, and which images it read for that."""
    device = Trainer(context(folder)).device
    network = tiny.fresh(tiny.spec(Stemmed), 5, tiny.CLASSES).build()
    made = {}
    for name, way in (("shared", nullcontext()), ("alone", processes.alone())):
        pool = Watched(POOL, damaged)
        torch.manual_seed(1)
        with way:
            indices, distances, _, exact = selector(pool, ANCHORS, classifier=network, device=device)
        assert exact is not None
        parts = {"indices": indices, "distances": distances, "exact": exact, "read": torch.tensor(pool.read)}
        made |= {f"{name} {part}": values.clone() for part, values in parts.items()}
    return made


def knn(folder: Path) -> Weights:
    """No image for two anchors."""
    return choose(folder, FeatureKnn(neighbours=3, max_reuse=1, extractor="classifier", batch=4))


def tsne(folder: Path) -> Weights:
    """In a map of both sets."""
    return choose(folder, TsneKnn(neighbours=3, compare_exact=True, **EMBED))


def damaged(folder: Path) -> Weights:
    """The last process cannot read its last image; comes last."""
    return choose(folder, FeatureKnn(neighbours=3, extractor="classifier", batch=4), damaged=len(POOL) - 1)


def ties(folder: Path) -> Weights:
    """Whole numbers, of which many are equally far, in chunks of one: the processes have unlike parts, or none."""
    Trainer(context(folder))
    generator = torch.Generator().manual_seed(0)
    made = {}
    for count in (1, 2, 40):
        pool, anchors = (torch.randint(-2, 3, (n, 2), generator=generator).float() for n in (count, 5))
        groups = {"pool_groups": torch.arange(count) % 2, "anchor_groups": torch.arange(5) % 2}
        own = share(count, 1)
        shared = nearest(pool[own.start : own.stop].split(1), anchors, 7, **groups, part=own)
        names = [f"{name} {count} {part}" for name in ("shared", "alone") for part in ("indices", "distances")]
        made |= dict(zip(names, (*shared, *nearest(pool.split(1), anchors, 7, **groups)), strict=True))
    return made


def maps(folder: Path) -> Weights:
    """The domains, in two dimensions and three."""
    given = {"source": SOURCE, "target": OTHER, "classifier": tiny.fresh(tiny.spec(Stemmed), 5, tiny.CLASSES)}
    made = {}
    for name, way in (("shared", nullcontext()), ("alone", processes.alone())):
        with way:
            ctx = context(folder / f"{name}-{processes.rank()}-{os.environ['RANK']}")
            MapDomains(selector=tiny.spec(TsneKnn, **EMBED)).run(ctx, **given)
        with np.load(ctx.folder / "domains.npz") as kept:
            made |= {f"{name} {key}": torch.from_numpy(kept[key]) for key in kept if key.startswith("points")}
    return made


class Stranger:
    """Knows nothing of processes."""

    def __call__(self, pool: ImageSet, anchors: ImageSet, **given: Any) -> Selection:
        assert (os.environ["RANK"], processes.count()) == ("0", 1)
        return Selection(torch.zeros(len(anchors), 1, dtype=torch.int64), torch.zeros(len(anchors), 1))


class Sharing:
    """Selects the image whose number the last process has."""

    together: ClassVar[bool] = True

    def __call__(self, pool: ImageSet, anchors: ImageSet, **given: Any) -> Selection:
        chosen = processes.told(torch.full((len(anchors), 1), processes.rank()), processes.count() - 1)
        return Selection(chosen, torch.zeros(len(anchors), 1))


@hookimpl
def dakit_selectors() -> dict[str, Any]:
    return {"stranger": Stranger, "sharing": Sharing}


def selectors(folder: Path) -> Weights:
    """Two selectors of a plugin, in a recipe."""
    recipe, made = folder / f"toy-{processes.rank()}.yaml", {}
    recipe.write_text(toys.RECIPE)
    registry = Registry(find_plugins([Path(toys.__file__), Path(__file__)]))
    for name in ("stranger", "sharing"):
        settings = [f"components.nearest={{use: {name}}}", "engine.device=cpu"]
        toy = load_recipe(recipe, overrides=settings, registry=registry)
        outcome = pipeline.run(toy, rows=["cycleat"], out=folder / name, until="select", fold=0)
        assert outcome.made == 5
        (file,) = (folder / name / "store").glob("select-*/selection.npz")
        with np.load(file) as kept:
            made[name] = torch.from_numpy(kept["indices"])
    return made


# ---------------------------------------------------------------------------------------- failing
def asked(folder: Path) -> Weights:
    """The second process has a signal in its third step."""
    stop = [At(3, lambda: os.kill(os.getpid(), signal.SIGTERM))] if processes.rank() == 1 else []
    with signals():
        return translator(folder, *stop, steps=6, every=1000)


def poisoned(folder: Path) -> Weights:
    """The second process has a loss that is not a number, and the first has not."""
    trainer = Trainer(context(folder))
    network = nn.Linear(1, 1)
    called = trainer.place(network, train=True)
    fit(trainer, network, called, lambda n: math.nan if processes.rank() == n == 1 else 1.0)
    return network.state_dict()


class Partly(nn.Module):
    """Has weights that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(1, 1), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def unused(folder: Path) -> Weights:
    """A network that several processes cannot train."""
    trainer = Trainer(context(folder))
    network = Partly()
    fit(trainer, network, trainer.place(network, train=True), lambda n: 1.0)
    return network.state_dict()


def fit(trainer: Trainer, network: nn.Module, called: nn.Module, factor: Callable[[int], float]) -> None:
    """Four steps with a loss times ``factor(n)``."""

    def step(n: int) -> Mapping[str, Tensor]:
        losses = {"square": called(torch.ones(2, 1)).square().mean() * factor(n)}
        trainer.backward(losses)
        return losses

    adam = torch.optim.Adam(network.parameters())
    trainer.fit(title="t", steps=4, networks={"n": network}, optimisers={"o": adam}, decay_from=1, step=step)


def grown(folder: Path) -> Weights:
    """Goes on from what one process left."""
    return translator(folder, steps=4)


def dead(folder: Path) -> Weights:
    """The second process is killed in its third step; comes last, as nobody is left to meet."""
    stop = [At(3, lambda: os.kill(os.getpid(), signal.SIGKILL))] if processes.rank() == 1 else []
    return translator(folder, *stop, steps=4)


def child(folder: Path, cases: list[str], rank: int, count: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for case in cases:
        place = folder / case
        place.mkdir(exist_ok=True)
        said = ""
        try:
            save_file(dict(globals()[case](place)), place / f"weights-{rank}.safetensors")
        except (DakitError, Stopped) as error:
            said = f"{type(error).__name__}: {error}"
        (place / f"said-{rank}.json").write_text(json.dumps(said))


def main(folder: Path, count: int, cases: list[str]) -> None:
    torch.set_num_threads(1)
    translator_module.curves_png = lambda history, path: None  # drawing takes longer than all steps
    domains.domains_png = lambda points, names, path: None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                child(folder, cases, rank, count, port)
                os._exit(0)
            finally:
                import traceback

                traceback.print_exc()
                os._exit(1)
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    sys.stdout.write(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), sys.argv[3:])
