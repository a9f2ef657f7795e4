/* Loaded before libc (LD_PRELOAD): one call in five of a process whose command line has agent.pyz
 * fails, as long as the file that FAILING_CALLS names is there. The file holds the number of the
 * error: ENOSPC, EMFILE, EAGAIN or EIO. Calls that cannot give that error are left alone, and
 * those that read the program itself and its libraries: without these no agent would ever start. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_agent = -1;
static unsigned chance;

static int active(void) {
    static char text[8];
    if (is_agent < 0) {
        char line[4096];
        int file = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY);
        ssize_t size = syscall(SYS_read, file, line, sizeof line);
        syscall(SYS_close, file);
        is_agent = size > 0 && memmem(line, size, "agent.pyz", 9) != NULL;
    }
    const char *path = getenv("FAILING_CALLS");
    if (!is_agent || path == NULL) return 0;
    int file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
    if (file < 0) return 0;
    ssize_t size = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    text[size > 0 ? size : 0] = 0;
    return atoi(text);
}

static int program(const char *path) {
    return strstr(path, "/lib") != NULL || strstr(path, "agent.pyz") != NULL;
}

static int of_program(int file) {
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return program(path);
}

static int fails(int error) {
    int kept = errno;
    int now = 0;
    if (active() == error) { /* by chance: what is repeated does not fail each time */
        if (chance == 0) chance = getpid();
        chance = chance * 1103515245 + 12345;
        now = (chance >> 16) % 5 == 0;
    }
    errno = now ? error : kept;
    return now;
}

static int regular(int file) {
    struct stat found;
    return syscall(SYS_fstat, file, &found) == 0 && S_ISREG(found.st_mode);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int opened(int directory, const char *path, int flags, mode_t mode) {
    if (!program(path) && fails(EMFILE)) return -1;
    if ((flags & O_CREAT) && fails(ENOSPC)) return -1;
    return syscall(SYS_openat, directory, path, flags, mode);
}
#define MODE(flags)                                    \
    mode_t mode = 0;                                   \
    if ((flags) & O_CREAT) {                           \
        va_list rest;                                  \
        va_start(rest, flags);                         \
        mode = va_arg(rest, mode_t);                   \
        va_end(rest);                                  \
    }
int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int d, const char *path, int flags, ...) { MODE(flags) return opened(d, path, flags, mode); }
int openat64(int d, const char *path, int flags, ...) { MODE(flags) return opened(d, path, flags, mode); }
DIR *opendir(const char *path) {
    return !program(path) && fails(EMFILE) ? NULL : REAL(opendir)(path);
}
int socket(int f, int t, int p) { return fails(EMFILE) ? -1 : REAL(socket)(f, t, p); }
int socketpair(int f, int t, int p, int s[2]) { return fails(EMFILE) ? -1 : REAL(socketpair)(f, t, p, s); }
int pipe2(int ends[2], int flags) { return fails(EMFILE) ? -1 : REAL(pipe2)(ends, flags); }
int accept4(int s, struct sockaddr *a, socklen_t *l, int f) {
    return fails(EMFILE) ? -1 : REAL(accept4)(s, a, l, f);
}
int mkdir(const char *path, mode_t mode) { return fails(ENOSPC) ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) { return fails(ENOSPC) ? -1 : REAL(rename)(from, to); }
pid_t fork(void) { return fails(EAGAIN) ? -1 : REAL(fork)(); }
pid_t vfork(void) { return fork(); }
ssize_t write(int file, const void *data, size_t size) {
    if (regular(file) && (fails(ENOSPC) || fails(EIO))) return -1;
    return syscall(SYS_write, file, data, size);
}
ssize_t read(int file, void *data, size_t size) {
    if (regular(file) && !of_program(file) && fails(EIO)) return -1;
    return syscall(SYS_read, file, data, size);
}
