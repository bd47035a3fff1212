"""Faces out of photographs: found by YuNet, set upright by their landmarks, cropped, one row for every image.

Source: Wu, Peng, Yu, *YuNet: a tiny millisecond-level face detector*, Machine Intelligence Research 2023; the
network is kornia's.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from dakit.data.files import image_files
from dakit.errors import DakitError
from dakit.files import written
from dakit.interfaces import Observer
from dakit.surroundings import undisturbed

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the upright image."""

_FILE = "yunet_final.pth"
_JOURNAL = ".faces.jsonl"
# Eyes, nose and corners of the mouth in a square of side 1, before the margin; the proportions are ours.
_TEMPLATE = np.array([0.34 + 0.42j, 0.66 + 0.42j, 0.50 + 0.60j, 0.37 + 0.77j, 0.63 + 0.77j])
_SURE = 0.9999  # the detector gives 1.0000 to an upright face, and up to 0.9998 to one that stands on its head
_MISFIT = 0.4  # of landmarks, relative to the face; real faces stay below 0.2


@dataclass(frozen=True)
class Cropping:
    """How faces are cut out.

    Args:
        size: side of the crops in pixels.
        margin: added on every side, as a fraction of the face's square.
        score: detections below it are no faces, in (0, 1).
        smallest: faces with a shorter side below it, in pixels, are not cropped.
    """

    size: int = 256
    margin: float = 0.15
    score: float = 0.9
    smallest: int = 32


class Face(NamedTuple):
    """One row of ``faces.csv``.

    Attributes:
        path: of the image, below the source folder.
        crop: of the crop, below the folder of crops; "" = there is none, and ``reason`` says why.
        left, top, right, bottom: the box in pixels of the image, upright by its EXIF; "" = no face.
        score: of the detector; "" for a box made by hand.
        faces: how many were found.
        turned: by how many degrees the image was turned, anticlockwise, before the face was found.
        reason: in words.
    """

    path: str
    crop: str = ""
    left: float | str = ""
    top: float | str = ""
    right: float | str = ""
    bottom: float | str = ""
    score: float | str = ""
    faces: int = 0
    turned: int = 0
    reason: str = ""


def weights_file(given: Path | None) -> Path:
    """The file of YuNet's weights: the one that is given, else where kornia would have put it.

    Raises:
        DakitError: it is not there.
    """
    path = given or Path(torch.hub.get_dir()) / "checkpoints" / _FILE
    if not path.is_file():
        hint = "" if given else "; name another file with --weights, or let kornia fetch it with --download"
        raise DakitError(f"{path}: YuNet's weights are not there{hint}")
    return path


def load_detector(weights: Path, score: float, device: torch.device) -> Any:
    """The FaceDetector of kornia with the weights of a file; nothing is downloaded and nothing unpickled but tensors.

    Raises:
        DakitError: the file does not hold YuNet's weights.
    """
    import tempfile

    from kornia.contrib import FaceDetector

    from dakit.weights import read_weights

    state = read_weights(weights)
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:  # its constructor reads torch hub's folder, or else the network
        (Path(folder) / "checkpoints").mkdir()
        torch.save(state, Path(folder) / "checkpoints" / _FILE)
        torch.hub.set_dir(folder)
        try:
            detector = FaceDetector(confidence_threshold=score)
        except RuntimeError as error:
            raise DakitError(f"weights {weights}: are not YuNet's: expected the tensors of {_FILE}") from error
        finally:
            torch.hub.set_dir(before)
    return detector.to(device).eval()


