from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
import torch

from dakit.training.seeds import derive_seed, seed_everything


def test_seeds_are_the_same_on_every_machine():
    assert derive_seed(0, "adapt") == int.from_bytes(hashlib.sha256(b"(0, 'adapt')").digest()[:8], "big") >> 1
    assert 0 <= derive_seed("x") < 2**63
    assert len({derive_seed(0, n) for n in range(100)}) == 100
    assert derive_seed("1") != derive_seed(1)
    assert derive_seed(1, 2) != derive_seed(12)


@pytest.mark.parametrize("seed", [0, 5, 2**31 + 1, 2**32 - 1, 2**32 + 3, 2**63 - 1])
def test_every_generator_has_its_seed(seed):
    """NumPy's takes 32 bits."""
    seed_everything(seed)
    drawn = random.random(), np.random.rand(), float(torch.rand(()))
    generator = torch.Generator().manual_seed(seed)
    expected = random.Random(seed).random(), np.random.RandomState(seed & 0xFFFFFFFF).rand()
    assert drawn == (*expected, float(torch.rand((), generator=generator)))
