#!/bin/sh
# Each change below takes away what some interleaving or death needs: model_fc_shm must fail on the changed sources.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
caught=0

# mutant WHAT FILE OLD NEW: OLD is a line without its indentation; the first one is changed.
mutant() {
    rm -rf "$folder/src_c"
    cp -R "$here/../../src_c" "$folder/src_c"
    awk -v old="$3" -v new="$4" '{
        line = $0; sub(/^[ \t]+/, "", line)
        if (!done && line == old) { print new; done = 1 } else print
    } END { exit !done }' "$folder/src_c/$2" >"$folder/changed" || { echo "FAIL mutants: $2 has no line: $3"; exit 1; }
    mv "$folder/changed" "$folder/src_c/$2"
    # shellcheck disable=SC2086
    ${CC:-cc} ${CFLAGS:--std=c11 -D_GNU_SOURCE -O2} -w -I"$folder/src_c" -I"$here" -o "$folder/model" "$here/model_fc_shm.c"
    if timeout 60 "$folder/model" >"$folder/out" 2>&1; then
        echo "FAIL mutants: the model does not notice: $1"
        exit 1
    fi
    grep -q FAIL "$folder/out" || { echo "FAIL mutants: no verdict on: $1"; exit 1; }
    caught=$((caught + 1))
}

mutant "sleep without a look at what came meanwhile" fc_shm.c "status = FC_OK;" ""
mutant "a push wakes nobody" fc_shm_ops.c "(void)fc_shm_wake_one(s, q, w);" ""
mutant "wake-ups are not sent" fc_shm.c "deliver(s, w);" ""
mutant "one that gives up keeps its wake-up" fc_shm.c "if (pass_on && q->count)" "if (0)"
mutant "the lock is taken from the dead, and what it guards is not repaired" fc_shm.c "recover(s, w);" ";"
mutant "what the dead held is kept" fc_shm.c "reclaim(s, dead[i]);" ""
mutant "blocks of a message that was not finished are kept" fc_recover.c \
    "if (b->mark == mark && state_of(b) != FC_FREE) {" "if (state_of(b) != FC_FREE) {"
echo "ok   mutants: $caught changes to the sources, the model notices each"
