/* Messages and groups: the second half of fc_shm.h. */
#include "fc_shm_private.h"

/* ------------------------------------------------------------------ messages */

static int drop_expired_anywhere(fc_shm *s, const fc_wakes *w) {
    return !s->heap.damaged && fc_shm_sweep(s, w->now);
}

/* Appends and chooses whom to wake. */
static fc_status push(fc_shm *s, uint32_t queue, const fc_item *item, uint32_t capacity, fc_wakes *w) {
    fc_queue *q = (fc_queue *)fc_heap_used(&s->heap, FC_QUEUES, queue);
    if (!q)
        return FC_ERR_FORMAT;
    if (FC_UNLIKELY(q->count >= capacity)) {
        (void)fc_heap_expire(&s->heap, q, w->now);
        if (q->count >= capacity)
            return FC_ERR_FULL;
    }
    fc_status status = fc_heap_append(&s->heap, queue, item);
    if (FC_UNLIKELY(status == FC_ERR_NOMEM)) {
        q->members++; /* the sweep frees empty queues, but not one that is named by a membership */
        int swept = drop_expired_anywhere(s, w);
        q->members--;
        if (swept)
            status = fc_heap_append(&s->heap, queue, item);
    }
    if (status == FC_OK)
        (void)fc_shm_wake_one(s, q, w);
    return status;
}

static uint32_t make(fc_shm *s, int table, fc_text name, const fc_wakes *w) {
    uint32_t index = fc_heap_make(&s->heap, table, name.at, name.length);
    if (index == FC_NIL && drop_expired_anywhere(s, w))
        index = fc_heap_make(&s->heap, table, name.at, name.length);
    return index;
}

/* The inbox of a process that is known by its client id; NULL when there is none. */
static fc_queue *inbox_of(fc_shm *s, fc_text process, uint32_t *index) {
    char name[FC_NAME_SIZE];
    if (!process.length || process.length >= FC_NAME_SIZE)
        return NULL;
    name[0] = '!';
    memcpy(name + 1, process.at, process.length);
    *index = fc_heap_find(&s->heap, FC_QUEUES, name, process.length + 1);
    fc_queue *q = (fc_queue *)fc_heap_used(&s->heap, FC_QUEUES, *index);
    return q && q->process != FC_NIL && fc_heap_used(&s->heap, FC_PROCS, q->process) ? q : NULL;
}

static uint64_t mark_hash(fc_text channel) {
    return fc_heap_hash(channel.at, channel.length);
}

static uint32_t find_mark(fc_heap *h, uint64_t hash, uint32_t process) {
    const fc_region *r = &h->region[FC_MARKED];
    uint32_t i = ((const uint32_t *)(h->base + r->buckets))[hash & r->bucket_mask];
    for (uint32_t steps = r->capacity; i != FC_NIL && steps; steps--) {
        const fc_mark *m = (const fc_mark *)fc_heap_at(h, FC_MARKED, i);
        if (!m || (m->entry.hash == hash && m->process == process))
            return m ? i : FC_NIL;
        i = m->entry.next;
    }
    return FC_NIL;
}

fc_status fc_shm_mark(fc_shm *s, fc_text channel, int full) {
    fc_heap *h = &s->heap;
    fc_wakes w;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    fc_process *p = fc_shm_self(s);
    if (!p)
        return fc_shm_exit(s, &w, FC_ERR_CLOSED);
    uint64_t hash = mark_hash(channel);
    uint32_t index = find_mark(h, hash, s->slot);
    if (full && index == FC_NIL && (index = fc_heap_take(h, FC_MARKED)) != FC_NIL) {
        fc_mark *m = (fc_mark *)fc_heap_at(h, FC_MARKED, index);
        m->entry.hash = hash;
        m->process = s->slot;
        fc_heap_commit(&m->entry);
        fc_heap_hang(h, FC_MARKED, index);
        p->marks++;
    } else if (!full && index != FC_NIL) {
        fc_heap_remove(h, FC_MARKED, index);
        p->marks--;
    }
    return fc_shm_exit(s, &w, FC_OK);
}

