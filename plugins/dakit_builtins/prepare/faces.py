"""Faces out of photographs: found by YuNet, set upright by their landmarks, cropped, one row for every image.

A photograph is upright by its EXIF unless ``Cropping.turned`` says otherwise: YuNet gives a face that stands on its
head up to 1.0000, with landmarks as if it stood upright, and an upright one that is blurred or cut by the frame less
than that; so the best of four turns is often not the upright one. What is found is aligned and *looked at again*,
upright and on its head, both in one position and size. There the difference tells.

Scores at 640 pixels, and :func:`stance` (how much more the aligned face looks like one upright than on its head), of
scikit-image's astronaut, cameraman, 8 faces of its ``lfw_subset`` (at 320, 4 times enlarged), and rendered heads:

| | score | stance |
|---|---|---|
| astronaut: as it is, dark to .15, contrast .3, grey, noise 30, tilt to 60, blurred by 1 to 4 | .994 to 1 | +5 to +13 |
| astronaut: a third, the forehead or the mouth out of the frame | .999 to 1 | +5 to +11 |
| astronaut: half out of the frame, left or right | .982, .992 | +9, +5 |
| astronaut: blurred by 6 pixels | .966 | -0.7 |
| astronaut at 30 %; beside a second face | 1; 1 | +8; +7 |
| cameraman; heads at 0, 35 and 60 degrees of yaw | 1 | +8; +6, +7 to +8, +2.9 to +3.1 |
| 8 faces of LFW | .956 to 1 | +4 to +13 |
| on its head: astronaut as it is, blurred by 1 or 2, dark to 0.3 | .85 to .9996 | -9.5 to -5.6 |
| on its head: astronaut dark to .15, blurred by 4 or 6, contrast .3 (found beside the face) | .83 to .88 | 0 to +1.3 |
| on their heads: 7 faces of LFW | .19 to .98 | -9.5 to 0; one +2.5 (score .75) |
| gravel; coffee, coins, cell, motorcycle, clock, cat | .90; .76 to .85 | -0.6 to +1.1 |
| hubble, moon; brick, horse, chessboard | .63, .50; .13 to .16 | -1.1 to +0.4 |
| coffee, the second candidate | .55 | +5.6: a face in the crockery |

So a score of 0.6 is enough where the stance is above 2; below that it takes 0.95 in the first view, and below -2
nothing is enough. At 320 pixels gravel has .96, at 1280 cells have .9995, with stances of +0.4 and +0.5. These
thresholds were read off this table and have been tried on no photographs but these. The four quarter turns of the
astronaut, as it is, have 1.0000, .9963, .9996 and .9999: turned photographs cannot be told by their scores.

Source: Wu, Peng, Yu, *YuNet: a tiny millisecond-level face detector*, Machine Intelligence Research 2023; the
network is kornia's.

It is one thing: the table above holds for finding, aligning and judging together.
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
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from dakit.data.files import image_files
from dakit.errors import DakitError
from dakit.files import written
from dakit.interfaces import Observer
from dakit.training.surroundings import undisturbed

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the upright image."""

_FILE = "yunet_final.pth"
_JOURNAL = ".faces.jsonl"
# Eyes, nose and corners of the mouth in a square of side 1, before the margin; the proportions are ours.
_TEMPLATE = np.array([0.34 + 0.42j, 0.66 + 0.42j, 0.50 + 0.60j, 0.37 + 0.77j, 0.63 + 0.77j])
_VERSION = 2  # of what is found and written; results of another are never mixed with it
_VIEW = 320  # side in pixels of the aligned face that is looked at again, and
_AROUND = 0.5  # its margin: the face has the size there that the detector is surest of
_CLEARLY = 2.0  # of `stance`, see the table above: upright faces have more, those on their heads less than -2
_MISFIT = 0.4  # of landmarks, relative to the face; frontal faces stay below 0.2, profiles reach 0.7
_SURE = 0.95  # below it a face must be clearly upright; of faces above it the largest is taken
_DOUBTFUL = 0.99  # below it a person should look
_TRIED = 3  # faces of a view that are looked at again, until one stands
_LEAN = 45  # degrees; a head that leans further is rare
_LEAST = 0.1  # of the detector; what is below looks like no face at all


