from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from dakit.advice.doctor import examine, label_noise, label_suspects, near_pairs
from dakit.data.sets import FileImages
from dakit.pipeline.run import run
from dakit.recipe.load import load_recipe
from dakit.statistics.metrics import Evaluation
from layouts import picture


def smooth(seed: int, size: int = 64) -> Image.Image:
    """Noise with a spectrum of 1 / frequency, as photographs have: JPEG and resizing change it little."""
    noise = np.fft.fft2(np.random.default_rng(seed).normal(size=(size, size, 3)), axes=(0, 1))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))[..., None]
    pixels = np.fft.ifft2(noise / np.maximum(frequency, 1 / size), axes=(0, 1)).real
    return Image.fromarray((128 + 50 * pixels / pixels.std()).clip(0, 255).astype(np.uint8))


RECIPE = """\
recipe: ill
method: fine_tune
data:
  size: 32
  source: {use: image_folder, root: ROOT/source}
  auxiliary: {use: web_faces, root: [ROOT/web]}
  target: {use: image_folder, root: ROOT/target, split: {SPLIT}}
components:
  network: {use: resnet_cifar, depth: 8, width: 4}
  generator: {use: resnet_generator, blocks: 1, width: 4}
  discriminator: {use: patchgan, width: 4, layers: 1}
stages:
  pretrain: {do: train_classifier, train: source.all, classifier: network, steps: 2, batch_size: 4}
  translate:
    {do: train_translator, source: source.all, target: auxiliary.all, generator: generator,
     discriminator: discriminator, steps: 2, batch_size: 2}
  synthesise: {do: synthesise, images: source.all, translator: translate.translator}
  adapt:
    {do: train_classifier, train: target.train, extra: synthesise.images, init: pretrain.model, classifier: network,
     steps: 2, batch_size: 4}
  evaluate: {do: evaluate, model: adapt.model, test: target.test}
"""


@pytest.fixture
def tree(tmp_path):
    """Healthy: 6 images of 2 classes in source and target each, 6 in web."""
    for number, (folder, names) in enumerate({"source": "ab", "target": "ab", "web": "."}.items()):
        for k, name in enumerate(names):
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(6):
                smooth(100 * number + 10 * k + i).save(tmp_path / folder / name / f"{i}.png")
    return tmp_path


def ill(tree, split="folds: 2", more=""):
    (tree / "ill.yaml").write_text(RECIPE.replace("ROOT", str(tree)).replace("SPLIT", split) + more)
    return load_recipe(tree / "ill.yaml")


def found(tree, **more):
    """(severity, check, where) of what was found besides the few labels that this tree has."""
    return {one[:3]: one for one in examine(ill(tree, **more)) if one.check != "few labels"}


def test_a_healthy_tree_has_few_labels_and_nothing_else(tree):
    (finding,) = examine(ill(tree))
    assert finding[:3] == ("warning", "few labels", "target")
    assert "a 3, b 3" in finding.text


def test_corrupt_flat_long_and_small_images(tree):
    (tree / "source" / "a" / "torn.png").write_bytes((tree / "source" / "a" / "0.png").read_bytes()[:200])
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tree / "web" / "flat.png")
    smooth(7, 200).crop((0, 0, 200, 50)).save(tree / "web" / "long.png")
    smooth(8, 16).save(tree / "web" / "small.png")
    smooth(9).convert("L").save(tree / "web" / "grey.png")
    got = found(tree)
    assert set(got) == {
        ("error", "unreadable", "source"),
        ("warning", "one colour", "auxiliary"),
        ("warning", "shape", "auxiliary"),
        ("note", "small", "auxiliary"),
        ("note", "no colour", "auxiliary"),
    }
    assert got["error", "unreadable", "source"].images == (str(tree / "source" / "a" / "torn.png"),)
    assert got["warning", "shape", "auxiliary"].images == (str(tree / "web" / "long.png"),)


