"""What the names of a data set's published parts mean: train, val and test, however they are spelt."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

from dakit.errors import DakitError

Role = Literal["train", "val", "test"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trn", "learn", "learning", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout", "heldout"), "test"),
}
_BESIDES = frozenset({"", "set", "split", "part", "fold", "data", "dataset", "images", "image", "public", "private"})


def part_role(name: str) -> Role | None:
    """What a part of this name is for; None where the name does not say so.

    Case, numbers, what stands between words, and words such as "set" or "public" do not count. A part for evaluation is
    a test part: to take it for one costs images, to learn from it costs the meaning of the number.

    >>> [part_role(name) for name in ("Train", "validation_set", "PublicTest", "val2017", "testset", "Set 1", "trains")]
    ['train', 'val', 'test', 'val', 'test', None, None]
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    words = [re.sub(r"(?<=.)(?:set|split|data)$", "", word) for word in words]
    roles = {_ROLES[word] for word in words if word in _ROLES}
    return roles.pop() if len(roles) == 1 and {*words} <= {*_ROLES, *_BESIDES} else None


def refuse_parts(names: Collection[str], place: str, holding_folders: Iterable[str] = ()) -> None:
    """Refuse parts of a data set that stand where its classes are expected.

    Args:
        names: of what are taken for classes.
        place: where they were found.
        holding_folders: those of them that are folders without images of their own, so that classes may be below.

    Raises:
        DakitError: two of these hold: all are names of parts, those that are stand for several roles, and hold folders.
    """
    roles = {name: role for name in names if (role := part_role(name))}
    several = len({*roles.values()}) > 1
    deep = bool(roles) and {*roles} <= {*holding_folders}
    if several + deep + (len(roles) == len(names)) >= 2:
        raise DakitError(
            f"{place}: holds {' and '.join(sorted(names))} where class folders are expected, and not parts: "
            "name one of them, or a CSV file with the columns path,label,split,group"
        )
