/*
 * A disk that forgets: preloaded into a process, it keeps beside a folder a second one with exactly what would be
 * left of the first if the machine lost its power at this moment.
 *
 *   UNSYNCED_ROOT    the folder that is watched (absolute, no trailing slash)
 *   UNSYNCED_SHADOW  where what is safe is kept
 *
 * Writes go to the real file at once, as they go to the page cache. Only the ranges written since the last fsync or
 * fdatasync of that file are remembered, and copied to the shadow when such a call is made. Whether a name exists is
 * the folder's content: a file made or removed appears so in the shadow only after an fsync of its folder, and until
 * then what was synced of a new file waits under a name of its own.
 *
 * One lock is held around each change and its note, and around each copy, so a shadow is never newer than what was
 * asked for. A process killed while a copy runs leaves it half done, as a power cut during a sync may.
 *
 * The watched folder is flat: folders below it are not made in the shadow. Left out: files whose name ends in -shm (shared memory of SQLite, built anew after a crash), changes through
 * mmap (SQLite writes with write calls unless built otherwise), rename across folders (mirrored at once).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FD 65536
#define MAX_FILES 1024
#define NAME 512

struct range {
    off_t from, to;
};

struct file {
    char name[NAME];     /* below the root */
    int exists;          /* in the real folder */
    int linked;          /* its name is in the shadow */
    int stored;          /* something of it was synced */
    struct range *dirty; /* since the last sync */
    size_t count, room;
    int resized;
};

static char root[PATH_MAX], shadow[PATH_MAX];
static size_t root_len;
static struct file files[MAX_FILES];
static int file_count;
static int watched[MAX_FD];  /* index of the file + 1; -1 - index for a folder */
static char *folders[MAX_FD];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_posix_fallocate)(int, off_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_rename)(const char *, const char *);

