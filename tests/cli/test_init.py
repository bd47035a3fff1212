from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys

import pytest
import timm
from safetensors.torch import save_file

from dakit.recipe.load import load_recipe
from layouts import picture

CLASSES = ("HA", "SA", "SU")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """18 source, 8 web and 12 target images of 48 x 40 pixels; two target people are named in the files."""
    root = tmp_path_factory.mktemp("init") / "my pictures"
    for folder, count, wild in (("lab", 6, False), ("real-life", 4, True)):
        for name in CLASSES:
            (root / folder / name).mkdir(parents=True)
            for i in range(count):
                file = f"p{i // 2}_{i}.png" if wild else f"{i}.png"
                picture(name, f"{folder}{name}{i}", 40, wild=wild).resize((48, 40)).save(root / folder / name / file)
    (root / "web_photos").mkdir()
    for i in range(8):
        picture(None, f"web{i}", 40, wild=True).save(root / "web_photos" / f"{i}.jpg")
    return root


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def test_the_recipe_checks_and_runs_as_written(pictures, dakit):
    code, out, err = dakit("init", pictures, "--groups", "none", "--device", "cpu")
    assert code == 0, err
    assert "my_pictures.yaml: written; 3 classes at 32 x 32 pixels" in out
    assert "source" in out
    assert "48 x 40" in out
    code, out, err = dakit("check", "my_pictures.yaml")
    assert (code, err) == (0, "")
    assert "data: found" in out
    code, out, err = dakit("run", "my_pictures.yaml", "--profile", "quick", "--fold", 0, "--json")
    assert code == 0, err
    assert json.loads(out)["rows"].keys() == {
        "s2t", "frozen_target", "frozen_both", "s2t_fine_tune", "s_t", "cycleat", "cycleat_all",
    }  # fmt: skip


def test_the_recipe_itself_selects_by_tsne_on_so_few_images(pictures, dakit):
    """The quick profile has another selector, so the first-guess perplexity is tried here."""
    dakit("init", pictures, "--groups", "none", "--device", "cpu")
    few = [f"{stage}.steps=1" for stage in ("pretrain", "pretrain_shallow", "stage_1", "stage_2", "adapt")]
    settings = [part for setting in few for part in ("--set", setting)]
    code, _, err = dakit("run", "my_pictures.yaml", "--variant", "cycleat", "--until", "select", "--fold", 0, *settings)
    assert code == 0, err


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("size", [32, 128, 256])
def test_every_size_and_machine_makes_a_good_recipe(pictures, dakit, device, size):
    code, _, err = dakit("init", pictures, "--groups", "none", "--device", device, "--size", size)
    assert code == 0, err
    deep = load_recipe("my_pictures.yaml").document["components"]["deep"]
    assert deep["use"] == ("timm" if device == "gpu" and size >= 96 else "resnet_cifar")


def test_a_pretrained_network_comes_first(pictures, dakit, tmp_path):
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), tmp_path / "w.safetensors")
    given = ("--groups", "none", "--device", "cpu", "--backbone", "test_resnet", "--weights", "w.safetensors")
    assert dakit("init", pictures, *given)[0] == 0
    assert dakit("check", "my_pictures.yaml")[0] == 0
    recipe = load_recipe("my_pictures.yaml")
    assert recipe.rows == ("frozen_source", "frozen_target", "frozen_both", "target_only", "s2t_fine_tune", "s_t")
    for row in recipe.rows[:3]:
        (head,) = [stage for stage in recipe.plan(row).stages if stage.name == "head"]
        assert head.spec.params["classifier"].params["arch"] == "test_resnet"
        assert str(head.inputs["train"]) == ("source.all" if row == "frozen_source" else "target.train")
        assert ("extra" in head.inputs) == (row == "frozen_both")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--backbone", "resnet18"], "--backbone ARCH and --weights FILE belong together"),
        (["--weights", "w.safetensors"], "--backbone ARCH and --weights FILE belong together"),
        (["--backbone", "resnet18", "--weights", "none.pth"], "--weights none.pth: there is no such file"),
    ],
)
def test_a_network_and_its_weights_belong_together(pictures, dakit, given, message):
    code, _, err = dakit("init", pictures, "--groups", "none", *given)
    assert code == 2
    assert message in err


def test_groups_that_the_names_suggest_must_be_decided(pictures, dakit, tmp_path):
    code, _, err = dakit("init", pictures)
    assert code == 2
    assert "--groups" in err
    assert "2 people" in err
    assert not list(tmp_path.glob("*.yaml"))
    code, _, _ = dakit("init", pictures, "--groups", r"^([^_-]+)[_-]")
    assert code == 0
    (target,) = [
        data for data in load_recipe("my_pictures.yaml").plan("cycleat").data.values() if data.role == "target"
    ]
    images = target.spec.build(32, None)
    assert set(images.groups) == {"p0", "p1"}
    assert target.split.folds == 2  # two people cannot be in more


