#include "fc_heap.h"

#include <stddef.h>

_Static_assert(sizeof(fc_block) == FC_BLOCK, "a block is 384 bytes");
_Static_assert(sizeof(fc_named) == 120, "a name is 120 bytes");
_Static_assert(FC_NAME_SIZE < FC_FIRST_DATA, "a target fits the first block");

static uint64_t fold(uint64_t hash, uint64_t value) {
    for (int i = 0; i < 8; i++)
        hash = (hash ^ (value >> (8 * i) & 0xff)) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t power_of_two(uint64_t at_least) {
    uint64_t n = 1;
    while (n < at_least)
        n <<= 1;
    return n;
}

uint64_t fc_heap_layout(fc_region region[FC_TABLES], uint64_t size) {
    static const uint32_t strides[FC_TABLES] = {sizeof(fc_block),  sizeof(fc_queue), sizeof(fc_group),
                                                sizeof(fc_member), sizeof(fc_mark),  sizeof(fc_process),
                                                sizeof(fc_waiter)};
    if (size < FC_SHM_MIN_SIZE || size > FC_SHM_MAX_SIZE)
        return 0;
    /* About a ninth of the segment is tables; blocks take what is left. */
    const uint64_t capacities[FC_TABLES] = {0,        size / 8192,  size / 4096, size / 1024,
                                            FC_MARKS, FC_PROCESSES, FC_WAITERS};
    uint64_t at = (sizeof(fc_header) + 4095) & ~UINT64_C(4095), sum = UINT64_C(0xcbf29ce484222325);
    for (int t = 0; t < FC_TABLES; t++) {
        fc_region *r = &region[t];
        memset(r, 0, sizeof *r);
        r->stride = strides[t];
        if (t == FC_BLOCKS)
            continue;
        r->capacity = (uint32_t)capacities[t];
        if (t == FC_QUEUES || t == FC_GROUPS || t == FC_MARKED) {
            uint64_t buckets = power_of_two(capacities[t]);
            r->buckets = at;
            r->bucket_mask = (uint32_t)(buckets - 1);
            at += (buckets * sizeof(uint32_t) + 63) & ~UINT64_C(63);
        }
        r->at = at;
        at += ((uint64_t)r->capacity * r->stride + 63) & ~UINT64_C(63);
    }
    at = (at + 4095) & ~UINT64_C(4095);
    if (at + 64 * FC_BLOCK > size)
        return 0;
    region[FC_BLOCKS].at = at;
    region[FC_BLOCKS].capacity = (uint32_t)((size - at) / FC_BLOCK);
    for (int t = 0; t < FC_TABLES; t++)
        sum = fold(fold(fold(fold(sum, region[t].at), region[t].buckets), region[t].stride), region[t].capacity);
    return sum | 1;
}

fc_status fc_heap_bind(fc_heap *h, void *base, uint64_t size) {
    h->base = (uint8_t *)base;
    h->header = (fc_header *)base;
    h->damaged = 0;
    return fc_heap_layout(h->region, size) ? FC_OK : FC_ERR_RANGE;
}

void fc_heap_format(fc_heap *h, uint64_t size) {
    fc_header *header = h->header;
    fc_region scratch[FC_TABLES];
    header->header_size = sizeof(fc_header);
    header->layout = fc_heap_layout(scratch, size);
    header->size = size;
    for (int t = 0; t < FC_TABLES; t++) {
        header->table[t].free = header->table[t].given = FC_NIL;
        if (h->region[t].buckets)
            memset(h->base + h->region[t].buckets, 0xff, ((size_t)h->region[t].bucket_mask + 1) * sizeof(uint32_t));
    }
    header->magic = FC_SHM_MAGIC;
}

/* ------------------------------------------------------------------ slots */

void *fc_heap_at(fc_heap *h, int table, uint32_t index) {
    const fc_region *r = &h->region[table];
    if (FC_UNLIKELY(index >= r->capacity)) {
        h->damaged = 1;
        return NULL;
    }
    return h->base + r->at + (uint64_t)index * r->stride;
}

void *fc_heap_used(fc_heap *h, int table, uint32_t index) {
    const fc_region *r = &h->region[table];
    if (index >= r->capacity)
        return NULL;
    fc_entry *e = (fc_entry *)(h->base + r->at + (uint64_t)index * r->stride);
    return atomic_load_explicit(&e->state, memory_order_acquire) == FC_USED ? e : NULL;
}

uint32_t fc_heap_take(fc_heap *h, int table) {
    fc_table *t = &h->header->table[table];
    uint32_t index = t->free;
    if (index == FC_NIL) {
        index = t->given;
        t->given = FC_NIL;
    }
    if (index != FC_NIL) {
        fc_entry *e = (fc_entry *)fc_heap_at(h, table, index);
        if (!e)
            return FC_NIL;
        t->free = e->next;
    } else {
        if (t->fresh >= h->region[table].capacity)
            return FC_NIL;
        index = t->fresh++;
    }
    t->used++;
    return index;
}

void fc_heap_commit(fc_entry *entry) {
    atomic_store_explicit(&entry->state, FC_USED, memory_order_release);
}

void fc_heap_give(fc_heap *h, int table, uint32_t index) {
    fc_entry *e = (fc_entry *)fc_heap_at(h, table, index);
    if (!e)
        return;
    atomic_store_explicit(&e->state, FC_FREE, memory_order_release);
    e->next = h->header->table[table].given;
    h->header->table[table].given = index;
    h->header->table[table].used--;
}

/* ------------------------------------------------------------------ names */

uint64_t fc_heap_hash(const char *name, size_t length) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)name[i]) * UINT64_C(0x100000001b3);
    /* FNV-1a leaves the low bits weak for names that differ in their last byte. */
    hash ^= hash >> 32;
    hash *= UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint32_t *bucket(fc_heap *h, int table, uint64_t hash) {
    const fc_region *r = &h->region[table];
    return (uint32_t *)(h->base + r->buckets) + (hash & r->bucket_mask);
}