def test_exact_and_near_duplicates_inside_and_across_roles(tree):
    target, web, source = tree / "target" / "a", tree / "web", tree / "source" / "a"
    shutil.copy(target / "0.png", web / "leak.png")
    smooth(100).resize((48, 48)).save(web / "near.jpg", quality=80)  # target/a/0 again
    shutil.copy(source / "1.png", web / "same.png")
    shutil.copy(source / "2.png", source / "twice.png")
    got = found(tree)
    assert set(got) == {
        ("error", "exact duplicates", "auxiliary, target"),
        ("note", "near duplicates", "auxiliary"),
        ("warning", "exact duplicates", "source"),
        ("warning", "exact duplicates", "source, auxiliary"),
        ("warning", "near duplicates", "auxiliary, target"),
    }
    assert got["error", "exact duplicates", "auxiliary, target"].images == (f"{web / 'leak.png'} = {target / '0.png'}",)
    assert got["warning", "exact duplicates", "source"].images == (f"{source / '2.png'} = {source / 'twice.png'}",)


@pytest.mark.parametrize(("grouped", "severity"), [(False, "error"), (True, "warning")])
def test_a_duplicate_inside_the_target_is_an_error_where_a_split_parts_it(tree, grouped, severity):
    for i in range(6):
        (tree / "target" / "a" / f"{i}.png").rename(tree / "target" / "a" / f"p{i}_0.png")
        (tree / "target" / "b" / f"{i}.png").rename(tree / "target" / "b" / f"p{i}_1.png")
    for i in range(5):  # so many that some split parts a pair for certain
        shutil.copy(tree / "target" / "a" / f"p{i}_0.png", tree / "target" / "a" / f"p{i}_2.png")
    recipe = ill(tree)
    if grouped:
        (tree / "ill.yaml").write_text(
            (tree / "ill.yaml").read_text().replace("/target,", "/target, group_by: '^(p.)',")
        )
        recipe = load_recipe(tree / "ill.yaml")
    kinds = [one.severity for one in examine(recipe) if one.check == "exact duplicates"]
    assert kinds[0] == severity


def test_classes_that_differ_lack_images_or_are_out_of_balance(tree):
    shutil.rmtree(tree / "target" / "b")
    (tree / "target" / "c").mkdir()
    for i in range(20):
        smooth(700 + i).save(tree / "target" / "c" / f"{i}.png")
    got = found(tree)
    assert {key[:2] for key in got} == {("error", "classes"), ("note", "imbalance")}
    assert "source: a, b; target: a, c" in got["error", "classes", "source, target"].text
    assert "3.3 times" in got["note", "imbalance", "target"].text


def test_too_few_labels_for_the_folds(tree):
    got = found(tree, split="folds: 7")
    assert set(got) == {("error", "data", "target")}
    assert "too few to be on every side" in got["error", "data", "target"].text


def test_groups_on_both_sides_of_a_published_split(tree):
    rows = [f"target/a/{i}.png,a,{('train', 'test')[i % 2]},{'#1 film' if i < 2 else f'p{i}'}" for i in range(6)]
    rows += [f"target/b/{i}.png,b,{('train', 'test')[i % 2]}," for i in range(6)]
    (tree / "target.csv").write_text("\n".join(["path,label,split,group", *rows]))
    recipe = ill(tree, split="predefined: true")
    text = (
        (tree / "ill.yaml")
        .read_text()
        .replace(f"image_folder, root: {tree}/target", f"manifest, file: {tree}/target.csv")
    )
    (tree / "ill.yaml").write_text(text)
    (finding,) = [one for one in examine(load_recipe(recipe.file)) if one.check == "groups"]
    assert finding.text.endswith("1 groups stand on both sides of the published split: #1 film")


def test_labels_of_a_published_test_side_make_no_difference(tree):
    """With other labels on the test side nothing that is told changes."""

    def told(labels):
        rows = [
            f"target/{name}/{i}.png,{labels(name, i)},{('train', 'test')[i % 2]}" for name in "ab" for i in range(6)
        ]
        (tree / "target.csv").write_text("\n".join(["path,label,split", *rows]))
        return examine(load_recipe(tree / "ill.yaml"))

    ill(tree, split="predefined: true")
    text = (
        (tree / "ill.yaml")
        .read_text()
        .replace(f"image_folder, root: {tree}/target", f"manifest, file: {tree}/target.csv")
    )
    (tree / "ill.yaml").write_text(text)
    assert told(lambda name, i: name) == told(lambda name, i: "a" if i % 2 else name) != []


