from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import tiny
from dakit.data.sets import TensorImages, Unlabelled
from dakit.errors import DakitError
from dakit.interfaces import Trained
from dakit.report.pictures import GAP
from dakit.report.thumbnails import load_strips
from dakit.stages import translator
from dakit.stages.translator import (
    ImagePool,
    Objective,
    TrainedTranslator,
    TrainTranslator,
    _Followed,
    critic_loss,
    generator_loss,
    to_uint8,
)
from dakit.training.checkpoint import load_state

OBJECTIVES: tuple[Objective, ...] = ("log_saturating", "log", "least_squares")
G, D, F = tiny.spec(tiny.Generator), tiny.spec(tiny.Critic), tiny.spec(tiny.Classifier)
TEACHER = tiny.spec(tiny.Classifier, norm=True)
SOURCE, TARGET = tiny.images([0, 1, 2, 1], seed=1), Unlabelled(tiny.images([0, 0, 0, 0], seed=2))
STEP: dict[str, Any] = {"generator": G, "discriminator": D, "steps": 1, "batch_size": 4, "pool": 0}


@pytest.fixture(autouse=True)
def _no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "pictures" not in request.node.name:
        monkeypatch.setattr(translator, "curves_png", lambda history, path: None)


def earlier(classifier: bool = False) -> TrainedTranslator:
    """Five networks of given weights."""
    f_W = tiny.fresh(F, 50, tiny.CLASSES) if classifier else None
    return TrainedTranslator(*(tiny.fresh(spec, seed) for seed, spec in enumerate((G, G, D, D))), f_W)


def run(folder: Path, *observers: tiny.Unplug, checkpoint_steps: int = 1000, **settings: Any) -> TrainedTranslator:
    """The stage on all the images in every batch, from the weights of ``earlier()``."""
    inputs = {name: settings.pop(name) for name in ("init", "teacher", "init_classifier") if name in settings}
    inputs = {"init": earlier(), **inputs}
    if "classifier" in settings:
        inputs = {"init_classifier": tiny.fresh(F, 50, tiny.CLASSES), **inputs}
    stage = TrainTranslator(**{**STEP, **settings})
    assert stage.check(frozenset(name for name in inputs if inputs[name] is not None)) == []
    ctx = tiny.context(folder, *observers, checkpoint_steps=checkpoint_steps)
    return stage.run(ctx, source=SOURCE, target=TARGET, **inputs)


def losses(folder: Path, **settings: Any) -> dict[str, float]:
    """Every loss of the first step."""
    run(folder, **settings)
    history = json.loads((folder / "history.json").read_text())
    assert history.pop("step") == [1]
    return {name: values[0] for name, values in history.items()}


def gradients(folder: Path, **settings: Any) -> dict[str, list[Tensor]]:
    """What the first step gave each optimiser: with beta1 = 0 Adam's first moment is the last gradient."""
    with pytest.raises(tiny.Interruption):
        run(folder, tiny.Unplug(2), checkpoint_steps=1, **{**settings, "steps": 2, "beta1": 0.0})
    parts = load_state(folder / "checkpoint.safetensors")["parts"]
    return {
        name: [state["exp_avg"] for _, state in sorted(parts[f"optimiser {name}"]["state"].items())]
        for name in ("generators", "critics")
    }


# --------------------------------------------------------------- Eq. 4-8, worked out apart from dakit
def exact(trained: Trained[Any]) -> nn.Module:
    """The network in float64, weights to be learned, normalisation in training mode only where asked for."""
    return trained.build().double()


def pixels(images: Any) -> Tensor:
    return torch.stack([images[i].image for i in range(len(images))]).double() / 127.5 - 1


def probability(logits: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-logits))


G_LOSS: dict[str, Callable[[Tensor], Tensor]] = {
    "log_saturating": lambda d: torch.log(1 - probability(d)).mean(),
    "log": lambda d: -torch.log(probability(d)).mean(),
    "least_squares": lambda d: ((d - 1) ** 2).mean(),
}