uint32_t fc_heap_find_hashed(fc_heap *h, int table, uint64_t hash, const char *name, size_t length) {
    uint32_t steps = h->region[table].capacity;
    for (uint32_t i = *bucket(h, table, hash); i != FC_NIL; steps--) {
        fc_named *e = (fc_named *)fc_heap_at(h, table, i);
        if (!e || !steps) {
            h->damaged = 1;
            return FC_NIL;
        }
        if (e->entry.hash == hash && e->length == length && !memcmp(e->name, name, length))
            return i;
        i = e->entry.next;
    }
    return FC_NIL;
}

uint32_t fc_heap_find(fc_heap *h, int table, const char *name, size_t length) {
    return length > FC_NAME_SIZE ? FC_NIL : fc_heap_find_hashed(h, table, fc_heap_hash(name, length), name, length);
}

void fc_heap_hang(fc_heap *h, int table, uint32_t index) {
    fc_entry *e = (fc_entry *)fc_heap_at(h, table, index);
    if (!e)
        return;
    uint32_t *b = bucket(h, table, e->hash);
    e->next = *b;
    *b = index;
}

uint32_t fc_heap_make(fc_heap *h, int table, const char *name, size_t length) {
    return length > FC_NAME_SIZE ? FC_NIL : fc_heap_make_hashed(h, table, fc_heap_hash(name, length), name, length);
}

uint32_t fc_heap_make_hashed(fc_heap *h, int table, uint64_t hash, const char *name, size_t length) {
    uint32_t index = fc_heap_find_hashed(h, table, hash, name, length);
    if (index != FC_NIL || h->damaged || (index = fc_heap_take(h, table)) == FC_NIL)
        return index;
    fc_named *e = (fc_named *)fc_heap_at(h, table, index);
    e->entry.hash = hash;
    e->length = (uint8_t)length;
    memcpy(e->name, name, length);
    if (table == FC_QUEUES) {
        fc_queue *q = (fc_queue *)e;
        q->head = q->tail = q->process = FC_NIL;
        q->count = q->members = q->rotor = 0;
        atomic_store_explicit(&q->waits, 0, memory_order_relaxed);
        memset(q->watchers, 0, sizeof q->watchers);
    } else {
        ((fc_group *)e)->first = FC_NIL;
        ((fc_group *)e)->count = 0;
    }
    fc_heap_commit(&e->entry);
    fc_heap_hang(h, table, index);
    return index;
}

void fc_heap_remove(fc_heap *h, int table, uint32_t index) {
    fc_entry *e = (fc_entry *)fc_heap_at(h, table, index);
    if (!e)
        return;
    atomic_store_explicit(&e->state, FC_FREE, memory_order_release);
    uint32_t steps = h->region[table].capacity;
    for (uint32_t *link = bucket(h, table, e->hash); *link != FC_NIL && steps--;) {
        if (*link == index) {
            *link = e->next;
            fc_heap_give(h, table, index);
            return;
        }
        fc_entry *other = (fc_entry *)fc_heap_at(h, table, *link);
        if (!other)
            return;
        link = &other->next;
    }
    h->damaged = 1;
}

/* ------------------------------------------------------------------ messages */

uint64_t fc_heap_blocks_for(uint64_t length) {
    return length <= FC_FIRST_DATA ? 1 : 1 + (length - FC_FIRST_DATA + FC_PART_DATA - 1) / FC_PART_DATA;
}