def test_near_pairs_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2, (40, 256)).astype(bool)
    hashes[30:] = hashes[:10] ^ (rng.random((10, 256)) < 0.05)
    wanted = [[i, j] for i in range(40) for j in range(i + 1, 40) if (hashes[i] != hashes[j]).sum() <= 16]
    pairs, complete = near_pairs(np.packbits(hashes, axis=1), 16)
    assert pairs.tolist() == wanted
    assert complete
    assert len(wanted) > 3


def test_near_pairs_across_chunks():
    hashes = np.random.default_rng(0).integers(0, 2, (4100, 64)).astype(bool)
    hashes[4099] = hashes[3]
    hashes[2050] = hashes[2049]
    assert near_pairs(np.packbits(hashes, axis=1), 0)[0].tolist() == [[3, 4099], [2049, 2050]]


def test_label_suspects_by_hand():
    """t_a = mean(.9, .8, .2) = .633, t_b = mean(.9, .7, .6) = .733: only image 12 reaches another class's threshold."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.4, 0.6]], np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1])
    evaluation = Evaluation(("a", "b"), np.arange(10, 16), labels, probabilities.argmax(1), probabilities)
    ((index, label, better, probability),) = label_suspects([evaluation])
    assert (index, label, better) == (12, 0, 1)
    assert probability == pytest.approx(0.8)
    halves = [np.arange(0, 6, 2), np.arange(1, 6, 2)]
    folds = [Evaluation(("a", "b"), np.arange(10, 16)[h], labels[h], labels[h], probabilities[h]) for h in halves]
    assert [one[:3] for one in label_suspects(folds)] == [(12, 0, 1)]


def test_label_noise_needs_a_finished_run_with_folds(tree, monkeypatch):
    recipe = ill(tree)
    assert label_noise(recipe, tree / "run") == []
    run(recipe, out=tree / "run")
    monkeypatch.setattr(
        "dakit.advice.doctor.label_suspects",
        lambda evaluations, seen: [(8, 1, 0, 0.75)] if len(evaluations) == 2 and seen.all() else [],
    )
    (finding,) = label_noise(recipe, tree / "run")
    assert finding.images == (f"{tree / 'target' / 'b' / '2.png'}: b, or a (0.75)?",)
    assert label_noise(ill(tree, split="folds: 3"), tree / "run") == []
    assert label_noise(ill(tree, split="holdout: 0.5"), tree / "run") == []


def test_files_that_are_to_be_skipped_are_not_told_as_errors(tree):
    (tree / "web" / "torn.png").write_bytes(b"nothing")
    ill(tree)
    (tree / "ill.yaml").write_text(
        (tree / "ill.yaml").read_text().replace("  size: 32", "  size: 32\n  on_bad_image: skip")
    )
    assert {one.check for one in examine(load_recipe(tree / "ill.yaml"))} == {"few labels"}


def test_a_picture_of_a_class_is_no_duplicate_of_another(tmp_path):
    """Those of the other tests' trees, at the size of a recipe."""
    paths = []
    for name in ("AN", "DI", "FE"):
        for i in range(4):
            paths.append(tmp_path / f"{name}{i}.png")
            picture(name, f"{name}{i}", 48, wild=True).save(paths[-1])
    images = FileImages(paths, size=32)
    import imagehash

    hashes = [imagehash.phash(Image.fromarray(s.image.permute(1, 2, 0).numpy()), 16).hash.ravel() for s in images]
    assert len(near_pairs(np.packbits(hashes, axis=1))[0]) == 0


def test_the_same_picture_with_two_labels_is_an_error(tree):
    shutil.copy(tree / "source" / "a" / "1.png", tree / "source" / "b" / "zz.png")
    got = found(tree)
    key = ("error", "exact duplicates, two labels", "source")
    assert got[key].text == "1 have different labels; one of the two is wrong"
    assert got[key].images == (f"{tree / 'source' / 'a' / '1.png'} (a) = {tree / 'source' / 'b' / 'zz.png'} (b)",)