def equation_8(
    nets: Mapping[str, nn.Module], objective: str = "log_saturating", per_image: float = 1.0, sees: str = "source"
) -> dict[str, Tensor]:
    """All terms that the generators and f_W minimise."""
    x_s, x_w = pixels(SOURCE), pixels(TARGET)
    fake_w, fake_s = nets["G_SW"](x_s), nets["G_WS"](x_w)
    terms = {
        "G adversarial W": G_LOSS[objective](nets["D_W"](fake_w)),
        "G adversarial S": G_LOSS[objective](nets["D_S"](fake_s)),
        "cycle via W": per_image * (nets["G_WS"](fake_w) - x_s).abs().mean(),
        "cycle via S": per_image * (nets["G_SW"](fake_s) - x_w).abs().mean(),
    }
    if "f_W" in nets:
        said = nets["f_W"](fake_w)
        p = torch.exp(said.logits) / torch.exp(said.logits).sum(1, keepdim=True)
        terms["f_W cross-entropy"] = torch.stack([-torch.log(p[i, y]) for i, y in enumerate(SOURCE.labels)]).mean()
        if "f_S" in nets:
            taught = nets["f_S"](x_s if sees == "source" else fake_w).maps[0].detach()
            terms["f_W transfer"] = (taught - 2 * said.maps[0]).square().mean()
    return terms


def networks(classifier: bool = False, teacher: Trained[Any] | None = None) -> dict[str, nn.Module]:
    names = ("G_SW", "G_WS", "D_W", "D_S", "f_W")
    nets = {name: exact(t) for name, t in zip(names, earlier(classifier), strict=True) if t is not None}
    return nets | ({} if teacher is None else {"f_S": exact(teacher)})


# ---------------------------------------------------------------------------------------- the formulae
def test_a_loss_of_no_known_name_is_none() -> None:
    logits = torch.zeros(2)
    for loss in (lambda: generator_loss(logits, "lsgan"), lambda: critic_loss(logits, logits, "lsgan")):  # type: ignore[arg-type]
        with pytest.raises(DakitError, match='there is no objective "lsgan"; there are: least_squares, log, log_sat'):
            loss()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_generator_and_critic_loss_are_the_equations(objective: Objective) -> None:
    real, fake = np.array([[1.5, -0.3], [2.0, 0.0]]), np.array([[-2.5, 0.7], [0.1, -1.0]])

    def sigmoid(d: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-d))

    if objective == "least_squares":
        expected_g = np.mean((fake - 1) ** 2)
        expected_d = np.mean((real - 1) ** 2) + np.mean(fake**2)
    else:
        eq_4 = np.mean(np.log(sigmoid(real))) + np.mean(np.log(1 - sigmoid(fake)))
        expected_d = -eq_4
        saturating = np.mean(np.log(1 - sigmoid(fake)))
        expected_g = saturating if objective == "log_saturating" else -np.mean(np.log(sigmoid(fake)))
    assert generator_loss(torch.tensor(fake), objective).item() == pytest.approx(expected_g, rel=1e-6)
    assert critic_loss(torch.tensor(real), torch.tensor(fake), objective).item() == pytest.approx(expected_d, rel=1e-6)


@pytest.mark.parametrize("objective", ["log_saturating", "log"])
def test_logarithms_stay_finite_where_the_sigmoid_is_0_or_1(objective: Objective) -> None:
    far = torch.tensor([200.0])
    assert generator_loss(far, objective).item() == (-200 if objective == "log_saturating" else 0)
    assert critic_loss(-far, far, objective).item() == 400


@pytest.mark.parametrize(
    ("objective", "certain", "unsure"), [("log_saturating", -1, -0.5), ("log", 0, -0.5), ("least_squares", 6, -2)]
)
def test_slope_of_the_generators_loss(objective: Objective, certain: float, unsure: float) -> None:
    """d/dd of log(1 - s(d)) = -s(d), of -log s(d) = s(d) - 1, of (d - 1)^2 = 2 (d - 1), at d = 4 and 0."""
    logits = torch.tensor([4.0, 0.0], requires_grad=True)
    (slope,) = torch.autograd.grad(generator_loss(logits, objective) * 2, logits)
    close = 1 / (1 + math.exp(4))
    expected = certain if objective == "least_squares" else certain + (close if certain else -close)
    assert slope.tolist() == pytest.approx([expected, unsure], rel=1e-5)


# ------------------------------------------------------------------------------------------ one step
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_step_is_equation_8(tmp_path: Path, objective: Objective) -> None:
    teacher = tiny.fresh(TEACHER, 60, tiny.CLASSES)
    got = losses(tmp_path, objective=objective, classifier=F, teacher=teacher, transfer=tiny.spec(tiny.Lopsided))
    nets = networks(classifier=True, teacher=teacher)
    expected = {name: term.item() for name, term in equation_8(nets, objective).items()}
    critics = {name: got.pop(name) for name in ("D_W", "D_S")}
    assert got == pytest.approx(expected, rel=1e-5)
    assert sum(got.values()) == pytest.approx(sum(expected.values()), rel=1e-5)
    x_s, x_w = pixels(SOURCE), pixels(TARGET)
    for name, real, fake in (("D_W", x_w, nets["G_SW"](x_s)), ("D_S", x_s, nets["G_WS"](x_w))):
        on_real, on_fake = nets[name](real), nets[name](fake)
        if objective == "least_squares":
            loss = ((on_real - 1) ** 2).mean() + (on_fake**2).mean()
        else:
            loss = -torch.log(probability(on_real)).mean() - torch.log(1 - probability(on_fake)).mean()
        assert critics[name] == pytest.approx(loss.item(), rel=1e-5)


