"""The model card that stands beside an exported classifier."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import yaml

from dakit.errors import DakitError
from dakit.optional import Exported
from dakit.report.tables import plain_markdown, remarks, to_markdown
from dakit.report.values import value_of
from dakit.results.record import gathered
from dakit.results.runs import Model, Run
from dakit.statistics.measures import MACRO_ACCURACY, Metric, metric_named
from dakit.statistics.metrics import ONE_SEED, Round, Summary, summarise

_CARD = """\
# {title}: {row}

A classifier of images into {count} classes: {classes}. Row `{row}` of the recipe `{recipe}`{profile}, seed {seed},
fold {fold}: the network that stage `{stage}` {made}, {weights:,} weights.

## Use

{takes} On {images} of {whose} no probability differs from
the original's by more than {difference:.1e} (fp32 on a CPU; in batches of up to 64, and the first alone).

```python
{snippet}
```

## Numbers

{measured}
{means}{chance}

{numbers}

{remarks}

## Data

{data}

## How it was chosen

{choice}

## Limits

* The numbers hold for images like the test images: same source, same framing. Other places were not measured.
* Images are brought to {size} x {size} pixels as in `read` above. Other framing, or objects cut out in another way,
  may cost accuracy.
{warnings}* Every image gets one of the classes, also one that shows none of them. Probabilities were not calibrated.
* What was trained on few labelled images carries their chance: see the interval.
* Licences of the training data may forbid uses of a model trained on it; dakit cannot know them.

## Versions

What this model and all that it was made from were made with: {versions}; Python {python}, {platform}; on
{device}{tf32}. Plugins: {plugins}.

<details><summary>The recipe as the last dakit run read it</summary>

{fence}yaml
{document}
{fence}

</details>
"""

_READ = """\
def read(path):  # as dakit reads 8-bit images without transparency
    image = Image.open(path)
    image.draft("RGB", ({size}, {size}))
    image = ImageOps.exif_transpose(image).convert("RGB")
    image = {fit}
    return np.asarray(image).transpose(2, 0, 1)"""

_CROP = "ImageOps.fit(image, ({size}, {size}), Image.Resampling.BILINEAR)  # the largest centred square"
_SQUASH = "image.resize(({size}, {size}), Image.Resampling.BILINEAR)  # the whole image"

_TAKES = """\
`{file}` takes `images`, uint8 RGB `(batch, 3, {size}, {size})`, and gives `probabilities`, float32 `(batch, {count})`,
in the order of the classes above. Scaling is inside."""

_OWN = """\
import sys

import numpy as np
import torch
from PIL import Image, ImageOps
{code}


{read}


images = torch.from_numpy(np.stack([read(path) for path in sys.argv[1:]]))
with torch.no_grad():
    rows = probabilities(images)
for path, row in zip(sys.argv[1:], rows):
    print(path, classes[row.argmax()], float(row.max()))"""

_USE = {
    "model.onnx": """\
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
classes = json.loads(session.get_modelmeta().custom_metadata_map["dakit"])["classes"]


{read}


images = np.stack([read(path) for path in sys.argv[1:]])
for path, row in zip(sys.argv[1:], session.run(None, {{"images": images}})[0]):
    print(path, classes[row.argmax()], row.max())""",
    "model.pt2": """\
import json
import sys

import numpy as np
import torch
from PIL import Image, ImageOps

about = {{"dakit.json": ""}}
model = torch.export.load("model.pt2", extra_files=about).module()
classes = json.loads(about["dakit.json"])["classes"]


{read}


