"""How the subset of the clothes that ships with dakit was made: a script.

    python benchmarks/clothes_subset.py FOLDER plugins/dakit_builtins/datasets/clothes.zip

FOLDER has ``product/<class>``, ``real/<class>``, ``web`` and both licences. Product pictures are taken as they are; of
photographs the smaller side becomes 64 pixels, and of those without labels 1,500 are taken, evenly spaced by name.
"""

from __future__ import annotations

import sys
import zipfile
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

SIDE, WEB = 64, 1500


def shrunk(path: Path) -> bytes:
    """A photograph as a JPEG whose smaller side has 64 pixels."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    scale = SIDE / min(image.size)
    size = (max(SIDE, round(image.width * scale)), max(SIDE, round(image.height * scale)))
    written = BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(written, "JPEG", quality=85, optimize=True)
    return written.getvalue()


def main(folder: Path, target: Path) -> None:
    """Write the archive; the same files give the same bytes."""
    web = sorted((folder / "web").iterdir())
    files = {path: path.read_bytes() for path in sorted(folder.glob("LICENSE-*"))}
    files |= {path: path.read_bytes() for path in sorted((folder / "product").rglob("*.png"))}
    files |= {path: shrunk(path) for path in sorted((folder / "real").rglob("*.jpg"))}
    files |= {path: shrunk(path) for path in web[:: len(web) // WEB][:WEB]}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
