#!/usr/bin/env bash
# Compiles for systems that are not at hand, by the compiler and the systems' headers of the package ziglang:
# for macOS the C units, the test programs, which are linked too, and the core as Cython wrote it (with the headers of
# this machine's Python, whose types have the same sizes); for Windows the C units but for the shared segment's.
# Nothing is run. PYTHON: the interpreter that the core was built with. CC: the compiler, by an absolute path.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
strict="-std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -Wunguarded-availability -Werror"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
posix=$("$python" -c 'import setup; print(*setup.C_UNITS["shm"])')
out=build/cross
mkdir -p "$out"

each() { # TARGET FLAGS FILE...: compiles them, a few at a time
  local target=$1 flags=$2
  shift 2
  # shellcheck disable=SC2086 - words
  printf '%s\n' "$@" | xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} sh -c \
    '"$@" -c "$0" -o "'"$out"'/$(basename "$0").o"' {} $CC -target "$target" $flags -Isrc_c
}

# The oldest macOS that wheels are made for.
for target in aarch64-macos.11.0 x86_64-macos.10.13; do
  make --no-print-directory -C tests/c BUILD="build/$target" CC="$CC -target $target" CFLAGS="$strict" programs
  each "$target" "-std=c11 -D_GNU_SOURCE -O0 -Wunguarded-availability -isystem $headers" fastchannels/_core/*.c
  echo "ok   $target: test programs linked, core compiled"
done
units=()
for unit in src_c/*.c; do
  [[ " $posix " == *" $(basename "$unit" .c) "* ]] || units+=("$unit")
done
each x86_64-windows-gnu "$strict" "${units[@]}"
echo "ok   x86_64-windows-gnu: ${#units[@]} units compiled"
