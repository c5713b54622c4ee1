"""The wheel's tag: any Python 3, this platform. Its code is in a shared library, not in an extension module."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        package = Path(self.root, "src", "remask")
        libraries = [path for kind in ("so", "dylib", "dll") for path in package.glob(f"*.{kind}")]
        if len(libraries) != 1:
            raise RuntimeError(f"{package} holds {len(libraries)} libraries; `cargo xtask wheel` puts one there")
        # Of another machine than this one, or of a manylinux image: named by who builds.
        platform = os.environ.get("REMASK_WHEEL_PLATFORM") or sysconfig.get_platform()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform.replace('-', '_').replace('.', '_')}"