fc_status fc_shm_address(fc_address *out, fc_text process, fc_text channel, uint32_t capacity) {
    const fc_text queue = process.length ? process : channel;
    uint8_t local = process.length != 0;
    if (channel.length > FC_NAME_SIZE || queue.length + local > FC_NAME_SIZE)
        return FC_ERR_RANGE;
    out->capacity = capacity;
    out->local = local;
    out->channel_length = (uint8_t)channel.length;
    out->queue_length = (uint8_t)(queue.length + local);
    out->queue[0] = '!';
    memcpy(out->queue + local, queue.at, queue.length);
    memcpy(out->channel, channel.at, channel.length);
    out->queue_hash = fc_heap_hash(out->queue, out->queue_length);
    out->channel_hash = fc_heap_hash(out->channel, out->channel_length);
    return FC_OK;
}

/* HOT: benchmarks/local.py */
fc_status fc_shm_post(fc_shm *s, const fc_address *to, const uint8_t *payload, uint64_t length, uint32_t expiry_ms,
                      int at_once) {
    fc_heap *h = &s->heap;
    fc_wakes w;
    fc_status status = at_once ? fc_shm_try_enter(s, &w) : fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    const fc_item item = {.target = to->channel,
                          .target_length = to->local ? to->channel_length : 0,
                          .payload = payload,
                          .length = length,
                          .now = w.now,
                          .expiry_ms = expiry_ms,
                          .kind = FC_MESSAGE};
    uint32_t index = fc_heap_find_hashed(h, FC_QUEUES, to->queue_hash, to->queue, to->queue_length);
    if (to->local) {
        const fc_queue *q = (const fc_queue *)fc_heap_used(h, FC_QUEUES, index);
        const fc_process *p = q ? (const fc_process *)fc_heap_used(h, FC_PROCS, q->process) : NULL;
        if (!p)
            return fc_shm_exit(s, &w, FC_ERR_CLOSED);
        if (p->marks && find_mark(h, to->channel_hash, q->process) != FC_NIL)
            return fc_shm_exit(s, &w, FC_ERR_FULL);
    } else if (FC_UNLIKELY(index == FC_NIL)) {
        index = make(s, FC_QUEUES, (fc_text){to->queue, to->queue_length}, &w);
        if (index == FC_NIL)
            return fc_shm_exit(s, &w, FC_ERR_NOMEM);
    }
    return fc_shm_exit(s, &w, push(s, index, &item, to->capacity, &w));
}

fc_status fc_shm_send(fc_shm *s, fc_text channel, const uint8_t *payload, uint64_t length, uint32_t capacity,
                      uint32_t expiry_ms) {
    fc_address to;
    fc_status status = fc_shm_address(&to, (fc_text){"", 0}, channel, capacity);
    return status == FC_OK ? fc_shm_post(s, &to, payload, length, expiry_ms, 0) : status;
}

fc_status fc_shm_send_local(fc_shm *s, fc_text process, fc_text channel, const uint8_t *payload, uint64_t length,
                            uint32_t capacity, uint32_t expiry_ms) {
    fc_address to;
    if (!process.length || process.length >= FC_NAME_SIZE)
        return FC_ERR_CLOSED;
    fc_status status = fc_shm_address(&to, process, channel, capacity);
    return status == FC_OK ? fc_shm_post(s, &to, payload, length, expiry_ms, 0) : status;
}

