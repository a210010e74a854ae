/*
 * Preloaded into a process, makes system calls on files fail or take long as on a full or failing disk (disk-fault.ts). The rules stand
 * in a small file that is mapped, so that a test changes them while the process runs; no rule costs one comparison.
 *
 *   ERRNO CALL PART_OF_PATH\n ...     CALL: open read write allocate sync mkdir, or any
 *
 * Instead of an ERRNO, -N makes the call take N milliseconds longer.
 *
 * A PART_OF_PATH that ends with $ is the end of a path.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { RULES_BYTES = 4096, PATH_BYTES = 4096 };
static const char *rules;

__attribute__((constructor)) static void map_rules(void) {
  const char *path = getenv("KEEPGATE_TEST_DISK_FAULTS");
  int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
  int fd = path == NULL ? -1 : real_open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  void *mapped = mmap(NULL, RULES_BYTES, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) rules = mapped;
  close(fd);
}

static int holds(const char *path, char *part) {
  size_t wanted = strlen(part), length = strlen(path);
  if (wanted == 0 || part[wanted - 1] != '$') return strstr(path, part) != NULL;
  wanted -= 1;
  return length >= wanted && strncmp(path + length - wanted, part, wanted) == 0;
}

/* The errno that the rules give to this call, or 0. */
static int fault(const char *call, const char *path) {
  char copy[RULES_BYTES];
  memcpy(copy, rules, RULES_BYTES);
  copy[RULES_BYTES - 1] = 0;
  char *rest = NULL;
  for (char *line = strtok_r(copy, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
    int number = 0;
    char which[16], part[256];
    if (sscanf(line, "%d %15s %255s", &number, which, part) != 3) continue;
    if ((strcmp(which, call) == 0 || strcmp(which, "any") == 0) && holds(path, part)) return number;
  }
  return 0;
}

static int fails(const char *call, const char *path) {
  if (rules == NULL || rules[0] == 0) return 0;
  int number = fault(call, path);
  if (number < 0) usleep((useconds_t)-number * 1000);
  if (number <= 0) return 0;
  errno = number;
  return number;
}

static int fd_fails(const char *call, int fd) {
  if (rules == NULL || rules[0] == 0) return 0;
  char link[64], path[PATH_BYTES];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return fails(call, path);
}

#define ON_FD(call, type, name, parameters, arguments)                                     \
  type name parameters {                                                                   \
    static type(*real) parameters;                                                         \
    if (real == NULL) real = dlsym(RTLD_NEXT, #name);                                      \
    return fd_fails(call, fd) ? -1 : real arguments;                                       \
  }

ON_FD("read", ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
ON_FD("read", ssize_t, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
ON_FD("read", ssize_t, preadv64, (int fd, const struct iovec *to, int n, off64_t at), (fd, to, n, at))
ON_FD("read", ssize_t, preadv64v2, (int fd, const struct iovec *to, int n, off64_t at, int flags), (fd, to, n, at, flags))
ON_FD("write", ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
ON_FD("write", ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at))
ON_FD("write", ssize_t, writev, (int fd, const struct iovec *from, int n), (fd, from, n))
ON_FD("write", ssize_t, pwritev64, (int fd, const struct iovec *from, int n, off64_t at), (fd, from, n, at))
ON_FD("allocate", int, fallocate64, (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))
ON_FD("sync", int, fdatasync, (int fd), (fd))
ON_FD("sync", int, fsync, (int fd), (fd))

int mkdir(const char *path, mode_t mode) {
  static int (*real)(const char *, mode_t);
  if (real == NULL) real = dlsym(RTLD_NEXT, "mkdir");
  return fails("mkdir", path) ? -1 : real(path, mode);
}

/* Making a file can find no space; opening one that is there can meet a failing disk. */
int open64(const char *path, int flags, ...) {
  static int (*real)(const char *, int, ...);
  if (real == NULL) real = dlsym(RTLD_NEXT, "open64");
  va_list rest;
  va_start(rest, flags);
  mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return fails("open", path) ? -1 : real(path, flags, mode);
}