@dataclass(frozen=True)
class Cropping:
    """How faces are cut out.

    Args:
        size: side of the crops in pixels.
        margin: added on every side, as a fraction of the face's square.
        score: detections below it are no faces, in (0, 1).
        smallest: faces with a shorter side below it, in pixels, are not cropped.
        turned: turn an image in which no face stands upright by 90, 270 and 180 degrees.
    """

    size: int = 256
    margin: float = 0.15
    score: float = 0.6
    smallest: int = 32
    turned: bool = False


class Face(NamedTuple):
    """One row of ``faces.csv``.

    Attributes:
        path: of the image, below the source folder.
        crop: of the crop, below the folder of crops; "" = there is none, and ``reason`` says why.
        left, top, right, bottom: the box in pixels of the image, upright by its EXIF; "" = no face.
        score: of the detector in the image; "" for a box made by hand.
        upright: by how much the aligned face looks more like a face upright than on its head, see :func:`stance`;
            "" where it was not looked at again.
        faces: how many were found.
        turned: by how many degrees the image was turned, anticlockwise, before the face was found.
        tilt: by how many degrees aligning turned the face on, anticlockwise, in (-180, 180].
        reason: in words.
        doubt: why a person should look at the crop; "" = nothing speaks against it.
    """

    path: str
    crop: str = ""
    left: float | str = ""
    top: float | str = ""
    right: float | str = ""
    bottom: float | str = ""
    score: float | str = ""
    upright: float | str = ""
    faces: int = 0
    turned: int = 0
    tilt: int | str = ""
    reason: str = ""
    doubt: str = ""


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

    from dakit.training.weights import read_weights

    state = read_weights(weights)
    with tempfile.TemporaryDirectory() as folder:  # its constructor reads torch hub's folder, or else the network
        (Path(folder) / "checkpoints").mkdir()
        torch.save(state, Path(folder) / "checkpoints" / _FILE)
        try:
            # not set_dir: after that torch would never look at TORCH_HOME again
            with patch.object(torch.hub, "get_dir", lambda: folder):
                detector = FaceDetector(confidence_threshold=score)
        except RuntimeError as error:
            raise DakitError(f"weights {weights}: are not YuNet's: expected the tensors of {_FILE}") from error
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
    it was killed, it goes on and ends the same. Images that changed, or have another box, are done anew; crops of
    images that are no longer there are removed.

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
            with other settings or by a dakit that found other faces.
    """
    files = {path.relative_to(source).as_posix(): path for path in image_files(source)}
    if not files:
        raise DakitError(f"{source}: holds no images")
    boxes = boxes or {}
    strange = sorted(set(boxes) - set(files))
    if strange:
        raise DakitError(f"--boxes: no such image below {source}: {', '.join(strange[:5])}")
    if lies_within(target, source):
        raise DakitError(f"{target}: lies in {source}; the crops would be taken for photographs the next time")
    target.mkdir(parents=True, exist_ok=True)
    names = _crop_names(files)
    marks = {name: _mark(path, boxes.get(name)) for name, path in files.items()}
    header = {"version": _VERSION, **asdict(cropping)}
    was, done = _read_journal(target)
    if not overwrite:
        _same(was, header, target)
    for name, (_, old) in done.items():
        crop = target / old["crop"]
        if name not in files and old["crop"] not in ("", *names.values()) and lies_within(crop, target):
            crop.unlink(missing_ok=True)
    done = {} if overwrite else done
    rows = {
        name: Face(**row)
        for name, (mark, row) in done.items()
        if marks.get(name) == mark and (not row["crop"] or (target / row["crop"]).is_file())
    }
    todo = [name for name in files if name not in rows]
    observers = list(observers)
    for observer in observers:
        observer.work_started("looking for faces", len(files))
    detector = (
        load_detector(weights, min(_LEAST, cropping.score), torch.device(device)) if set(todo) - set(boxes) else None
    )
    crop_face = partial(
        _crop_face, files=files, names=names, target=target, cropping=cropping, detector=detector, boxes=boxes
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the images are what runs side by side
    try:
        with (
            open(target / _JOURNAL, "w" if overwrite or not done else "a", encoding="utf-8") as journal,
            ThreadPoolExecutor(workers) as pool,
        ):
            if journal.tell() == 0:
                journal.write(json.dumps(header) + "\n")
            try:
                for name, row in zip(todo, pool.map(crop_face, todo), strict=True):
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


def lies_within(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or below it, wherever links lead."""
    return path.resolve().is_relative_to(folder.resolve())