/* __builtin_prefetch emits this only when it compiles for fewer processors; those that lack it do nothing. */
#if defined(__x86_64__)
#define fetch_to_write(at) __asm__ volatile("prefetchw %0" : : "m"(*(const uint8_t *)(at)))
#else
#define fetch_to_write(at) __builtin_prefetch(at, 1)
#endif

/* Another process had the block last: has what a message of `bytes` takes of it brought here meanwhile. */
static inline void expect(const fc_heap *h, uint32_t index, uint64_t bytes) {
    const fc_region *r = &h->region[FC_BLOCKS];
    if (index >= r->capacity)
        return;
    const uint8_t *block = h->base + r->at + (uint64_t)index * FC_BLOCK;
    bytes += offsetof(fc_block, first.data);
    for (uint64_t at = 0; at < bytes && at < FC_BLOCK; at += FC_LINE)
        fetch_to_write(block + at);
}

/* HOT: benchmarks/layers.py */
fc_status fc_heap_append(fc_heap *h, uint32_t queue, const fc_item *item) {
    fc_queue *q = (fc_queue *)fc_heap_at(h, FC_QUEUES, queue);
    if (!q || item->target_length > FC_NAME_SIZE)
        return FC_ERR_FORMAT;
    if (item->length > INT32_MAX)
        return FC_ERR_RANGE;
    const fc_table *table = &h->header->table[FC_BLOCKS];
    if (fc_heap_blocks_for(item->length + item->target_length) + table->used > h->region[FC_BLOCKS].capacity)
        return FC_ERR_NOMEM;

    uint32_t index = fc_heap_take(h, FC_BLOCKS);
    fc_block *first = index == FC_NIL ? NULL : (fc_block *)fc_heap_at(h, FC_BLOCKS, index);
    if (!first) {
        h->damaged = 1;
        return FC_ERR_FORMAT;
    }
    first->queue = queue;
    first->next = FC_NIL;
    first->first.sequence = ++h->header->sequence;
    first->first.stamp = item->now;
    first->first.after = FC_NIL;
    first->first.expiry_ms = item->expiry_ms;
    first->first.length = (uint32_t)item->length;
    first->first.kind = item->kind;
    first->first.target_length = item->target_length;
    memcpy(first->first.data, item->target, item->target_length);
    uint64_t done = FC_FIRST_DATA - item->target_length;
    if (done > item->length)
        done = item->length;
    if (done)
        memcpy(first->first.data + item->target_length, item->payload, done);

    for (uint32_t *link = &first->next; done < item->length;) {
        uint32_t part = fc_heap_take(h, FC_BLOCKS);
        fc_block *b = part == FC_NIL ? NULL : (fc_block *)fc_heap_at(h, FC_BLOCKS, part);
        if (!b) {
            h->damaged = 1;
            return FC_ERR_FORMAT;
        }
        uint64_t n = item->length - done < FC_PART_DATA ? item->length - done : FC_PART_DATA;
        atomic_store_explicit(&b->state, FC_PART, memory_order_relaxed);
        b->next = FC_NIL;
        memcpy(b->part, item->payload + done, n);
        *link = part;
        link = &b->next;
        done += n;
    }
    /* From here on the message exists, whatever happens to this process. */
    atomic_store_explicit(&first->state, FC_USED, memory_order_release);

    if (q->tail == FC_NIL) {
        q->head = index;
    } else {
        fc_block *last = (fc_block *)fc_heap_at(h, FC_BLOCKS, q->tail);
        if (!last)
            return FC_ERR_FORMAT;
        last->first.after = index;
    }
    q->tail = index;
    q->count++;
    atomic_store_explicit(&q->waits, 1, memory_order_relaxed);
    h->header->pushed++;
    expect(h, table->free, item->length + item->target_length);
    return FC_OK;
}

fc_block *fc_heap_head(fc_heap *h, const fc_queue *q) {
    fc_block *b = (fc_block *)fc_heap_at(h, FC_BLOCKS, q->head);
    if (b && atomic_load_explicit(&b->state, memory_order_acquire) == FC_USED && b->first.length <= h->header->size &&
        b->first.target_length <= FC_NAME_SIZE)
        return b;
    h->damaged = 1;
    return NULL;
}

fc_status fc_heap_copy(fc_heap *h, const fc_block *first, uint8_t *out) {
    uint64_t left = (uint64_t)first->first.length + first->first.target_length;
    uint64_t n = left < FC_FIRST_DATA ? left : FC_FIRST_DATA;
    memcpy(out, first->first.data, n);
    for (uint32_t next = first->next; left -= n;) {
        out += n;
        fc_block *b = (fc_block *)fc_heap_at(h, FC_BLOCKS, next);
        if (!b || atomic_load_explicit(&b->state, memory_order_relaxed) != FC_PART) {
            h->damaged = 1;
            return FC_ERR_FORMAT;
        }
        n = left < FC_PART_DATA ? left : FC_PART_DATA;
        memcpy(out, b->part, n);
        next = b->next;
    }
    return FC_OK;
}

