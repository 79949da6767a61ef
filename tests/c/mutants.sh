#!/bin/sh
# Each change below takes away what some interleaving or death needs: the model, model_fc_lock for the lock and
# model_fc_shm for the rest, must fail on the changed sources. mutants.sh order: what some processor's order of memory
# needs instead, which ThreadSanitizer must notice.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
caught=0

# changed FILE OLD NEW: OLD is a line without its indentation; the first one is changed.
changed() {
    rm -rf "$folder/src_c"
    cp -R "$here/../../src_c" "$folder/src_c"
    awk -v old="$2" -v new="$3" '{
        line = $0; sub(/^[ \t]+/, "", line)
        if (!done && line == old) { print new; done = 1 } else print
    } END { exit !done }' "$folder/src_c/$1" >"$folder/changed" || { echo "FAIL mutants: $1 has no line: $2"; exit 1; }
    mv "$folder/changed" "$folder/src_c/$1"
}

# program FLAGS FILE...
program() {
    # shellcheck disable=SC2086
    ${CC:-cc} ${CFLAGS:--std=c11 -D_GNU_SOURCE -O2} -w -I"$folder/src_c" -I"$here" -o "$folder/program" "$@"
}

# noticed WHAT PATTERN ARGUMENT...
noticed() {
    what=$1
    pattern=$2
    shift 2
    if timeout 60 "$folder/program" "$@" >"$folder/out" 2>&1; then
        echo "FAIL mutants: nothing notices: $what"
        exit 1
    fi
    grep -q "$pattern" "$folder/out" || { echo "FAIL mutants: no verdict on: $what"; exit 1; }
    caught=$((caught + 1))
}

# mutant WHAT FILE OLD NEW
mutant() {
    changed "$2" "$3" "$4"
    case $2 in
    fc_lock.*) program "$here/model_fc_lock.c" ;;
    *) program "$here/model_fc_shm.c" ;;
    esac
    noticed "$1" FAIL
}

# race WHAT FILE OLD NEW
race() {
    changed "$2" "$3" "$4"
    # shellcheck disable=SC2046
    program -fsanitize=thread "$here/thread_fc_shm.c" $(printf "$folder/src_c/%s.c\n" $UNITS) -lpthread
    noticed "$1" "data race" 5000 "$folder" # which is removed: the program ends where it is told of the race
}

if [ "${1:-}" = order ]; then
    race "the lock is given away before all is written" fc_lock.h \
        "atomic_store_explicit(&lock->holder, 0, memory_order_release);" \
        "atomic_store_explicit(&lock->holder, 0, memory_order_relaxed);"
    swap="return atomic_compare_exchange_strong_explicit(&lock->holder, seen, me, memory_order_acquire, memory_order_relaxed);"
    race "what the lock guards is read before it is taken" fc_lock.h "$swap" "$(echo "$swap" | sed s/acquire/relaxed/)"
    echo "ok   mutants: $caught changes to the order of memory, ThreadSanitizer notices each"
    exit
fi

look='if ((waited >= limit || waited >= ASK_AFTER_NS) && gone(seen) && fc_lock_replace(lock, &seen, me))'
store="atomic_store_explicit(&lock->holder, me, memory_order_relaxed)"
mutant "the dead are waited for" fc_lock.c "$look" "if (0)"
mutant "the living are taken for dead" fc_lock.c "$look" "if (fc_lock_replace(lock, &seen, me))"
mutant "two replace the dead" fc_lock.c "$look" "if (gone(seen) && ($store, 1))"
mutant "whoever came after the dead is replaced" fc_lock.c "$look" \
    "if (gone(seen) && (seen = lock->holder) && fc_lock_replace(lock, &seen, me))"
mutant "who replaces the dead is not told" fc_lock.c "return EOWNERDEAD;" "return 0;"
mutant "two take a free lock" fc_lock.c "if (!seen && fc_lock_replace(lock, &seen, me))" "if (!seen && ($store, 1))"
mutant "a free lock is not seen" fc_lock.c "seen = atomic_load_explicit(&lock->holder, memory_order_relaxed);" \
    "seen = 1 + atomic_load_explicit(&lock->holder, memory_order_relaxed);"
mutant "the lock is not given back" fc_lock.h "atomic_store_explicit(&lock->holder, 0, memory_order_release);" ""
mutant "sleep without a look at what came meanwhile" fc_shm.c "status = FC_OK;" ""
mutant "a push wakes nobody" fc_shm_ops.c "(void)fc_shm_wake_one(s, q, w);" ""
mutant "wake-ups are not sent" fc_shm.c "deliver(s, w);" ""
mutant "who rests is not told" fc_shm.c "rouse_all(s, q->watchers, w);" ""
mutant "who is chosen is told only that it rests no more" fc_shm.c "s->heap.header->asleep[slot / 64] &= ~(UINT64_C(1) << slot % 64);" ""
mutant "one that gives up keeps its wake-up" fc_shm.c "if (pass_on && q->count)" "if (0)"
mutant "the lock is taken from the dead, and what it guards is not repaired" fc_shm.c "recover(s, w);" ";"
mutant "what the dead held is kept" fc_shm.c "reclaim(s, dead[i]);" ""
mutant "blocks of a message that was not finished are kept" fc_recover.c \
    "if (b->mark == mark && state_of(b) != FC_FREE) {" "if (state_of(b) != FC_FREE) {"
echo "ok   mutants: $caught changes to the sources, the models notice each"
