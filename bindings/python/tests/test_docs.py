"""What the documents show runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["README.md", "bindings/python/README.md", "docs/embedding.md"])
def test_the_python_lines_run(name: str, path: Path, tmp_path: Path) -> None:
    found = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), flags=re.S | re.M)
    assert found
    for lines in found:
        script = tmp_path / "lines.py"
        # One thread: more than there are idle cores wait for each other.
        loaded = f"{str(path)!r}, threads=1"
        script.write_text(re.sub(r'"(llada|model)\.gguf"', loaded, lines), encoding="utf-8")
        assert run(str(script))


def test_the_example_generates_infills_and_scores(path: Path) -> None:
    script = str(ROOT / "examples" / "python" / "remask_example.py")
    steps = run(script, "generate", str(path), "Once upon a time Mary met a", "8").splitlines()
    assert len(steps) == 9 and "8/8" in steps[7] and steps[8].startswith("Once upon a time Mary met a")
    assert "duck" in run(script, "infill", str(path), "Once upon a time Tom met a brown[[1]]. The duck said quack.")
    assert "128 passes" in run(script, "score", str(path), "Once upon a time Tom met a", " brown duck")
