/* The segment's file: made, opened, checked, given up. The third part of fc_shm.h. */
#include "fc_shm_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char SEGMENT[] = "segment", UNBORN[] = "segment.new", LOCK_FILE[] = "lock";

/* Gives the file its size and the room for it, so that a full disk is an error here and not a SIGBUS at some later
 * store. 0, or an errno. */
static int reserve(int fd, uint64_t size) {
#ifdef __APPLE__
    /* All of it or nothing. Room past the end of a file is given back when it is closed: the file grows over it. */
    fstore_t room = {.fst_flags = F_ALLOCATEALL, .fst_posmode = F_PEOFPOSMODE, .fst_length = (off_t)size};
    return fcntl(fd, F_PREALLOCATE, &room) || ftruncate(fd, (off_t)size) ? errno : 0;
#else
    return posix_fallocate(fd, 0, (off_t)size);
#endif
}

static int owned(int fd, mode_t kind, mode_t forbidden) {
    struct stat st;
    return !fstat(fd, &st) && (st.st_mode & S_IFMT) == kind && st.st_uid == geteuid() && !(st.st_mode & forbidden);
}

static fc_status refuse(fc_status status, char why[FC_SHM_WHY], const char *text) {
    snprintf(why, FC_SHM_WHY, "%s", text);
    return status;
}

static fc_status os_error(char why[FC_SHM_WHY], const char *what) {
    int reason = errno;
    snprintf(why, FC_SHM_WHY, "%s: %s", what, strerror(reason));
    errno = reason;
    return FC_ERR_OS;
}

static fc_status map(fc_shm *s, int fd, uint64_t size, char why[FC_SHM_WHY]) {
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return os_error(why, "it cannot be mapped");
    s->size = size;
    s->file = fd;
    return fc_heap_bind(&s->heap, base, size);
}

static void unmap(fc_shm *s) {
    if (s->heap.base)
        munmap(s->heap.base, s->size);
    if (s->file >= 0)
        close(s->file);
    s->heap.base = NULL;
    s->file = -1;
}

/* A shared lock on the file, held while a process has it mapped, tells whether anybody uses it: also from another
 * process-id namespace, and at once after a death. */
static int anybody(int fd) {
    return flock(fd, LOCK_EX | LOCK_NB) != 0;
}