def test_two_labels_across_roles_and_of_images_learned_from_together(tree):
    """With two folds a pair of the target is learned from together in one fold, or divided in both."""
    shutil.copy(tree / "source" / "a" / "1.png", tree / "target" / "b" / "zz.png")
    smooth(10).resize((48, 48)).save(tree / "source" / "a" / "zz.jpg", quality=80)  # source/b/0 again
    got = found(tree)
    assert got["error", "exact duplicates, two labels", "source, target"].text.startswith("1 have different labels")
    assert got["note", "near duplicates, two labels", "source"].text == "1 have different labels"


def test_images_without_a_label_are_counted_and_named(tree):
    rows = [f"source/{name}/{i}.png,{name if i else ''}" for name in "ab" for i in range(6)]
    (tree / "source.csv").write_text("\n".join(["path,label", *rows]))
    ill(tree)
    text = (tree / "ill.yaml").read_text()
    text = text.replace(f"image_folder, root: {tree}/source", f"manifest, file: {tree}/source.csv")
    (tree / "ill.yaml").write_text(text)
    got = {one[:3]: one for one in examine(load_recipe(tree / "ill.yaml"))}
    told = got["error", "no label", "source"]
    assert told.text.startswith("2 of 12 images have no label")
    assert told.images == (str(tree / "source" / "a" / "0.png"), str(tree / "source" / "b" / "0.png"))


def test_what_is_passed_over_is_counted(tree):
    for name in ("source/a/x.heic", "source/b/y.heic", "source/notes.txt", "source/b/z"):
        (tree / name).write_bytes(b"x")
    told = found(tree)["warning", "passed over", "source"]
    assert told.text.endswith(": 3 files: .heic 2, no suffix 1")


def test_suspects_are_of_the_role_that_is_tested(tree, monkeypatch):
    """Folds on the source as well, or on it alone: its names are never taken for the target's."""
    both = ill(tree)
    text = (tree / "ill.yaml").read_text().replace("/source}", "/source, split: {folds: 3}}")
    (tree / "ill.yaml").write_text(text.replace("source.all", "source.train"))
    both = load_recipe(tree / "ill.yaml")
    run(both, out=tree / "both")
    seen = []
    monkeypatch.setattr(
        "dakit.advice.doctor.label_suspects", lambda evaluations, only: seen.append(only) or [(0, 0, 1, 0.9)]
    )
    (finding,) = label_noise(both, tree / "both")
    assert finding.where == "target"
    assert finding.images == (f"{tree / 'target' / 'a' / '0.png'}: a, or b (0.90)?",)
    assert seen[0].tolist() == [True] * 12
    alone = tree / "ill.yaml"
    alone.write_text(alone.read_text().replace("split: {folds: 2}", "split: {holdout: 0.5}"))
    run(load_recipe(alone), out=tree / "alone")
    assert label_noise(load_recipe(alone), tree / "alone") == []
    assert len(seen) == 1


def test_suspects_are_images_that_some_fold_learns_from():
    """Of the images 14 and 15 no fold learns, so that they are neither suspected nor asked for a threshold."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.0, 1.0], [1.0, 0.0]], np.float32)
    labels = np.array([0, 0, 1, 1, 0, 1])
    evaluation = Evaluation(("a", "b"), np.arange(10, 16), labels, probabilities.argmax(1), probabilities)
    assert {one[0] for one in label_suspects([evaluation])} == {11, 14, 15}
    only = np.arange(16) < 14  # t_a = mean(.9, .2) = .55, t_b = mean(.9, .7) = .8: image 11 reaches it
    assert [one[:3] for one in label_suspects([evaluation], only)] == [(11, 0, 1)]
    assert label_suspects([evaluation], np.zeros(16, bool)) == []


def test_near_pairs_stop_where_everything_is_alike(monkeypatch):
    alike = np.zeros((300, 32), np.uint8)
    pairs, complete = near_pairs(alike)
    assert (len(pairs), complete) == (300 * 299 // 2, True)
    monkeypatch.setattr("dakit.advice.doctor._FOUND", 1000)
    pairs, complete = near_pairs(alike)
    assert not complete
    assert 1000 < len(pairs) < 3000
    monkeypatch.setattr("dakit.advice.doctor._COMPARED", 10)
    assert near_pairs(alike)[1] is False