def test_all_missing_flags_are_named_at_once(pictures, dakit, tmp_path):
    odd = tmp_path / "odd"
    shutil.copytree(pictures / "lab", odd / "one")
    shutil.copytree(pictures / "real-life", odd / "two")
    code, _, err = dakit("init", odd)
    assert code == 2
    assert all(f"--{role}: " in err for role in ("source", "auxiliary", "target"))
    assert "holds one, two" in err
    places = ("--source", odd / "one", "--target", odd / "two", "--auxiliary", "none")
    code, _, err = dakit("init", odd, *places, "--groups", "none")
    assert code == 0, err
    plan = load_recipe("odd.yaml").plan("cycleat")
    assert set(plan.data) == {"source", "target"}
    (stage_1,) = [stage for stage in plan.stages if stage.name == "stage_1"]
    assert str(stage_1.inputs["target"]) == "target.train"


def test_a_terminal_is_asked(pictures, dakit, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("none\n"))
    code, out, err = dakit("init", pictures)
    assert code == 0, err
    assert "2 people" in out
    assert "group_by" not in load_recipe("my_pictures.yaml").document["data"]["target"]


def test_nothing_is_overwritten_without_the_flag(pictures, dakit, tmp_path):
    file = tmp_path / "my_pictures.yaml"
    file.write_text("mine")
    code, _, err = dakit("init", pictures, "--groups", "none")
    assert code == 2
    assert "--overwrite" in err
    assert file.read_text() == "mine"
    assert dakit("init", pictures, "--groups", "none", "--overwrite")[0] == 0
    assert file.read_text() != "mine"