images = torch.from_numpy(np.stack([read(path) for path in sys.argv[1:]]))
for path, row in zip(sys.argv[1:], model(images)):
    print(path, classes[row.argmax()], float(row.max()))""",
}


class Agreement(NamedTuple):
    """How an exported classifier compares with the original.

    Attributes:
        images: compared.
        difference: the largest of any probability.
        tested: whether they are test images of the run.
    """

    images: int
    difference: float
    tested: bool


def model_card(
    run: Run,
    row: str,
    seed: int,
    fold: int,
    model: Model,
    file: str,
    agreement: Agreement,
    exported: Exported | None = None,
) -> str:
    """Markdown: what it is, how to use it, numbers, data, choice, limits, versions and the whole recipe.

    Args:
        run: the classifier's.
        row: of its table.
        seed: of the round,
        fold: and its fold.
        model: the classifier.
        file: its file's name, ``model.onnx`` or ``model.pt2``; any other where it is in a format of its own.
        agreement: with the original.
        exported: what there is to say of that format.
    """
    about = run.about
    above = run.jobs_of(row, seed, fold).values()
    provenance = gathered(run.result(job).marker["made_with"] for job in above if job.done)
    recipe = about["recipe"]
    ran = {key: value for key, value in recipe.items() if key not in ("profiles", "published")}
    document = yaml.safe_dump(ran, sort_keys=False, width=110, default_flow_style=None).rstrip()
    rounds = run.rounds(row)
    metric = metric_named(recipe.get("metric", "macro_accuracy"))
    numbered = {name: summarise(row_rounds, metric=metric) for name in run.rows if (row_rounds := run.rounds(name))}
    evaluation = next((round_.evaluation for round_ in rounds if (round_.seed, round_.fold) == (seed, fold)), None)
    alone = "This very classifier was not evaluated."
    if evaluation is not None:
        try:
            value = f"{100 * summarise([Round(seed, fold, evaluation)], metric=metric).value:.2f}"
        except DakitError:  # such as an AUROC where its fold lacks a class
            value = "cannot be had"
        alone = f"This very classifier: {metric.heading} {value} on {len(evaluation.labels)} test images."
    beneath = remarks(numbered, {}, None)
    fit = (_CROP if model.fit == "crop" else _SQUASH).format(size=model.size)
    read = _READ.format(size=model.size, fit=fit)
    return _CARD.format(
        title=plain_markdown(recipe.get("title") or recipe["recipe"]),
        row=row,
        count=len(model.classes),
        classes=", ".join(map(plain_markdown, model.classes)),
        recipe=recipe["recipe"],
        profile=f" (profile `{about['profile']}`)" if about["profile"] else "",
        seed=seed,
        fold=fold,
        stage=model.origin.stage,
        made="trained" if _trained_by_dakit(model) else f"(`{model.origin.do}`) made",
        means=_means(len(rounds), len(run.rounds_of(row)), evaluation is not None),
        weights=sum(p.numel() for p in model.network.parameters()),
        takes=exported.takes if exported else _TAKES.format(file=file, size=model.size, count=len(model.classes)),
        size=model.size,
        images=agreement.images,
        whose="the run's test images" if agreement.tested else "the images named at export",
        difference=agreement.difference,
        snippet=_OWN.format(code=exported.code, read=read) if exported else _USE[file].format(read=read),
        measured=_measured(metric),
        chance=f" Chance is {100 * metric.guess(len(model.classes)):.1f}." if metric.guess else "",
        numbers=to_markdown(numbered) if numbered else "Nothing was evaluated.",
        remarks="\n".join(
            f"* {line}" for line in [*map(plain_markdown, beneath), *_verdict(run, row, numbered), alone]
        ),
        data=_data(run, row, seed, fold),
        choice=_choice(run, row, model),
        warnings="".join(f"* {text}\n" for text in _warnings(run, row, seed, fold)),
        versions=", ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
        python=provenance["machine"]["python"],
        platform=provenance["machine"]["platform"],
        device=provenance["device"],
        tf32="" if provenance["tf32"] is False else f" (TF32: {provenance['tf32']})",
        plugins=", ".join(
            plain_markdown(f"{name} {version}") for name, version in provenance.get("plugins", {}).items()
        )
        or "dakit's own",
        document=document,
        fence="`" * max(3, 1 + max(map(len, re.findall("`+", document)), default=0)),
    )


def _measured(metric: Metric) -> str:
    """What the table is about."""
    if metric is MACRO_ACCURACY:
        return (
            "Macro accuracy (Ave., the mean of the classes' recalls) and recall per class, in percent of test images."
        )
    title = metric.title[0].upper() + metric.title[1:]
    by_class = f", and {metric.columns} per class" if metric.columns else ""
    return f"{title} ({metric.heading}: {metric.about}){by_class}, in percent."


def _means(finished: int, rounds: int, among: bool) -> str:
    """What the numbers of the classifier's row are of."""
    if not finished:
        return "This row was not evaluated."
    rest = f" ({rounds - finished} more are not finished)" if rounds > finished else ""
    if finished == 1:
        return f"This row's are of {'this classifier' if among else 'one other classifier'} alone{rest}."
    return f"This row's are means over {finished} classifiers{rest}{', of which this is one' if among else ''}."


