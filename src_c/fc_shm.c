#include "fc_shm_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fc_clock.h"

struct fc_waiter_handle {
    fc_shm *s;
    int fd;
    uint32_t slot, generation;
    uint32_t count, room;
    uint32_t *queues; /* where this waiter's bit is set */
    uint64_t pushed;  /* messages of the segment when this waiter last asked to rest */
};

/* ------------------------------------------------------------------ the lock */

static uint64_t clock_ns(const fc_shm *s) {
    return fc_clock_ns() + s->skew;
}

/* It may sleep on, but it looks by itself from now on, within FC_SHM_KEEP_MS. */
static void rouse(fc_shm *s, uint32_t slot, fc_wakes *w) {
    const fc_waiter *waiter = (const fc_waiter *)fc_heap_used(&s->heap, FC_WAITS, slot);
    s->heap.header->resting[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    if (waiter && w->count < 2 * FC_WAITERS) {
        w->at[w->count].slot = slot;
        w->at[w->count++].generation = waiter->generation;
    }
}

/* Rouses those in `of`, of each that rests. */
static void rouse_all(fc_shm *s, const uint64_t *of, fc_wakes *w) {
    for (uint32_t k = 0; k < FC_WAITER_WORDS; k++)
        for (uint64_t bits = of[k] & s->heap.header->resting[k]; bits; bits &= bits - 1)
            rouse(s, k * 64 + (uint32_t)__builtin_ctzll(bits), w);
}

static void wake_later(fc_shm *s, uint32_t slot, fc_wakes *w) {
    s->heap.header->asleep[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    rouse(s, slot, w);
}

static void recover(fc_shm *s, fc_wakes *w) {
    fc_heap_recover(&s->heap);
    w->count = 0;
    for (uint32_t i = 0; i < s->heap.header->table[FC_WAITS].fresh; i++)
        wake_later(s, i, w);
}

static fc_status enter(fc_shm *s, fc_wakes *w, uint32_t wait_ms) {
    int rc = fc_lock_take(&s->heap.header->lock, s->me, wait_ms);
    w->count = 0;
    if (rc && rc != EOWNERDEAD) {
        errno = rc;
        return FC_ERR_OS;
    }
    w->now = clock_ns(s);
    /* Should this process die while it repairs, the next one starts again. */
    if (FC_UNLIKELY(rc == EOWNERDEAD))
        recover(s, w);
    return FC_OK;
}

static fc_status lock(fc_shm *s, fc_wakes *w) {
    return enter(s, w, FC_SHM_LOCK_SECONDS * 1000);
}

static fc_status unlock(fc_shm *s, fc_wakes *w, fc_status status) {
    if (FC_UNLIKELY(s->heap.damaged)) {
        recover(s, w);
        status = FC_ERR_FORMAT;
    }
    fc_lock_give(&s->heap.header->lock);
    return status;
}

/* ------------------------------------------------------------------ sleepers */

int fc_shm_wake_one(fc_shm *s, fc_queue *q, fc_wakes *w) {
    const uint64_t *asleep = s->heap.header->asleep;
    uint64_t any = 0;
    for (uint32_t k = 0; k < FC_WAITER_WORDS; k++)
        any |= q->watchers[k] & asleep[k];
    if (FC_LIKELY(!any))
        return 0;
    uint32_t start = q->rotor % FC_WAITERS;
    for (uint32_t k = 0; k <= FC_WAITER_WORDS; k++) {
        uint32_t word = (start / 64 + k) % FC_WAITER_WORDS;
        uint64_t bits = q->watchers[word] & asleep[word];
        if (k == 0)
            bits &= ~UINT64_C(0) << start % 64;
        if (!bits)
            continue;
        uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
        q->rotor = slot + 1;
        wake_later(s, slot, w);
        /* Should the chosen one be slow, stopped or dead, the message is theirs. */
        rouse_all(s, q->watchers, w);
        return 1;
    }
    return 0;
}

static void forget_waiter(fc_shm *s, uint32_t slot) {
    fc_waiter *waiter = (fc_waiter *)fc_heap_used(&s->heap, FC_WAITS, slot);
    uint64_t bit = UINT64_C(1) << slot % 64;
    if (!waiter)
        return;
    s->heap.header->asleep[slot / 64] &= ~bit;
    s->heap.header->resting[slot / 64] &= ~bit;
    for (uint32_t i = 0; i < s->heap.header->table[FC_QUEUES].fresh; i++) {
        fc_queue *q = (fc_queue *)fc_heap_used(&s->heap, FC_QUEUES, i);
        if (q)
            q->watchers[slot / 64] &= ~bit;
    }
    fc_wake_unlink(&s->place, slot, waiter->generation);
    waiter->generation++;
    fc_heap_give(&s->heap, FC_WAITS, slot);
}

/* Wakes a sleeper for each message that waits. With nobody lost or slow there is nothing to do. */
static void nudge_all(fc_shm *s, fc_wakes *w) {
    for (uint32_t i = 0; i < s->heap.header->table[FC_QUEUES].fresh; i++) {
        fc_queue *q = (fc_queue *)fc_heap_used(&s->heap, FC_QUEUES, i);
        for (uint32_t n = q ? q->count : 0; n && fc_shm_wake_one(s, q, w); n--)
            ;
    }
}

/* Sends the wake-ups. One that finds its waiter dead goes to somebody else. */
static void deliver(fc_shm *s, fc_wakes *w) {
    while (w->count) {
        uint32_t failed = 0, dead = 0;
        uint8_t alive[2 * FC_WAITERS];
        for (uint32_t i = 0; i < w->count; i++) {
            fc_status st = fc_wake_send(&s->place, s->sender, w->at[i].slot, w->at[i].generation);
            if (FC_LIKELY(st == FC_OK))
                continue;
            alive[failed] = st != FC_ERR_CLOSED;
            w->at[failed++] = w->at[i];
        }
        if (!failed)
            return;
        fc_wakes next;
        if (lock(s, &next) != FC_OK)
            return;
        for (uint32_t i = 0; i < failed; i++) {
            uint32_t slot = w->at[i].slot;
            const fc_waiter *waiter = (const fc_waiter *)fc_heap_used(&s->heap, FC_WAITS, slot);
            if (!waiter || waiter->generation != w->at[i].generation)
                continue;
            if (alive[i]) {
                s->heap.header->asleep[slot / 64] |= UINT64_C(1) << slot % 64; /* housekeeping tries again */
            } else {
                forget_waiter(s, slot);
                dead++;
            }
        }
        if (dead)
            nudge_all(s, &next);
        (void)unlock(s, &next, FC_OK);
        w->count = next.count;
        memcpy(w->at, next.at, next.count * sizeof next.at[0]);
    }
}

fc_status fc_shm_enter(fc_shm *s, fc_wakes *w) {
    return lock(s, w);
}

fc_status fc_shm_try_enter(fc_shm *s, fc_wakes *w) {
    return enter(s, w, 0);
}

fc_status fc_shm_exit(fc_shm *s, fc_wakes *w, fc_status status) {
    int due = w->now - s->skew > s->heap.header->kept + (uint64_t)2 * FC_SHM_KEEP_MS * 1000000;
    status = unlock(s, w, status);
    deliver(s, w);
    /* With nobody asleep no one's timer may be running: a sender then keeps house. */
    if (FC_UNLIKELY(due))
        (void)fc_shm_keep(s);
    return status;
}

/* ------------------------------------------------------------------ processes */

fc_process *fc_shm_self(fc_shm *s) {
    fc_process *p = (fc_process *)fc_heap_used(&s->heap, FC_PROCS, s->slot);
    return p && p->generation == s->generation ? p : NULL;
}

static void reclaim(fc_shm *s, uint32_t slot) {
    fc_heap *h = &s->heap;
    fc_process *p = (fc_process *)fc_heap_used(h, FC_PROCS, slot);
    if (!p)
        return;
    uint32_t queue = p->queue;
    p->generation++;
    atomic_store_explicit(&p->entry.state, FC_FREE, memory_order_release);
    for (uint32_t i = 0; i < h->header->table[FC_WAITS].fresh; i++) {
        const fc_waiter *waiter = (const fc_waiter *)fc_heap_used(h, FC_WAITS, i);
        if (waiter && waiter->process == slot)
            forget_waiter(s, i);
    }
    for (uint32_t i = 0; i < h->header->table[FC_MEMBERS].fresh; i++) {
        const fc_member *m = (const fc_member *)fc_heap_used(h, FC_MEMBERS, i);
        if (m && m->kind == FC_MEMBER_PROCESS && m->target == slot)
            fc_heap_member_remove(h, i);
    }
    for (uint32_t i = 0; i < h->header->table[FC_MARKED].fresh; i++) {
        const fc_mark *m = (const fc_mark *)fc_heap_used(h, FC_MARKED, i);
        if (m && m->process == slot)
            fc_heap_remove(h, FC_MARKED, i);
    }
    fc_queue *q = (fc_queue *)fc_heap_used(h, FC_QUEUES, queue);
    if (q) {
        fc_heap_empty(h, q);
        q->process = FC_NIL;
        fc_heap_remove(h, FC_QUEUES, queue);
    }
    fc_heap_give(h, FC_PROCS, slot);
}

static int lives(const fc_process *p) {
    return !fc_process_gone(p->pid, (uint32_t)p->start);
}

fc_status fc_shm_enrol(fc_shm *s, fc_text id, char why[FC_SHM_WHY]) {
    fc_heap *h = &s->heap;
    fc_wakes w;
    char name[FC_NAME_SIZE];
    const int32_t pid = (int32_t)getpid();
    const uint64_t start = fc_process_start(pid);
    if (!start) {
        snprintf(why, FC_SHM_WHY, "it cannot be told when this process started: %s", strerror(errno));
        return FC_ERR_OS;
    }
    s->me = fc_lock_name(pid, start);
    fc_status status = lock(s, &w);
    if (status != FC_OK) {
        snprintf(why, FC_SHM_WHY, "its lock cannot be taken: %s", strerror(errno));
        return status;
    }
    name[0] = '!';
    memcpy(name + 1, id.at, id.length);
    if (h->header->table[FC_PROCS].free == FC_NIL && h->header->table[FC_PROCS].fresh == FC_PROCESSES)
        for (uint32_t i = 0; i < FC_PROCESSES; i++) {
            const fc_process *p = (const fc_process *)fc_heap_used(h, FC_PROCS, i);
            if (p && !lives(p))
                reclaim(s, i);
        }
    uint32_t slot = fc_heap_take(h, FC_PROCS);
    uint32_t queue = slot == FC_NIL ? FC_NIL : fc_heap_make(h, FC_QUEUES, name, id.length + 1);
    fc_queue *q = queue == FC_NIL ? NULL : (fc_queue *)fc_heap_at(h, FC_QUEUES, queue);
    if (!q || q->process != FC_NIL) {
        if (slot != FC_NIL)
            fc_heap_give(h, FC_PROCS, slot);
        snprintf(why, FC_SHM_WHY,
                 q ? "another process uses the same client id"
                   : "no room for another process (%d at most, and a queue for each)",
                 FC_PROCESSES);
        return fc_shm_exit(s, &w, FC_ERR_NOMEM);
    }
    fc_process *p = (fc_process *)fc_heap_at(h, FC_PROCS, slot);
    p->pid = pid;
    p->start = start;
    p->queue = queue;
    p->marks = 0;
    s->slot = slot;
    s->inbox = queue;
    s->generation = ++p->generation;
    q->process = slot;
    fc_heap_commit(&p->entry);
    /* Whoever sleeps until a process ends must know of this one. */
    h->header->newcomers++;
    rouse_all(s, h->header->resting, &w);
    return fc_shm_exit(s, &w, FC_OK);
}

fc_status fc_shm_neighbours(fc_shm *s, fc_neighbour *out, uint32_t most, uint32_t *count) {
    fc_wakes w;
    *count = 0;
    fc_status status = lock(s, &w);
    if (status != FC_OK)
        return status;
    for (uint32_t i = 0; i < s->heap.header->table[FC_PROCS].fresh; i++) {
        const fc_process *p = (const fc_process *)fc_heap_used(&s->heap, FC_PROCS, i);
        if (!p || i == s->slot)
            continue;
        if (*count < most)
            out[*count] = (fc_neighbour){.start = p->start, .pid = p->pid};
        ++*count;
    }
    s->known = s->heap.header->newcomers;
    return fc_shm_exit(s, &w, FC_OK);
}

int fc_shm_retire(fc_shm *s) {
    fc_wakes w;
    if (lock(s, &w) != FC_OK)
        return 0;
    if (fc_shm_self(s)) {
        /* Threads of this process that sleep here: afterwards nobody finds them. */
        for (uint32_t i = 0; i < s->heap.header->table[FC_WAITS].fresh; i++) {
            const fc_waiter *waiter = (const fc_waiter *)fc_heap_used(&s->heap, FC_WAITS, i);
            if (waiter && waiter->process == s->slot)
                (void)fc_wake_send(&s->place, s->sender, i, waiter->generation);
        }
        reclaim(s, s->slot);
    }
    nudge_all(s, &w);
    const fc_table *t = s->heap.header->table;
    int empty = !t[FC_PROCS].used && !t[FC_BLOCKS].used && !t[FC_GROUPS].used && !s->heap.damaged;
    (void)unlock(s, &w, FC_OK);
    deliver(s, &w);
    return empty;
}

int fc_shm_sweep(fc_shm *s, uint64_t now) {
    fc_header *header = s->heap.header;
    uint32_t dropped = 0;
    if (now - header->swept < UINT64_C(100000000))
        return 0;
    header->swept = now;
    for (uint32_t i = 0; i < header->table[FC_QUEUES].fresh; i++) {
        fc_queue *q = (fc_queue *)fc_heap_used(&s->heap, FC_QUEUES, i);
        uint64_t watched = 0;
        if (!q)
            continue;
        dropped += fc_heap_expire(&s->heap, q, now);
        for (int k = 0; k < FC_WAITER_WORDS; k++)
            watched |= q->watchers[k];
        if (!q->count && !q->members && !watched && q->process == FC_NIL) {
            fc_heap_remove(&s->heap, FC_QUEUES, i);
            dropped++;
        }
    }
    return dropped > 0;
}

fc_status fc_shm_keep(fc_shm *s) {
    fc_heap *h = &s->heap;
    fc_process copy[FC_PROCESSES];
    uint32_t dead[FC_PROCESSES], count = 0, n = 0;
    fc_wakes w;
    if (fc_shm_removed(s))
        return FC_ERR_CLOSED;
    fc_status status = lock(s, &w);
    if (status != FC_OK)
        return status;
    if (w.now - s->skew < h->header->kept + (uint64_t)FC_SHM_KEEP_MS * 900000)
        return unlock(s, &w, FC_OK);
    h->header->kept = w.now - s->skew;
    count = h->header->table[FC_PROCS].fresh;
    for (uint32_t i = 0; i < count && i < FC_PROCESSES; i++) {
        const fc_process *p = (const fc_process *)fc_heap_used(h, FC_PROCS, i);
        copy[i].pid = 0;
        if (p && i != s->slot) {
            copy[i].pid = p->pid;
            copy[i].start = p->start;
            copy[i].generation = p->generation;
        }
    }
    (void)fc_shm_sweep(s, w.now);
    nudge_all(s, &w);
    status = unlock(s, &w, FC_OK);
    deliver(s, &w);

    for (uint32_t i = 0; i < count && i < FC_PROCESSES; i++)
        if (copy[i].pid && !lives(&copy[i]))
            dead[n++] = i;
    if (!n || status != FC_OK || (status = lock(s, &w)) != FC_OK)
        return status;
    for (uint32_t i = 0; i < n; i++) {
        const fc_process *p = (const fc_process *)fc_heap_used(h, FC_PROCS, dead[i]);
        if (p && p->generation == copy[dead[i]].generation) {
            reclaim(s, dead[i]);
            h->header->reaped++;
        }
    }
    nudge_all(s, &w); /* for what the dead were woken for and did not take */
    status = unlock(s, &w, FC_OK);
    deliver(s, &w);
    return status;
}

/* ------------------------------------------------------------------ waiters */

static const fc_waiter *own(const fc_waiter_handle *w) {
    const fc_waiter *waiter = (const fc_waiter *)fc_heap_used(&w->s->heap, FC_WAITS, w->slot);
    return waiter && waiter->generation == w->generation ? waiter : NULL;
}

fc_status fc_waiter_open(fc_waiter_handle **out, fc_shm *s) {
    fc_wakes wakes;
    fc_waiter_handle *w = (fc_waiter_handle *)calloc(1, sizeof *w);
    *out = NULL;
    if (!w)
        return FC_ERR_NOMEM;
    w->s = s;
    w->fd = -1;
    fc_status status = lock(s, &wakes);
    if (status == FC_OK) {
        fc_waiter *waiter = NULL;
        if (!fc_shm_self(s))
            status = FC_ERR_CLOSED;
        else if ((w->slot = fc_heap_take(&s->heap, FC_WAITS)) == FC_NIL)
            status = FC_ERR_NOMEM;
        else if ((waiter = (fc_waiter *)fc_heap_at(&s->heap, FC_WAITS, w->slot))) {
            waiter->process = s->slot;
            w->generation = ++waiter->generation;
            fc_heap_commit(&waiter->entry);
        }
        status = unlock(s, &wakes, status);
        deliver(s, &wakes);
    }
    if (status == FC_OK && (w->fd = fc_wake_bind(&s->place, w->slot, w->generation)) < 0) {
        int reason = errno;
        fc_waiter_close(w, 0);
        errno = reason;
        return FC_ERR_OS;
    }
    if (status == FC_OK)
        *out = w;
    else
        free(w);
    return status;
}

/* Takes the waiter's bits back. With `pass_on`, a message that waits in one of its queues wakes somebody else. */
static void unwatch(fc_waiter_handle *w, fc_wakes *wakes, int pass_on) {
    fc_heap *h = &w->s->heap;
    uint64_t bit = UINT64_C(1) << w->slot % 64;
    h->header->asleep[w->slot / 64] &= ~bit;
    h->header->resting[w->slot / 64] &= ~bit;
    for (uint32_t i = 0; i < w->count; i++) {
        /* A queue that came in the place of a freed one does not carry this bit: clearing it there does no harm. */
        fc_queue *q = (fc_queue *)fc_heap_used(h, FC_QUEUES, w->queues[i]);
        if (!q)
            continue;
        q->watchers[w->slot / 64] &= ~bit;
        if (pass_on && q->count)
            (void)fc_shm_wake_one(w->s, q, wakes);
    }
    w->count = 0;
}

void fc_waiter_close(fc_waiter_handle *w, int abandon) {
    fc_wakes wakes;
    if (!abandon && lock(w->s, &wakes) == FC_OK) {
        if (own(w)) {
            unwatch(w, &wakes, 1);
            forget_waiter(w->s, w->slot);
        }
        (void)unlock(w->s, &wakes, FC_OK);
        deliver(w->s, &wakes);
    }
    if (w->fd >= 0)
        close(w->fd);
    free(w->queues);
    free(w);
}

int fc_waiter_fd(const fc_waiter_handle *w) {
    return w->fd;
}

fc_status fc_waiter_arm(fc_waiter_handle *w, const fc_text *names, uint32_t n, uint32_t *ready) {
    fc_shm *s = w->s;
    fc_heap *h = &s->heap;
    fc_wakes wakes;
    if (n > w->room) {
        uint32_t *queues = (uint32_t *)realloc(w->queues, n * sizeof *queues);
        if (!queues)
            return FC_ERR_NOMEM;
        w->queues = queues;
        w->room = n;
    }
    fc_status status = lock(s, &wakes);
    if (status != FC_OK)
        return status;
    if (!own(w))
        return fc_shm_exit(s, &wakes, FC_ERR_CLOSED);
    uint64_t bit = UINT64_C(1) << w->slot % 64, rests = h->header->resting[w->slot / 64] & bit;
    unwatch(w, &wakes, 0);
    status = FC_NEED_DATA;
    for (uint32_t i = 0; i < n && status == FC_NEED_DATA; i++) {
        uint32_t index = fc_heap_make(h, FC_QUEUES, names[i].at, names[i].length);
        if (index == FC_NIL && fc_shm_sweep(s, wakes.now))
            index = fc_heap_make(h, FC_QUEUES, names[i].at, names[i].length);
        fc_queue *q = index == FC_NIL ? NULL : (fc_queue *)fc_heap_at(h, FC_QUEUES, index);
        if (!q) {
            status = FC_ERR_NOMEM;
            break;
        }
        (void)fc_heap_expire(h, q, wakes.now);
        if (q->count) {
            status = FC_OK;
            *ready = i;
        }
        q->watchers[w->slot / 64] |= bit;
        w->queues[w->count++] = index;
    }
    if (status == FC_NEED_DATA) {
        h->header->asleep[w->slot / 64] |= bit;
        h->header->resting[w->slot / 64] |= rests;
    } else {
        unwatch(w, &wakes, 0);
    }
    return fc_shm_exit(s, &wakes, status);
}

static int sleeps(const fc_waiter_handle *w) {
    return own(w) && w->s->heap.header->asleep[w->slot / 64] >> w->slot % 64 & 1;
}

fc_status fc_waiter_rest(fc_waiter_handle *w) {
    fc_heap *h = &w->s->heap;
    fc_wakes wakes;
    fc_status status = lock(w->s, &wakes);
    if (status != FC_OK)
        return status;
    int calm = sleeps(w) && w->pushed == h->header->pushed && w->s->known == h->header->newcomers;
    w->pushed = h->header->pushed;
    for (uint32_t i = 0; i < w->count && calm; i++) {
        const fc_queue *q = (const fc_queue *)fc_heap_used(h, FC_QUEUES, w->queues[i]);
        calm = q && !q->count;
    }
    if (calm)
        h->header->resting[w->slot / 64] |= UINT64_C(1) << w->slot % 64;
    return fc_shm_exit(w->s, &wakes, calm ? FC_OK : FC_NEED_DATA);
}

fc_status fc_waiter_sleeps(fc_waiter_handle *w) {
    fc_wakes wakes;
    fc_status status = lock(w->s, &wakes);
    return status == FC_OK ? fc_shm_exit(w->s, &wakes, sleeps(w) ? FC_OK : FC_NEED_DATA) : status;
}

fc_status fc_waiter_disarm(fc_waiter_handle *w) {
    fc_wakes wakes;
    fc_status status = lock(w->s, &wakes);
    if (status != FC_OK)
        return status;
    if (own(w))
        unwatch(w, &wakes, 1);
    return fc_shm_exit(w->s, &wakes, FC_OK);
}
