"""Tiny trees in the very layouts of the face datasets, for tests from the recipe to the table.

Every image shows its class: a bright bar whose direction, and a tint that, belong to the class, over a background
that belongs to the domain. So a classifier can learn the classes and a translator the domains. Nothing is drawn at
random but noise from a seed made of the image's own name; two calls write the same bytes.
"""

from __future__ import annotations

import colorsys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

EXPRESSIONS = {
    "AN": "Angry",
    "DI": "Disgust",
    "FE": "Fear",
    "HA": "Happy",
    "NE": "Neutral",
    "SA": "Sad",
    "SU": "Surprise",
}


def picture(expression: str | None, name: str, size: int, *, wild: bool) -> Image.Image:
    """One image of a class (None = a class drawn from the name), on black or, if ``wild``, on a bright noisy ground."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    index = list(EXPRESSIONS).index(expression) if expression else int(rng.integers(7))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j] + rng.uniform(-0.15, 0.15, (2, 1, 1))
    angle = np.pi * index / 7
    across = np.abs(x * np.sin(angle) - y * np.cos(angle))
    bar = ((across < 0.22) & (x**2 + y**2 < 0.8)).astype(float)[..., None]
    tint = np.array(colorsys.hsv_to_rgb(index / 7, 0.8, 1.0))
    ground = rng.uniform(0.3, 0.7, 3) + rng.normal(0, 0.08, (size, size, 3)) if wild else np.zeros((size, size, 3))
    pixels = (bar * tint + (1 - bar) * ground).clip(0, 1)
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def write_bu3dfe(root: Path, people: int = 4, poses: int = 2, size: int = 48, levels: tuple[int, ...] = (3, 4)) -> Path:
    """``<subject>/<subject>_<EX><LL><RACE>_p<pan>_t<tilt>.png``: per person (6 x levels + 1) x poses images."""
    views = [(pan, tilt) for tilt in (0, 5, -5) for pan in (0, 15, -15, 45, -45)][:poses]
    for person in range(people):
        subject = f"{'FM'[person % 2]}{person // 2 + 1:04d}"
        (root / subject).mkdir(parents=True)
        for code in EXPRESSIONS:
            for level in (0,) if code == "NE" else levels:
                for pan, tilt in views:
                    name = f"{subject}_{code}{level:02d}WH_p{pan:+d}_t{tilt:+d}.png"
                    picture(code, name, size, wild=False).save(root / subject / name)
    return root


def write_sfew(root: Path, per_class: int = 3, size: int = 48) -> Path:
    """``Set 1/<Class>/<film>_<time>_<face>.png`` and ``Set 2/...``: 2 x 7 x per_class images."""
    for part, films in (("Set 1", ("AlexEmma", "HarryPotter_Azkaban")), ("Set 2", ("Hangover", "DeadPoets"))):
        for code, folder in EXPRESSIONS.items():
            (root / part / folder).mkdir(parents=True)
            for i in range(per_class):
                name = f"{films[i % 2]}_{1000 * i + 357920:09d}_{i:08d}.png"
                picture(code, f"{part}/{folder}/{name}", size, wild=True).save(root / part / folder / name)
    return root


def write_emotionet(root: Path, per_class: int = 5, size: int = 48) -> Path:
    """``<Class>/N_<number>.jpg``, six classes: 6 x per_class images."""
    for code, folder in EXPRESSIONS.items():
        if code == "NE":
            continue
        (root / folder).mkdir(parents=True)
        for i in range(per_class):
            name = f"N_{i:010d}.jpg"
            picture(code, f"{folder}/{name}", size, wild=True).save(root / folder / name, quality=90)
    return root


def write_celeba(root: Path, images: int = 20, size: int = 48) -> Path:
    """``img_align_celeba/000001.jpg``, upright in CelebA's proportions (178 x 218)."""
    (root / "img_align_celeba").mkdir(parents=True)
    for i in range(images):
        face = picture(None, f"celeba {i}", size, wild=True).resize((size, round(size * 218 / 178)))
        face.save(root / "img_align_celeba" / f"{i + 1:06d}.jpg", quality=90)
    return root


def write_lfw(root: Path, people: int = 5, each: int = 2, size: int = 48) -> Path:
    """``lfw/<Person_Name>/<Person_Name>_0001.jpg``."""
    for person in range(people):
        name = f"Person_{chr(ord('A') + person)}"
        (root / "lfw" / name).mkdir(parents=True)
        for i in range(each):
            face = picture(None, f"lfw {name} {i}", size, wild=True)
            face.save(root / "lfw" / name / f"{name}_{i + 1:04d}.jpg", quality=90)
    return root
