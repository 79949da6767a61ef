/* Any sequence of calls by two processes leaves every invariant of the segment in place, and delivers in order.
 *
 * Input: bytes; the first of a step says what is done, the next ones with what. A call may be cut short: 0xff forgets
 * what is derived, as the death of a lock's holder does, and recovers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fc_shm_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static fc_shm *sides[2];
static uint32_t last[8];

static void start(void) {
    static const char *const ids[] = {"aaaa", "bbbb"};
    char place[64], why[FC_SHM_WHY], command[128];
    snprintf(place, sizeof place, P_tmpdir "/fuzz_fc_shm.%d", (int)getpid());
    for (int i = 0; i < 2; i++)
        if (fc_shm_open(&sides[i], place, 1 << 20, (fc_text){ids[i], 4}, why) != FC_OK)
            abort();
    /* Unlinked at once: nothing is left behind however the run ends. Wake-ups are not what this is about. */
    snprintf(command, sizeof command, "rm -rf %s", place);
    if (system(command) != 0)
        abort();
}

static void take(fc_shm *s, fc_text name, uint32_t queue) {
    static uint64_t space[32768];
    uint64_t used, at = 0;
    uint32_t count, number;
    if (fc_shm_take(s, &name, 1, 0, 7, (uint8_t *)space, sizeof space, &used, &count) != FC_OK)
        return;
    for (; count; count--) {
        fc_taken head;
        memcpy(&head, (uint8_t *)space + at, sizeof head);
        at += sizeof head + head.target_length;
        if (head.kind == FC_MESSAGE && queue < 8 && head.length >= sizeof number) {
            memcpy(&number, (uint8_t *)space + at, sizeof number);
            if (number <= last[queue])
                abort();
            last[queue] = number;
        }
        at += head.length;
        at = (at + 7) & ~UINT64_C(7);
    }
    if (at != used)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t bytes[20000];
    static uint32_t number;
    uint32_t members, full;
    if (!sides[0])
        start();
    for (; size >= 3; data += 3, size -= 3) {
        char channel[16], group[16];
        const uint8_t what = data[0] >> 1, with = data[1];
        const uint64_t length = sizeof number + (uint64_t)data[2] * (with & 8 ? 70 : 1);
        fc_shm *s = sides[data[0] & 1];
        fc_text process = {with & 16 ? "aaaa" : "bbbb", 4};
        fc_text c = {channel, (size_t)snprintf(channel, sizeof channel, "jobs%u", with & 7u)};
        fc_text g = {group, (size_t)snprintf(group, sizeof group, "g%u", data[2] & 15u)};
        fc_text inbox = {data[0] & 1 ? "!bbbb" : "!aaaa", 5};
        number++;
        memcpy(bytes, &number, sizeof number);
        memcpy(bytes + sizeof number, &number, sizeof number); /* behind the head of an aim */
        switch (what % 14) {
        case 0:
        case 1:
            (void)fc_shm_send(s, c, bytes, length, 40, 1000);
            break;
        case 2:
            (void)fc_shm_send_local(s, process, c, bytes, length, 40, 1000);
            break;
        case 3:
            take(s, c, with & 7u);
            break;
        case 4:
            take(s, inbox, 8);
            break;
        case 5:
            (void)fc_shm_mark(s, c, with >> 7);
            break;
        case 6:
            (void)fc_shm_join(s, g);
            break;
        case 7:
            (void)fc_shm_leave(s, g, with & 32 ? UINT64_MAX : 0);
            break;
        case 8:
            (void)fc_shm_add(s, g, process, c, 40);
            break;
        case 9:
            (void)fc_shm_add_channel(s, g, c, 40);
            break;
        case 10:
            (void)fc_shm_discard_channel(s, g, c);
            break;
        case 11: {
            const fc_text groups[] = {g, c};
            const fc_aim aim = {.head = sizeof number, .excluded = &c, .count = 1};
            (void)fc_shm_publish(s, groups, 1 + (with >> 7), with & 64 && length >= aim.head ? &aim : NULL, bytes,
                                 length, 40, 1000, UINT64_C(1) << (with & 63), &members, &full);
            break;
        }
        case 12:
            /* Both clocks: two processes of one machine never disagree. */
            fc_shm_skip(sides[0], UINT64_C(10000000) * data[2]);
            fc_shm_skip(sides[1], UINT64_C(10000000) * data[2]);
            break;
        default:
            if (with < 4) {
                (void)fc_shm_wipe(s);
            } else {
                memset(s->heap.header->table, with, sizeof s->heap.header->table);
                fc_heap_recover(&s->heap);
            }
        }
    }
    const char *wrong = fc_shm_check(sides[0]);
    if (wrong) {
        fprintf(stderr, "%s\n", wrong);
        abort();
    }
    return 0;
}
