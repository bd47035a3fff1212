"""The contracts of translators, discriminators and classifiers."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dakit.interfaces import Prediction, Spec
from dakit.optional import HasHead, HasStem, near, offers
from dakit.testing.contract import FIRST, Check, finite, images, wanted

SIZES = (64, 96)  # pixels; every built-in takes them
BATCHES = (1, 2, 3)
CLASSES = (2, 7)


def fresh_network(spec: Spec[Any], classes: int = 7) -> nn.Module:
    """The network, fresh, in training mode."""
    network: nn.Module = spec.build(classes) if spec.kind == "classifier" else spec.build()
    return network


def outputs(out: Any) -> list[Tensor]:
    """All tensors of an output."""
    return [out.logits, out.features, *out.maps] if isinstance(out, Prediction) else [out]


def is_a_module(spec: Spec[Any]) -> None:
    """It is moved, trained, saved and loaded as a torch.nn.Module."""
    wanted(isinstance(fresh_network(spec), nn.Module), f"it is a {type(fresh_network(spec)).__name__}")


def translates_to_the_same_shape_and_range(spec: Spec[Any]) -> None:
    """Images (B, 3, H, W) in [-1, 1] come out as such: a cycle feeds them back in, and they are stored as pixels."""
    network = fresh_network(spec)
    for size in SIZES:
        for batch in BATCHES:
            given = images(batch, size)
            out = network(given)
            wanted(isinstance(out, Tensor), f"it returns a {type(out).__name__}")
            wanted(out.shape == given.shape, f"{tuple(given.shape)} became {tuple(out.shape)}")
            wanted(out.abs().max() <= 1 + 1e-5, f"values reach {out.detach().abs().max():.3g}")


def judges_every_image(spec: Spec[Any]) -> None:
    """Logits (B, ...), any number per image, of any size that images have."""
    network = fresh_network(spec)
    for size in SIZES:
        for batch in BATCHES:
            out = network(images(batch, size))
            wanted(isinstance(out, Tensor), f"it returns a {type(out).__name__}")
            wanted(out.ndim >= 1 and len(out) == batch, f"{batch} images gave {tuple(out.shape)}")


def predicts_logits_features_and_maps(spec: Spec[Any]) -> None:
    """A Prediction: logits (B, K) for K classes, features (B, D), maps (B, C, H, W) from shallow to deep."""
    for classes in CLASSES:
        network = fresh_network(spec, classes)
        for size in SIZES:
            for batch in BATCHES:
                prediction = network.train(batch > 1)(images(batch, size))
                wanted(isinstance(prediction, Prediction), f"it returns a {type(prediction).__name__}")
                wanted(
                    prediction.logits.shape == (batch, classes),
                    f"logits are {tuple(prediction.logits.shape)} of {classes}",
                )
                wanted(prediction.features.ndim == 2 and len(prediction.features) == batch, "features are not (B, D)")
                wanted(isinstance(prediction.maps, tuple), f"maps are a {type(prediction.maps).__name__}, not a tuple")
                shapes = [tuple(maps.shape) for maps in prediction.maps]
                wanted(all(len(shape) == 4 and shape[0] == batch for shape in shapes), f"maps are {shapes}")
                sides = [shape[2] for shape in shapes]
                wanted(sides == sorted(sides, reverse=True), f"maps are not from shallow to deep: {sides}")


def keeps_what_it_says_of_its_maps(spec: Spec[Any]) -> None:
    """`rectified` promises that no map has a negative value: losses then leave the absolute value out."""
    prediction = fresh_network(spec)(images(2))
    if prediction.rectified:
        least = min((float(maps.detach().min()) for maps in prediction.maps), default=0.0)
        wanted(least >= 0, f"rectified is set, but a map holds {least:.3g}")


def head_turns_features_into_logits(spec: Spec[Any]) -> None:
    """Where it has a `head`, a linear probe trains that alone: head(features) are the logits."""
    network = fresh_network(spec).eval()
    if offers(network, HasHead):
        head = network.head
        wanted(isinstance(head, nn.Module), f"head is a {type(head).__name__}")
        prediction = network(images(2))
        wanted(
            torch.allclose(head(prediction.features), prediction.logits, atol=1e-5), "head(features) are other logits"
        )
    else:  # "heads" are not one misspelt
        like = [name for name, _ in network.named_children() if near(name, "head") and name != "heads"]
        wanted(not like, f"it has no head, but `{''.join(like[:1])}`: did you mean `head`?")


def stem_is_of_images(spec: Spec[Any]) -> None:
    """Where it has a `stem`, selectors take its (B, C, H, W) for the first layer's output."""
    network = fresh_network(spec).eval()
    if offers(network, HasStem):
        out = network.stem(images(2))
        wanted(out.ndim == 4 and len(out) == 2, f"stem gives {tuple(out.shape)}")


def outputs_are_finite(spec: Spec[Any]) -> None:
    """Black, white and noise give numbers: one NaN ends a training of days."""
    network = fresh_network(spec).eval()
    for given in (images(2), -torch.ones(2, 3, 64, 64), torch.ones(2, 3, 64, 64)):
        wanted(finite(*outputs(network(given))), "an output is NaN or infinite")