def test_identity_is_of_the_domain_that_a_translator_makes(tmp_path: Path) -> None:
    got = losses(tmp_path, identity_weight=0.7)
    nets, x_s, x_w = networks(), pixels(SOURCE), pixels(TARGET)
    assert got["identity W"] == pytest.approx(0.7 * (nets["G_SW"](x_w) - x_w).abs().mean().item(), rel=1e-5)
    assert got["identity S"] == pytest.approx(0.7 * (nets["G_WS"](x_s) - x_s).abs().mean().item(), rel=1e-5)


def test_sum_over_pixels_is_mean_times_3hw(tmp_path: Path) -> None:
    mean = losses(tmp_path / "mean", identity_weight=1.0)
    total = losses(tmp_path / "sum", identity_weight=1.0, reduction="sum")
    for name, value in mean.items():
        factor = 3 * 4 * 6 if name.split()[0] in ("cycle", "identity") else 1
        assert total[name] == pytest.approx(factor * value, rel=1e-6), name


@pytest.mark.parametrize(
    ("weight", "term"),
    [
        ("adversarial_weight", "G adversarial"),
        ("cycle_weight", "cycle via"),
        ("identity_weight", "identity"),
        ("classification_weight", "f_W cross-entropy"),
    ],
)
def test_a_weight_scales_its_term_alone(tmp_path: Path, weight: str, term: str) -> None:
    settings = {"classifier": F, "identity_weight": 1.0}
    one = losses(tmp_path / "1", **settings)
    scaled = losses(tmp_path / "2", **{**settings, weight: 2.5})
    assert any(name.startswith(term) for name in one)
    for name, value in one.items():
        assert scaled[name] == pytest.approx((2.5 if name.startswith(term) else 1) * value, rel=1e-6), name


@pytest.mark.parametrize("sees", ["source", "generated"])
def test_what_the_teacher_sees(tmp_path: Path, sees: str) -> None:
    teacher = tiny.fresh(TEACHER, 60, tiny.CLASSES)
    settings = {"classifier": F, "teacher": teacher, "transfer": tiny.spec(tiny.Lopsided), "teacher_sees": sees}
    nets = networks(classifier=True, teacher=teacher)
    expected = {either: equation_8(nets, sees=either)["f_W transfer"].item() for either in ("source", "generated")}
    assert losses(tmp_path, **settings)["f_W transfer"] == pytest.approx(expected[sees], rel=1e-5)
    assert expected["source"] != pytest.approx(expected["generated"], rel=1e-3)


