/* What reflink.ts measures: moving blocks from log files to an image by copying or by sharing their extents, and what
 * comes after. Files are LOG/0, LOG/1, ... of 64 MiB each.
 *
 *   cc -O2 -o reflink reflink.c
 *   reflink fill FILE BYTES                    writes random bytes, durably
 *   reflink log LOG BYTES                      new files of a log in place of what is there, each preallocated, written with zeros
 *                                              as the gateway does, and then with random bytes
 *   reflink move copy|share|check LOG IMAGE BYTES RUN_BYTES
 *                                              moves the whole log, runs of it to places in the image that are as good as
 *                                              random, 4 MiB sorted at a time; then one fdatasync. check: shares after reading
 *                                              the runs, as one must that verifies their checksums
 *   reflink append LOG BYTES                   writes the log's files again in place, 1 MiB at a time, an fdatasync per file
 *   reflink read sequential|random FILE BYTES  not from the page cache; random: 4 KiB each, one at a time
 *
 * Prints one line of JSON: seconds, bytes done, and errno of what stopped it, or 0. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { mebibyte = 1 << 20, step_bytes = 4 << 20, file_bytes = 64 << 20, block_bytes = 4096 };

static uint64_t random_state = 88172645463325252u;
static unsigned char *buffer, zeros[mebibyte];
static uint64_t done_bytes;

static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec + at.tv_nsec / 1e9;
}

static int open_or_fail(const char *path, int flags) {
  const int fd = open(path, flags, 0600);
  if (fd < 0) fail(path);
  return fd;
}

static int open_log(const char *log, unsigned file, const char *suffix, int flags) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%u%s", log, file, suffix);
  return open_or_fail(path, flags);
}

/* Returns errno, or 0. */
static int write_all(int fd, const unsigned char *from, size_t length, uint64_t at) {
  while (length > 0) {
    const ssize_t wrote = pwrite(fd, from, length, (off_t)at);
    if (wrote < 0) return errno;
    from += wrote;
    at += (uint64_t)wrote;
    length -= (size_t)wrote;
  }
  return 0;
}

static void read_all(int fd, unsigned char *into, size_t length, uint64_t at) {
  while (length > 0) {
    const ssize_t got = pread(fd, into, length, (off_t)at);
    if (got <= 0) fail("reflink: pread");
    into += got;
    at += (uint64_t)got;
    length -= (size_t)got;
  }
}

/* Writes `bytes` in place, 1 MiB at a time, and waits until they are durable; returns errno, or 0. */
static int write_file(int fd, uint64_t bytes, const unsigned char *data) {
  for (uint64_t at = 0; at < bytes; at += mebibyte) {
    const int error = write_all(fd, data, mebibyte, at);
    if (error != 0) return error;
    if (data != zeros) done_bytes += mebibyte;
  }
  return fdatasync(fd) == 0 ? 0 : errno;
}

/* As the gateway makes a file of its log. */
static int new_log_file(const char *log, unsigned file) {
  const int fd = open_log(log, file, ".new", O_RDWR | O_CREAT | O_TRUNC);
  int error = posix_fallocate(fd, 0, file_bytes);
  if (error == 0) error = write_file(fd, file_bytes, zeros);
  if (error == 0) error = write_file(fd, file_bytes, buffer);
  close(fd);
  if (error != 0) return error;
  char from[4096], to[4096];
  snprintf(from, sizeof from, "%s/%u.new", log, file);
  snprintf(to, sizeof to, "%s/%u", log, file);
  return rename(from, to) == 0 ? 0 : errno;
}

static int write_log(const char *log, uint64_t bytes, int anew) {
  int error = 0;
  for (unsigned file = 0; error == 0 && (uint64_t)file * file_bytes < bytes; ++file) {
    if (anew) {
      error = new_log_file(log, file);
      continue;
    }
    const int fd = open_log(log, file, "", O_RDWR);
    error = write_file(fd, file_bytes, buffer);
    close(fd);
  }
  return error;
}

static int compare(const void *left, const void *right) {
  const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return (a > b) - (a < b);
}

static int copy_run(int log, uint64_t from, int image, uint64_t to, size_t length, const unsigned char *data) {
  (void)log, (void)from;
  return write_all(image, data, length, to);
}