static void die(const char *what) {
    char line[256];
    int length = snprintf(line, sizeof line, "unsynced: %s: %s\n", what, strerror(errno));
    if (length > 0 && write(2, line, (size_t)length) < 0) {
    }
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *from = getenv("UNSYNCED_ROOT"), *to = getenv("UNSYNCED_SHADOW");
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fallocate = dlsym(RTLD_NEXT, "fallocate64");
    real_posix_fallocate = dlsym(RTLD_NEXT, "posix_fallocate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_unlinkat = dlsym(RTLD_NEXT, "unlinkat");
    real_rename = dlsym(RTLD_NEXT, "rename");
    if (from && to && strlen(from) < sizeof root && strlen(to) + NAME + 16 < sizeof shadow) {
        strcpy(shadow, to);
        strcpy(root, from);
        root_len = strlen(root);
    }
}

/* The name below the root, or NULL for what is not watched. */
static const char *below(const char *path) {
    if (root_len == 0 || path == NULL || strncmp(path, root, root_len) != 0) return NULL;
    if (path[root_len] == 0) return "";
    if (path[root_len] != '/') return NULL;
    const char *name = path + root_len + 1;
    size_t length = strlen(name);
    if (length >= NAME) return NULL;
    if (length > 4 && strcmp(name + length - 4, "-shm") == 0) return NULL;
    return name;
}

/* Absolute and without . or .. for a path that may be relative to a folder. */
static const char *absolute(int at, const char *path, char *out) {
    char base[PATH_MAX];
    if (path == NULL) return NULL;
    if (path[0] == '/') return path;
    if (at == AT_FDCWD) {
        if (getcwd(base, sizeof base) == NULL) return NULL;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return NULL;
        base[length] = 0;
    }
    while (strncmp(path, "./", 2) == 0) path += 2;
    if (strlen(base) + strlen(path) + 2 > PATH_MAX) return NULL;
    strcpy(stpcpy(stpcpy(out, base), "/"), path);
    return out;
}

/* `out` has room for PATH_MAX; begin() saw to it that both parts fit. */
static void shadow_path(const struct file *file, char *out) {
    out = stpcpy(stpcpy(out, shadow), file->linked ? "/" : "/.unlinked-");
    for (const char *c = file->name; *c; c++) *out++ = *c == '/' && !file->linked ? '%' : *c;
    *out = 0;
}

/* With the lock held. */
static struct file *find(const char *name, int make) {
    for (int i = 0; i < file_count; i++)
        if (strcmp(files[i].name, name) == 0) return &files[i];
    if (!make) return NULL;
    if (file_count == MAX_FILES) {
        errno = ENFILE;
        die("too many files");
    }
    struct file *file = &files[file_count++];
    strcpy(file->name, name);
    char path[PATH_MAX];
    file->linked = 1;
    shadow_path(file, path);
    struct stat st;
    if (stat(path, &st) == 0) {
        file->stored = 1;
    } else {
        file->linked = 0;
    }
    return file;
}

static void touch(struct file *file, off_t from, off_t to) {
    if (to <= from) return;
    if (file->count > 0) {
        struct range *last = &file->dirty[file->count - 1];
        if (from <= last->to && to >= last->from) {
            if (from < last->from) last->from = from;
            if (to > last->to) last->to = to;
            return;
        }
    }
    if (file->count == file->room) {
        file->room = file->room ? file->room * 2 : 64;
        file->dirty = realloc(file->dirty, file->room * sizeof *file->dirty);
        if (file->dirty == NULL) die("memory");
    }
    file->dirty[file->count++] = (struct range){from, to};
}

static off_t size_of(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_size : 0;
}

static struct file *of(int fd) {
    if (fd < 0 || fd >= MAX_FD) return NULL;
    int index = __atomic_load_n(&watched[fd], __ATOMIC_ACQUIRE);
    return index > 0 ? &files[index - 1] : NULL;
}

/* What was written since the last time becomes safe. With the lock held. */
static void keep(int fd, struct file *file) {
    static char buffer[1 << 16];
    char path[PATH_MAX];
    shadow_path(file, path);
    int out = real_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (out < 0) die(path);
    /* The file may have been opened for writing only. */
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int in = real_open(link, O_RDONLY | O_CLOEXEC);
    if (in < 0) die("reading back");
    off_t size = size_of(in);
    for (size_t i = 0; i < file->count; i++) {
        off_t at = file->dirty[i].from, end = file->dirty[i].to < size ? file->dirty[i].to : size;
        while (at < end) {
            size_t want = (size_t)(end - at) < sizeof buffer ? (size_t)(end - at) : sizeof buffer;
            ssize_t got = pread(in, buffer, want, at);
            if (got <= 0) die("reading back");
            for (ssize_t done = 0; done < got;) {
                ssize_t put = real_pwrite(out, buffer + done, (size_t)(got - done), at + done);
                if (put <= 0) die("writing the shadow");
                done += put;
            }
            at += got;
        }
    }
    if ((file->resized || size_of(out) < size) && real_ftruncate(out, size) != 0) die("resizing the shadow");
    real_close(in);
    real_close(out);
    file->count = 0;
    file->resized = 0;
    file->stored = 1;
}

static int is_in(const char *name, const char *folder) {
    size_t length = strlen(folder);
    if (length == 0) return strchr(name, '/') == NULL;
    return strncmp(name, folder, length) == 0 && name[length] == '/' && strchr(name + length + 1, '/') == NULL;
}

/* Names made and removed in a folder become safe. With the lock held. */
static void keep_names(const char *folder) {
    char path[PATH_MAX], to[PATH_MAX];
    for (int i = 0; i < file_count; i++) {
        struct file *file = &files[i];
        if (!is_in(file->name, folder) || file->exists == file->linked) continue;
        shadow_path(file, path);
        if (file->exists) {
            file->linked = 1;
            shadow_path(file, to);
            if (file->stored) {
                if (real_rename(path, to) != 0) die(to);
            } else {
                int out = real_open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
                if (out < 0) die(to);
                real_close(out);
            }
        } else {
            real_unlink(path);
            file->linked = 0;
            file->stored = 0;
        }
    }
}

static int opened(int fd, const char *path, int flags, off_t before) {
    const char *name = below(path);
    if (fd < 0 || fd >= MAX_FD || name == NULL) return fd;
    struct stat st;
    if (fstat(fd, &st) != 0) return fd;
    pthread_mutex_lock(&lock);
    if (S_ISDIR(st.st_mode)) {
        free(folders[fd]);
        folders[fd] = strdup(name);
        __atomic_store_n(&watched[fd], -1, __ATOMIC_RELEASE);
    } else if (S_ISREG(st.st_mode)) {
        struct file *file = find(name, 1);
        /* Made anew under a name that was removed: nothing of the old one may stay behind the new end. */
        if (!file->exists && file->linked) file->resized = 1;
        file->exists = 1;
        if (flags & O_TRUNC) {
            touch(file, 0, before);
            file->resized = 1;
        }
        __atomic_store_n(&watched[fd], (int)(file - files) + 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static off_t size_before(const char *path, int flags) {
    struct stat st;
    return (flags & O_TRUNC) && below(path) && stat(path, &st) == 0 ? st.st_size : 0;
}

static int opening(int at, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    if (real_open == NULL) begin();
    int saved = errno;
    const char *full = root_len ? absolute(at, path, buffer) : NULL;
    off_t before = size_before(full, flags);
    errno = saved;
    int fd = at == AT_FDCWD ? real_open(path, flags, mode) : real_openat(at, path, flags, mode);
    saved = errno;
    opened(fd, full, flags, before);
    errno = saved;
    return fd;
}

#define MODE(flags, mode)                                      \
    mode_t mode = 0;                                           \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                     \
        va_list arguments;                                     \
        va_start(arguments, flags);                            \
        mode = (mode_t)va_arg(arguments, int);                 \
        va_end(arguments);                                     \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return opening(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return opening(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    return opening(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    return opening(at, path, flags, mode);
}

int close(int fd) {
    if (real_close == NULL) begin();
    if (fd >= 0 && fd < MAX_FD) __atomic_store_n(&watched[fd], 0, __ATOMIC_RELEASE);
    return real_close(fd);
}

/* A change and its note are one step, seen from a sync. */
#define CHANGE(fd, result, call, note)          \
    struct file *file = of(fd);                 \
    if (file == NULL) return call;              \
    pthread_mutex_lock(&lock);                  \
    result = call;                              \
    int saved = errno;                          \
    note;                                       \
    pthread_mutex_unlock(&lock);                \
    errno = saved;                              \
    return done

static void wrote_here(int fd, struct file *file, ssize_t done) {
    if (done <= 0) return;
    off_t at = lseek(fd, 0, SEEK_CUR);
    touch(file, at - done, at);
}

ssize_t write(int fd, const void *data, size_t length) {
    if (real_write == NULL) begin();
    CHANGE(fd, ssize_t done, real_write(fd, data, length), wrote_here(fd, file, done));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    CHANGE(fd, ssize_t done, real_writev(fd, parts, count), wrote_here(fd, file, done));
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    CHANGE(fd, ssize_t done, real_pwrite(fd, data, length, at), if (done > 0) touch(file, at, at + done));
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) {
    CHANGE(fd, ssize_t done, real_pwrite(fd, data, length, at), if (done > 0) touch(file, at, at + done));
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    CHANGE(fd, ssize_t done, real_pwritev(fd, parts, count, at), if (done > 0) touch(file, at, at + done));
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) {
    CHANGE(fd, ssize_t done, real_pwritev(fd, parts, count, at), if (done > 0) touch(file, at, at + done));
}

static void resized(struct file *file, off_t before, off_t after) {
    touch(file, before < after ? before : after, before < after ? after : before);
    file->resized = 1;
}

int ftruncate(int fd, off_t size) {
    off_t before = of(fd) ? size_of(fd) : 0;
    CHANGE(fd, int done, real_ftruncate(fd, size), if (done == 0) resized(file, before, size));
}

int ftruncate64(int fd, off_t size) {
    off_t before = of(fd) ? size_of(fd) : 0;
    CHANGE(fd, int done, real_ftruncate(fd, size), if (done == 0) resized(file, before, size));
}

int fallocate(int fd, int mode, off_t at, off_t length) {
    CHANGE(fd, int done, real_fallocate(fd, mode, at, length), if (done == 0) resized(file, at, at + length));
}

int fallocate64(int fd, int mode, off_t at, off_t length) {
    CHANGE(fd, int done, real_fallocate(fd, mode, at, length), if (done == 0) resized(file, at, at + length));
}

int posix_fallocate(int fd, off_t at, off_t length) {
    CHANGE(fd, int done, real_posix_fallocate(fd, at, length), if (done == 0) resized(file, at, at + length));
}

int posix_fallocate64(int fd, off_t at, off_t length) {
    CHANGE(fd, int done, real_posix_fallocate(fd, at, length), if (done == 0) resized(file, at, at + length));
}

static int syncing(int fd, int (*call)(int)) {
    int index = fd >= 0 && fd < MAX_FD ? __atomic_load_n(&watched[fd], __ATOMIC_ACQUIRE) : 0;
    if (index == 0) return call(fd);
    int done = call(fd);
    int saved = errno;
    if (done == 0) {
        pthread_mutex_lock(&lock);
        if (index > 0) {
            keep(fd, &files[index - 1]);
        } else if (folders[fd]) {
            keep_names(folders[fd]);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = saved;
    return done;
}

int fsync(int fd) { return syncing(fd, real_fsync); }

int fdatasync(int fd) { return syncing(fd, real_fdatasync); }

static void removed(const char *full) {
    const char *name = full ? below(full) : NULL;
    if (name == NULL) return;
    pthread_mutex_lock(&lock);
    struct file *file = find(name, 0);
    if (file) {
        file->exists = 0;
        file->count = 0;
        if (!file->linked && file->stored) {
            char path[PATH_MAX];
            shadow_path(file, path);
            real_unlink(path);
            file->stored = 0;
        }
    }
    pthread_mutex_unlock(&lock);
}

int unlink(const char *path) {
    char buffer[PATH_MAX];
    const char *full = root_len ? absolute(AT_FDCWD, path, buffer) : NULL;
    int done = real_unlink(path), saved = errno;
    if (done == 0) removed(full);
    errno = saved;
    return done;
}

int unlinkat(int at, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *full = root_len && !(flags & AT_REMOVEDIR) ? absolute(at, path, buffer) : NULL;
    int done = real_unlinkat(at, path, flags), saved = errno;
    if (done == 0) removed(full);
    errno = saved;
    return done;
}

int rename(const char *from, const char *to) {
    char old_buffer[PATH_MAX], new_buffer[PATH_MAX];
    const char *old = root_len ? absolute(AT_FDCWD, from, old_buffer) : NULL;
    const char *new = root_len ? absolute(AT_FDCWD, to, new_buffer) : NULL;
    const char *old_name = old ? below(old) : NULL, *new_name = new ? below(new) : NULL;
    pthread_mutex_lock(&lock);
    int done = real_rename(from, to), saved = errno;
    if (done == 0 && old_name && new_name) {
        struct file *file = find(old_name, 0), *target = find(new_name, 1);
        if (file) {
            char at[PATH_MAX], path[PATH_MAX];
            shadow_path(file, at);
            shadow_path(target, path);
            if (file->stored && real_rename(at, path) != 0) die(path);
            target->stored = file->stored;
            target->exists = 1;
            free(target->dirty);
            target->dirty = file->dirty, target->count = file->count, target->room = file->room;
            target->resized = file->resized;
            file->dirty = NULL, file->count = file->room = 0;
            file->exists = file->stored = 0;
            if (file->linked) file->linked = 0;
        }
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return done;
}
