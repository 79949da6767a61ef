/* Rebuilding and checking what fc_heap derives: the second half of fc_heap.h. */
#include "fc_heap.h"

static uint32_t state_of(const void *slot) {
    return atomic_load_explicit(&((const fc_entry *)slot)->state, memory_order_acquire);
}

static void set_state(void *slot, uint32_t state) {
    atomic_store_explicit(&((fc_entry *)slot)->state, state, memory_order_release);
}

static fc_block *block(fc_heap *h, uint32_t i) {
    return (fc_block *)fc_heap_at(h, FC_BLOCKS, i);
}

/* ------------------------------------------------------------------ recovery */

/* Sorted by sequence, linked by `after`: merges two such lists. */
static uint32_t merge(fc_heap *h, uint32_t a, uint32_t b) {
    uint32_t head = FC_NIL;
    for (uint32_t *link = &head;; link = &block(h, *link)->first.after) {
        if (a == FC_NIL || b == FC_NIL) {
            *link = a == FC_NIL ? b : a;
            return head;
        }
        uint32_t *lower = block(h, a)->first.sequence <= block(h, b)->first.sequence ? &a : &b;
        *link = *lower;
        *lower = block(h, *lower)->first.after;
    }
}

/* Marks the chain of a first block. A chain with a bad link, or one that meets another message, unmarks and fails. */
static int claim(fc_heap *h, fc_block *first, uint32_t mark) {
    uint64_t count = fc_heap_blocks_for((uint64_t)first->first.length + first->first.target_length), done = 1;
    uint32_t fresh = h->header->table[FC_BLOCKS].fresh;
    first->mark = mark;
    for (uint32_t next = first->next; done < count; done++) {
        fc_block *b = next < fresh ? block(h, next) : NULL;
        if (!b || state_of(b) != FC_PART || b->mark == mark)
            break;
        b->mark = mark;
        next = b->next;
    }
    if (done == count)
        return 1;
    fc_block *b = first;
    for (uint64_t i = 0; i < done; i++) {
        b->mark = 0;
        if (i + 1 < done)
            b = block(h, b->next);
    }
    return 0;
}

/* Every slot that is not FC_USED goes to the free list; `keep` may free further ones. */
static void rebuild_table(fc_heap *h, int table, int (*keep)(fc_heap *, void *, uint32_t)) {
    const fc_region *r = &h->region[table];
    fc_table *t = &h->header->table[table];
    t->free = t->given = FC_NIL;
    t->used = 0;
    if (r->buckets)
        memset(h->base + r->buckets, 0xff, ((size_t)r->bucket_mask + 1) * sizeof(uint32_t));
    for (uint32_t i = t->fresh; i-- > 0;) {
        fc_entry *e = (fc_entry *)fc_heap_at(h, table, i);
        if (state_of(e) == FC_USED && keep(h, e, i)) {
            t->used++;
            if (r->buckets)
                fc_heap_hang(h, table, i);
        } else {
            set_state(e, FC_FREE);
            e->next = t->free;
            t->free = i;
        }
    }
}

/* Whole, and not one of two by the same name. */
static int good_name(fc_heap *h, int table, const fc_named *n) {
    return n->length && n->length <= FC_NAME_SIZE && n->entry.hash == fc_heap_hash(n->name, n->length) &&
           fc_heap_find(h, table, n->name, n->length) == FC_NIL;
}

static int keep_process(fc_heap *h, void *slot, uint32_t index) {
    fc_process *p = (fc_process *)slot;
    const fc_queue *q = (const fc_queue *)fc_heap_used(h, FC_QUEUES, p->queue);
    p->marks = 0;
    return q && q->process == index;
}

static int keep_waiter(fc_heap *h, void *slot, uint32_t index) {
    fc_waiter *w = (fc_waiter *)slot;
    if (fc_heap_used(h, FC_PROCS, w->process))
        return 1;
    w->generation++;
    (void)index;
    return 0;
}

static int keep_queue(fc_heap *h, void *slot, uint32_t index) {
    fc_queue *q = (fc_queue *)slot;
    if (q->process != FC_NIL) {
        const fc_process *p = (const fc_process *)fc_heap_used(h, FC_PROCS, q->process);
        if (!p || p->queue != index)
            return 0;
    }
    q->head = q->tail = FC_NIL;
    q->count = q->members = q->rotor = 0;
    atomic_store_explicit(&q->waits, 1, memory_order_relaxed);
    memset(q->watchers, 0, sizeof q->watchers);
    return good_name(h, FC_QUEUES, &q->named);
}

static int keep_group(fc_heap *h, void *slot, uint32_t index) {
    fc_group *g = (fc_group *)slot;
    (void)index;
    g->first = FC_NIL;
    g->count = 0;
    return good_name(h, FC_GROUPS, &g->named);
}

