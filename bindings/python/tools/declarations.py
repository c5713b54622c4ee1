"""Makes src/remask/_declarations.py from include/remask.h.

    python tools/declarations.py            writes it
    python tools/declarations.py --check    says whether it is up to date

cffi reads C declarations but no preprocessor: comments, macros and attributes go, and constants become plain numbers.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = HERE.parents[2] / "include" / "remask.h"
OUTPUT = HERE.parent / "src" / "remask" / "_declarations.py"

HEAD = '''"""The C interface, for cffi. Made from include/remask.h by tools/declarations.py; do not edit."""

CDEF = """
'''


def declarations(header: str) -> str:
    """The module's text for a header's text."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    text = re.sub(r"///?[^\n]*", "", text)
    # What only a C++ compiler sees.
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.S)
    lines: list[str] = []
    for line in text.splitlines():
        line = line.rstrip()
        if constant := re.fullmatch(r"#define (REMASK_\w+) (\(?[-0-9<> ]+\)?)", line):
            value = constant[2].strip("()")
            base, _, shift = value.partition("<<")
            lines.append(f"#define {constant[1]} {int(base) << int(shift or 0)}")
        elif line and not line.startswith("#"):
            lines.append(re.sub(r"\bREMASK_(API|MUST_USE) ?", "", line))
    text = "\n".join(line for line in lines if line.strip())
    # One declaration a line, whatever the header's columns are.
    text = re.sub(r",\n\s+", ", ", text)
    return f'{HEAD}{text}\n"""\n'


def main() -> int:
    made = declarations(HEADER.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["--check"]:
        stored = OUTPUT.read_text(encoding="utf-8") if OUTPUT.exists() else ""
        if stored != made:
            print(f"{OUTPUT.name} is not what include/remask.h says; run python {Path(__file__).name}")
            return 1
        return 0
    OUTPUT.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
