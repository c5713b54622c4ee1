"""What the tests share: the model that ships with the project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import remask

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models" / "little-world.gguf"


@pytest.fixture(scope="session")
def path() -> Path:
    return MODEL


@pytest.fixture(scope="session")
def model() -> Iterator[remask.Model]:
    with remask.Model(MODEL, threads=1) as loaded:
        yield loaded