def read_boxes(file: Path) -> dict[str, Box]:
    """Boxes made by hand, from a CSV file with the columns path, left, top, right and bottom.

    Raises:
        DakitError: naming every line that is wrong.
    """
    columns = ("path", "left", "top", "right", "bottom")
    try:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            rows = [(reader.line_num, row) for row in reader]
            header = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DakitError(f"--boxes {file}: cannot be read as a CSV file in UTF-8: {error}") from error
    missing = [name for name in columns if name not in header]
    if missing:
        raise DakitError(f"--boxes {file}:1: there is no column {', '.join(missing)}; expected {','.join(columns)}")
    boxes: dict[str, Box] = {}
    problems = []
    for line, row in rows:
        try:
            left, top, right, bottom = (float(row[name]) for name in columns[1:])
            if not (np.isfinite([left, top, right, bottom]).all() and left < right and top < bottom):
                raise ValueError
        except (TypeError, ValueError):
            problems.append(f"--boxes {file}:{line}: expected left < right and top < bottom in pixels")
            continue
        if row["path"] in boxes:
            problems.append(f"--boxes {file}:{line}: {row['path']} stands there twice")
        boxes[row["path"]] = (left, top, right, bottom)
    if problems:
        raise DakitError("\n".join(problems))
    return boxes


@undisturbed()
def crop_faces(
    source: Path,
    target: Path,
    *,
    cropping: Cropping,
    weights: Path,
    boxes: Mapping[str, Box] | None = None,
    device: str = "cpu",
    workers: int = 1,
    overwrite: bool = False,
    observers: Iterable[Observer] = (),
) -> list[Face]:
    """Cut the largest face out of every image below ``source`` and write ``faces.csv`` beside the crops.

    Folders are kept, so class folders stay class folders. A journal is kept while it runs: called again after
    it was killed, it goes on and ends the same. Images that changed, or have another box, are done anew.

    Args:
        source: folder of images.
        target: folder of crops; made where it is not there.
        cropping: how faces are cut out.
        weights: of the detector, see :func:`weights_file`.
        boxes: path below ``source`` -> box, made by hand, for those that the detector gets wrong.
        device: where the detector computes.
        workers: images at a time.
        overwrite: do everything anew, also where the crops were made with other settings.
        observers: told of progress.

    Returns:
        One row for every image, sorted by path.

    Raises:
        DakitError: a folder, the weights or a box's image is missing, or the crops that are there were made
            with other settings.
    """
    files = {path.relative_to(source).as_posix(): path for path in image_files(source)}
    if not files:
        raise DakitError(f"{source}: holds no images")
    boxes = boxes or {}
    strange = sorted(set(boxes) - set(files))
    if strange:
        raise DakitError(f"--boxes: no such image below {source}: {', '.join(strange[:5])}")
    if target.resolve().is_relative_to(source.resolve()):
        raise DakitError(f"{target}: lies in {source}; the crops would be taken for photographs the next time")
    target.mkdir(parents=True, exist_ok=True)
    names = _crop_names(files)
    marks = {name: _mark(path, boxes.get(name)) for name, path in files.items()}
    done = {} if overwrite else _read_journal(target, cropping)
    rows = {
        name: Face(**row)
        for name, (mark, row) in done.items()
        if marks.get(name) == mark and (not row["crop"] or (target / row["crop"]).is_file())
    }
    todo = [name for name in files if name not in rows]
    observers = list(observers)
    for observer in observers:
        observer.work_started("looking for faces", len(files))
    detector = load_detector(weights, cropping.score, torch.device(device)) if set(todo) - set(boxes) else None
    one = partial(_one, files=files, names=names, target=target, cropping=cropping, detector=detector, boxes=boxes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the images are what runs side by side
    try:
        with (
            open(target / _JOURNAL, "w" if overwrite or not done else "a", encoding="utf-8") as journal,
            ThreadPoolExecutor(workers) as pool,
        ):
            if journal.tell() == 0:
                journal.write(json.dumps(asdict(cropping)) + "\n")
            try:
                for name, row in zip(todo, pool.map(one, todo), strict=True):
                    rows[name] = row
                    journal.write(json.dumps([name, marks[name], row._asdict()]) + "\n")
                    journal.flush()
                    for observer in observers:
                        observer.step(len(rows), {})
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except OSError as error:
        raise DakitError(f"{target}: cannot be written: {error}") from error
    finally:
        torch.set_num_threads(threads)
    ordered = [rows[name] for name in sorted(files)]
    with written(target / "faces.csv") as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Face._fields)
        writer.writerows(ordered)
    return ordered