def _read_journal(target: Path) -> tuple[dict[str, Any] | None, dict[str, tuple[list[Any], dict[str, Any]]]]:
    """The settings, None = there is no journal, and name -> (mark, row); what was torn when killed is cut off."""
    path = target / _JOURNAL
    if not path.is_file():
        return None, {}
    lines = []
    good = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            value = json.loads(line)
        except ValueError:
            break  # the line that was being written when it was killed
        if not line.endswith(b"\n"):
            break
        lines.append(value)
        good += len(line)
    os.truncate(path, good)
    return (lines[0] if lines else {}), {name: (mark, row) for name, mark, row in lines[1:]}


def _same(was: Mapping[str, Any] | None, header: Mapping[str, Any], target: Path) -> None:
    """Refuse to go on in a folder that was begun in another way: one ``faces.csv`` has one way to look for faces."""
    if was is None:
        if any(target.iterdir()):
            raise DakitError(f"{target}: is not empty, and its crops are not from here; --overwrite writes into it")
        return
    if was and was.get("version") != header["version"]:
        raise DakitError(
            f"{target}: its crops were made by another version of dakit, which looked for faces in another way; "
            "--overwrite makes them anew"
        )
    if was and was != header:
        other = ", ".join(f"{k} {v}" for k, v in was.items() if header.get(k) != v)
        raise DakitError(f"{target}: its crops were made with other settings ({other}); --overwrite makes them anew")


