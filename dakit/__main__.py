"""``python -m dakit``: the command line, in the form that torchrun and ``accelerate launch`` start."""

from __future__ import annotations

from dakit.cli import main

if __name__ == "__main__":
    main()