/* HOT: benchmarks/local.py */
static fc_status take(fc_shm *s, const fc_text *names, uint32_t n, uint32_t start, uint32_t most, uint8_t *buffer,
                      uint64_t size, uint64_t *used, uint32_t *count, int at_once) {
    fc_heap *h = &s->heap;
    fc_wakes w;
    *used = 0;
    *count = 0;
    fc_status status = at_once ? fc_shm_try_enter(s, &w) : fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    int room = 1;
    for (uint32_t i = 0; i < n && room; i++) {
        uint32_t name = (start % n + i) % n;
        uint32_t index = fc_heap_find(h, FC_QUEUES, names[name].at, names[name].length);
        fc_queue *q = (fc_queue *)fc_heap_used(h, FC_QUEUES, index);
        while (q && *count < most && room) {
            (void)fc_heap_expire(h, q, w.now);
            const fc_block *b = q->head == FC_NIL || h->damaged ? NULL : fc_heap_head(h, q);
            if (!b) {
                if (q->head == FC_NIL) /* which a repair does not say */
                    atomic_store_explicit(&q->waits, 0, memory_order_relaxed);
                break;
            }
            uint64_t text = (uint64_t)b->first.length + b->first.target_length;
            uint64_t need = (sizeof(fc_taken) + text + 7) & ~UINT64_C(7);
            if (need > size - *used) {
                room = 0;
                if (!*count) {
                    *used = need;
                    status = FC_ERR_RANGE;
                }
                break;
            }
            const fc_taken taken = {.age_ns = w.now > b->first.stamp ? w.now - b->first.stamp : 0,
                                    .length = b->first.length,
                                    .name = name,
                                    .kind = b->first.kind,
                                    .target_length = b->first.target_length};
            memcpy(buffer + *used, &taken, sizeof taken);
            if (fc_heap_copy(h, b, buffer + *used + sizeof taken) != FC_OK)
                break;
            /* Gone from the segment before anybody is handed the copy: never delivered twice. */
            fc_heap_drop_head(h, q);
            h->header->taken++;
            *used += need;
            ++*count;
        }
    }
    if (status == FC_OK && !*count)
        status = FC_NEED_DATA;
    return fc_shm_exit(s, &w, status);
}

fc_status fc_shm_take(fc_shm *s, const fc_text *names, uint32_t n, uint32_t start, uint32_t most, uint8_t *buffer,
                      uint64_t size, uint64_t *used, uint32_t *count) {
    return take(s, names, n, start, most, buffer, size, used, count, 0);
}

fc_status fc_shm_take_at_once(fc_shm *s, const fc_text *names, uint32_t n, uint32_t start, uint32_t most,
                              uint8_t *buffer, uint64_t size, uint64_t *used, uint32_t *count) {
    return take(s, names, n, start, most, buffer, size, used, count, 1);
}

int fc_shm_waits(fc_shm *s) {
    fc_queue *q = (fc_queue *)fc_heap_used(&s->heap, FC_QUEUES, s->inbox);
    return q && atomic_load_explicit(&q->waits, memory_order_relaxed);
}

static uint64_t oldest(fc_heap *h, const fc_queue *q, uint64_t now) {
    const fc_block *b = q->head == FC_NIL ? NULL : fc_heap_head(h, q);
    return b && now > b->first.stamp ? now - b->first.stamp : 0;
}

fc_status fc_shm_pending(fc_shm *s, fc_text channel, uint32_t *count, uint64_t *age_ns) {
    fc_wakes w;
    *count = 0;
    *age_ns = 0;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    uint32_t index = fc_heap_find(&s->heap, FC_QUEUES, channel.at, channel.length);
    fc_queue *q = (fc_queue *)fc_heap_used(&s->heap, FC_QUEUES, index);
    if (q) {
        (void)fc_heap_expire(&s->heap, q, w.now);
        *count = q->count;
        *age_ns = oldest(&s->heap, q, w.now);
    }
    return fc_shm_exit(s, &w, FC_OK);
}

fc_status fc_shm_nudge(fc_shm *s, fc_text channel) {
    fc_wakes w;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    uint32_t index = fc_heap_find(&s->heap, FC_QUEUES, channel.at, channel.length);
    fc_queue *q = (fc_queue *)fc_heap_used(&s->heap, FC_QUEUES, index);
    if (q && q->count)
        (void)fc_shm_wake_one(s, q, &w);
    return fc_shm_exit(s, &w, FC_OK);
}

/* ------------------------------------------------------------------ groups */

/* The membership, made when it is missing; FC_NIL: no room. */
static uint32_t member_of(fc_shm *s, fc_text group, uint32_t kind, uint32_t target, const fc_wakes *w, int *made) {
    fc_heap *h = &s->heap;
    uint32_t g = make(s, FC_GROUPS, group, w);
    if (g == FC_NIL)
        return FC_NIL;
    uint32_t member = fc_heap_member_find(h, g, kind, target);
    *made = member == FC_NIL && !h->damaged;
    if (*made)
        member = fc_heap_member_add(h, g, kind, target);
    const fc_group *entry = (const fc_group *)fc_heap_used(h, FC_GROUPS, g);
    if (entry && !entry->count)
        fc_heap_remove(h, FC_GROUPS, g);
    return member;
}