def _crop_names(files: Iterable[str]) -> dict[str, str]:
    """``a/b.jpg`` -> ``a/b.png``; two of one name, ``b.jpg`` and ``b.gif``, keep their endings."""
    stems = Counter(str(Path(name).with_suffix("")) for name in files)
    return {
        n: f"{n}.png" if stems[str(Path(n).with_suffix(""))] > 1 else str(Path(n).with_suffix(".png")) for n in files
    }


def _mark(path: Path, box: Box | None) -> list[Any]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns, list(box) if box else None]


def _read_journal(target: Path, cropping: Cropping) -> dict[str, tuple[list[Any], dict[str, Any]]]:
    path = target / _JOURNAL
    if not path.is_file():
        if any(target.iterdir()):
            raise DakitError(f"{target}: is not empty, and its crops are not from here; --overwrite writes into it")
        return {}
    lines = []
    good = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            lines.append(json.loads(line))
        except ValueError:
            break  # the line that was being written when it was killed
        if not line.endswith(b"\n"):
            break
        good += len(line)
    os.truncate(path, good)
    if not lines or good == 0:
        return {}
    if lines[0] != asdict(cropping):
        was = ", ".join(f"{k} {v}" for k, v in lines[0].items() if asdict(cropping).get(k) != v)
        raise DakitError(f"{target}: its crops were made with other settings ({was}); --overwrite makes them anew")
    return {name: (mark, row) for name, mark, row in lines[1:]}


def _one(
    name: str,
    *,
    files: Mapping[str, Path],
    names: Mapping[str, str],
    target: Path,
    cropping: Cropping,
    detector: Any,
    boxes: Mapping[str, Box],
) -> Face:
    """Find, cut and write one face."""
    place = target / names[name]
    try:
        with Image.open(files[name]) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        place.unlink(missing_ok=True)
        return Face(name, reason=f"cannot be read as an image: {error}")
    if name in boxes:
        left, top, right, bottom = boxes[name]
        row = Face(name, names[name], left, top, right, bottom, reason="box by hand")
        crop: Image.Image | None = _by_hand(image, boxes[name], cropping)
    else:
        crop, row = _by_detector(image, name, names[name], cropping, detector)
    if crop is None:
        place.unlink(missing_ok=True)
        return row
    place.parent.mkdir(parents=True, exist_ok=True)
    with written(place) as part:
        crop.save(part, format="PNG")
    return row


def _by_hand(image: Image.Image, box: Box, cropping: Cropping) -> Image.Image:
    """The box, made square about its centre and resized; no margin, as the hand knew what it wanted."""
    left, top, right, bottom = box
    half = max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    corners = np.array([x - half + 1j * (y - half), x + half + 1j * (y - half), x - half + 1j * (y + half)])
    side = cropping.size
    return _warp(image, corners, np.array([0, side, 1j * side]), side)


def _by_detector(
    image: Image.Image, name: str, crop: str, cropping: Cropping, detector: Any
) -> tuple[Image.Image | None, Face]:
    found, turns = _look(image, detector)
    if not len(found):
        return None, Face(name, reason="no face found")
    sides = found[:, 2:4] - found[:, 0:2]
    best = int(sides.prod(1).argmax())
    upright = [_unturned(found[best, k] + 1j * found[best, k + 1], image.size, turns) for k in range(0, 14, 2)]
    x, y = sorted(point.real for point in upright[:2]), sorted(point.imag for point in upright[:2])
    left, top, right, bottom = (round(float(v), 1) for v in (x[0], y[0], x[1], y[1]))
    about = {"score": round(float(found[best, 14]), 4), "faces": len(found), "turned": 90 * turns}
    face = Face(name, "", left, top, right, bottom, **about)  # type: ignore[arg-type]
    if sides[best].min() < cropping.smallest:
        return None, face._replace(reason=f"the face is {sides[best].min():.0f} pixels wide, below {cropping.smallest}")
    reason = "the largest of several" if len(found) > 1 else "found"
    reason += f" after a turn by {90 * turns} degrees" if turns else ""
    inner = 1 / (1 + 2 * cropping.margin)
    wanted = ((_TEMPLATE - (0.5 + 0.5j)) * inner + (0.5 + 0.5j)) * cropping.size
    warped = _warp(image, np.array(upright[2:]), wanted, cropping.size)
    return warped, face._replace(crop=crop, reason=reason)


