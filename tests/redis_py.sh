#!/usr/bin/env bash
# The Redis layer under each major version of redis-py, each in an environment of its own under build/.
# PYTHON: the interpreter that the core was built for. MAJORS: the versions. IDLE: seconds that the readers wait.
set -euo pipefail
cd "$(dirname "$0")/.."

for major in ${MAJORS:-5 6 7 8}; do
  venv=build/redis-py-$major
  if [ ! -e "$venv/.made" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet "redis>=$major,<$((major + 1))" 'hiredis>=3.0' \
      pytest pytest-asyncio pytest-benchmark pytest-timeout hypothesis uvloop
    touch "$venv/.made"
  fi
  "$venv/bin/python" -c 'import redis; print("redis-py", redis.__version__)'
  # The tests of other rooms need more than these; their conftest.py is left out.
  FASTCHANNELS_TEST_REDIS_PY=$major FASTCHANNELS_TEST_IDLE=${IDLE:-20} "$venv/bin/python" -m pytest -q \
    --confcutdir=tests/layers -k "not TestContract" tests/layers/redis/test_{redis_py,address,hosts,sentinel,outage}.py
done
