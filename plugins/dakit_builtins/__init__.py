"""dakit's own components, offered through the same entry point as everyone's.

A table of contents: each hook names its components and the file that holds them. Nothing is imported before
a hook is called, so listing plugins costs nothing.
"""

from __future__ import annotations

from dakit.hookspecs import Factories, hookimpl


@hookimpl
def dakit_datasets() -> Factories:
    """Labelled and unlabelled images from folders, manifests, published layouts, and a renderer."""
    from dakit_builtins.datasets.bu3dfe import bu3dfe
    from dakit_builtins.datasets.clothes import clothes
    from dakit_builtins.datasets.digits import digits
    from dakit_builtins.datasets.emotionet import emotionet
    from dakit_builtins.datasets.image_folder import image_folder
    from dakit_builtins.datasets.manifest import manifest
    from dakit_builtins.datasets.sfew import sfew
    from dakit_builtins.datasets.synthetic_faces import synthetic_faces
    from dakit_builtins.datasets.web_faces import web_faces

    return {
        "bu3dfe": bu3dfe,
        "clothes": clothes,
        "digits": digits,
        "emotionet": emotionet,
        "image_folder": image_folder,
        "manifest": manifest,
        "sfew": sfew,
        "synthetic_faces": synthetic_faces,
        "web_faces": web_faces,
    }


@hookimpl
def dakit_translators() -> Factories:
    """Image to image."""
    from dakit_builtins.translators.resnet_generator import ResnetGenerator

    return {"resnet_generator": ResnetGenerator}


@hookimpl
def dakit_discriminators() -> Factories:
    """Real or generated."""
    from dakit_builtins.discriminators.patchgan import PatchGAN

    return {"patchgan": PatchGAN}


@hookimpl
def dakit_classifiers() -> Factories:
    """Networks with logits, features and maps."""
    from dakit_builtins.classifiers.resnet_cifar import ResNetCifar
    from dakit_builtins.classifiers.timm_classifier import TimmClassifier
    from dakit_builtins.classifiers.torchvision_classifier import TorchvisionClassifier

    return {"resnet_cifar": ResNetCifar, "timm": TimmClassifier, "torchvision": TorchvisionClassifier}


@hookimpl
def dakit_transfer_losses() -> Factories:
    """Between teacher and student."""
    from dakit_builtins.transfer_losses.attention_transfer import AttentionTransfer
    from dakit_builtins.transfer_losses.soft_targets import SoftTargets

    return {"attention_transfer": AttentionTransfer, "soft_targets": SoftTargets}


@hookimpl
def dakit_observers() -> Factories:
    """The progress display, and files and services that plot losses."""
    from dakit.pipeline.progress import TerminalProgress
    from dakit_builtins.observers.tensorboard import TensorBoard
    from dakit_builtins.observers.tracker import Tracker

    return {"tensorboard": TensorBoard, "terminal": TerminalProgress, "tracker": Tracker}


@hookimpl
def dakit_selectors() -> Factories:
    """The paper's rule, its exact form, and controls."""
    from dakit_builtins.selectors.all import All
    from dakit_builtins.selectors.class_balanced_random import ClassBalancedRandom
    from dakit_builtins.selectors.feature_knn import FeatureKnn
    from dakit_builtins.selectors.random import Random
    from dakit_builtins.selectors.tsne_knn import TsneKnn

    return {
        "all": All,
        "class_balanced_random": ClassBalancedRandom,
        "feature_knn": FeatureKnn,
        "random": Random,
        "tsne_knn": TsneKnn,
    }


@hookimpl
def dakit_estimators() -> Factories:
    """What is fitted on features of a frozen network: classifiers of scikit-learn, and alignments before one."""
    from dakit_builtins.estimators.coral import Coral
    from dakit_builtins.estimators.knn import KNN
    from dakit_builtins.estimators.label_spreading import LabelSpreading
    from dakit_builtins.estimators.lda import LDA
    from dakit_builtins.estimators.linear_svm import LinearSVM
    from dakit_builtins.estimators.logistic import Logistic
    from dakit_builtins.estimators.nearest_mean import NearestMean
    from dakit_builtins.estimators.rbf_svm import RbfSVM
    from dakit_builtins.estimators.subspace import Subspace

    return {
        "coral": Coral,
        "knn": KNN,
        "label_spreading": LabelSpreading,
        "lda": LDA,
        "linear_svm": LinearSVM,
        "logistic": Logistic,
        "nearest_mean": NearestMean,
        "rbf_svm": RbfSVM,
        "subspace": Subspace,
    }


@hookimpl
def dakit_preparations() -> Factories:
    """Faces out of photographs."""
    from dakit_builtins.prepare.faces_command import prepare_faces

    return {"faces": prepare_faces}