void fc_heap_drop_head(fc_heap *h, fc_queue *q) {
    uint32_t index = q->head;
    fc_block *b = fc_heap_head(h, q);
    if (!b)
        return;
    uint64_t bytes = (uint64_t)b->first.length + b->first.target_length, blocks = fc_heap_blocks_for(bytes);
    expect(h, b->first.after, bytes);
    /* The first block goes first: with it the message is gone, and nobody can be given it a second time. */
    atomic_store_explicit(&b->state, FC_FREE, memory_order_release);
    q->head = b->first.after;
    if (q->head == FC_NIL) {
        q->tail = FC_NIL;
        atomic_store_explicit(&q->waits, 0, memory_order_relaxed);
    }
    q->count--;
    for (; blocks; blocks--) {
        uint32_t next;
        if (!b) {
            h->damaged = 1;
            return;
        }
        next = b->next;
        fc_heap_give(h, FC_BLOCKS, index);
        index = next;
        b = blocks > 1 ? (fc_block *)fc_heap_at(h, FC_BLOCKS, index) : NULL;
    }
}

uint32_t fc_heap_expire(fc_heap *h, fc_queue *q, uint64_t now) {
    uint32_t dropped = 0;
    while (q->head != FC_NIL && !h->damaged) {
        const fc_block *b = fc_heap_head(h, q);
        if (!b || now < b->first.stamp || now - b->first.stamp <= (uint64_t)b->first.expiry_ms * 1000000)
            break;
        fc_heap_drop_head(h, q);
        dropped++;
    }
    h->header->expired += dropped;
    return dropped;
}

void fc_heap_empty(fc_heap *h, fc_queue *q) {
    while (q->head != FC_NIL && !h->damaged)
        fc_heap_drop_head(h, q);
}

/* ------------------------------------------------------------------ members */

uint32_t fc_heap_member_find(fc_heap *h, uint32_t group, uint32_t kind, uint32_t target) {
    fc_group *g = (fc_group *)fc_heap_at(h, FC_GROUPS, group);
    uint32_t steps = h->region[FC_MEMBERS].capacity;
    for (uint32_t i = g ? g->first : FC_NIL; i != FC_NIL && steps--;) {
        fc_member *m = (fc_member *)fc_heap_at(h, FC_MEMBERS, i);
        if (!m)
            return FC_NIL;
        if (m->kind == kind && m->target == target)
            return i;
        i = m->entry.next;
    }
    return FC_NIL;
}

uint32_t fc_heap_member_add(fc_heap *h, uint32_t group, uint32_t kind, uint32_t target) {
    fc_group *g = (fc_group *)fc_heap_at(h, FC_GROUPS, group);
    uint32_t index = g ? fc_heap_take(h, FC_MEMBERS) : FC_NIL;
    fc_member *m = index == FC_NIL ? NULL : (fc_member *)fc_heap_at(h, FC_MEMBERS, index);
    if (!m)
        return FC_NIL;
    m->group = group;
    m->kind = kind;
    m->target = target;
    m->capacity = 0;
    m->stamp = m->added = 0;
    m->entry.next = g->first;
    fc_heap_commit(&m->entry);
    g->first = index;
    g->count++;
    if (kind == FC_MEMBER_CHANNEL) {
        fc_queue *q = (fc_queue *)fc_heap_at(h, FC_QUEUES, target);
        if (q)
            q->members++;
    }
    return index;
}

void fc_heap_member_remove(fc_heap *h, uint32_t member) {
    fc_member *m = (fc_member *)fc_heap_used(h, FC_MEMBERS, member);
    fc_group *g = m ? (fc_group *)fc_heap_used(h, FC_GROUPS, m->group) : NULL;
    if (!g) {
        h->damaged = 1;
        return;
    }
    uint32_t group = m->group, steps = h->region[FC_MEMBERS].capacity;
    atomic_store_explicit(&m->entry.state, FC_FREE, memory_order_release);
    if (m->kind == FC_MEMBER_CHANNEL) {
        fc_queue *q = (fc_queue *)fc_heap_at(h, FC_QUEUES, m->target);
        if (q)
            q->members--;
    }
    for (uint32_t *link = &g->first; *link != FC_NIL && steps--;) {
        if (*link == member) {
            *link = m->entry.next;
            fc_heap_give(h, FC_MEMBERS, member);
            if (!--g->count)
                fc_heap_remove(h, FC_GROUPS, group);
            return;
        }
        fc_member *other = (fc_member *)fc_heap_at(h, FC_MEMBERS, *link);
        if (!other)
            return;
        link = &other->entry.next;
    }
    h->damaged = 1;
}