static int keep_member(fc_heap *h, void *slot, uint32_t index) {
    fc_member *m = (fc_member *)slot;
    fc_group *g = (fc_group *)fc_heap_used(h, FC_GROUPS, m->group);
    fc_queue *q = NULL;
    if (!g)
        return 0;
    if (m->kind == FC_MEMBER_CHANNEL) {
        q = (fc_queue *)fc_heap_used(h, FC_QUEUES, m->target);
        if (!q)
            return 0;
        q->members++;
    } else if (m->kind != FC_MEMBER_PROCESS || !fc_heap_used(h, FC_PROCS, m->target)) {
        return 0;
    }
    m->entry.next = g->first;
    g->first = index;
    g->count++;
    return 1;
}

static int keep_peopled(fc_heap *h, void *slot, uint32_t index) {
    (void)h;
    (void)index;
    return ((fc_group *)slot)->count > 0;
}

static int keep_mark(fc_heap *h, void *slot, uint32_t index) {
    fc_process *p = (fc_process *)fc_heap_used(h, FC_PROCS, ((fc_mark *)slot)->process);
    (void)index;
    if (p)
        p->marks++;
    return p != NULL;
}

static void rebuild_messages(fc_heap *h) {
    fc_header *header = h->header;
    fc_table *t = &header->table[FC_BLOCKS];
    uint32_t bins[33], mark = ++header->mark ? header->mark : ++header->mark;
    for (int i = 0; i < 33; i++)
        bins[i] = FC_NIL;

    for (uint32_t i = 0; i < t->fresh; i++) {
        fc_block *b = block(h, i);
        if (state_of(b) != FC_USED)
            continue;
        if (!fc_heap_used(h, FC_QUEUES, b->queue) || b->first.length > header->size ||
            b->first.target_length > FC_NAME_SIZE || !claim(h, b, mark)) {
            set_state(b, FC_FREE);
            b->mark = 0;
            continue;
        }
        if (b->first.sequence > header->sequence)
            header->sequence = b->first.sequence;
        b->first.after = FC_NIL;
        uint32_t run = i;
        int bin = 0;
        for (; bin < 32 && bins[bin] != FC_NIL; bin++) {
            run = merge(h, bins[bin], run);
            bins[bin] = FC_NIL;
        }
        bins[bin] = bin == 32 ? merge(h, bins[bin], run) : run;
    }
    uint32_t all = FC_NIL;
    for (int i = 0; i < 33; i++)
        all = merge(h, all, bins[i]);

    while (all != FC_NIL) {
        fc_block *b = block(h, all);
        fc_queue *q = (fc_queue *)fc_heap_at(h, FC_QUEUES, b->queue);
        uint32_t next = b->first.after;
        b->first.after = FC_NIL;
        if (q->tail == FC_NIL)
            q->head = all;
        else
            block(h, q->tail)->first.after = all;
        q->tail = all;
        q->count++;
        all = next;
    }

    t->free = t->given = FC_NIL;
    t->used = 0;
    for (uint32_t i = t->fresh; i-- > 0;) {
        fc_block *b = block(h, i);
        if (b->mark == mark && state_of(b) != FC_FREE) {
            t->used++;
            continue;
        }
        set_state(b, FC_FREE);
        b->next = t->free;
        t->free = i;
    }
}

void fc_heap_recover(fc_heap *h) {
    for (int t = 0; t < FC_TABLES; t++) {
        uint32_t fresh = h->region[t].capacity;
        while (fresh && state_of(fc_heap_at(h, t, fresh - 1)) == FC_FREE)
            fresh--;
        h->header->table[t].fresh = fresh;
    }
    rebuild_table(h, FC_PROCS, keep_process);
    rebuild_table(h, FC_QUEUES, keep_queue);
    rebuild_table(h, FC_PROCS, keep_process); /* a process and its inbox stand or fall together */
    rebuild_table(h, FC_WAITS, keep_waiter);
    rebuild_table(h, FC_GROUPS, keep_group);
    rebuild_table(h, FC_MEMBERS, keep_member);
    rebuild_table(h, FC_GROUPS, keep_peopled);
    rebuild_table(h, FC_MARKED, keep_mark);
    rebuild_messages(h);
    /* Nobody is known to sleep any more; the caller wakes every waiter, and each looks again. */
    memset(h->header->asleep, 0, sizeof h->header->asleep);
    memset(h->header->resting, 0, sizeof h->header->resting);
    h->header->recovered++;
    h->damaged = 0;
}

/* ------------------------------------------------------------------ check */

static const char *check_table(fc_heap *h, int table) {
    const fc_region *r = &h->region[table];
    const fc_table *t = &h->header->table[table];
    uint32_t free = 0, used = 0;
    if (t->fresh > r->capacity)
        return "a table claims more slots than it has";
    for (int given = 0; given < 2; given++)
        for (uint32_t i = given ? t->given : t->free; i != FC_NIL; free++) {
            const fc_entry *e = i < t->fresh ? (const fc_entry *)fc_heap_at(h, table, i) : NULL;
            if (!e || free > t->fresh)
                return "a free list leads astray";
            if (state_of(e) != FC_FREE)
                return "a slot in use is on a free list";
            i = e->next;
        }
    for (uint32_t i = 0; i < t->fresh; i++)
        used += state_of(fc_heap_at(h, table, i)) != FC_FREE;
    if (used != t->used || used + free != t->fresh)
        return "a table's slots do not add up";
    return NULL;
}

