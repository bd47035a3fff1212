"""Faces drawn by a small renderer: embedded data with an easy, a hard and an unlabelled domain.

A face is a sphere seen from the front, on which signed-distance shapes are painted. Each pixel is turned
back by the head's pose to the point (X, Y, Z) of the sphere that it shows, and the features live in the
plane (X, Y); so a turned face shifts, foreshortens and hides its features as a real one does. The nose
stands out of the sphere. Expressions are sums of facial action units (Ekman and Friesen, *Facial Action
Coding System*, 1978), each at strength times level:

======  ==========  ===========================================  ==================================
class   emotion     always                                       sometimes (strength 0 to the value)
======  ==========  ===========================================  ==================================
AN      anger       4 (1), 5 (.5), 7 (.7), 23 (1), 17 (.4)       24 (.8), 25 (.5)
DI      disgust     9 (1), 10 (.9), 7 (.5), 4 (.3)               15 (.6), 25 (.8), 17 (.4)
FE      fear        1 (1), 2 (.6), 4 (.6), 5 (1), 20 (1), 25 (.7)  26 (.4)
HA      happiness   6 (.9), 12 (1)                               25 (1), 26 (.2)
NE      neutral
SA      sadness     1 (1), 4 (.6), 15 (1), 7 (.3)                17 (.7)
SU      surprise    1 (1), 2 (1), 5 (.8), 25 (.5), 26 (1)
======  ==========  ===========================================  ==================================

Action units: 1, 2 inner and outer brow raiser, 4 brow lowerer, 5 upper lid raiser, 6 cheek raiser, 7 lid
tightener, 9 nose wrinkler, 10 upper lip raiser, 12 lip corner puller, 15 lip corner depressor, 17 chin
raiser, 20 lip stretcher, 23 lip tightener, 24 lip pressor, 25 lips part, 26 jaw drop. Every strength varies
from image to image, and every unit moves a little without being asked.

=============  =====================================  ====================================================
what           ``lab``                                ``wild`` and ``web``
=============  =====================================  ====================================================
level          0.75 or 1                              0.45 to 1
pan, tilt      +-45, +-25 degrees                     +-40 (small ones more often), +-18 degrees
roll           +-2 degrees                            +-22 degrees
shift, scale   +-1 %, +-3 % of the image              +-10 %, 0.8 to 1.1
background     dark, plain                            gradient, stripes, seven random shapes
person         bald, bare                             hair (five colours, long or short), beard, clothes,
                                                      glasses
light          even, white, from the front            directional and coloured, ambient of another colour
camera         a little noise                         tone, contrast, colour cast, blur, noise, occluders
people         "lab-000", ...                         "wild-000", ... and "web-000", ...: all different
=============  =====================================  ====================================================

The renderer is frozen: a change of its images is a change of every result that rests on them.

It is one thing: a renderer, whose parts draw on one canvas.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Positive, Sample
from dakit.parameters import checked

_RENDERER = 1  # raised if the images ever change

_ALWAYS: dict[str, dict[int, float]] = {
    "AN": {4: 1, 5: 0.5, 7: 0.7, 23: 1, 17: 0.4},
    "DI": {9: 1, 10: 0.9, 7: 0.5, 4: 0.3},
    "FE": {1: 1, 2: 0.6, 4: 0.6, 5: 1, 20: 1, 25: 0.7},
    "HA": {6: 0.9, 12: 1},
    "NE": {},
    "SA": {1: 1, 4: 0.6, 15: 1, 7: 0.3},
    "SU": {1: 1, 2: 1, 5: 0.8, 25: 0.5, 26: 1},
}
_SOMETIMES: dict[str, dict[int, float]] = {
    "AN": {24: 0.8, 25: 0.5},
    "DI": {15: 0.6, 25: 0.8, 17: 0.4},
    "FE": {26: 0.4},
    "HA": {25: 1, 26: 0.2},
    "NE": {},
    "SA": {17: 0.7},
    "SU": {},
}
_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 17, 20, 23, 24, 25, 26)
_HAIR = ((0.07, 0.06, 0.06), (0.22, 0.13, 0.08), (0.45, 0.28, 0.14), (0.80, 0.65, 0.38), (0.62, 0.61, 0.60))
_IRIS = ((0.20, 0.11, 0.06), (0.35, 0.22, 0.10), (0.25, 0.42, 0.58), (0.28, 0.42, 0.25))
_CHUNK = 16  # images drawn at once: few enough that one layer stays in the processor's cache


@checked
def synthetic_faces(
    size: int,
    classes: Sequence[str] | None,
    *,
    domain: Literal["lab", "wild", "web"],
    people: Positive = 50,
    per_person: Positive = 10,
    seed: int = 0,
) -> RenderedFaces:
    """Draw faces with basic expressions. A pure function of its arguments: nothing is read or stored.

    The images come person by person, class by class. Which image stands for (domain, person, class, k)
    depends on ``seed`` and ``size`` alone, so a larger set begins each person with the same images.

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: the class names in the order of the labels, among AN DI FE HA NE SA SU; None = these
            seven (from the recipe). The domain "web" shows their expressions too, but does not name them.
        domain: "lab" is even and dark, "wild" is cluttered and milder, "web" is wild without labels. No
            two domains share a person.
        people: how many; each is a group, such as "lab-017".
        per_person: images of each person in each class.
        seed: of the people and of everything else.

    Raises:
        DakitError: there is no such class.

    >>> faces = synthetic_faces(16, ["HA", "SA"], domain="lab", people=2, per_person=1)
    >>> faces.labels, faces.groups, tuple(faces.images.shape)
    ([0, 1, 0, 1], ['lab-000', 'lab-000', 'lab-001', 'lab-001'], (4, 3, 16, 16))
    """
    names = tuple(_ALWAYS) if classes is None else tuple(classes)
    for name in names:
        if name not in _ALWAYS:
            raise DakitError(f'synthetic_faces: there is no class "{name}"{did_you_mean(name, _ALWAYS)}')
    plan = [(p, c, k) for p in range(people) for c in range(len(names)) for k in range(per_person)]
    return RenderedFaces(
        size=size,
        domain=domain,
        seed=seed,
        plan=[(p, names[c], k) for p, c, k in plan],
        labels=[-1 if domain == "web" else c for _, c, _ in plan],
        classes=() if domain == "web" else names,
    )


class RenderedFaces:
    """Faces that are drawn, all together, when the first of them is looked at.

    A run whose results are all there already needs labels, groups and the fingerprint, but no pixel.
    """

    def __init__(
        self,
        *,
        size: int,
        domain: str,
        seed: int,
        plan: Sequence[tuple[int, str, int]],
        labels: Sequence[int],
        classes: tuple[str, ...],
    ) -> None:
        self._drawn_from = (size, domain, seed, plan)
        self.labels = labels
        self.groups = [f"{domain}-{person:03d}" for person, _, _ in plan]
        self.classes = classes

    @cached_property
    def images(self) -> Tensor:
        """uint8 ``(N, 3, size, size)``."""
        return _draw(*self._drawn_from)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> Sample:
        return Sample(self.images[index].clone(), self.labels[index], self.groups[index])

    def fingerprint(self) -> str:
        """A hash of what the pixels, labels and groups are a function of."""
        what = (_RENDERER, self._drawn_from, list(self.labels), self.classes)
        return hashlib.sha256(repr(what).encode()).hexdigest()


def _draw(size: int, domain: str, seed: int, plan: Sequence[tuple[int, str, int]], chunk: int = _CHUNK) -> Tensor:
    """The images (person, class, k) of a plan, uint8 ``(N, 3, size, size)``; ``chunk`` does not change them."""
    drawn: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(plan), chunk):
            part = plan[start : start + chunk]
            generators = [_generator(seed, domain, *which) for which in part]
            persons = [_generator(seed, domain, person) for person, _, _ in part]
            scene = _Scene(
                lab=domain == "lab",
                size=size,
                person=_Numbers(persons),
                image=_Numbers(generators),
                expressions=[name for _, name, _ in part],
            )
            noise = torch.stack([torch.rand(2, 3, size, size, generator=generator) for generator in generators], dim=2)
            drawn.append(_render(scene, noise))
    return torch.cat(drawn)


def _generator(*key: object) -> torch.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


# ---------------------------------------------------------------------------------------- small tools
# Fields are float32 (B, H, W), numbers (B, 1, 1), canvases (3, B, H, W), colours (3, B, 1, 1). Per pixel only
# + - * / sqrt, min, max and floor are used, one operation at a time: IEEE 754 fixes their results to the last
# bit, so a pixel depends neither on how images are chunked nor on the number of threads. Sines are taken of
# single numbers, in float64.


class _Numbers:
    """Uniform numbers, the next column for each call, so that one image's never depend on another's."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        rows = [torch.rand(256, generator=generator, dtype=torch.float64) for generator in generators]
        self._columns: Iterator[Tensor] = iter(torch.stack(rows, dim=1)[:, :, None, None])

    def __call__(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        return (low + (high - low) * next(self._columns)).float()

    def chance(self, probability: float) -> Tensor:
        return (next(self._columns) < probability).float()

    def turn(self, degrees: float, power: int = 1) -> tuple[Tensor, Tensor]:
        """Cosine and sine of an angle within +-degrees; a higher power makes small angles more frequent."""
        unit = 2 * next(self._columns) - 1
        angle = math.radians(degrees) * unit * unit.abs() ** (power - 1)
        return angle.cos().float(), angle.sin().float()

    def colour(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Any hue, mostly pale."""
        colour = torch.stack([self(low, high) for _ in range(3)])
        grey = (colour[0] + colour[1] + colour[2]) / 3
        return grey + (colour - grey) * self(0.1, 1.0)

    def among(self, palette: Sequence[tuple[float, float, float]]) -> Tensor:
        which = (next(self._columns).flatten() * len(palette)).long()
        return torch.tensor(palette)[which].T[:, :, None, None]


@dataclass
class _Scene:
    """What is known of a chunk of images before anything is drawn."""

    lab: bool
    size: int
    person: _Numbers
    image: _Numbers
    expressions: list[str]


def _cover(distance: Tensor, width: Tensor | float) -> Tensor:
    """How much of a pixel lies inside a shape: 1 where the signed distance is below -width/2, 0 above."""
    return (0.5 - distance / width).clamp_(0, 1)


def _paint(canvas: Tensor, alpha: Tensor, colour: Tensor) -> None:
    """Lay a colour, or another canvas, over a canvas in place."""
    for channel, ink in zip(canvas, colour.expand(3, *colour.shape[1:]), strict=True):
        channel += (ink - channel).mul_(alpha)


def _segment(
    x: Tensor, y: Tensor, ax: Tensor | float, ay: Tensor | float, bx: Tensor | float, by: Tensor | float
) -> Tensor:
    """Distance from (x, y) to the line from a to b."""
    dx, dy = torch.as_tensor(bx - ax), torch.as_tensor(by - ay)
    px, py = x - ax, y - ay
    along = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp_(0, 1)
    px, py = px - along * dx, py - along * dy
    return (px * px + py * py).sqrt_()


def _stroke(distance: Tensor, radius: float) -> Tensor:
    """A soft line: 1 on it, 0 at ``radius`` and beyond."""
    return (1 - distance.abs() / radius).clamp_(0, 1)


def _grid(pixels: int) -> tuple[Tensor, Tensor]:
    line = (2 * torch.arange(pixels, dtype=torch.float32) + 1 - pixels) / pixels
    return line[None, None, :], line[None, :, None]


# ---------------------------------------------------------------------------------------- the picture
def _render(scene: _Scene, noise: Tensor) -> Tensor:
    """uint8 ``(B, 3, size, size)``, drawn at twice the size."""
    person, image, lab = scene.person, scene.image, scene.lab
    unit = _action_units(scene)
    face = _pose(scene, unit)
    canvas = _background(scene)
    hair = person.among(_HAIR) * person(0.8, 1.2)
    skin = _skin(person)

    long_hair, bald = person.chance(0.45), person.chance(0.12)
    hairline, fringe, volume = person(-0.72, -0.5), person(-0.1, 0.14), person(1.06, 1.2)
    beard = person.chance(0.25) * (1 - long_hair) * person(0.4, 1.0)
    glasses, rim = person.chance(0.22), person.colour(0.0, 0.5)
    clothes, lips_red = person.colour(0.05, 0.95), person(0.0, 1.0)
    if not lab:
        _behind(canvas, face, skin, hair, clothes, long_hair, (1 - bald) * volume)

    head = skin.expand(canvas.shape).clone()
    relief = _wrinkles(face, unit, person)
    if not lab:
        _paint(head, beard * _beard_mask(face), hair)
    relief = relief + _eyes(head, face, unit, scene)
    _brows(head, face, unit, person, hair * 0.8)
    relief = relief - _cheeks(face, unit)
    slope, nose_mask = _nose(head, face, unit, person, skin)
    _mouth(head, face, unit, scene, skin, lips_red)
    if not lab:
        _glasses(head, face, glasses * image.chance(0.8), rim)
        _paint(head, (1 - bald) * _hair_mask(face, hairline, fringe), hair * _strands(face))
    head *= _light(face, slope, scene) * (1 - relief.clamp_(-0.5, 0.7))
    outline = torch.maximum(_cover(face.rim, face.pixel), nose_mask)
    _paint(canvas, outline, head)
    if not lab:
        _occlude(canvas, scene)
    return _camera(canvas, scene, noise)


def _action_units(scene: _Scene) -> dict[int, Tensor]:
    """Strength of each action unit, 0 to about 1."""
    image = scene.image
    coin = image.chance(0.5)
    level = 0.75 + 0.25 * coin if scene.lab else image(0.45, 1.0)
    strengths: dict[int, Tensor] = {}
    for name in _UNITS:
        always = torch.tensor([_ALWAYS[e].get(name, 0.0) for e in scene.expressions])[:, None, None]
        sometimes = torch.tensor([_SOMETIMES[e].get(name, 0.0) for e in scene.expressions])[:, None, None]
        asked = (always * image(0.8, 1.15) + sometimes * image()) * level
        stray = image() * image() * image() * (0.12 if scene.lab else 0.25)
        strengths[name] = torch.maximum(asked, stray)
    return strengths


@dataclass
class _Face:
    """Where each pixel lies.

    Attributes:
        u, v, w: the normal of the head at the pixel, in the image's frame (right, down, to the viewer).
        x, y, z: the same point in the head's frame; x is moved far away where the face looks away.
        side, across: sign and amount of x.
        rim: signed distance to the head's outline, in head heights.
        pixel: size of a pixel there.
        pan, tilt: cosine and sine.
        mouth_y, mouth_width, eye_x, nose_y: where the features of this person lie.
    """

    u: Tensor
    v: Tensor
    w: Tensor
    x: Tensor
    y: Tensor
    z: Tensor
    side: Tensor
    across: Tensor
    rim: Tensor
    pixel: Tensor
    pan: tuple[Tensor, Tensor]
    tilt: tuple[Tensor, Tensor]
    mouth_y: Tensor
    mouth_width: Tensor
    eye_x: Tensor
    nose_y: Tensor

    def project(self, x: Tensor | float, y: Tensor | float, z: Tensor | float) -> tuple[Tensor, Tensor]:
        """Where in (u, v) a point of the head's frame is seen."""
        (cos_pan, sin_pan), (cos_tilt, sin_tilt) = self.pan, self.tilt
        depth = cos_pan * z - sin_pan * x
        return cos_pan * x + sin_pan * z, cos_tilt * y - sin_tilt * depth


def _pose(scene: _Scene, unit: dict[int, Tensor]) -> _Face:
    person, image = scene.person, scene.image
    aspect, jaw = person(0.72, 0.82), person(0.06, 0.20)
    eye_x, mouth_y, nose_y = person(0.36, 0.43), person(0.54, 0.61), person(0.21, 0.28)
    mouth_width = person(0.31, 0.40)
    if scene.lab:
        pan, tilt, roll = image.turn(45), image.turn(25), image.turn(2)
        scale, shift = image(0.94, 1.00), 0.02
    else:
        pan, tilt, roll = image.turn(40, 2), image.turn(18, 2), image.turn(22, 2)
        scale, shift = image(0.74, 1.0), 0.16
    right, down = image(-shift, shift), image(-shift, shift) - 0.08 * scale

    columns, rows = _grid(2 * scene.size)
    columns, rows = columns - right, rows - down
    u = (roll[0] * columns + roll[1] * rows) / scale
    v = (roll[0] * rows - roll[1] * columns) / scale
    chin = v.clamp(min=0)
    v = chin * (1 - 0.10 * unit[26]) + v.clamp(max=0) * 1.22  # a dropped jaw makes the face longer
    u = u / (aspect * (1 - jaw * (chin * chin).clamp(max=1.5)))
    squared = u * u + v * v
    w = (1 - squared).clamp_(min=0).sqrt_()
    rim = squared.sqrt_() - 1

    (cos_pan, sin_pan), (cos_tilt, sin_tilt) = pan, tilt
    y = cos_tilt * v + sin_tilt * w
    depth = cos_tilt * w - sin_tilt * v
    x = cos_pan * u - sin_pan * depth
    z = sin_pan * u + cos_pan * depth
    x = torch.where(z > 0, x, 9.0)
    return _Face(
        u, v, w, x, y, z, x.sign(), x.abs(), rim, 2 / scene.size / scale, pan, tilt,
        mouth_y, mouth_width, eye_x, nose_y,
    )  # fmt: skip


def _background(scene: _Scene) -> Tensor:
    image = scene.image
    columns, rows = _grid(2 * scene.size)
    shape = (3, len(scene.expressions), 2 * scene.size, 2 * scene.size)
    if scene.lab:
        return image(0.03, 0.09).expand(shape).clone()
    cos, sin = image.turn(180)
    ramp = 0.5 + 0.35 * (cos * columns + sin * rows)
    first, second = image.colour(0.0, 0.95), image.colour(0.0, 0.95)
    canvas = first + ramp * (second - first)
    cos, sin = image.turn(180)
    wave = (cos * columns + sin * rows) * image(1.5, 5.0)
    stripes = ((wave - wave.floor() - 0.5).abs() - 0.25) * 8
    _paint(canvas, stripes.clamp_(0, 1) * image.chance(0.5) * image(0.1, 0.6), image.colour())
    for number in range(7):
        cos, sin = image.turn(180)
        x, y = columns - image(-1.1, 1.1), rows - image(-1.1, 1.1)
        x, y = cos * x + sin * y, cos * y - sin * x
        wide, high = image(0.08, 0.6), image(0.08, 0.6)
        if number % 2:
            distance = torch.maximum(x.abs() - wide, y.abs() - high)
        else:
            distance = ((x / wide) * (x / wide) + (y / high) * (y / high)).sqrt_() - 1
        _paint(canvas, _cover(distance, image(0.03, 0.3)) * image(0.5, 1.0), image.colour())
    return canvas


def _skin(person: _Numbers) -> Tensor:
    """A colour between light and dark, more yellow or more red."""
    dark, red = person(), person(-0.03, 0.03)
    palette = torch.tensor([[0.95, 0.77, 0.66], [0.42, 0.27, 0.19]])[..., None, None, None]
    tone = palette[0] + dark * (palette[1] - palette[0])
    return tone + torch.stack([red, torch.zeros_like(red), -red])


def _behind(
    canvas: Tensor, face: _Face, skin: Tensor, hair: Tensor, clothes: Tensor, long: Tensor, volume: Tensor
) -> None:
    """Hair behind the head, ears, neck and shoulders. ``volume`` 0 is a bald head."""
    u, v, soft = face.u, face.v, face.pixel
    shifted = u + 0.35 * face.pan[1]  # the back of the head swings the other way
    round_head = torch.maximum((shifted * shifted + (v + 0.1) * (v + 0.1)).sqrt_() - volume, (v - 0.15) * (1 - long))
    curtain = torch.maximum(shifted.abs() - volume * 1.02, torch.maximum(-v, v - 1.15 * long))
    _paint(
        canvas,
        torch.maximum(_cover(round_head, soft), long * _cover(curtain, 0.1)) * (volume > 0),
        hair * 0.7,
    )
    neck = torch.maximum((u + 0.15 * face.pan[1]).abs() - 0.55, 0.3 - v)
    _paint(canvas, _cover(neck, soft), skin * 0.62)
    shoulders = ((u / 1.9) * (u / 1.9) + (v - 2.1) * (v - 2.1)).sqrt_() - 0.95
    _paint(canvas, _cover(shoulders, soft), clothes)
    for side in (-1.0, 1.0):
        ear_u, ear_v = face.project(side * 1.02, 0.0, -0.05)
        x, y = (u - ear_u) / 0.11, (v - ear_v) / 0.2
        _paint(canvas, _cover((x * x + y * y).sqrt_() - 1, 8 * soft) * (1 - 0.8 * long), skin * 0.8)


def _wrinkles(face: _Face, unit: dict[int, Tensor], person: _Numbers) -> Tensor:
    """Darkness of the folds that muscles make, and a little of age."""
    across, y, age = face.across, face.y, person(0.0, 0.25)
    corner_y = face.mouth_y + 0.12 * unit[15] - 0.16 * unit[12]
    fold = _segment(across, y, 0.16, face.nose_y - 0.06 * unit[9], face.mouth_width + 0.1, corner_y)
    strength = (0.7 * unit[12] + 0.9 * unit[9] + 0.4 * unit[10] + 0.35 * unit[15] + age).clamp(max=1.1)
    dark = _stroke(fold, 0.075) * (0.40 * strength)

    raised = (unit[1] + unit[2]) * 0.5
    wave = (y + 0.72) * 9
    forehead = ((wave - wave.floor() - 0.5).abs() - 0.2) * 3
    window = _cover(torch.maximum(across - 0.4, (y + 0.73).abs() - 0.1), 0.15)
    dark += forehead.clamp_(0, 1) * window * (0.35 * raised + 0.15 * age)

    frown = _stroke(_segment(across, y, 0.055, -0.38, 0.07, -0.22), 0.035)
    dark += frown * (0.75 * unit[4])
    for drop in (0.0, 0.1):
        nose = _stroke(_segment(across, y, 0.0, -0.16 + drop, 0.11, -0.22 + drop), 0.035)
        dark += nose * (0.75 * unit[9])
    outer = face.eye_x + 0.25
    for spread in (-0.07, 0.05):
        crow = _stroke(_segment(across, y, outer, -0.13 + 0.3 * spread, outer + 0.09, -0.13 + 1.5 * spread), 0.03)
        dark += crow * (0.35 * unit[6])
    chin = _stroke(_segment(across, y, 0.0, face.mouth_y + 0.17, 0.13, face.mouth_y + 0.2), 0.05)
    return dark + chin * (0.45 * unit[17] + 0.12)


def _eyes(head: Tensor, face: _Face, unit: dict[int, Tensor], scene: _Scene) -> Tensor:
    """Paint both eyes; return the darkness around them."""
    person, image = scene.person, scene.image
    wide, high = person(0.19, 0.23), person(0.090, 0.115)
    slant, iris_colour = person(-0.12, 0.10), person.among(_IRIS)
    look_x, look_y = image(-0.035, 0.035), image(-0.015, 0.015)
    blink = 1.0 if scene.lab else 1 - 0.5 * image.chance(0.06)

    x = face.across - face.eye_x
    y = face.y + 0.13 - x * (slant + 0.3 * unit[1] * unit[4].clamp(max=1))
    t = x / wide
    arch = 1 - t * t
    upper = (1 + 0.75 * unit[5] - 0.40 * unit[7] - 0.35 * unit[9] - 0.30 * unit[6]).clamp(min=0.25)
    lower = (0.65 + 0.15 * unit[5] - 0.30 * unit[7] - 0.30 * unit[9] - 0.45 * unit[6]).clamp(min=0.0)
    top, bottom = -arch * (high * upper * blink), arch * (high * lower * blink)
    beyond = x.abs() - wide
    opening = _cover(torch.maximum(torch.maximum(top - y, y - bottom), beyond), face.pixel)

    _paint(head, opening, torch.full((3, 1, 1, 1), 0.93))
    radius = high * 0.92
    ix, iy = x - face.side * look_x, y + 0.012 - look_y
    from_iris = (ix * ix + iy * iy).sqrt_()
    _paint(head, opening * _cover(from_iris - radius, face.pixel), iris_colour)
    _paint(head, opening * _cover(from_iris - radius * 0.5, face.pixel), torch.full((3, 1, 1, 1), 0.03))
    lashes = _cover(torch.maximum((y - top).abs() - 0.022, beyond), face.pixel)
    _paint(head, lashes * 0.85, torch.full((3, 1, 1, 1), 0.08))

    arch = arch.clamp_(min=0)
    crease = _stroke(y + arch * (high * upper + 0.06), 0.04) * (arch > 0)
    bag = _stroke(y - arch * (high * lower + 0.05), 0.045) * (arch > 0)
    socket = _cover((t * t / 2.5 + (y / 0.2) * (y / 0.2)).sqrt_() - 1, 1.0)
    return crease * 0.22 + bag * (0.12 + 0.40 * unit[6] + 0.25 * unit[7]) + socket * 0.12


def _brows(head: Tensor, face: _Face, unit: dict[int, Tensor], person: _Numbers, colour: Tensor) -> None:
    level, arch, lopsided = person(-0.40, -0.36), person(0.02, 0.07), person(-0.012, 0.012)
    thick, strength = person(0.035, 0.065), person(0.75, 1.0)
    x = face.across - face.eye_x + 0.05 * unit[4]
    t = x / 0.27
    inner = ((1 - t) * 0.5).clamp_(0, 1)
    outer = 1 - inner
    middle = (
        level
        + face.side * lopsided
        - arch * (1 - t * t)
        - inner * inner * (0.17 * unit[1] - 0.06 * unit[9])
        - outer * (0.15 * unit[2])
        - 0.05 * unit[2]
        + (0.3 + 0.7 * inner) * (0.15 * unit[4])
    )
    distance = torch.maximum(
        (face.y - middle).abs() - thick * (0.45 + 0.55 * inner) * (1.1 - 0.5 * t * t), x.abs() - 0.27
    )
    _paint(head, _cover(distance, 1.5 * face.pixel) * strength, colour)


def _cheeks(face: _Face, unit: dict[int, Tensor]) -> Tensor:
    """Brightness of the cheeks, which rise and fill with AU 6 and 12."""
    lift = 0.6 * unit[6] + 0.4 * unit[12]
    x, y = (face.across - 0.47) / 0.2, (face.y - 0.2 + 0.08 * lift) / 0.16
    return _cover((x * x + y * y).sqrt_() - 0.5, 1.0) * (0.05 + 0.13 * lift)


def _nose(
    head: Tensor, face: _Face, unit: dict[int, Tensor], person: _Numbers, skin: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Paint the nose; return how it turns the surface to the right and down, and its mask."""
    size, width = person(1.16, 1.26), person(0.10, 0.14)
    tip_y = face.nose_y - 0.05 * unit[9]
    root_u, root_v = face.project(0.0, -0.2, 0.97)
    tip_u, tip_v = face.project(0.0, tip_y, size)
    du, dv = tip_u - root_u, tip_v - root_v
    pu, pv = face.u - root_u, face.v - root_v
    length = du * du + dv * dv
    along = ((pu * du + pv * dv) / length).clamp_(0, 1)
    pu, pv = pu - along * du, pv - along * dv
    radius = 0.05 + along * along * (width + 0.03 * unit[9] - 0.05)
    distance = (pu * pu + pv * pv).sqrt_() - radius
    mask = _cover(distance, face.pixel)
    bulge = _cover(distance + 0.02, 0.1)
    edge = _stroke(distance, 0.07) * (0.25 + 0.75 * along)
    _paint(head, edge * 0.30, skin * 0.45)
    for side in (-1.0, 1.0):
        hole_u, hole_v = face.project(side * 0.06, tip_y + 0.08, size - 0.09)
        x, y = (face.u - hole_u) / 0.045, (face.v - hole_v) / 0.03
        _paint(head, _cover((x * x + y * y).sqrt_() - 1, 1.2) * 0.75, skin * 0.18)
    return (bulge * pu * 5, bulge * pv * 5), mask


def _mouth(head: Tensor, face: _Face, unit: dict[int, Tensor], scene: _Scene, skin: Tensor, red: Tensor) -> None:
    person, image = scene.person, scene.image
    upper_lip, lower_lip = person(0.050, 0.075), person(0.065, 0.10)
    slip, lopsided = image(-0.012, 0.012), image(-0.02, 0.02)
    pressed = torch.maximum(unit[23], unit[24])
    width = face.mouth_width * (
        1 + 0.30 * unit[12] + 0.35 * unit[20] + 0.08 * unit[15] - 0.22 * unit[23] - 0.15 * unit[26]
    )
    x, y = face.side * face.across - slip, face.y - face.mouth_y
    t = x / width
    bow = 1 - t * t
    bend = 0.12 * unit[15] - 0.17 * unit[12] + 0.05 * unit[20] + 0.03 * unit[10]
    line = (1 - bow) * bend + t * lopsided - bow * (0.05 * unit[17]) - 0.03 * unit[10] - 0.02 * unit[24]
    bow = bow.clamp_(min=0)
    raise_upper = 0.012 + 0.025 * unit[25] + 0.085 * unit[10] * (0.4 + 0.6 * unit[25]) + 0.02 * unit[26]
    drop_lower = 0.012 + 0.075 * unit[25] + 0.27 * unit[26]
    shut = 1 - pressed.clamp(max=1) * 0.9
    # An open mouth keeps its height towards the corners.
    fall = bow * (2 - bow)
    top, bottom = line - fall * (raise_upper * shut), line + fall * (drop_lower * shut)
    thin = 1 - 0.7 * pressed.clamp(max=1)
    thin = thin * (1 - 0.25 * unit[20] - 0.2 * unit[12]).clamp(min=0.4)
    beyond = x.abs() - width
    lips = torch.maximum(top - fall * (upper_lip * thin) - y, y - bottom - fall * (lower_lip * thin))
    lip_colour = skin * torch.stack([0.88 + 0.04 * red, 0.60 - 0.12 * red, 0.62 - 0.08 * red])
    _paint(head, _cover(torch.maximum(lips, beyond), face.pixel), lip_colour)

    inside = _cover(torch.maximum(torch.maximum(top - y, y - bottom), beyond), face.pixel)
    _paint(head, inside * 0.9, torch.tensor([0.20, 0.05, 0.06])[:, None, None, None])
    gap = ((raise_upper + drop_lower) * shut / 0.1).clamp(max=1)
    gap = gap * gap
    teeth = _cover(y - top - 0.075, face.pixel)
    _paint(head, inside * teeth * gap, torch.tensor([0.94, 0.92, 0.86])[:, None, None, None])
    tongue = _cover(bottom - 0.10 - y, 0.08)
    _paint(head, inside * (1 - teeth) * tongue * (0.8 * unit[26].clamp(max=1)), lip_colour * 0.8)
    below = _stroke(y - bottom - fall * (lower_lip * thin + 0.03), 0.06) * (bow > 0)
    _paint(head, below * 0.22, skin * 0.4)


# ------------------------------------------------------------------------------- hair, light, camera
def _beard_mask(face: _Face) -> Tensor:
    """Chin, jaw and upper lip."""
    jaw = torch.maximum(face.mouth_y - 0.2 - face.y, 0.25 - face.across - 0.8 * (face.y - 0.35))
    return _cover(jaw, 0.15) * 0.8


def _hair_mask(face: _Face, hairline: Tensor, fringe: Tensor) -> Tensor:
    """Above the hairline, which falls at the temples, and all of the back."""
    x = face.across.clamp(max=1)
    front = face.y - hairline - fringe * (1 + face.x.clamp(-1, 1)) - x * x * x * 0.75
    return torch.maximum(_cover(front, 0.06), _cover(face.z + 0.05, 0.1) * _cover(face.y - 0.45, 0.1))


def _strands(face: _Face) -> Tensor:
    wave = face.x * 4 + face.x * face.y * 5 + face.v * 0.7
    fine = wave * 2.7
    return 0.78 + 0.3 * (wave - wave.floor() - 0.5).abs() + 0.25 * (fine - fine.floor() - 0.5).abs()


def _glasses(head: Tensor, face: _Face, wears: Tensor, rim: Tensor) -> None:
    x, y = (face.across - face.eye_x) / 1.2, face.y + 0.11
    ring = (x * x + y * y).sqrt_() - 0.19
    bridge = torch.maximum((y + 0.03).abs() - 0.015, face.across - 0.19)
    arm = torch.maximum((y + 0.03).abs() - 0.02, (face.eye_x + 0.22) - face.across)
    frame = torch.minimum(ring.abs() - 0.018, torch.minimum(bridge, arm))
    _paint(head, _cover(frame, face.pixel) * wears, rim)


def _light(face: _Face, slope: tuple[Tensor, Tensor], scene: _Scene) -> Tensor:
    """Colour of the light that each point of the head sends back."""
    image = scene.image
    u, v = face.u + slope[0], face.v + slope[1]
    norm = (u * u + v * v + face.w * face.w).sqrt_().clamp_(min=0.3)
    if scene.lab:
        return ((face.w * 0.9 - v * 0.12) / norm * 0.35 + image(0.62, 0.68)).expand(3, *face.u.shape)
    cos, sin = image.turn(180)
    aside = image(0.1, 0.9)
    ahead = (1 - aside * aside).sqrt()
    lit = ((u * cos + v * sin) * aside + face.w * ahead) / norm
    key = image.colour(0.65, 1.15) * image(0.5, 0.95)
    ambient = image.colour(0.8, 1.2) * image(0.25, 0.55)
    return lit.clamp_(min=0) * key + ambient


def _occlude(canvas: Tensor, scene: _Scene) -> None:
    """Something in front of the edge of the face in a third of the images."""
    image = scene.image
    columns, rows = _grid(2 * scene.size)
    cos, sin = image.turn(180)
    away, wide, high = image(0.62, 1.0), image(0.15, 0.4), image(0.15, 0.6)
    x, y = columns * cos + rows * sin - away, rows * cos - columns * sin + image(-0.3, 0.3)
    corner = torch.maximum(x.abs() - wide, y.abs() - high)
    oval = ((x / wide) * (x / wide) + (y / high) * (y / high)).sqrt_() - 1
    boxed = image.chance(0.5)
    distance = corner * boxed + oval * wide * (1 - boxed)
    _paint(canvas, _cover(distance, 0.03) * image.chance(0.33), image.colour(0.02, 0.95))


def _camera(canvas: Tensor, scene: _Scene, noise: Tensor) -> Tensor:
    """Halve the size, then tone, blur, noise and 8 bits."""
    image = scene.image
    small = (canvas[..., ::2, ::2] + canvas[..., ::2, 1::2] + canvas[..., 1::2, ::2] + canvas[..., 1::2, 1::2]) * 0.25
    grain = noise[0] + noise[1] - 1
    if scene.lab:
        return _to_bytes(small + grain * 0.02)
    small = small.clamp_(0, 1)
    small = small + small * (1 - small) * image(-0.5, 0.6)
    middle, contrast = image(0.35, 0.55), image(0.7, 1.15)
    small = (small - middle) * contrast + middle
    small = small * image.colour(0.88, 1.12)
    amount = image() * image()
    pixels = torch.arange(scene.size)
    left, right = (pixels - 1).clamp(min=0), (pixels + 1).clamp(max=scene.size - 1)
    for _ in range(1 + scene.size // 48):
        for axis in (2, 3):
            before, after = small.index_select(axis, left), small.index_select(axis, right)
            small = small + ((before + after) * 0.5 - small) * (0.45 * amount)
    grain = grain * 0.6 + (grain[:1]) * 0.4
    return _to_bytes(small + grain * (0.11 * image() * image()))


def _to_bytes(pixels: Tensor) -> Tensor:
    return (pixels.clamp_(0, 1) * 255 + 0.5).floor_().to(torch.uint8).transpose(0, 1)