static uint32_t existing_member(fc_shm *s, fc_text group, uint32_t kind, uint32_t target) {
    uint32_t g = fc_heap_find(&s->heap, FC_GROUPS, group.at, group.length);
    return g == FC_NIL ? FC_NIL : fc_heap_member_find(&s->heap, g, kind, target);
}

fc_status fc_shm_join(fc_shm *s, fc_text group) {
    fc_wakes w;
    int made;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    if (!fc_shm_self(s))
        status = FC_ERR_CLOSED;
    else if (member_of(s, group, FC_MEMBER_PROCESS, s->slot, &w, &made) == FC_NIL)
        status = FC_ERR_NOMEM;
    return fc_shm_exit(s, &w, status);
}

fc_status fc_shm_leave(fc_shm *s, fc_text group, uint64_t seen) {
    fc_wakes w;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    uint32_t member = fc_shm_self(s) ? existing_member(s, group, FC_MEMBER_PROCESS, s->slot) : FC_NIL;
    const fc_member *m = (const fc_member *)fc_heap_used(&s->heap, FC_MEMBERS, member);
    if (m && m->added <= seen)
        fc_heap_member_remove(&s->heap, member);
    return fc_shm_exit(s, &w, FC_OK);
}

fc_status fc_shm_add(fc_shm *s, fc_text group, fc_text process, fc_text channel, uint32_t capacity) {
    fc_wakes w;
    uint32_t index;
    int made = 0;
    uint8_t payload[8 + FC_NAME_SIZE];
    if (group.length > FC_NAME_SIZE || channel.length > FC_NAME_SIZE)
        return FC_ERR_RANGE;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    const fc_queue *q = inbox_of(s, process, &index);
    if (!q)
        return fc_shm_exit(s, &w, FC_ERR_CLOSED);
    uint32_t member = member_of(s, group, FC_MEMBER_PROCESS, q->process, &w, &made);
    fc_member *m = (fc_member *)fc_heap_used(&s->heap, FC_MEMBERS, member);
    if (!m)
        return fc_shm_exit(s, &w, FC_ERR_NOMEM);
    uint64_t added = ++s->heap.header->added;
    fc_store_be64(payload, added);
    memcpy(payload + 8, group.at, group.length);
    const fc_item item = {.target = channel.at,
                          .target_length = (uint8_t)channel.length,
                          .payload = payload,
                          .length = 8 + group.length,
                          .now = w.now,
                          .expiry_ms = UINT32_MAX,
                          .kind = FC_ADD};
    status = push(s, index, &item, capacity, &w);
    if (status == FC_OK)
        m->added = added;
    else if (made)
        fc_heap_member_remove(&s->heap, member);
    return fc_shm_exit(s, &w, status);
}

fc_status fc_shm_discard(fc_shm *s, fc_text group, fc_text process, fc_text channel, uint32_t capacity) {
    fc_wakes w;
    uint32_t index;
    if (group.length > FC_NAME_SIZE || channel.length > FC_NAME_SIZE)
        return FC_ERR_RANGE;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    const fc_queue *q = inbox_of(s, process, &index);
    const fc_item item = {.target = channel.at,
                          .target_length = (uint8_t)channel.length,
                          .payload = (const uint8_t *)group.at,
                          .length = group.length,
                          .now = w.now,
                          .expiry_ms = UINT32_MAX,
                          .kind = FC_DISCARD};
    if (q && existing_member(s, group, FC_MEMBER_PROCESS, q->process) != FC_NIL)
        status = push(s, index, &item, capacity, &w);
    return fc_shm_exit(s, &w, status);
}

fc_status fc_shm_add_channel(fc_shm *s, fc_text group, fc_text channel, uint32_t capacity) {
    fc_wakes w;
    int made;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    /* The group before the channel: making room for a group must not free the queue that is about to be named. */
    uint32_t group_index = make(s, FC_GROUPS, group, &w);
    uint32_t queue = group_index == FC_NIL ? FC_NIL : make(s, FC_QUEUES, channel, &w);
    uint32_t member = FC_NIL;
    if (queue != FC_NIL) {
        member = member_of(s, group, FC_MEMBER_CHANNEL, queue, &w, &made);
    } else if (group_index != FC_NIL) {
        const fc_group *g = (const fc_group *)fc_heap_used(&s->heap, FC_GROUPS, group_index);
        if (g && !g->count)
            fc_heap_remove(&s->heap, FC_GROUPS, group_index);
    }
    fc_member *m = (fc_member *)fc_heap_used(&s->heap, FC_MEMBERS, member);
    if (m) {
        m->stamp = w.now;
        m->capacity = capacity;
    }
    return fc_shm_exit(s, &w, m ? FC_OK : FC_ERR_NOMEM);
}

