/* What the models here are made of: routines that give way to each other, and a search of every way they can go.
 *
 * A model runs the code itself. It resumes one routine at a time, which comes back by give_way, and asks choose() which
 * comes next: the search goes every way once, and a state that was met before ends a way. A routine's state is its
 * stack and what a call keeps of the registers.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { ACTORS = 4, STACK = 1 << 16, USED_STACK = 8192, DEEP = 600, VISITED = 1 << 23 };

typedef struct routine {
    uint8_t *sp; /* NULL: it has not begun */
    ucontext_t context;
} routine;

static routine routines[ACTORS];
static ucontext_t scheduler;
static uint8_t stacks[ACTORS][STACK] __attribute__((aligned(64)));
static int running;

#ifdef __x86_64__
/* What a call keeps; the rest is of no more use. */
static const int kept[] = {REG_RBX, REG_RBP, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
enum { KEPT = sizeof kept / sizeof kept[0] };
#endif

static void routine_start(int i, void (*body)(int)) {
    routine *r = &routines[i];
    memset(stacks[i] + STACK - USED_STACK, 0, USED_STACK);
    memset(r, 0, sizeof *r);
    getcontext(&r->context);
#ifdef __x86_64__
    /* Else who calls this goes onto the stack, and no two starts are alike. */
    for (int k = 0; k < KEPT; k++)
        r->context.uc_mcontext.gregs[kept[k]] = 0;
#endif
    r->context.uc_stack.ss_sp = stacks[i];
    r->context.uc_stack.ss_size = STACK;
    makecontext(&r->context, (void (*)(void))body, 1, i);
}

static void routine_resume(int i) {
    uint8_t *low = stacks[i] + STACK - USED_STACK;
    running = i;
    /* What a frame does not set is then alike on every way to it. */
    if (routines[i].sp)
        memset(low, 0, (size_t)(routines[i].sp - 512 - low));
    swapcontext(&scheduler, &routines[i].context);
}

/* A function of its own: what its callers keep lies above `here`. */
__attribute__((noinline)) static void routine_give_way(void) {
    uint8_t here;
    routines[running].sp = &here;
    swapcontext(&routines[running].context, &scheduler);
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t size) {
    const uint8_t *at = (const uint8_t *)bytes;
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    for (; size; at++, size--)
        hash = (hash ^ *at) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t routine_mix(uint64_t hash, int i) {
    const routine *r = &routines[i];
    if (!r->sp)
        return mix(hash, "", 1);
    hash = mix(hash, r->sp, (size_t)(stacks[i] + STACK - r->sp));
#ifdef __x86_64__
    for (int k = 0; k < KEPT; k++)
        hash = mix(hash, &r->context.uc_mcontext.gregs[kept[k]], sizeof(greg_t));
#else
    hash = mix(hash, &r->context.uc_mcontext, sizeof r->context.uc_mcontext);
#endif
    return hash;
}

/* ------------------------------------------------------------------ the search */

static struct {
    uint8_t options, chosen;
} path[DEEP];
static int depth, known; /* steps of this way, and how many of them are those of the way before */
static uint64_t *visited, states, ways;

static void search_begin(void) {
    if (!visited)
        visited = (uint64_t *)malloc(VISITED * sizeof *visited);
    memset(visited, 0, VISITED * sizeof *visited);
    states = ways = 0;
    known = 0;
}

/* Whether the state of this hash was met before, on new ground. */
static int met(uint64_t hash) {
    if (depth < known)
        return 0;
    hash |= !hash;
    uint64_t i = hash & (VISITED - 1);
    for (; visited[i]; i = (i + 1) & (VISITED - 1))
        if (visited[i] == hash)
            return 1;
    visited[i] = hash;
    states++;
    return 0;
}

/* Which of `options` is tried; DEEP steps are the most. */
static int choose(int options) {
    if (depth >= known) {
        path[depth].options = (uint8_t)options;
        path[depth].chosen = 0;
    }
    return path[depth++].chosen;
}

/* Goes back to the last choice that has another option. 0: every way was gone. */
static int search_next(void) {
    ways++;
    while (depth && path[depth - 1].chosen + 1 == path[depth - 1].options)
        depth--;
    if (!depth)
        return 0;
    path[depth - 1].chosen++;
    known = depth;
    return 1;
}

/* Walks every way. What is wrong at the end of one; NULL: nothing. */
static const char *search(const char *(*walk)(void)) {
    search_begin();
    for (;;) {
        depth = 0;
        const char *wrong = walk();
        if (wrong)
            return wrong;
        if (states > VISITED / 4 * 3)
            return "more states than there is room for";
        if (!search_next())
            return NULL;
    }
}

#endif
