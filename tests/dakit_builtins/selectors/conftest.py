import pytest


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without AlexNet's weights; returns the place where they would lie."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder / "alexnet-owt-7be5be79.pth"