fc_status fc_shm_discard_channel(fc_shm *s, fc_text group, fc_text channel) {
    fc_wakes w;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    uint32_t queue = fc_heap_find(&s->heap, FC_QUEUES, channel.at, channel.length);
    uint32_t member = queue == FC_NIL ? FC_NIL : existing_member(s, group, FC_MEMBER_CHANNEL, queue);
    if (member != FC_NIL)
        fc_heap_member_remove(&s->heap, member);
    return fc_shm_exit(s, &w, FC_OK);
}

/* The ordinary channel `q` is one of `n` names. */
static int named_in(const fc_queue *q, const fc_text *names, uint32_t n) {
    for (uint32_t i = 0; q && i < n; i++)
        if (q->named.length == names[i].length && !memcmp(q->named.name, names[i].at, names[i].length))
            return 1;
    return 0;
}

static int member_of_one(fc_heap *h, const fc_text *groups, uint32_t n, uint32_t kind, uint32_t target) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t index = fc_heap_find(h, FC_GROUPS, groups[i].at, groups[i].length);
        if (index != FC_NIL && fc_heap_member_find(h, index, kind, target) != FC_NIL)
            return 1;
    }
    return 0;
}

fc_status fc_shm_publish(fc_shm *s, const fc_text *groups, uint32_t n, const fc_aim *aim, const uint8_t *payload,
                         uint64_t length, uint32_t inbox_capacity, uint32_t expiry_ms, uint64_t group_expiry_ns,
                         uint32_t *members, uint32_t *full) {
    fc_heap *h = &s->heap;
    fc_wakes w;
    uint64_t head = aim ? aim->head : 0;
    *members = *full = 0;
    for (uint32_t k = 0; k < n; k++)
        if (groups[k].length > FC_NAME_SIZE)
            return FC_ERR_RANGE;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    fc_item item = {.now = w.now, .expiry_ms = expiry_ms};
    for (uint32_t k = 0; k < n && status == FC_OK; k++) {
        const fc_group *g =
            (const fc_group *)fc_heap_used(h, FC_GROUPS, fc_heap_find(h, FC_GROUPS, groups[k].at, groups[k].length));
        uint32_t steps = g ? g->count : 0;
        for (uint32_t i = g ? g->first : FC_NIL; i != FC_NIL && steps && !h->damaged; steps--) {
            const fc_member *m = (const fc_member *)fc_heap_used(h, FC_MEMBERS, i);
            if (!m) {
                h->damaged = 1;
                break;
            }
            uint32_t member = i, queue = m->target, capacity = m->capacity;
            i = m->entry.next;
            if (k && member_of_one(h, groups, k, m->kind, m->target))
                continue;
            if (m->kind == FC_MEMBER_CHANNEL) {
                if (w.now > m->stamp && w.now - m->stamp > group_expiry_ns) {
                    fc_heap_member_remove(h, member);
                    continue;
                }
                if (aim && named_in((const fc_queue *)fc_heap_used(h, FC_QUEUES, queue), aim->excluded, aim->count))
                    continue;
                item.target = "";
                item.target_length = 0;
                item.kind = FC_MESSAGE;
                item.payload = payload + head;
                item.length = length - head;
            } else {
                const fc_process *p = (const fc_process *)fc_heap_used(h, FC_PROCS, m->target);
                queue = p ? p->queue : FC_NIL;
                capacity = inbox_capacity;
                item.target = groups[k].at;
                item.target_length = (uint8_t)groups[k].length;
                item.kind = aim ? FC_AIMED : FC_GROUP;
                item.payload = payload;
                item.length = length;
            }
            ++*members;
            status = push(s, queue, &item, capacity, &w);
            if (status == FC_ERR_FULL || status == FC_ERR_NOMEM)
                ++*full;
            else if (status != FC_OK)
                break;
            status = FC_OK;
        }
    }
    return fc_shm_exit(s, &w, status);
}

