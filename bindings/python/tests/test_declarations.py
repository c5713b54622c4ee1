"""The declarations are the header's, and the exceptions its statuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from remask import errors
from remask._native import lib

ROOT = Path(__file__).resolve().parents[3]
HEADER = (ROOT / "include" / "remask.h").read_text(encoding="utf-8")


def test_the_declarations_are_what_the_header_says() -> None:
    tool = ROOT / "bindings" / "python" / "tools" / "declarations.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_library_has_every_function_of_the_header() -> None:
    names = set(re.findall(r"\b(remask_\w+)\(", HEADER)) - {"remask_error_free("}
    assert len(names) > 60
    for name in names:
        assert getattr(lib, name), name


def test_every_status_has_an_exception() -> None:
    statuses = dict(re.findall(r"#define REMASK_STATUS_(\w+) (\d+)", HEADER))
    inside = {"OK", "BUFFER_TOO_SMALL"}
    assert {int(number) for name, number in statuses.items() if name not in inside} == set(errors.BY_STATUS)
    for name, number in statuses.items():
        if name not in inside:
            assert errors.BY_STATUS[int(number)].__name__.upper() == f"{name.replace('_', '')}ERROR"