def _look(image: Image.Image, detector: Any) -> tuple[np.ndarray, int]:
    """The faces of an image and after how many quarter turns; where upright is not sure, the best of four turns.

    Where none of those shows a face, smaller (for faces that fill the image) and larger (for small ones).
    """
    best, turned = np.empty((0, 15)), 0
    larger = [(1280, 0)] if max(image.size) > 640 else []  # enlarged, coffee cups have faces
    for longer, turns in ((640, 0), (640, 1), (640, 3), (640, 2), (320, 0), *larger):
        if len(best) and (best[:, 14].max() >= _SURE or longer != 640):
            break
        found = np.array([face for face in _detect(image, longer, turns, detector) if _misfit(face) < _MISFIT])
        if len(found) and (not len(best) or found[:, 14].max() > best[:, 14].max()):
            best, turned = found, turns
    return best, turned


def _misfit(face: np.ndarray) -> float:
    """How far the landmarks are from any upright, turned or scaled face: 0 = they fit."""
    points, wanted = face[4:14:2] + 1j * face[5:14:2], _TEMPLATE - _TEMPLATE.mean()
    left = _similarity(points, _TEMPLATE) * (points - points.mean()) - wanted
    return float(np.linalg.norm(left) / np.linalg.norm(wanted))


def _similarity(points: np.ndarray, wanted: np.ndarray) -> complex:
    """The a of x -> a x + b that brings ``points`` nearest to ``wanted``, both complex.

    a = sum conj(x - mean) (w - mean) / sum |x - mean|^2 (least squares).
    """
    centred = points - points.mean()
    return complex((centred.conj() * (wanted - wanted.mean())).sum() / (np.abs(centred) ** 2).sum())


def _detect(image: Image.Image, longer: int, turns: int, detector: Any) -> np.ndarray:
    """Float64 ``(N, 15)``: box, five landmarks, score; in pixels of the image after ``turns`` quarter turns."""
    scale = longer / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    pixels = np.rot90(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)), turns)
    # The strides of the network go up to 64: a side that is no multiple of it would shift the boxes.
    padded = np.pad(pixels, [(0, -pixels.shape[0] % 64), (0, -pixels.shape[1] % 64), (0, 0)])
    device = next(detector.parameters()).device
    batch = torch.from_numpy(padded.transpose(2, 0, 1)[None].astype(np.float32)).to(device)
    with torch.no_grad():
        found = detector(batch)[0].cpu().double().numpy().reshape(-1, 15)
    x, y = (image.size[0] / width, image.size[1] / height)[:: -1 if turns % 2 else 1]
    return np.asarray(found * ([x, y] * 7 + [1]))


def _unturned(point: complex, size: tuple[int, int], turns: int) -> complex:
    """A point of the image after anticlockwise quarter turns, in the image before them."""
    width, height = size
    x, y = point.real, point.imag
    return (x + 1j * y, width - y + 1j * x, width - x + 1j * (height - y), y + 1j * (height - x))[turns]


def _warp(image: Image.Image, points: np.ndarray, wanted: np.ndarray, side: int) -> Image.Image:
    """The similarity that brings ``points`` nearest to ``wanted``, applied to an image; outside is black."""
    a = _similarity(points, wanted)
    shrink = max(1, int(1 / abs(a)))  # Pillow's transform reads four pixels: means first, where it makes smaller
    image = image.reduce(shrink)
    back = 1 / a / shrink  # from pixels of the crop to pixels of the reduced image
    start = (points.mean() - wanted.mean() / a) / shrink
    matrix = (back.real, -back.imag, start.real, back.imag, back.real, start.imag)
    return image.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def summary(rows: Sequence[Face]) -> dict[str, int]:
    """How many rows there are for each kind of reason, most frequent first; numbers in it are left out."""
    return dict(Counter(row.reason.split(":")[0].split(" is ")[0] for row in rows).most_common())
