#!/usr/bin/env bash
# Find the programs that the tests use, or install Debian's packages of them. Prints a line for each that is missing and
# cannot be installed here, and then exits 1: a missing part is a failure, never a skipped test.
set -euo pipefail

needed=()
need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null 2>&1 || needed+=("$2")
}
need redis-server redis-server
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || needed+=(chromium)
need chromedriver chromium-driver
need openssl openssl
need valgrind valgrind
[ ${#needed[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing ${needed[*]} for the tests"
  log=$(mktemp)
  # Debian starts redis-server on install; the tests start their own on free ports, so keep it from running.
  policy=/usr/sbin/policy-rc.d
  made=0
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=1; }
  trap '[ $made = 0 ] || rm -f $policy; rm -f "$log"' EXIT
  if { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${needed[@]}"; } >"$log" 2>&1; then
    exit 0
  fi
  tail -n 20 "$log"
fi
echo "the tests need ${needed[*]}: install with 'apt-get install ${needed[*]}' (or the like of your system) and run again"
exit 1
