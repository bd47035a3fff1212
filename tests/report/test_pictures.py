from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
import torch
from PIL import Image

from dakit.report import pictures
from dakit.report.pictures import GAP, confusion_png, curves_png, domains_png, grid_png, label_curve
from dakit.statistics.metrics import Evaluation, Round, summarise


def read(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def summary(predictions, labels=(0, 0, 1, 1)):
    said = np.asarray(predictions)
    e = Evaluation(("AN", "HA"), np.arange(4), np.asarray(labels), said, np.eye(2, dtype=np.float32)[said])
    return summarise([Round(0, 0, e)])


def share(picture, colour, tolerance=40):
    return (np.abs(picture - colour).max(axis=2) <= tolerance).mean()


def over_white(name, alpha=0.7):
    """The colour of a lone point of a domain, which is a little transparent."""
    return 255 * (alpha * np.array(matplotlib.colors.to_rgb(name)) + 1 - alpha)


def test_confusion_darkens_where_the_images_are(tmp_path: Path):
    confusion_png(summary([0, 0, 1, 1]), tmp_path / "right.png", "cycleat")
    confusion_png(summary([1, 1, 0, 0]), tmp_path / "wrong.png", "cycleat")
    right, wrong = read(tmp_path / "right.png"), read(tmp_path / "wrong.png")
    assert right.shape == wrong.shape

    def quarters(picture):
        """Whether the cell at [truth][predicted] is dark, from its left edge, where no number stands."""
        full = np.abs(picture - (8, 48, 107)).max(axis=2) < 12  # the dark end of the map
        rows, columns = np.flatnonzero(full.sum(1) > 20), np.flatnonzero(full.sum(0) > 20)
        top, bottom, left, end = rows[0], rows[-1], columns[0], columns[-1]
        heights = [top + (bottom - top) * part // 4 for part in (1, 3)]
        widths = [left + (end - left) * part // 20 for part in (1, 11)]
        return [[bool(full[y, x]) for x in widths] for y in heights]

    assert quarters(right) == [[True, False], [False, True]]
    assert quarters(wrong) == [[False, True], [True, False]]


def test_confusion_of_a_class_that_was_never_tested(tmp_path: Path):
    confusion_png(summary([0, 0, 0, 0], labels=(0, 0, 0, 0)), tmp_path / "one.png")
    assert share(read(tmp_path / "one.png"), (8, 48, 107)) > 0.05


def test_curves_have_a_panel_each_and_follow_the_values(tmp_path: Path):
    steps = list(range(50))
    rising = [float(n) for n in steps]
    curves_png({"step": steps, "cycle": rising}, tmp_path / "one.png")
    curves_png({"step": steps, "cycle": rising, "gan": rising, "attention": rising, "ce": rising}, tmp_path / "4.png")
    one, four = read(tmp_path / "one.png"), read(tmp_path / "4.png")
    assert four.shape[1] == pytest.approx(3 * one.shape[1], abs=3)
    assert four.shape[0] == pytest.approx(2 * one.shape[0], abs=3)

    def slope(picture):
        y, x = np.nonzero(np.abs(picture - (31, 119, 180)).max(axis=2) < 60)
        return np.corrcoef(x, -y)[0, 1]

    curves_png({"step": steps, "cycle": rising[::-1]}, tmp_path / "falling.png")
    assert slope(one) > 0.99
    assert slope(read(tmp_path / "falling.png")) < -0.99


@pytest.mark.parametrize(("height", "width", "scale"), [(16, 16, 6), (96, 96, 1), (20, 100, 1)])
def test_a_grid_keeps_every_pixel(tmp_path: Path, height, width, scale):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator) for n in (3, 3, 2)]
    grid_png(rows, ["source", "step 0", "step 12000"], tmp_path / "grid.png")
    picture = read(tmp_path / "grid.png")
    h, w = height * scale, width * scale
    assert picture.shape[0] == GAP + 3 * (h + GAP)
    margin = picture.shape[1] - 3 * (w + GAP)
    for r, row in enumerate(rows):
        top = GAP + r * (h + GAP)
        for c, image in enumerate(row):
            left = picture.shape[1] - (3 - c) * (w + GAP)
            cell = picture[top : top + h, left : left + w]
            for y, x in np.ndindex(scale, scale):
                assert (cell[y::scale, x::scale] == image.permute(1, 2, 0).numpy()).all()
        title = picture[top : top + h, :margin]
        assert (title < 100).any(), "each row has its title"
        assert (title[:, : GAP // 2] == 255).all(), "and it is not cut off"
    empty = picture[GAP + 2 * (h + GAP) : GAP + 3 * (h + GAP) - GAP, picture.shape[1] - (w + GAP) :]
    assert (empty == 255).all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_domains_have_their_colours_where_their_points_are(tmp_path: Path, dimensions):
    rng = np.random.default_rng(0)
    names = ["source"] * 300 + ["auxiliary"] * 300 + ["target"] * 60
    centres = {"source": -20.0, "auxiliary": 0.0, "target": 20.0}
    points = rng.normal(size=(660, dimensions))
    points[:, 0] += [centres[name] for name in names]
    domains_png(torch.as_tensor(points), names, tmp_path / "domains.png")
    picture = read(tmp_path / "domains.png")
    plot = picture[: int(picture.shape[0] * 0.85)]  # without the legend
    orange, blue, grey = (
        np.argwhere(np.abs(plot - over_white(name)).max(axis=2) < 20) for name in ("tab:orange", "tab:blue", "0.6")
    )
    assert len(orange) > 2 * len(blue) > 0
    assert orange[:, 1].max() < blue[:, 1].min()
    if dimensions == 2:
        assert orange[:, 1].mean() < np.median(grey[:, 1]) < blue[:, 1].mean()


def test_domains_of_other_names_have_colours_too(tmp_path: Path):
    domains_png(np.eye(4)[:, :2], ["source", "usps", "mnist", "usps"], tmp_path / "domains.png")
    picture = read(tmp_path / "domains.png")
    assert share(picture, over_white("tab:green")) > share(picture, over_white("tab:red")) > 0


def test_a_picture_that_fails_leaves_nothing_and_keeps_the_old(tmp_path: Path, monkeypatch):
    path = tmp_path / "losses.png"
    curves_png({"step": [1, 2], "ce": [2.0, 1.0]}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="shape"):
        curves_png({"step": [1, 2], "ce": [2.0]}, path)

    def broken(self, file, *args, **kwargs):
        Path(file).write_bytes(b"half a pict")
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="no space"):
        curves_png({"step": [1, 2], "ce": [3.0, 1.0]}, path)
    with pytest.raises(OSError, match="no space"):
        grid_png([torch.zeros(1, 3, 8, 8, dtype=torch.uint8)], ["source"], tmp_path / "grid.png")
    assert [p.name for p in tmp_path.iterdir()] == ["losses.png"]
    assert path.read_bytes() == before


def test_rows_of_different_images_are_refused(tmp_path: Path):
    small, large = (torch.zeros(1, 3, n, n, dtype=torch.uint8) for n in (8, 16))
    with pytest.raises(ValueError, match="rows of"):
        grid_png([small, large], ["a", "b"], tmp_path / "grid.png")
    with pytest.raises(ValueError, match="titles"):
        grid_png([small], ["a", "b"], tmp_path / "grid.png")
    assert not list(tmp_path.iterdir())


def test_pyplot_and_its_backend_are_left_alone(tmp_path: Path):
    import matplotlib.pyplot as plt

    backend = matplotlib.get_backend()
    confusion_png(summary([0, 1, 1, 1]), tmp_path / "confusion.png")
    assert matplotlib.get_backend() == backend
    assert plt.get_fignums() == []


def test_the_same_data_give_the_same_file(tmp_path: Path):
    for name in ("a.png", "b.png"):
        confusion_png(summary([0, 1, 1, 1]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"][0] == pytest.approx(pictures.DPI, abs=0.1)


def test_the_label_curve_shows_every_row_and_number(tmp_path: Path, monkeypatch):
    figures = []
    save = pictures._save
    monkeypatch.setattr(pictures, "_save", lambda figure, path: (figures.append(figure), save(figure, path)))
    rows = {"fine": [summary([0, 1, 1, 1]), summary([0, 0, 1, 1])], "cycleat": [summary([1, 1, 1, 1])] * 2}
    for name in ("curve.png", "curve.svg"):
        label_curve([("1", 1.0), ("all", 7.5)], rows, tmp_path / name, "Toy")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "all\n(7.5)"]
    lines = [bars.lines for bars in axes.containers]
    assert [line.get_ydata().tolist() for line, _, _ in lines] == [[75, 100], [50, 50]]
    ends = lines[0][2][0].get_segments()[0][:, 1]
    assert ends == pytest.approx([100 * rows["fine"][0].low, 100 * rows["fine"][0].high])
    assert read(tmp_path / "curve.png").shape[0] > 300
    assert "<svg" in (tmp_path / "curve.svg").read_text()


def many(count: int, name: str = "class", images: int = 2):
    """So many classes, of which every image is read as the next class but one of the first."""
    labels = np.repeat(np.arange(count), images)
    said = np.where(np.arange(len(labels)) % images == 0, labels, (labels + 1) % count)
    names = tuple(f"{name}{i}" for i in range(count))
    e = Evaluation(names, np.arange(len(labels)), labels, said, np.eye(count, dtype=np.float32)[said])
    return summarise([Round(0, 0, e)], resamples=50)


def texts_of(monkeypatch) -> list[str]:
    """All that is written into pictures from now on."""
    written = []
    save = pictures._save

    def kept(figure, path):
        written.extend(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text")))
        save(figure, path)

    monkeypatch.setattr(pictures, "_save", kept)
    return written


@pytest.mark.parametrize(
    ("count", "name"), [(21, "class"), (126, "class"), (345, "c"), (20, "n" * 200), (3, "n" * 200)]
)
def test_a_confusion_matrix_is_bounded(count, name, tmp_path: Path, monkeypatch):
    written = texts_of(monkeypatch)
    confusion_png(many(count, name), tmp_path / "many.png", "cycleat")
    picture = read(tmp_path / "many.png")
    assert max(picture.shape) <= 2100
    cells = sum(text.isdigit() for text in written)
    assert (cells == 2 * count**2) if count <= 20 else (cells < count)
    assert max(map(len, written)) <= 60


def test_names_are_text_and_no_formula(tmp_path: Path, monkeypatch):
    written = texts_of(monkeypatch)
    names = ("$\\frac$", "US$", "$1-$5")
    e = Evaluation(names, np.arange(3), np.arange(3), np.arange(3), np.eye(3, dtype=np.float32))
    confusion_png(summarise([Round(0, 0, e)], resamples=50), tmp_path / "dollar.png", "$row$")
    curves_png({"step": [1, 2], "$\\alpha$ loss_{": [1.0, 2.0]}, tmp_path / "curves.png")
    label_curve([("1", 1), ("3", 3)], {"$a$^{": [many(2), many(2)]}, tmp_path / "curve.png", "$title_{")
    assert {*names, "$\\alpha$ loss_{", "$a$^{", "$title_{"} <= set(written)


def test_letters_that_no_font_has_become_numbers(tmp_path: Path, monkeypatch):
    has = pictures._font_of
    monkeypatch.setattr(pictures, "_font_of", lambda letter: None if letter in "猫犬" else has(letter))
    assert pictures.readable(["猫", "dog", "a犬", "\x01", "é"])[0] == ["#1", "dog", "#3", "#4", "é"]
    assert "#n: the n-th class of table.md" in pictures.readable(["猫"])[1]
    assert pictures.readable(["dog"]) == (["dog"], "")
    written = texts_of(monkeypatch)
    confusion_png(many(2, "猫"), tmp_path / "one.png", "row 犬")  # warnings of missing glyphs would be errors
    assert {"#1", "#2"} <= set(written)
    assert any(text.startswith("row ?") for text in written)


def test_another_font_is_taken_for_letters_that_the_usual_one_lacks(monkeypatch):
    letter = "\U0001d6fc"  # stands for a letter of another script
    files = {"DejaVu Sans": "usual.ttf", "Broken": "broken.ttf", "Other": "other.ttf"}
    letters = {
        "usual.ttf": frozenset(map(ord, "abc")),
        "broken.ttf": frozenset(),
        "other.ttf": frozenset({ord(letter)}),
    }
    monkeypatch.setattr(pictures, "_fonts", lambda: files)
    monkeypatch.setattr(pictures, "_letters", letters.__getitem__)
    pictures._font_of.cache_clear()
    try:
        assert pictures._families(["abc", f"a{letter}", "猫"]) == ["DejaVu Sans", "Other"]
        assert pictures.readable([letter, "猫"])[0] == [letter, "#2"]
    finally:
        pictures._font_of.cache_clear()


def test_every_installed_font_can_be_asked():
    """Also one of coloured pictures, or one that cannot be read."""
    assert ord("a") in pictures._letters(pictures._fonts()["DejaVu Sans"])
    assert not any("Last Resort" in name for name in pictures._fonts())
    assert pictures._letters(__file__) == frozenset()