static int share_run(int log, uint64_t from, int image, uint64_t to, size_t length, const unsigned char *data) {
  (void)data;
  const struct file_clone_range range = {log, from, length, to};
  return ioctl(image, FICLONERANGE, &range) == 0 ? 0 : errno;
}

static int move(const char *way, const char *log, const char *path, uint64_t bytes, uint64_t run_bytes) {
  const int sharing = strcmp(way, "copy") != 0, reading = strcmp(way, "share") != 0;
  const uint64_t runs = bytes / run_bytes, runs_per_step = step_bytes / run_bytes;
  uint64_t *places = malloc(runs * sizeof *places);
  struct placed {
    uint64_t place, from;
  } *step = malloc(runs_per_step * sizeof *step);
  if (places == NULL || step == NULL) fail("reflink: malloc");
  for (uint64_t run = 0; run < runs; ++run) places[run] = run;
  for (uint64_t run = runs - 1; run > 0; --run) {
    const uint64_t other = next_random() % (run + 1), place = places[run];
    places[run] = places[other];
    places[other] = place;
  }
  const int image = open_or_fail(path, O_RDWR);
  int log_fd = -1, error = 0;
  for (uint64_t first = 0; first < runs && error == 0; first += runs_per_step) {
    const uint64_t at = first * run_bytes, in_file = at % file_bytes;
    if (in_file == 0) {
      if (log_fd >= 0) close(log_fd);
      log_fd = open_log(log, (unsigned)(at / file_bytes), "", O_RDONLY);
    }
    if (reading) read_all(log_fd, buffer, step_bytes, in_file);
    for (uint64_t run = 0; run < runs_per_step; ++run)
      step[run] = (struct placed){places[first + run] * run_bytes, run * run_bytes};
    qsort(step, runs_per_step, sizeof *step, compare);
    for (uint64_t run = 0; run < runs_per_step && error == 0; ++run) {
      const uint64_t from = step[run].from;
      error = (sharing ? share_run : copy_run)(log_fd, in_file + from, image, step[run].place, run_bytes, buffer + from);
      done_bytes += run_bytes;
    }
  }
  if (error == 0 && fdatasync(image) != 0) error = errno;
  return error;
}

static int read_image(int random, const char *path, uint64_t bytes) {
  const int fd = open_or_fail(path, O_RDONLY);
  const uint64_t size = (uint64_t)lseek(fd, 0, SEEK_END);
  if (fdatasync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) fail("reflink: dropping pages");
  if (random) posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  const uint64_t length = random ? block_bytes : mebibyte;
  for (; done_bytes < bytes; done_bytes += length)
    read_all(fd, buffer, length, random ? next_random() % (size / length) * length : done_bytes % size);
  return 0;
}

int main(int count, char **arguments) {
  const char *what = count > 3 ? arguments[1] : "";
  const uint64_t bytes = count > 3 ? strtoull(arguments[count == 7 ? 5 : count - 1], NULL, 10) : 0;
  if (posix_memalign((void **)&buffer, block_bytes, step_bytes) != 0) fail("reflink: memory");
  for (int word = 0; word < step_bytes / 8; ++word) ((uint64_t *)buffer)[word] = next_random();
  const double began = now();
  int error = 0;
  if (strcmp(what, "fill") == 0) error = write_file(open_or_fail(arguments[2], O_RDWR | O_CREAT), bytes, buffer);
  else if (strcmp(what, "log") == 0) error = write_log(arguments[2], bytes, 1);
  else if (strcmp(what, "append") == 0) error = write_log(arguments[2], bytes, 0);
  else if (strcmp(what, "read") == 0 && count == 5)
    error = read_image(strcmp(arguments[2], "random") == 0, arguments[3], bytes);
  else if (strcmp(what, "move") == 0 && count == 7)
    error = move(arguments[2], arguments[3], arguments[4], bytes, strtoull(arguments[6], NULL, 10));
  else {
    fprintf(stderr, "usage: reflink fill|log|move|append|read ..., see its source\n");
    return 2;
  }
  printf("{\"seconds\": %.6f, \"bytes\": %llu, \"errno\": %d}\n", now() - began, (unsigned long long)done_bytes, error);
  return 0;
}
