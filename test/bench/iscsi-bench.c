/* Random or sequential I/O at a fixed depth against one LUN, through libiscsi, for as long as asked, or until
 * so many operations were begun.
 *
 *   cc -O2 -o iscsi-bench iscsi-bench.c -liscsi
 *   iscsi-bench URL read|write rand|seq BYTES_PER_IO DEPTH SECONDS OPERATIONS_MAX
 *
 * Prints one line of JSON: operations, operations per second, and the 50th and 99th percentile of the latency. */
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { samples_max = 1 << 22, answer_timeout_ms = 10000 };

struct bench {
  struct iscsi_context *context;
  int lun;
  bool writing;
  bool random;
  bool stopping;
  uint32_t io_bytes;
  uint32_t block_bytes;
  uint32_t in_flight;
  uint64_t block_count;
  uint64_t next_unit;
  uint64_t begun;
  uint64_t begun_max;
  uint64_t done;
  uint64_t failed;
  uint64_t random_state;
  float *latency_us;
};

struct request {
  struct bench *bench;
  double started_us;
  unsigned char *data;
};

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static uint64_t next_random(struct bench *b) {
  b->random_state ^= b->random_state << 13;
  b->random_state ^= b->random_state >> 7;
  b->random_state ^= b->random_state << 17;
  return b->random_state;
}

static void fail(const char *what, const char *why) {
  fprintf(stderr, "iscsi-bench: %s: %s\n", what, why);
  exit(1);
}

static void submit(struct request *r);

static void on_completed(struct iscsi_context *context, int status, void *command, void *opaque) {
  struct request *r = opaque;
  struct bench *b = r->bench;
  (void)context;
  if (status != SCSI_STATUS_GOOD) b->failed++;
  if (b->done < samples_max) b->latency_us[b->done] = (float)(now_us() - r->started_us);
  b->done++;
  b->in_flight--;
  scsi_free_scsi_task(command);
  if (!b->stopping && b->begun < b->begun_max) submit(r);
}

static void submit(struct request *r) {
  struct bench *b = r->bench;
  uint32_t blocks_per_io = b->io_bytes / b->block_bytes;
  uint64_t units = b->block_count / blocks_per_io;
  uint64_t unit = (b->random ? next_random(b) : b->next_unit++) % units;
  uint64_t lba = unit * blocks_per_io;
  struct scsi_task *task;
  r->started_us = now_us();
  if (b->writing) {
    task = iscsi_write16_task(b->context, b->lun, lba, r->data, b->io_bytes, b->block_bytes, 0, 0, 0, 0, 0, on_completed, r);
  } else {
    task = iscsi_read16_task(b->context, b->lun, lba, b->io_bytes, b->block_bytes, 0, 0, 0, 0, 0, on_completed, r);
  }
  if (task == NULL) fail("submit", iscsi_get_error(b->context));
  if (!b->writing) scsi_task_add_data_in_buffer(task, b->io_bytes, r->data);
  b->begun++;
  b->in_flight++;
}

static void attach(struct bench *b, const char *url_text) {
  b->context = iscsi_create_context("iqn.2026-11.io.keepgate.bench:initiator");
  struct iscsi_url *url = iscsi_parse_full_url(b->context, url_text);
  if (url == NULL) fail("url", iscsi_get_error(b->context));
  iscsi_set_session_type(b->context, ISCSI_SESSION_NORMAL);
  iscsi_set_header_digest(b->context, ISCSI_HEADER_DIGEST_NONE);
  iscsi_set_targetname(b->context, url->target);
  b->lun = url->lun;
  if (iscsi_full_connect_sync(b->context, url->portal, b->lun) != 0) fail("connect", iscsi_get_error(b->context));
  struct scsi_task *task = iscsi_readcapacity16_sync(b->context, b->lun);
  struct scsi_readcapacity16 *capacity = task == NULL ? NULL : scsi_datain_unmarshall(task);
  if (capacity == NULL) fail("capacity", iscsi_get_error(b->context));
  b->block_bytes = capacity->block_length;
  b->block_count = capacity->returned_lba + 1;
  scsi_free_scsi_task(task);
  iscsi_destroy_url(url);
}

static int by_value(const void *left, const void *right) {
  float a = *(const float *)left;
  float b = *(const float *)right;
  return (a > b) - (a < b);
}

static double run_for(struct bench *b, struct request *requests, int depth, double seconds) {
  double started_us = now_us();
  for (int i = 0; i < depth; i++) submit(&requests[i]);
  while (b->in_flight > 0) {
    struct pollfd p = {.fd = iscsi_get_fd(b->context), .events = (short)iscsi_which_events(b->context)};
    if (poll(&p, 1, answer_timeout_ms) <= 0) fail("poll", "no answer in 10 s");
    if (iscsi_service(b->context, p.revents) < 0) fail("service", iscsi_get_error(b->context));
    if (now_us() - started_us > seconds * 1e6) b->stopping = true;
  }
  double ended_us = now_us();
  return (ended_us - started_us) / 1e6;
}

int main(int argc, char **argv) {
  if (argc != 8) {
    fprintf(stderr, "usage: iscsi-bench URL read|write rand|seq BYTES_PER_IO DEPTH SECONDS OPERATIONS_MAX\n");
    return 2;
  }
  struct bench b = {.random_state = 88172645463325252ULL};
  b.writing = strcmp(argv[2], "write") == 0;
  b.random = strcmp(argv[3], "rand") == 0;
  b.io_bytes = (uint32_t)strtoul(argv[4], NULL, 0);
  b.begun_max = strtoull(argv[7], NULL, 0);
  int depth = atoi(argv[5]);
  attach(&b, argv[1]);
  b.latency_us = calloc(samples_max, sizeof *b.latency_us);
  struct request *requests = calloc((size_t)depth, sizeof *requests);
  for (int i = 0; i < depth; i++) {
    requests[i].bench = &b;
    requests[i].data = malloc(b.io_bytes);
    for (uint32_t at = 0; at + 8 <= b.io_bytes; at += 8) {
      uint64_t value = next_random(&b);
      memcpy(requests[i].data + at, &value, 8);
    }
  }
  double seconds = run_for(&b, requests, depth, atof(argv[6]));
  if (b.failed > 0) fail("I/O", "the target answered errors");
  uint64_t count = b.done < samples_max ? b.done : samples_max;
  qsort(b.latency_us, count, sizeof *b.latency_us, by_value);
  printf("{\"operations\": %llu, \"iops\": %.0f, \"p50us\": %.0f, \"p99us\": %.0f}\n", (unsigned long long)b.done,
         (double)b.done / seconds, b.latency_us[count / 2],
         b.latency_us[(uint64_t)((double)count * 0.99)]);
  return 0;
}