def _crop_face(
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
        crop: Image.Image | None = crop_of_box(image, boxes[name], cropping)
    else:
        crop, row = _by_detector(image, name, names[name], cropping, detector)
    if crop is None:
        place.unlink(missing_ok=True)
        return row
    place.parent.mkdir(parents=True, exist_ok=True)
    with written(place) as part:
        crop.save(part, format="PNG")
    return row


def crop_of_box(image: Image.Image, box: Box, cropping: Cropping) -> Image.Image:
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
    """The crop, and the row, of the first face that stands, in the first view that has one; else no crop, and why.

    Where a face clearly stands on its head, so does the photograph: what is half seen besides it is no face, and the
    next turn to look with is the one by 180 degrees. Where turns are asked for, a face that lies is looked for again
    after the turn that would right it, as landmarks are surer there.
    """
    refused = Face(name, reason="no face found")
    lying: tuple[np.ndarray, Face] | None = None
    on_its_head = False
    views = _views(image.size, cropping.turned)
    while views:
        longer, turns = views.pop(0)
        detections = _detect(image, longer, turns, detector)
        detections = detections[detections[:, 14] >= cropping.score]
        for face in _ranked(detections)[:_TRIED]:
            if on_its_head and turns == 0 and face[14] < _SURE:
                break
            points = _unturned(face[0:14:2] + 1j * face[1:14:2], image.size, turns)
            x, y, landmarks = sorted(points.real[:2]), sorted(points.imag[:2]), points[2:]
            left, top, right, bottom = (round(float(v), 1) for v in (x[0], y[0], x[1], y[1]))
            row = Face(
                name, "", left, top, right, bottom, score=round(float(face[14]), 4), faces=len(detections),
                turned=90 * turns, upright=round(stance(image, landmarks, detector), 1), tilt=_tilt(landmarks, turns),
            )  # fmt: skip
            reason = _refusal(row, landmarks, first=(longer, turns) == (640, 0))
            if reason:
                doubt = f"no crop: {reason.split(':')[0]} ({row.upright:+.1f})"
                refused = row._replace(reason=reason, doubt=doubt) if refused.score == "" else refused
                if turns == 0 and float(row.upright) <= -_CLEARLY:
                    on_its_head = True
                    views = _first(2, views)
                continue
            reason = (
                "found"
                if len(detections) == 1
                else "the largest of several"
                if _largest(face, detections)
                else "one of several"
            )
            row = row._replace(reason=reason + (f" after a turn by {90 * turns} degrees" if turns else ""))
            if not cropping.turned or abs(int(row.tilt)) <= _LEAN:
                return _cut(image, row, landmarks, crop, cropping)
            if lying is None:
                lying = landmarks, row
                righted = (turns + round(int(row.tilt) / 90)) % 4
                views = _first(righted, views)
            break
    if lying is not None:
        return _cut(image, lying[1], lying[0], crop, cropping)
    return None, refused


def _cut(
    image: Image.Image, row: Face, landmarks: np.ndarray, crop: str, cropping: Cropping
) -> tuple[Image.Image | None, Face]:
    """The aligned crop and its row; none where the face is too small."""
    width = min(float(row.right) - float(row.left), float(row.bottom) - float(row.top))
    if width < cropping.smallest:
        return None, row._replace(reason=f"the face is too small: {width:.0f} pixels wide, below {cropping.smallest}")
    warped = _warp(image, landmarks, _wanted(cropping.size, cropping.margin), cropping.size)
    return warped, row._replace(crop=crop, doubt=_doubt(row))


def _views(size: tuple[int, int], turned: bool) -> list[tuple[int, int]]:
    """The longer side and the quarter turns to look with, in order.

    Upright, then smaller (for faces that fill the image), then larger (for small ones), then turned.
    """
    larger = [(1280, 0)] if max(size) > 640 else []
    return [(640, 0), (320, 0), *larger, *([(640, 1), (640, 3), (640, 2)] if turned else [])]


def _first(turns: int, views: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of these views those that are turned, those by ``turns`` quarters before the others."""
    return sorted((view for view in views if view[1]), key=lambda view: view[1] != turns)


def _ranked(detections: np.ndarray) -> np.ndarray:
    """First the faces that are sure, the largest first, then the others, the surest first.

    So, as around a face the detector sees larger ones that it is half sure of.
    """
    areas = (detections[:, 2:4] - detections[:, 0:2]).prod(1)
    sure = detections[:, 14] >= _SURE
    return detections[np.lexsort((-np.where(sure, areas, detections[:, 14]), ~sure))]


def _largest(face: np.ndarray, detections: np.ndarray) -> bool:
    return bool((face[2:4] - face[0:2]).prod() >= (detections[:, 2:4] - detections[:, 0:2]).prod(1).max())


def stance(image: Image.Image, landmarks: np.ndarray, detector: Any) -> float:
    """By how much an aligned face looks more like a face upright than on its head: 0 = as much, < 0 = on its head.

    d = log(p / (1 - p)) - log(q / (1 - q)), p the detector's score in the middle of the aligned face, q in the same
    turned by 180 degrees; both at least 0.1 and at most 1 - 1e-7, so that -18.3 <= d <= 18.3.

    Args:
        image: the whole photograph.
        landmarks: complex ``(5,)``, x + iy in pixels: eyes, nose and corners of the mouth, left before right.
        detector: see :func:`load_detector`.
    """
    view = _warp(image, landmarks, _wanted(_VIEW, _AROUND), _VIEW)
    odds = []
    for turns in (0, 2):
        detections = _detect(view, _VIEW, turns, detector)
        centres = (detections[:, 0:2] + detections[:, 2:4]) / 2
        scores = detections[np.abs(centres - _VIEW / 2).max(1) < _VIEW / 4, 14]
        score = float(np.clip(scores.max(initial=0), _LEAST, 1 - 1e-7))
        odds.append(np.log(score / (1 - score)))
    return float(odds[0] - odds[1])


def _tilt(landmarks: np.ndarray, turns: int) -> int:
    """Degrees in (-180, 180] by which aligning turns the face on, anticlockwise, after the image's quarter turns."""
    angle = -np.degrees(np.angle(_similarity(landmarks, _TEMPLATE))) - 90 * turns  # y is down: clockwise is positive
    return round(float(180 - (180 - angle) % 360))


def _refusal(row: Face, landmarks: np.ndarray, first: bool) -> str:
    """Why what was found is no upright face, "" = it is one; ``first``: seen in the first view, where few things do."""
    aligned = _similarity(landmarks, _TEMPLATE) * landmarks
    if aligned[:2].imag.max() >= aligned[3:].imag.min():
        return "the eyes are not above the mouth"
    upright = float(row.upright)
    if upright <= -_CLEARLY:
        return f"the eyes are not above the mouth: aligned, it looks more like a face on its head ({upright:+.1f})"
    if upright < _CLEARLY and not (first and float(row.score) >= _SURE and _misfit(landmarks) < _MISFIT):
        return f"no face when looked at again: score {row.score}, upright {upright:+.1f}"
    return ""


def _doubt(row: Face) -> str:
    """Why a person should look at a crop; "" = nothing speaks against it."""
    upright, tilt, score = float(row.upright), int(row.tilt), float(row.score)
    doubts = {
        f"turned by {row.turned}": row.turned > 0,
        f"leans by {abs(tilt)} degrees": abs(tilt) > _LEAN,
        f"hardly surer upright than on its head ({upright:+.1f})": upright < _CLEARLY,
        f"score {score:.4f}": score < _DOUBTFUL,
        f"{row.faces} faces": row.faces > 1,
    }
    return "; ".join(text for text, holds in doubts.items() if holds)


def _misfit(landmarks: np.ndarray) -> float:
    """How far the landmarks are from any upright, turned or scaled frontal face: 0 = they fit, 1 = not at all."""
    wanted = _TEMPLATE - _TEMPLATE.mean()
    left = _similarity(landmarks, _TEMPLATE) * (landmarks - landmarks.mean()) - wanted
    return float(np.linalg.norm(left) / np.linalg.norm(wanted))


def _wanted(side: int, margin: float) -> np.ndarray:
    """Where the landmarks belong in a crop: complex ``(5,)`` in pixels."""
    inner = 1 / (1 + 2 * margin)
    return np.asarray(((_TEMPLATE - (0.5 + 0.5j)) * inner + (0.5 + 0.5j)) * side)


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
        detections = detector(batch)[0].cpu().double().numpy().reshape(-1, 15)
    x, y = (image.size[0] / width, image.size[1] / height)[:: -1 if turns % 2 else 1]
    return np.asarray(detections * ([x, y] * 7 + [1]))


def _unturned(points: np.ndarray, size: tuple[int, int], turns: int) -> np.ndarray:
    """Points of the image after anticlockwise quarter turns, in the image before them; complex, x + iy."""
    width, height = size
    x, y = points.real, points.imag
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


def doubtful(rows: Iterable[Face]) -> list[Face]:
    """The rows that a person should look at, most doubtful first.

    First those that were turned or stand on their heads, then other doubts, then those that are one of several faces
    and nothing else; within each the lowest scores first, then by path.
    """

    def order(row: Face) -> tuple[int, float, str]:
        stands_wrong = row.turned > 0 or float(row.upright) <= -_CLEARLY
        return 0 if stands_wrong else 2 if row.doubt == f"{row.faces} faces" else 1, *by_score(row)

    return sorted((row for row in rows if row.doubt), key=order)


def by_score(row: Face) -> tuple[float, str]:
    """For sorting: the lowest scores first, then by path."""
    return float(row.score), row.path


def summary(rows: Sequence[Face]) -> dict[str, int]:
    """How many rows there are for each kind of reason, most frequent first; what follows a colon is left out."""
    return dict(Counter(row.reason.split(":")[0] for row in rows).most_common())