/* Makes the segment under another name, so that one that has its name is whole. */
static fc_status create(fc_shm *s, uint64_t size, char why[FC_SHM_WHY]) {
    fc_region scratch[FC_TABLES];
    if (!fc_heap_layout(scratch, size))
        return refuse(FC_ERR_RANGE, why, "a segment has 1 MiB to 64 GiB");
    (void)unlinkat(s->place.at, UNBORN, 0);
    int fd = openat(s->place.at, UNBORN, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return os_error(why, "the segment cannot be made");
    int rc = reserve(fd, size);
    fc_status status = FC_OK;
    if (rc) {
        errno = rc;
        status = os_error(why, "the room for the segment cannot be reserved");
    } else if ((status = map(s, fd, size, why)) == FC_OK) {
        fc_heap_format(&s->heap, size);
        s->heap.header->version = FC_SHM_VERSION;
        s->heap.header->boot = fc_boot_number();
        s->heap.header->pid_space = fc_pid_space();
        if (flock(fd, LOCK_SH) || renameat(s->place.at, UNBORN, s->place.at, SEGMENT))
            status = os_error(why, "the segment cannot be made");
        else
            fc_wake_everybody(&s->place, s->sender); /* who still uses a removed one finds that out */
    }
    if (status != FC_OK) {
        rc = errno;
        if (s->file < 0)
            close(fd);
        unmap(s);
        (void)unlinkat(s->place.at, UNBORN, 0);
        errno = rc;
    }
    return status;
}

/* FC_NEED_DATA: there is none that can be used, make one. Called under the file lock. */
static fc_status attach(fc_shm *s, uint64_t size, char why[FC_SHM_WHY]) {
    fc_region region[FC_TABLES];
    fc_header seen;
    struct stat st;
    int fd = openat(s->place.at, SEGMENT, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT  ? FC_NEED_DATA
               : errno == ELOOP ? refuse(FC_ERR_CLOSED, why, "the segment is a symbolic link")
                                : os_error(why, "the segment cannot be opened");
    fc_status status = FC_OK;
    if (!owned(fd, S_IFREG, 022) || fstat(fd, &st))
        status = refuse(FC_ERR_CLOSED, why, "the segment belongs to another user, or others may write to it");
    else if (pread(fd, &seen, sizeof seen, 0) != (ssize_t)sizeof seen || seen.magic != FC_SHM_MAGIC)
        status = refuse(FC_ERR_VERSION, why, "it is not a segment of fastchannels");
    else if (seen.version != FC_SHM_VERSION || seen.header_size != sizeof seen)
        status = refuse(FC_ERR_VERSION, why, "it was made by another version of fastchannels");
    else if (seen.size != (uint64_t)st.st_size || fc_heap_layout(region, seen.size) != seen.layout || !seen.layout)
        status = refuse(FC_ERR_VERSION, why, "it is damaged: its size or layout is not what its header says");
    else if (seen.boot != fc_boot_number())
        status = FC_NEED_DATA; /* of before a reboot: who used it is gone, and a lock held then is held for ever */
    else if (seen.pid_space != fc_pid_space())
        status = anybody(fd) ? refuse(FC_ERR_CLOSED, why,
                                      "it is in use from another process-id namespace (a container?), where nobody can "
                                      "tell whether a process of this one lives")
                             : FC_NEED_DATA;
    else if (seen.size != size && !anybody(fd))
        status = FC_NEED_DATA; /* another size was configured; it counts when nobody uses the old segment */
    else if (flock(fd, LOCK_SH))
        status = os_error(why, "the segment cannot be locked");
    else
        status = map(s, fd, seen.size, why);
    if (status != FC_OK)
        close(fd);
    return status;
}

static int lock_file(const fc_shm *s) {
    int fd = openat(s->place.at, LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    while (flock(fd, LOCK_EX))
        if (errno != EINTR) {
            close(fd);
            return -1;
        }
    return fd;
}

fc_status fc_shm_open(fc_shm **out, const char *dir, uint64_t size, fc_text id, char why[FC_SHM_WHY]) {
    fc_status status = FC_OK;
    int guard = -1;
    size_t length = strlen(dir);
    why[0] = 0;
    *out = NULL;
    fc_shm *s = (fc_shm *)calloc(1, sizeof *s);
    if (!s)
        return refuse(FC_ERR_NOMEM, why, "out of memory");
    s->sender = s->place.at = s->file = -1;
    if (!length || length >= sizeof s->path || !id.length || id.length >= FC_NAME_SIZE) {
        status = refuse(FC_ERR_CLOSED, why, "the path or the client id is too long, or empty");
    } else {
        memcpy(s->path, dir, length + 1);
        s->place.path = s->path;
        if (mkdir(dir, 0700) && errno != EEXIST)
            status = os_error(why, "the directory cannot be made");
    }
    if (status == FC_OK) {
        s->place.at = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (s->place.at < 0)
            status = errno == ELOOP || errno == ENOTDIR
                         ? refuse(FC_ERR_CLOSED, why, "it is a symbolic link, or no directory")
                         : os_error(why, "the directory cannot be opened");
        else if (!owned(s->place.at, S_IFDIR, 022))
            status = refuse(FC_ERR_CLOSED, why, "the directory belongs to another user, or others may write to it");
        else if ((s->sender = fc_wake_sender()) < 0)
            status = os_error(why, "no socket for wake-ups");
        else if ((guard = lock_file(s)) < 0)
            status = os_error(why, "its lock file cannot be locked");
    }
    if (status == FC_OK) {
        status = attach(s, size, why);
        if (status == FC_NEED_DATA)
            status = create(s, size, why);
        if (status == FC_OK)
            status = fc_shm_enrol(s, id, why);
    }
    if (guard >= 0)
        close(guard);
    if (status != FC_OK) {
        int reason = errno;
        fc_shm_abandon(s);
        errno = reason;
        return status;
    }
    *out = s;
    return FC_OK;
}

int fc_shm_removed(const fc_shm *s) {
    struct stat st;
    return !fstat(s->file, &st) && !st.st_nlink;
}

void fc_shm_close(fc_shm *s) {
    int guard = lock_file(s); /* before the lock, as in fc_shm_open: nobody enrols between the two lines below */
    if (fc_shm_retire(s) && guard >= 0 && !fc_shm_removed(s))
        (void)unlinkat(s->place.at, SEGMENT, 0);
    if (guard >= 0)
        close(guard);
    fc_shm_abandon(s);
}

void fc_shm_abandon(fc_shm *s) {
    unmap(s);
    if (s->sender >= 0)
        close(s->sender);
    if (s->place.at >= 0)
        close(s->place.at);
    free(s);
}

uint64_t fc_shm_size(const fc_shm *s) {
    return s->size;
}

void fc_shm_skip(fc_shm *s, uint64_t ns) {
    s->skew += ns;
}