def gradients_reach_images_and_weights(spec: Spec[Any]) -> None:
    """Translators learn through discriminators and classifiers, and every weight that asks for it is trained."""
    network, given = fresh_network(spec), images(2).requires_grad_()
    out = network(given)
    first = out.logits if isinstance(out, Prediction) else out
    (first * torch.randn_like(first)).sum().backward()
    wanted(given.grad is not None and bool(given.grad.any()), "no gradient reaches the images")
    idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    wanted(not idle, f"no gradient reaches {', '.join(idle[:3])}")


def gradients_are_finite(spec: Spec[Any]) -> None:
    """Noise and images of one colour are learned from without NaN, which would spread to every weight."""
    for given in (images(2), -torch.ones(2, 3, 64, 64)):
        network = fresh_network(spec)
        out = network(given.requires_grad_())
        first = out.logits if isinstance(out, Prediction) else out
        first.sum().backward()
        gradients = [part.grad for part in (given, *network.parameters()) if part.grad is not None]
        wanted(finite(*gradients), "a gradient is NaN or infinite")


def leaves_its_input_alone(spec: Spec[Any]) -> None:
    """One batch goes through several networks: what comes in is not changed in place."""
    network, given = fresh_network(spec), images(2)
    before = given.clone()
    network(given)
    wanted(torch.equal(given, before), "it changed the images")


def evaluation_sees_one_image_at_a_time(spec: Spec[Any]) -> None:
    """In evaluation mode an image's result does not depend on its neighbours in the batch, nor on chance."""
    network, given = fresh_network(spec).eval(), images(3)
    with torch.no_grad():
        together, again, alone = network(given), network(given), network(given[1:2])
    wanted(all(map(torch.equal, outputs(together), outputs(again))), "two passes differ")
    pairs = zip(outputs(together), outputs(alone), strict=True)
    # Sums of another batch are added in another order: the error of a small value is one of the large values around it.
    near = all(
        torch.allclose(many[1:2], single, rtol=1e-3, atol=1e-4 + 1e-5 * float(single.abs().max()))
        for many, single in pairs
    )
    wanted(near, "an image alone gives another result than in a batch")


def same_seed_gives_the_same_network(spec: Spec[Any]) -> None:
    """Results can be repeated: weights come from torch's global generator and nothing else."""
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(fresh_network(spec).state_dict())
    wanted(all(torch.equal(states[0][name], states[1][name]) for name in states[0]), "one seed gave two networks")


def every_build_is_its_own(spec: Spec[Any]) -> None:
    """G_SW and G_WS are built of one name: they share no tensor, and building does not seed torch anew."""
    networks = fresh_network(spec), fresh_network(spec)
    first, second = ({t.data_ptr() for t in network.state_dict().values() if t.numel()} for network in networks)
    wanted(not first & second, "two builds share a tensor")
    drawn = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        fresh_network(spec)
        drawn.append(float(torch.rand(())))
    wanted(drawn[0] != drawn[1], "building it sets torch's seed")


def weights_survive_a_file(spec: Spec[Any]) -> None:
    """Results are kept as safetensors: a fresh network with the loaded state dict computes the same."""
    network, given = fresh_network(spec).eval(), images(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.safetensors")
        save_file({name: value.contiguous().clone() for name, value in network.state_dict().items()}, path)
        torch.manual_seed(99)
        other = fresh_network(spec)
        other.load_state_dict(load_file(path))
    with torch.no_grad():
        same = map(torch.equal, outputs(network(given)), outputs(other.eval()(given)))
        wanted(all(same), "the reloaded network computes something else: a tensor is missing from the state dict")


def moves_to_other_precisions_and_devices(spec: Spec[Any]) -> None:
    """Nothing inside is of a fixed dtype, device or layout: float64, bf16 autocast, channels last, a GPU all work."""
    network, given = fresh_network(spec).eval(), images(2)
    wanted(finite(*outputs(copy.deepcopy(network).double()(given.double()))), "float64 gives no finite result")
    with torch.autocast("cpu", torch.bfloat16):
        wanted(finite(*outputs(network(given))), "bf16 gives no finite result")
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    wanted(finite(*outputs(last(given.to(memory_format=torch.channels_last)))), "channels last gives no finite result")
    try:
        copy.deepcopy(network).to("meta")(given.to("meta"))
    except Exception as error:  # any other is of a module that looks at values, which this device does not have
        wanted("expected device" not in str(error), "a tensor does not move with the module: register it as a buffer")
    if torch.cuda.is_available():
        wanted(finite(*outputs(network.cuda()(given.cuda()))), "the GPU gives no finite result")


_NETWORK: tuple[Check, ...] = (
    outputs_are_finite, gradients_reach_images_and_weights, gradients_are_finite, leaves_its_input_alone,
    evaluation_sees_one_image_at_a_time, same_seed_gives_the_same_network, every_build_is_its_own,
    weights_survive_a_file, moves_to_other_precisions_and_devices,
)  # fmt: skip
TRANSLATOR: tuple[Check, ...] = (*FIRST, is_a_module, translates_to_the_same_shape_and_range, *_NETWORK)
DISCRIMINATOR: tuple[Check, ...] = (*FIRST, is_a_module, judges_every_image, *_NETWORK)
CLASSIFIER: tuple[Check, ...] = (
    *FIRST, is_a_module, predicts_logits_features_and_maps, keeps_what_it_says_of_its_maps,
    head_turns_features_into_logits, stem_is_of_images, *_NETWORK,
)  # fmt: skip
