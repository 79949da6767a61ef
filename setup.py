"""Builds the compiled core: one extension for each module of ``fastchannels/_core``.

Switches, read from the environment:

``FASTCHANNELS_DEBUG=1``
    Cython's bounds and None checks on, invariant checks and allocation counters in, ``-O0 -g``.
``FASTCHANNELS_SANITIZE=1``
    AddressSanitizer and UndefinedBehaviorSanitizer.
``FASTCHANNELS_COVERAGE=1``
    Line tracing for coverage of the ``.pyx`` files.

A compiler error ends the build. There is no pure-Python substitute for the core.
"""

import glob
import os
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Each C unit links into exactly one extension, with hidden symbols.
C_UNITS: dict[str, list[str]] = {
    "awaited": [],
    "codec": [],
    "deflate": [],
    "entries": [],
    "exchange": [],
    "fanout": [],
    "groups": [],
    "http": ["fc_http"],
    "http1": [],
    "inbox": [],
    "msgpack": ["fc_msgpack"],
    "names": ["fc_name", "fc_shard"],
    "outbox": [],
    "queue": [],
    "socket": [],
    "take": [],
    "wake": [],
    "websocket": [],
    "wire": [],
    "ws": ["fc_ws", "fc_mask", "fc_utf8"],
}
if sys.platform != "win32":
    C_UNITS["post"] = []
    C_UNITS["shm"] = ["fc_shm", "fc_shm_ops", "fc_segment", "fc_heap", "fc_recover", "fc_lock", "fc_process", "fc_wake"]

# System libraries. zlib's header is wherever Python is built (zlib1g-dev, zlib-devel, macOS's SDK); Windows: vcpkg's.
LIBRARIES: dict[str, list[str]] = {"deflate": ["zlib" if sys.platform == "win32" else "z"]}

DEBUG, SANITIZE, COVERAGE = (
    os.environ.get(f"FASTCHANNELS_{name}") == "1" for name in ("DEBUG", "SANITIZE", "COVERAGE")
)


def compile_arguments() -> list[str]:
    if sys.platform == "win32":
        return ["/O2", "/std:c11"]
    optimise = ["-O0", "-g"] if DEBUG else ["-O3", "-g1"]
    sanitize = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"] if SANITIZE else []
    return ["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-Wall", "-Wextra", *optimise, *sanitize]


def link_arguments() -> list[str]:
    if sys.platform == "win32":
        return []
    sanitize = ["-fsanitize=address,undefined"] if SANITIZE else []
    # -Bsymbolic: our symbols never resolve to a namesake in another library of the process.
    symbolic = ["-Wl,-Bsymbolic"] if sys.platform.startswith("linux") else []
    return [*sanitize, *symbolic]


def extension(name: str) -> Extension:
    """The extension ``fastchannels._core.<name>`` with the C units it owns."""
    return Extension(
        f"fastchannels._core.{name}",
        [f"fastchannels/_core/{name}.pyx", *(f"src_c/{unit}.c" for unit in C_UNITS[name])],
        include_dirs=["src_c"],
        depends=glob.glob("src_c/*.h") if C_UNITS[name] else [],
        libraries=LIBRARIES.get(name, []),
        extra_compile_args=compile_arguments(),
        extra_link_args=link_arguments(),
        define_macros=[
            *([("FC_DEBUG", "1")] if DEBUG else []),
            *([("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")] if COVERAGE else []),
        ],
    )


def extensions(names: list[str]) -> list[Extension]:
    return cythonize(
        [extension(name) for name in names],
        compiler_directives={
            "language_level": 3,
            "binding": False,
            "embedsignature": True,
            "boundscheck": DEBUG,
            "wraparound": False,
            "nonecheck": DEBUG,
            "linetrace": COVERAGE,
        },
    )


class BuildCore(build_ext):
    """``build_ext`` that says which module it is at: the build takes a while on a small machine."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext: Extension) -> None:
        names = [each.name for each in self.extensions]
        print(f"[{names.index(ext.name) + 1}/{len(names)}] compiling {ext.name}", flush=True)
        super().build_extension(ext)


if __name__ == "__main__":
    setup(ext_modules=extensions(sorted(C_UNITS)), cmdclass={"build_ext": BuildCore})