fc_status fc_shm_wipe(fc_shm *s) {
    fc_heap *h = &s->heap;
    fc_wakes w;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    for (uint32_t i = 0; i < h->header->table[FC_MEMBERS].fresh; i++)
        if (fc_heap_used(h, FC_MEMBERS, i))
            fc_heap_member_remove(h, i);
    for (uint32_t i = 0; i < h->header->table[FC_MARKED].fresh; i++)
        if (fc_heap_used(h, FC_MARKED, i))
            fc_heap_remove(h, FC_MARKED, i);
    for (uint32_t i = 0; i < h->header->table[FC_PROCS].fresh; i++) {
        fc_process *p = (fc_process *)fc_heap_used(h, FC_PROCS, i);
        if (p)
            p->marks = 0;
    }
    for (uint32_t i = 0; i < h->header->table[FC_QUEUES].fresh; i++) {
        fc_queue *q = (fc_queue *)fc_heap_used(h, FC_QUEUES, i);
        if (!q)
            continue;
        fc_heap_empty(h, q);
        const fc_item item = {.target = "", .now = w.now, .expiry_ms = UINT32_MAX, .kind = FC_WIPED};
        if (q->process != FC_NIL && q->process != s->slot)
            status = push(s, i, &item, UINT32_MAX, &w);
    }
    return fc_shm_exit(s, &w, status);
}

/* ------------------------------------------------------------------ looking */

fc_status fc_shm_count(fc_shm *s, fc_shm_counts *counts) {
    const fc_header *header = s->heap.header;
    fc_wakes w;
    memset(counts, 0, sizeof *counts);
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    counts->size = s->size;
    counts->room = s->heap.region[FC_BLOCKS].capacity;
    counts->room_used = header->table[FC_BLOCKS].used;
    counts->processes = header->table[FC_PROCS].used;
    counts->waiters = header->table[FC_WAITS].used;
    counts->queues = header->table[FC_QUEUES].used;
    counts->groups = header->table[FC_GROUPS].used;
    counts->members = header->table[FC_MEMBERS].used;
    counts->marks = header->table[FC_MARKED].used;
    counts->pushed = header->pushed;
    counts->taken = header->taken;
    counts->expired = header->expired;
    counts->recovered = header->recovered;
    counts->reaped = header->reaped;
    for (uint32_t i = 0; i < header->table[FC_QUEUES].fresh; i++) {
        const fc_queue *q = (const fc_queue *)fc_heap_used(&s->heap, FC_QUEUES, i);
        counts->messages += q ? q->count : 0;
    }
    return fc_shm_exit(s, &w, FC_OK);
}

fc_status fc_shm_list(fc_shm *s, int groups, uint32_t *cursor, fc_listed *out, uint32_t most, uint32_t *count) {
    fc_heap *h = &s->heap;
    fc_wakes w;
    int table = groups ? FC_GROUPS : FC_QUEUES;
    *count = 0;
    fc_status status = fc_shm_enter(s, &w);
    if (status != FC_OK)
        return status;
    for (; *count < most && *cursor < h->header->table[table].fresh && !h->damaged; ++*cursor) {
        const fc_named *named = (const fc_named *)fc_heap_used(h, table, *cursor);
        if (!named || named->length > FC_NAME_SIZE)
            continue;
        fc_listed *line = &out[(*count)++];
        memset(line, 0, sizeof *line);
        line->length = named->length;
        memcpy(line->name, named->name, named->length);
        if (groups) {
            line->count = ((const fc_group *)named)->count;
            continue;
        }
        fc_queue *q = (fc_queue *)fc_heap_at(h, FC_QUEUES, *cursor);
        (void)fc_heap_expire(h, q, w.now);
        const fc_process *p = (const fc_process *)fc_heap_used(h, FC_PROCS, q->process);
        line->count = q->count;
        line->age_ns = oldest(h, q, w.now);
        line->pid = p ? p->pid : 0;
    }
    return fc_shm_exit(s, &w, FC_OK);
}

const char *fc_shm_check(fc_shm *s) {
    fc_wakes w;
    if (fc_shm_enter(s, &w) != FC_OK)
        return "the lock cannot be taken";
    const char *wrong = fc_heap_check(&s->heap);
    (void)fc_shm_exit(s, &w, FC_OK);
    return wrong;
}
