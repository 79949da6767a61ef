/* Runs a fuzz target without a fuzzing engine: over every file of a corpus folder, then over pseudo-random mutations of
 * them from a fixed seed, so that a run repeats exactly.
 *
 *   fuzz_X FOLDER [RUNS [SECONDS]]    RUNS mutations, or as many as fit into SECONDS when that is given
 *   fuzz_X FILE                       one input, such as an old crash
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LARGEST 4096

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static input *corpus;
static size_t corpus_size;
static uint64_t state = UINT64_C(0x2545F4914F6CDD1D);

static size_t below(size_t bound) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (size_t)(state % bound);
}

/* In a block of exactly its size, so that AddressSanitizer sees a read past it. */
static void run(const uint8_t *data, size_t size) {
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1);
    if (size)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static input load(const char *path) {
    input loaded = {NULL, 0};
    struct stat info;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &info) != 0) {
        perror(path);
        exit(2);
    }
    loaded.size = (size_t)info.st_size;
    loaded.data = (uint8_t *)malloc(loaded.size + 1);
    if (fread(loaded.data, 1, loaded.size, file) != loaded.size) {
        perror(path);
        exit(2);
    }
    fclose(file);
    return loaded;
}

static int visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static void load_folder(const char *folder) {
    struct dirent **names;
    int count = scandir(folder, &names, visible, alphasort);
    if (count <= 0) {
        fprintf(stderr, "%s: no corpus\n", folder);
        exit(2);
    }
    corpus = (input *)calloc((size_t)count, sizeof *corpus);
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        corpus[corpus_size++] = load(path);
        free(names[i]);
    }
    free(names);
}

/* One to eight edits of a corpus file: bits, bytes, boundary values, cuts, repeats, and pieces of another file. */
static void mutate_and_run(void) {
    static const uint8_t edges[] = {0x00, 0x01, 0x7D, 0x7E, 0x7F, 0x80, 0x81, 0x82,
                                    0x88, 0xC0, 0xE0, 0xED, 0xF4, 0xFE, 0xFF};
    uint8_t work[2 * LARGEST];
    const input *base = &corpus[below(corpus_size)];
    size_t size = base->size < LARGEST ? base->size : LARGEST;
    memcpy(work, base->data, size);
    for (size_t edits = 1 + below(8); edits; edits--) {
        size_t at = size ? below(size) : 0;
        switch (below(7)) {
        case 0:
            if (size)
                work[at] ^= (uint8_t)(1u << below(8));
            break;
        case 1:
            if (size)
                work[at] = (uint8_t)below(256);
            break;
        case 2:
            if (size)
                work[at] = edges[below(sizeof edges)];
            break;
        case 3:
            size = at;
            break;
        case 4:
            if (size) {
                size_t drop = 1 + below(size - at);
                memmove(work + at, work + at + drop, size - at - drop);
                size -= drop;
            }
            break;
        default: { /* repeat a piece of this file, or take one of another */
            const input *other = &corpus[below(corpus_size)];
            if (!other->size)
                break;
            size_t from = below(other->size);
            size_t piece = 1 + below(other->size - from);
            if (piece > LARGEST - size)
                piece = LARGEST - size;
            memmove(work + at + piece, work + at, size - at);
            memcpy(work + at, other->data + from, piece);
            size += piece;
        }
        }
    }
    run(work, size);
}

int main(int argc, char **argv) {
    struct stat info;
    if (argc < 2 || stat(argv[1], &info) != 0) {
        fprintf(stderr, "usage: %s FOLDER [RUNS [SECONDS]] | FILE\n", argv[0]);
        return 2;
    }
    if (!S_ISDIR(info.st_mode)) {
        input one = load(argv[1]);
        run(one.data, one.size);
        free(one.data);
        printf("ok   %s\n", argv[1]);
        return 0;
    }
    load_folder(argv[1]);
    for (size_t i = 0; i < corpus_size; i++)
        run(corpus[i].data, corpus[i].size);

    unsigned long long runs = argc > 2 ? strtoull(argv[2], NULL, 10) : 10000, done = 0;
    double seconds = argc > 3 ? atof(argv[3]) : 0;
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        if (seconds > 0) {
            clock_gettime(CLOCK_MONOTONIC, &now);
            if ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 >= seconds)
                break;
        } else if (done == runs) {
            break;
        }
        mutate_and_run();
        done++;
    }
    printf("ok   %s: %zu files, %llu mutations\n", argv[0], corpus_size, done);
    for (size_t i = 0; i < corpus_size; i++)
        free(corpus[i].data);
    free(corpus);
    return 0;
}