def _verdict(run: Run, row: str, numbered: Mapping[str, Summary]) -> list[str]:
    """What results.json says of the row against the baseline, where it is of the same numbers."""
    result = (run.results or {}).get("rows", {}).get(row)
    compared = result and result.get("comparison")
    if not compared or row not in numbered or abs((value_of(result) or 0) - 100 * numbered[row].value) > 1e-6:
        return []
    if "reason" in compared:
        return [f"Not compared with `{compared['baseline']}`: {plain_markdown(compared['reason'])}"]
    low, high = compared["interval"]
    points = f"{compared['difference']:+.2f} points, {low:+.2f} to {high:+.2f}"
    sure = "" if compared["verdict"] == ONE_SEED else f", p = {compared['p']:.2g}"
    return [f"Against `{compared['baseline']}`: {compared['verdict']} ({points}{sure})."]


def _data(run: Run, row: str, seed: int, fold: int) -> str:
    """Two tables: the row's data sets, and what each stage on the way to the classifier read of them."""
    lines = ["| role | dataset | images | with a label |", "| :--- | :--- | ---: | ---: |"]
    for role, data in run.row(row).data.items():
        lines.append(f"| {role} | {plain_markdown(data.use)} | {data.images:,} | {data.labelled:,} |")
    lines += ["", "| stage | read | images |", "| :--- | :--- | ---: |"]
    jobs = run.jobs_of(row, seed, fold)
    way = {run.row(row).final}
    for job in reversed(jobs.values()):
        if job.stage in way:
            way |= {reference.partition(".")[0] for reference in job.inputs.values()}
    for job in (job for job in jobs.values() if job.stage in way):
        lines += [f"| {job.stage} | {job.inputs[name]} | {count:,} |" for name, count in job.images.items()]
    return "\n".join(lines)


def _warnings(run: Run, row: str, seed: int, fold: int) -> list[str]:
    jobs = run.jobs_of(row, seed, fold)
    lines = [
        f"The run warned: {job.stage}: {text}"
        for job in jobs.values()
        if job.done
        for text in run.result(job).marker.get("warnings", ())
    ]
    roles = {f"{role} ({data.use}): " for role, data in run.row(row).data.items()}  # what dakit left out of them
    lines += [
        f"The run warned: {text.splitlines()[0].rstrip(':')}."
        for text in (run.results or {}).get("warnings", ())
        if text.startswith(tuple(roles))
    ]
    lines = [plain_markdown(text) for text in lines]
    final = jobs[run.row(row).final]
    assert final.evaluates is not None  # else there is no classifier to write a card of
    test = final.inputs[final.evaluates.test].partition(".")[0]
    if run.row(row).data[test].fit is None:
        lines.append(f"The test images ({test}) were not read from files, so `read` is not what made them.")
    return lines


def _choice(run: Run, row: str, model: Model) -> str:
    evaluates = next(job.do for job in run.jobs if (job.row, job.stage) == (row, run.row(row).final))
    method = run.about["recipe"]["method"]
    lines = [f"`{row}` is the row that the recipe names as its method."]
    if row != method:
        lines = [
            f"`{row}` is not the row that the recipe names as its method (`{method}`). If it was picked because its",
            "test number is the highest, that number promises too much.",
        ]
    if len(run.rounds_of(row)) > 1:
        lines.append(
            f"Of its {len(run.rounds_of(row))} classifiers (one per seed and fold) the one named above is here."
        )
    lines += _weights(run, model)
    lines += [
        f"Of all stages only `{evaluates}` was given the test images. Whether one of them stands among other images",
        "too, under another name, is not known here; `dakit doctor` looks for such.",
    ]
    if opened := (run.results or {}).get("test_labels"):
        lines.append(f"Test labels were opened {opened['opened']} times in this folder, all runs together.")
    return "\n".join(lines)


def _trained_by_dakit(model: Model) -> bool:
    """Whether a stage of dakit's own trained it; what others do is not known here."""
    return model.origin.do.rpartition("/")[2] in ("train_classifier", "train_translator")


def _weights(run: Run, model: Model) -> list[str]:
    """Which weights of the training these are; of a stage that is not dakit's own nothing is known."""
    chosen = run.result(model.origin).marker["facts"].get("chosen")
    if not _trained_by_dakit(model):
        return []
    if chosen is None:
        return ["Its weights are those of the last training step."]
    return [
        f"Its weights are those after step {chosen['steps']:,}: of several moments of the training the best on",
        f"{chosen['images']:,} images that were kept from the training side and not learned from (macro accuracy",
        f"{100 * chosen['macro']:.2f} there, which promises too much, as the weights were chosen by it).",
    ]