# --------------------------------------------------------------------------------------- gradient paths
@pytest.mark.parametrize("sees", ["source", "generated"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_those_of_the_sum_and_of_the_critics_loss_alone(
    tmp_path: Path, objective: Objective, sees: str
) -> None:
    """Backward goes direction by direction; what it adds up to is the gradient of Eq. 8 as one expression."""
    teacher = tiny.fresh(TEACHER, 60, tiny.CLASSES)
    got = gradients(
        tmp_path,
        objective=objective,
        classifier=F,
        teacher=teacher,
        transfer=tiny.spec(tiny.Lopsided),
        teacher_sees=sees,
    )
    nets = networks(classifier=True, teacher=teacher)
    total = torch.stack(list(equation_8(nets, objective, sees=sees).values())).sum()
    learned = [p for name in ("G_SW", "G_WS", "f_W") for p in nets[name].parameters()]
    assert_close(got["generators"], torch.autograd.grad(total, learned))

    x_s, x_w = pixels(SOURCE), pixels(TARGET)
    on = {
        "real W": nets["D_W"](x_w),
        "fake W": nets["D_W"](nets["G_SW"](x_s)),
        "real S": nets["D_S"](x_s),
        "fake S": nets["D_S"](nets["G_WS"](x_w)),
    }
    if objective == "least_squares":
        parts = [((d - 1) ** 2 if name.startswith("real") else d**2).mean() for name, d in on.items()]
    else:
        parts = [
            -torch.log(probability(d) if name.startswith("real") else 1 - probability(d)).mean()
            for name, d in on.items()
        ]
    critics = [p for name in ("D_W", "D_S") for p in nets[name].parameters()]
    assert_close(got["critics"], torch.autograd.grad(torch.stack(parts).sum(), critics))


def assert_close(got: list[Tensor], expected: tuple[Tensor, ...]) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert b.abs().max() > 1e-6
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("classification", "taught", "moved"), [(1.0, False, True), (0.0, True, True), (0.0, False, False)]
)
def test_only_the_classifiers_losses_reach_the_translator(
    tmp_path: Path, classification: float, taught: bool, moved: bool
) -> None:
    settings: dict[str, Any] = {"adversarial_weight": 0.0, "cycle_weight": 0.0, "classifier": F, "steps": 2}
    if taught:
        settings |= {"teacher": tiny.fresh(TEACHER, 60, tiny.CLASSES), "transfer": tiny.spec(tiny.Lopsided)}
    made = run(tmp_path, classification_weight=classification, **settings)
    assert tiny.same(made.translator.state, earlier().translator.state) is not moved
    assert tiny.same(made.inverse.state, earlier().inverse.state)  # f_W never sees what G_WS makes


def test_a_frozen_teacher_stays_as_it_is(tmp_path: Path) -> None:
    """Neither weights nor running statistics change, and no gradient arrives."""
    spec, built = tiny.recorded(tiny.Classifier, norm=True, dropout=0.5)
    teacher = tiny.fresh(spec, 60, tiny.CLASSES)
    before = {name: value.clone() for name, value in teacher.state.items()}
    built.clear()
    run(tmp_path, classifier=F, teacher=teacher, transfer=tiny.spec(tiny.Lopsided), teacher_sees="generated", steps=3)
    (f_S,) = built
    assert tiny.same(f_S.state_dict(), before)
    assert not f_S.training
    assert all(p.grad is None and not p.requires_grad for p in f_S.parameters())
    assert tiny.same(teacher.state, before)


def test_a_transfer_loss_with_weights_is_learned_and_resumed(tmp_path: Path) -> None:
    spec, built = tiny.recorded(tiny.Adapted)
    settings = {
        "classifier": F, "teacher": tiny.fresh(TEACHER, 60, tiny.CLASSES), "transfer": spec, "lr": 0.01, "steps": 4,
    }  # fmt: skip
    whole = run(tmp_path / "whole", **settings)
    assert built[0].scale.item() != 0.5
    with pytest.raises(tiny.Interruption):
        run(tmp_path / "cut", tiny.Unplug(3), checkpoint_steps=1, **settings)
    resumed = run(tmp_path / "cut", **settings)
    assert built[2].scale.item() == built[0].scale.item()
    assert_same(resumed, whole)


# ------------------------------------------------------------------------------------- start and resume
def test_init_takes_every_network_of_the_earlier_stage(tmp_path: Path) -> None:
    first = earlier(classifier=True)
    made = run(tmp_path, init=first, init_classifier=None, classifier=F, lr=1e-20)  # too little to move a weight
    assert_same(made, first)


def test_weights_for_the_classifier_come_before_those_of_init(tmp_path: Path) -> None:
    own = tiny.fresh(F, 51, tiny.CLASSES)
    made = run(tmp_path, init=earlier(classifier=True), init_classifier=own, classifier=F, lr=1e-20)
    assert made.classifier is not None
    assert tiny.same(made.classifier.state, own.state)


def test_the_two_translators_and_critics_share_nothing(tmp_path: Path) -> None:
    made = run(tmp_path, init=None)
    assert not tiny.same(made.translator.state, made.inverse.state)
    assert not tiny.same(made.critic_target.state, made.critic_source.state)


def test_other_networks_than_those_of_init_are_refused(tmp_path: Path) -> None:
    wide = tiny.spec(tiny.Classifier, width=7)
    other = earlier()._replace(critic_source=tiny.fresh(wide, 0, tiny.CLASSES))
    with pytest.raises(DakitError, match=r"init: D_S is Classifier \{'width': 7\}, but this stage's is Critic \{\}"):
        run(tmp_path, init=other)
    with pytest.raises(DakitError, match=r"f_W is Classifier \{'width': 7\}, but this stage's is Classifier \{\}"):
        run(tmp_path, classifier=F, init_classifier=tiny.fresh(wide, 0, tiny.CLASSES))
    with pytest.raises(DakitError, match=r"f_W knows \('c', 'b', 'a'\), but .* \('a', 'b', 'c'\)"):
        run(tmp_path, classifier=F, init_classifier=tiny.fresh(F, 0, tiny.CLASSES[::-1]))


def test_a_classifier_needs_labels(tmp_path: Path) -> None:
    stage = TrainTranslator(**{**STEP, "classifier": F})
    partly = tiny.images([0, 1, -1, 2])
    for source in (Unlabelled(SOURCE), partly):
        with pytest.raises(DakitError, match="source: every image needs a label"):
            stage.run(tiny.context(tmp_path), source=source, target=TARGET)


@pytest.mark.parametrize(
    ("settings", "inputs", "problem"),
    [
        ({}, {"source", "target", "init"}, None),
        ({"classifier": F}, {"source", "target", "init_classifier"}, None),
        ({"classifier": F}, {"teacher"}, "`teacher` and `transfer` go together"),
        ({"classifier": F, "transfer": F}, set(), "`teacher` and `transfer` go together"),
        ({"transfer": F}, {"teacher"}, "need a `classifier`"),
        ({}, {"init_classifier"}, "need a `classifier`"),
    ],
)
def test_check(settings: dict[str, Any], inputs: set[str], problem: str | None) -> None:
    problems = TrainTranslator(**{**STEP, **settings}).check(frozenset(inputs))
    assert [text for text in problems if problem is None or problem not in text] == []
    assert len(problems) == (problem is not None)


@pytest.mark.parametrize("killed_in", [2, 4, 5])
def test_killed_and_run_again_ends_with_the_same_bits(tmp_path: Path, killed_in: int) -> None:
    """With dropout, an image pool, augmentation and a falling rate; nothing is seeded between the two parts."""
    settings = {
        "classifier": tiny.spec(tiny.Classifier, dropout=0.3, norm=True), "steps": 5, "batch_size": 2, "pool": 3,
        "lr": 0.01, "teacher": tiny.fresh(TEACHER, 60, tiny.CLASSES), "transfer": tiny.spec(tiny.Lopsided),
        "augment": {"flip": 0.5, "light": 0.2}, "init": None, "init_classifier": None, "sample_rows": 5,
    }  # fmt: skip
    torch.manual_seed(1)
    whole = run(tmp_path / "whole", **settings)
    torch.manual_seed(1)
    with pytest.raises(tiny.Interruption):
        run(tmp_path / "cut", tiny.Unplug(killed_in), checkpoint_steps=1, **settings)
    torch.manual_seed(2)
    resumed = run(tmp_path / "cut", checkpoint_steps=1, **settings)
    assert_same(resumed, whole)
    for name in ("history.json", "samples.png", "pairs.png"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def assert_same(a: TrainedTranslator, b: TrainedTranslator) -> None:
    for name, one, other in zip(TrainedTranslator._fields, a, b, strict=True):
        assert one is not None
        assert other is not None
        assert tiny.same(one.state, other.state), name
        assert one.classes == other.classes


# --------------------------------------------------------------------------------------------- pictures
def test_pictures(tmp_path: Path) -> None:
    made = run(tmp_path, steps=4, samples=3, sample_rows=2, lr=0.05)
    wanted = [0, 1, 2]  # one of each class
    rows = [torch.stack([SOURCE.images[i] for i in wanted])]
    rows += [to_uint8(t.build()(pixels(SOURCE)[wanted].float())) for t in (earlier().translator, made.translator)]
    # 4 x 6 pixels are magnified by 16. Cell (r, c) begins GAP + r (64 + GAP) from the top and (3 - c) (96 + GAP)
    # from the right.
    for file, height, shown in (("samples.png", 4, {0: 0, 1: 1, 3: 2}), ("pairs.png", 2, {0: 0, 1: 2})):
        picture = np.asarray(Image.open(tmp_path / file))
        assert picture.shape[0] == GAP + height * (4 * 16 + GAP)  # source, steps 0, 2 and 4; source and generated
        for row, content in shown.items():
            for column in range(3):
                top, left = GAP + row * (64 + GAP), picture.shape[1] - (3 - column) * (96 + GAP)
                cell = picture[top : top + 64 : 16, left : left + 96 : 16]
                assert np.array_equal(cell, rows[content][column].permute(1, 2, 0).numpy()), (file, row, column)
    with Image.open(tmp_path / "losses.png") as curves:
        assert curves.format == "PNG"
        assert min(curves.size) > 100


class Normed(nn.Module):
    """A translator with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = tiny.Generator(), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(self.norm(self.inner(images)))


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """In 3 steps G_SW is trained on 3 batches of x_s and 3 of G_WS(x_w); 4 looks at it leave its statistics alone."""
    made = run(tmp_path, generator=tiny.spec(Normed), init=None, steps=3, sample_rows=3)
    assert made.translator.state["norm.num_batches_tracked"] == 6


# ------------------------------------------------------------------------------------------- image pool
def batch(*values: float) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2).clone()


def test_an_empty_pool_gives_back_what_it_is_given() -> None:
    pool, given = ImagePool(0), batch(1, 2)
    assert torch.equal(pool.exchange(given), given)
    assert pool.images == []


def test_a_pool_keeps_copies_until_it_is_full() -> None:
    pool, given = ImagePool(3), batch(1, 2, 3)
    assert torch.equal(pool.exchange(given), given)
    given.zero_()
    assert torch.equal(torch.stack(pool.images), batch(1, 2, 3))


def test_a_full_pool_exchanges_one_in_two_for_a_random_older_one() -> None:
    torch.manual_seed(4)
    pool = ImagePool(5)
    given, back = list(range(2005)), []
    for start in range(0, 2005, 5):
        back += pool.exchange(batch(*given[start : start + 5]))[:, 0, 0, 0].int().tolist()
    kept = [int(image[0, 0, 0]) for image in pool.images]
    assert sorted(back + kept) == sorted(given + given[:5])  # the first five were given back and kept
    swapped = sum(a != b for a, b in zip(given[5:], back[5:], strict=True))
    assert abs(swapped - 1000) < 4 * math.sqrt(2000 / 4)
    delays = [a - b for a, b in zip(given[5:], back[5:], strict=True) if a != b]
    assert min(delays) > 0
    # An image meets an exchange with probability 1/2 and is then the one of five: it stays 10 rounds on average.
    assert np.mean(delays) == pytest.approx(10, abs=4 * np.sqrt(90 / swapped))


def test_a_pool_comes_back_from_its_state() -> None:
    pool, again = ImagePool(2), ImagePool(2)
    pool.exchange(batch(1, 2))
    again.load_state_dict(pool.state_dict())
    for value in range(3, 20):
        torch.manual_seed(value)
        one = pool.exchange(batch(value))
        torch.manual_seed(value)
        assert torch.equal(again.exchange(batch(value)), one)


def test_a_pool_read_from_a_checkpoint_goes_to_the_device_of_its_images() -> None:
    """A checkpoint is read on the CPU."""
    pool = ImagePool(1)
    pool.load_state_dict({"images": [torch.zeros(3, 2, 2)]})
    torch.manual_seed(0)
    for _ in range(20):
        assert pool.exchange(torch.zeros(1, 3, 2, 2, device="meta")).device.type == "meta"
        pool.load_state_dict({"images": [torch.zeros(3, 2, 2)]})


def test_a_batch_is_never_made_smaller(tmp_path: Path) -> None:
    stage = TrainTranslator(**{**STEP, "batch_size": 3})
    assert stage.check_sizes({"source": 3, "target": None}) == []
    with pytest.raises(DakitError, match="batch_size: 3 takes 3 images of target a step, but there are 2"):
        stage.run(tiny.context(tmp_path), source=tiny.images([0, 1, 2]), target=tiny.images([-1, -1]))


class Stuck(nn.Module):
    """A generator that cannot learn: its weight has no say."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        return torch.full_like(images, -1.0) + 0 * self.weight


def test_a_discriminator_that_is_never_wrong_is_told(tmp_path: Path) -> None:
    white = TensorImages(torch.full((4, 3, 4, 6), 255, dtype=torch.uint8), classes=())
    stage = TrainTranslator(**{**STEP, "generator": tiny.spec(Stuck), "steps": 60, "lr": 0.05, "objective": "log"})
    ctx = tiny.context(tmp_path)
    stage.run(ctx, source=white, target=white)
    assert [text.partition(" tells")[0] for text in ctx.warnings] == [
        "discriminator collapse: D_S", "discriminator collapse: D_W"
    ]  # fmt: skip
    ctx = tiny.context(tmp_path / "short")
    TrainTranslator(**STEP).run(ctx, source=white, target=white)
    assert ctx.warnings == []


# --------------------------------------------------------------------------------- found by mutants
def test_the_first_step_is_adams(tmp_path: Path) -> None:
    """v = (1 - beta2) g^2 with beta2 = 0.999, m = (1 - beta1) g, and the weights go lr g / (|g| + 1e-8) down."""
    plain = gradients(tmp_path / "0", classifier=F)
    with pytest.raises(tiny.Interruption):
        run(tmp_path / "1", tiny.Unplug(2), checkpoint_steps=1, classifier=F, steps=2, beta1=0.25, lr=0.01)
    parts = load_state(tmp_path / "1" / "checkpoint.safetensors")["parts"]
    before = dict(zip(("G_SW", "G_WS", "D_W", "D_S", "f_W"), earlier(), strict=True))
    before["f_W"] = tiny.fresh(F, 50, tiny.CLASSES)
    for player, names in (("generators", ("G_SW", "G_WS", "f_W")), ("critics", ("D_W", "D_S"))):
        weights = [(parts[name][k], before[name].state[k]) for name in names for k in before[name].state]
        states = [state for _, state in sorted(parts[f"optimiser {player}"]["state"].items())]
        assert len(weights) == len(states) == len(plain[player])
        for (after, start), state, g in zip(weights, states, plain[player], strict=True):
            torch.testing.assert_close(state["exp_avg"], 0.75 * g, rtol=1e-4, atol=1e-9)
            torch.testing.assert_close(state["exp_avg_sq"], 0.001 * g**2, rtol=1e-4, atol=1e-15)
            torch.testing.assert_close(start - after, 0.01 * g / (g.abs() + 1e-8), rtol=1e-3, atol=1e-6)


def test_the_draws_of_version_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not right or wrong, but the same in every release: where they change, ``version`` must rise with them."""
    values = torch.arange(6, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 6)
    source, target = TensorImages(values), TensorImages(values + 100)
    drawn: list[list[int]] = []

    def look(self: Any, trainer: Any, nets: Any, pools: Any, x_s: Tensor, y_s: Tensor, x_w: Tensor, *_: Any) -> Any:
        drawn.append(to_uint8(torch.cat([x_s, x_w]))[:, 0, 0, 0].tolist())
        trainer.backward({"loss": nets["G_SW"](x_s).mean()})
        return {}

    monkeypatch.setattr(TrainTranslator, "step", look)
    assert TrainTranslator.version == 3
    stage = TrainTranslator(**{**STEP, "batch_size": 2, "steps": 3})
    stage.run(tiny.context(tmp_path), source=source, target=target)
    assert drawn == [[4, 5, 105, 101], [0, 1, 103, 102], [2, 3, 100, 104]]


def test_every_row_of_a_picture_has_its_title(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = {}
    monkeypatch.setattr(translator, "grid_png", lambda rows, names, path: titles.update({path.name: list(names)}))
    run(tmp_path, steps=4, samples=3, sample_rows=2)
    assert titles == {"samples.png": ["source", "step 0", "step 2", "step 4"], "pairs.png": ["source", "generated"]}
    assert [name for name, _ in load_strips(tmp_path / "samples.npz")] == ["source", "step 0", "step 2", "step 4"]


@pytest.mark.parametrize("each", [1, 2, 40, 400])
def test_followed_images_are_of_every_class_wherever_they_stand(each: int) -> None:
    """Two or one of each class, the first ones; sorted by class, as folders are, and in turns."""
    count = 5 * each
    for labels in ([k for k in range(5) for _ in range(each)], [k for _ in range(each) for k in range(5)]):
        images = torch.arange(count).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        source = TensorImages((images % 256).to(torch.uint8), labels, classes=tuple("abcde"))
        followed = _Followed(source, 7, None, None)  # type: ignore[arg-type]
        places = [[i for i, label in enumerate(labels) if label == k][: 2 if k < 2 else 1] for k in range(5)]
        wanted = [i for some in places for i in some]
        assert followed.originals[:, 0, 0, 0].tolist() == [i % 256 for i in wanted]


# ------------------------------------------------------------------------ optimiser, schedule, average
AVERAGED: dict[str, Any] = {
    "steps": 5, "classifier": F, "lr": 0.01, "augment": {"flip": 0.5},
    "optimiser": {"momentum": 0.5, "weight_decay": 0.1, "clip": 1.0, "average": 0.6},
    "schedule": {"warmup": 0.2, "decay": "linear"},
}  # fmt: skip


def test_the_optimiser_of_a_recipe_is_both_players(tmp_path: Path) -> None:
    """With no weight decay and linear decay from a half on it is what the stage's own parameters say."""
    plain = run(tmp_path / "0", steps=4, lr=0.01, classifier=F)
    optimiser, schedule = {"name": "adam", "momentum": 0.5}, {"decay": "linear", "decay_from": 0.5}
    other = run(tmp_path / "1", steps=4, lr=0.01, classifier=F, optimiser=optimiser, schedule=schedule)
    for a, b in zip(plain, other, strict=True):
        assert a is not None
        assert b is not None
        for name in a.state:
            torch.testing.assert_close(a.state[name], b.state[name], rtol=1e-4, atol=1e-6)


def test_biases_do_not_decay_in_either_player(tmp_path: Path) -> None:
    stage = TrainTranslator(**{**STEP, "optimiser": {"weight_decay": 0.1}})
    nets = {name: network.build() for name, network in zip(("G_SW", "G_WS", "D_W", "D_S"), earlier()[:4], strict=True)}
    for optimiser in stage.optimisers(nets).values():
        assert {(g["weight_decay"], min(p.ndim for p in g["params"]) > 1) for g in optimiser.param_groups} == {
            (0.1, True), (0.0, False),
        }  # fmt: skip


def test_the_average_of_what_is_used_is_the_result_and_the_last_critics(tmp_path: Path) -> None:
    averaged = run(tmp_path / "0", **AVERAGED)
    last = run(tmp_path / "1", **{**AVERAGED, "optimiser": {**AVERAGED["optimiser"], "average": None}})
    same = [tiny.same(a.state, b.state) for a, b in zip(averaged, last, strict=True) if a and b]
    assert same == [False, False, True, True, False]
    states: list[Mapping[str, Tensor]] = []
    for steps in range(1, 6):  # the rate of step n is the same however many follow: warm-up 1, then 1 to 1/4 of 4
        rates = [0.5, 1.0, 0.75, 0.5, 0.25][:steps]
        states.append(_after(tmp_path / f"by hand {steps}", rates))
    average = dict(states[0])
    for n, state in enumerate(states[1:], start=2):
        d = min(0.6, 1 - n ** (-2 / 3))
        average = {name: d * average[name] + (1 - d) * state[name] for name in average}
    for name, value in average.items():
        torch.testing.assert_close(averaged.translator.state[name], value, rtol=1e-4, atol=1e-6)


def _after(folder: Path, rates: list[float]) -> Mapping[str, Tensor]:
    """G_SW after steps with these parts of the learning rate, without an average."""

    class Given:
        def factor(self, done: int, steps: int) -> float:
            return rates[done]

    settings = {**AVERAGED, "steps": len(rates), "optimiser": {**AVERAGED["optimiser"], "average": None}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dakit.training.schedule.Schedule.factor", Given.factor)
        return run(folder, **settings).translator.state


def test_a_killed_training_with_an_average_ends_bit_identical(tmp_path: Path) -> None:
    ends = []
    for killed in (None, 1, 3):
        folder = tmp_path / str(killed)
        if killed is not None:
            with pytest.raises(tiny.Interruption):
                run(folder, tiny.Unplug(killed), checkpoint_steps=1, **AVERAGED)
        ends.append(run(folder, checkpoint_steps=1, **AVERAGED))
    for end in ends[1:]:
        assert all(tiny.same(a.state, b.state) for a, b in zip(end, ends[0], strict=True) if a and b)


def test_what_is_shown_last_is_by_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what the returned translator makes of the images, and the first row what it started as."""
    drawn: list[_Followed] = []
    monkeypatch.setattr(_Followed, "draw", lambda follow, ctx: drawn.append(follow))
    made = run(tmp_path, **AVERAGED)
    (follow,) = drawn
    for row, trained in ((0, earlier().translator), (-1, made.translator)):
        with torch.no_grad():
            expected = to_uint8(trained.build()(follow.originals.float() / 127.5 - 1))
        assert torch.equal(follow.rows[row], expected)
    assert not torch.equal(follow.rows[0], follow.rows[-1])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"optimiser": {}, "beta1": 0.9},
            "`beta1` has no say beside `optimiser`: leave it out, and write momentum: 0.9",
        ),
        (
            {"schedule": {}, "decay_from": 1.0},
            "`decay_from` has no say beside `schedule`: leave it out, and write decay",
        ),
        ({"optimiser": {"body_lr": 0.1}}, "`body_lr` within `optimiser` is for train_classifier"),
    ],
)
def test_what_contradicts_the_optimiser_is_told(settings: dict[str, Any], problem: str) -> None:
    (found,) = TrainTranslator(**{**STEP, **settings}).check(frozenset({"source", "target"}))
    assert found.startswith(problem)