def test_classes_that_differ_must_be_decided(pictures, dakit, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    shutil.rmtree(other / "real-life" / "SU")
    arguments = ("init", other, "--groups", "none")
    code, _, err = dakit(*arguments)
    assert code == 2
    assert "only in the source: SU" in err
    assert dakit(*arguments, "--classes", "SA,Happy")[0] == 2
    assert dakit(*arguments, "--classes", "SA, HA")[0] == 0
    assert dakit("check", "other.yaml")[0] == 0
    data = load_recipe("other.yaml").document["data"]
    assert data["classes"] == ["SA", "HA"]
    assert data["source"]["ignore"] == ["SU"]


def test_a_manifest_with_published_parts(pictures, dakit, tmp_path):
    lines = ["path,label,split"]
    for name in CLASSES:
        lines += [f"{pictures}/real-life/{name}/p{i // 2}_{i}.png,{name},{'test' if i else 'train'}" for i in range(4)]
    (tmp_path / "target.csv").write_text("\n".join(lines).replace(f"{pictures}/", ""))
    shutil.copytree(pictures / "real-life", tmp_path / "real-life")
    code, out, err = dakit(
        "init", pictures, "--target", "target.csv", "--json", "--auxiliary", pictures / "web_photos", "--out", "r.yaml"
    )
    assert code == 0, err
    assert [one["images"] for one in json.loads(out)["found"]] == [18, 8, 12]
    assert load_recipe("r.yaml").document["data"]["target"]["split"] == {"predefined": True}
    assert dakit("check", "r.yaml")[0] == 0


@pytest.fixture
def listed(pictures, tmp_path):
    """Write a CSV file of the target images in parts, with absolute paths."""

    def write(*parts, column="split"):
        lines = [f"path,label,{column}"]
        for name in CLASSES:
            places = [f"{pictures}/real-life/{name}/p{i // 2}_{i}.png" for i in range(4)]
            lines += [f"{place},{name},{parts[i * len(parts) // 4]}" for i, place in enumerate(places)]
        (tmp_path / "target.csv").write_text("\n".join(lines))
        return ("init", pictures, "--target", "target.csv", "--device", "cpu", "--out", "r.yaml")

    return write


def test_paths_outside_the_folder_have_the_flag_that_the_message_names(listed, dakit):
    arguments = listed("train", "val", "test", "test")
    code, _, err = dakit(*arguments)
    assert code == 2
    assert "`outside: true` allows that (of `dakit init`: --outside)" in err
    code, _, err = dakit(*arguments, "--outside")
    assert code == 0, err
    target = load_recipe("r.yaml").document["data"]["target"]
    assert (target["outside"], target["split"]) == (True, {"predefined": True})
    assert dakit("check", "r.yaml")[0] == 0
    _, _, err = dakit(*arguments, "--overwrite", "--outside", "--target", arguments[1] / "real-life")
    assert "--outside: it is for a CSV file" in err


def test_parts_whose_names_do_not_say_what_to_test_on_must_be_decided(listed, dakit, tmp_path):
    arguments = (*listed("train", "train", "train", "validation"), "--outside")
    code, _, err = dakit(*arguments)
    assert code == 2
    assert "--test: the target's published parts are train (9 images), validation (3 images)" in err
    assert "(perhaps validation or train)" in err
    assert not (tmp_path / "r.yaml").exists()
    code, _, err = dakit(*arguments, "--test", "validation")
    assert code == 0, err
    assert load_recipe("r.yaml").document["data"]["target"]["split"] == {"predefined": "validation"}
    assert dakit("check", "r.yaml")[0] == 0


def test_groups_of_a_csv_file_are_its_column(listed, dakit):
    code, _, err = dakit(*listed("a", "b", column="group"), "--outside", "--groups", "(.*)")
    assert code == 2
    assert 'target.csv are grouped by its column "group"' in err
    assert dakit(*listed("a", "b", column="group"), "--outside")[0] == 0


def test_the_recipe_is_called_as_its_file(pictures, dakit):
    assert dakit("init", pictures, "--groups", "none", "--out", "other one.yaml")[0] == 0
    assert load_recipe("other one.yaml").name == "other_one"
    assert dakit("init", pictures, "--groups", "none")[0] == 0
    assert load_recipe("my_pictures.yaml").name == "my_pictures"


@pytest.mark.parametrize(("size", "near"), [(70, "68 or 72"), (51, "50 or 52"), (63, "62 or 64")])
def test_a_size_that_the_networks_do_not_take_is_refused_with_those_that_they_do(pictures, dakit, tmp_path, size, near):
    code, _, err = dakit("init", pictures, "--groups", "none", "--size", size)
    assert code == 2
    assert f"--size {size}: expected a multiple of {4 if size > 64 else 2}" in err
    assert near in err
    assert not list(tmp_path.glob("*.yaml"))


def test_check_refuses_a_size_that_run_would_refuse(pictures, dakit, tmp_path):
    assert dakit("init", pictures, "--groups", "none", "--device", "cpu")[0] == 0
    recipe = tmp_path / "my_pictures.yaml"
    recipe.write_text(recipe.read_text().replace("  size: 32 ", "  size: 31 "))
    said = {}
    for command in (("check",), ("run", "--variant", "cycleat", "--fold", "0")):
        code, _, err = dakit(command[0], "my_pictures.yaml", *command[1:])
        assert code == 2
        said[command[0]] = [
            line.partition("stages.")[2] for line in err.splitlines() if "resnet_generator needs" in line
        ]
    assert said["check"] == said["run"] != []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(pictures, dakit, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    code, _, err = dakit("init", pictures, "--groups", "none", "--out", "closed/r.yaml")
    assert code == 2
    assert "--out closed/r.yaml: cannot be written: Permission denied" in err


def test_a_full_disk_is_told_in_one_line_by_the_name_that_people_know(pictures, dakit, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = dakit("init", pictures, "--groups", "none")
    assert (code, err) == (2, "dakit: --out my_pictures.yaml: cannot be written: No space left on device\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--groups", "("], "--groups (: target: group_by: '(' is not a regular expression"),
        (["--groups", "(x)"], "--groups (x): target: group_by: '(x)' finds nothing in 12 names"),
        (["--classes", "HA"], "--classes: expected two or more different names, not HA"),
        (["--classes", "HA,HA"], "--classes: expected two or more different names, not HA, HA"),
        (["--test", "val"], "--test val: target: the data has no published parts"),
        (["--source", "nowhere"], "source: "),
        (["--device", "tpu"], "expected one of auto, cpu, gpu"),
        (["--out", "no/where.yaml"], "there is no folder"),
    ],
)
def test_mistakes(pictures, dakit, change, said):
    code, _, err = dakit("init", pictures, "--groups", "none", *change)
    assert code == 2
    assert said in err


@pytest.mark.parametrize("given", ["real=0,4095", "target", "target=0", "target=5,5", "target=a,b"])
def test_a_range_that_is_none_is_refused(pictures, dakit, given):
    code, _, err = dakit("init", pictures, "--groups", "none", "--range", given)
    assert code == 2
    assert f"--range {given}: expected ROLE=BLACK,WHITE with one of source, auxiliary, target" in err


def test_a_range_stands_in_the_recipe(pictures, dakit):
    code, _, err = dakit("init", pictures, "--groups", "none", "--range", "target=0,4095", "--range", "source=0,1")
    assert code == 0, err
    data = load_recipe("my_pictures.yaml").document["data"]
    assert (data["target"]["range"], data["source"]["range"]) == ([0, 4095], [0, 1])
    assert "range" not in data["auxiliary"]