static const char *check_messages(fc_heap *h) {
    uint32_t mark = ++h->header->mark ? h->header->mark : ++h->header->mark;
    uint64_t blocks = 0;
    for (uint32_t i = 0; i < h->header->table[FC_QUEUES].fresh; i++) {
        const fc_queue *q = (const fc_queue *)fc_heap_used(h, FC_QUEUES, i);
        uint32_t count = 0, last = FC_NIL;
        uint64_t sequence = 0;
        if (!q)
            continue;
        if (fc_heap_find(h, FC_QUEUES, q->named.name, q->named.length) != i)
            return "a queue is not found by its name";
        for (uint32_t j = q->head; j != FC_NIL; count++) {
            fc_block *b = block(h, j);
            if (!b || count >= q->count || state_of(b) != FC_USED || b->queue != i)
                return "a queue holds what is no message of it";
            if (b->first.sequence <= sequence || b->first.sequence > h->header->sequence)
                return "a queue is out of order";
            if (b->mark == mark || !claim(h, b, mark))
                return "a message shares its blocks, or misses some";
            blocks += fc_heap_blocks_for((uint64_t)b->first.length + b->first.target_length);
            sequence = b->first.sequence;
            last = j;
            j = b->first.after;
        }
        if (count != q->count || last != q->tail)
            return "a queue's count or tail is wrong";
        if (count && !atomic_load_explicit(&q->waits, memory_order_relaxed))
            return "a queue hides what waits in it";
        for (int k = 0; k < FC_WAITER_WORDS; k++)
            if (count && q->watchers[k] & h->header->resting[k])
                return "somebody rests while a message waits";
        if (q->process != FC_NIL) {
            const fc_process *p = (const fc_process *)fc_heap_used(h, FC_PROCS, q->process);
            if (!p || p->queue != i)
                return "an inbox without its process";
        }
    }
    return blocks == h->header->table[FC_BLOCKS].used ? NULL : "blocks are lost";
}

static const char *check_groups(fc_heap *h) {
    uint32_t members = 0, channels = 0, refs = 0;
    for (uint32_t i = 0; i < h->header->table[FC_GROUPS].fresh; i++) {
        const fc_group *g = (const fc_group *)fc_heap_used(h, FC_GROUPS, i);
        uint32_t count = 0;
        if (!g)
            continue;
        if (fc_heap_find(h, FC_GROUPS, g->named.name, g->named.length) != i)
            return "a group is not found by its name";
        for (uint32_t j = g->first; j != FC_NIL; count++) {
            const fc_member *m = (const fc_member *)fc_heap_used(h, FC_MEMBERS, j);
            if (!m || count >= g->count || m->group != i)
                return "a group holds what is no member of it";
            if (!fc_heap_used(h, m->kind == FC_MEMBER_CHANNEL ? FC_QUEUES : FC_PROCS, m->target))
                return "a member that does not exist";
            channels += m->kind == FC_MEMBER_CHANNEL;
            j = m->entry.next;
        }
        if (!count || count != g->count)
            return "a group's count is wrong";
        members += count;
    }
    for (uint32_t i = 0; i < h->header->table[FC_QUEUES].fresh; i++) {
        const fc_queue *q = (const fc_queue *)fc_heap_used(h, FC_QUEUES, i);
        refs += q ? q->members : 0;
    }
    if (refs != channels)
        return "the memberships of channels do not add up";
    return members == h->header->table[FC_MEMBERS].used ? NULL : "memberships are lost";
}

static const char *check_owners(fc_heap *h) {
    uint32_t marks = 0;
    for (uint32_t i = 0; i < h->header->table[FC_PROCS].fresh; i++) {
        const fc_process *p = (const fc_process *)fc_heap_used(h, FC_PROCS, i);
        const fc_queue *q = p ? (const fc_queue *)fc_heap_used(h, FC_QUEUES, p->queue) : NULL;
        if (p && (!q || q->process != i))
            return "a process without its inbox";
        marks += p ? p->marks : 0;
    }
    for (uint32_t i = 0; i < h->header->table[FC_WAITS].fresh; i++) {
        const fc_waiter *w = (const fc_waiter *)fc_heap_used(h, FC_WAITS, i);
        if (w && !fc_heap_used(h, FC_PROCS, w->process))
            return "a waiter without its process";
        if (!w && (h->header->asleep[i / 64] | h->header->resting[i / 64]) >> i % 64 & 1)
            return "a waiter that is not there sleeps";
    }
    return marks == h->header->table[FC_MARKED].used ? NULL : "marks are lost";
}

const char *fc_heap_check(fc_heap *h) {
    const char *wrong = NULL;
    for (int t = 0; t < FC_TABLES && !wrong; t++)
        wrong = check_table(h, t);
    if (!wrong)
        wrong = check_messages(h);
    if (!wrong)
        wrong = check_groups(h);
    if (!wrong)
        wrong = check_owners(h);
    if (!wrong && h->damaged)
        wrong = "an index is out of range";
    return wrong;
}
