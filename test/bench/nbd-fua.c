/* Random writes that each are durable when they are answered (NBD_CMD_FLAG_FUA), one at a time on each of
 * several connections, for as long as asked. fio's nbd engine knows no such flag.
 *
 *   cc -O2 -o nbd-fua nbd-fua.c
 *   nbd-fua PORT EXPORT BYTES_PER_IO CONNECTIONS SECONDS
 *
 * Prints one line of JSON, as iscsi-bench.c does. The protocol: NetworkBlockDevice/nbd, doc/proto.md. */
#include <arpa/inet.h>
#include <endian.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { samples_max = 1 << 22, connections_max = 64, answer_timeout_ms = 30000 };
enum { opt_go = 7, rep_ack = 1, rep_info = 3, info_export = 0, cmd_write = 1, cmd_disc = 2, flag_fua = 1 };

struct __attribute__((packed)) request {
  uint32_t magic;
  uint16_t flags, type;
  uint64_t cookie, offset;
  uint32_t length;
};

struct connection {
  int fd;
  double started_us;
  unsigned char reply[16];
  size_t received;
};

static uint64_t random_state = 88172645463325252u;
static uint64_t size_bytes;

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

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

static void take(int fd, void *into, size_t length) {
  for (size_t done = 0; done < length;) {
    const ssize_t got = read(fd, (char *)into + done, length - done);
    if (got <= 0) fail("nbd-fua: the server went away");
    done += (size_t)got;
  }
}

static void give(int fd, struct iovec *parts, int count) {
  while (count > 0) {
    ssize_t sent = writev(fd, parts, count);
    if (sent < 0) fail("nbd-fua: write");
    for (; count > 0 && (size_t)sent >= parts->iov_len; ++parts, --count) sent -= (ssize_t)parts->iov_len;
    if (count > 0) {
      parts->iov_base = (char *)parts->iov_base + sent;
      parts->iov_len -= (size_t)sent;
    }
  }
}

static int attach(int port, const char *name) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) fail("nbd-fua: connect");
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  unsigned char greeting[18];
  take(fd, greeting, sizeof greeting);
  const uint32_t length = (uint32_t)strlen(name);
  struct __attribute__((packed)) {
    uint32_t client_flags;
    uint64_t magic;
    uint32_t option, length, name_length;
  } go = {htonl(3), htobe64(0x49484156454f5054), htonl(opt_go), htonl(length + 6), htonl(length)};
  uint16_t no_information = 0;
  struct iovec parts[] = {{&go, sizeof go}, {(void *)name, length}, {&no_information, 2}};
  give(fd, parts, 3);
  for (;;) {
    struct __attribute__((packed)) {
      uint64_t magic;
      uint32_t option, type, length;
    } reply;
    unsigned char data[4096];
    take(fd, &reply, sizeof reply);
    if (ntohl(reply.length) > sizeof data) fail("nbd-fua: a long option reply");
    take(fd, data, ntohl(reply.length));
    if (ntohl(reply.type) == rep_ack) return fd;
    if (ntohl(reply.type) != rep_info) {
      fprintf(stderr, "nbd-fua: NBD_OPT_GO was answered %x\n", ntohl(reply.type));
      exit(1);
    }
    uint64_t size;
    memcpy(&size, data + 2, 8);
    if (data[0] == 0 && data[1] == info_export) size_bytes = be64toh(size);
  }
}

static void submit(struct connection *c, void *payload, uint32_t length) {
  struct request request = {htonl(0x25609513), htons(flag_fua), htons(cmd_write), 1, 0, htonl(length)};
  request.offset = htobe64(next_random() % (size_bytes / length) * length);
  struct iovec parts[] = {{&request, sizeof request}, {payload, length}};
  c->started_us = now_us();
  c->received = 0;
  give(c->fd, parts, 2);
}

static int compare(const void *left, const void *right) {
  const float a = *(const float *)left, b = *(const float *)right;
  return (a > b) - (a < b);
}

int main(int count, char **arguments) {
  if (count != 6) {
    fprintf(stderr, "usage: nbd-fua PORT EXPORT BYTES_PER_IO CONNECTIONS SECONDS\n");
    return 2;
  }
  const uint32_t length = (uint32_t)atol(arguments[3]);
  const int connections = atoi(arguments[4]);
  if (length == 0 || connections < 1 || connections > connections_max) return 2;
  unsigned char *payload = malloc(length);
  float *latency_us = malloc(samples_max * sizeof *latency_us);
  if (payload == NULL || latency_us == NULL) fail("nbd-fua: malloc");
  for (uint32_t at = 0; at < length; ++at) payload[at] = (unsigned char)next_random();
  struct connection all[connections_max];
  struct pollfd polled[connections_max];
  for (int i = 0; i < connections; ++i) {
    all[i] = (struct connection){.fd = attach(atoi(arguments[1]), arguments[2])};
    polled[i] = (struct pollfd){all[i].fd, POLLIN, 0};
  }
  const double began_us = now_us(), end_us = began_us + atof(arguments[5]) * 1e6;
  size_t done = 0;
  for (int i = 0; i < connections; ++i) submit(&all[i], payload, length);
  for (int open = connections; open > 0;) {
    if (poll(polled, (nfds_t)connections, answer_timeout_ms) <= 0) fail("nbd-fua: no answer");
    for (int i = 0; i < connections; ++i) {
      struct connection *c = &all[i];
      if (polled[i].revents == 0) continue;
      const ssize_t got = read(c->fd, c->reply + c->received, sizeof c->reply - c->received);
      if (got <= 0) fail("nbd-fua: the server went away");
      if ((c->received += (size_t)got) < sizeof c->reply) continue;
      uint32_t error;
      memcpy(&error, c->reply + 4, 4);
      if (error != 0) {
        fprintf(stderr, "nbd-fua: a write failed with %u\n", ntohl(error));
        return 1;
      }
      const double now = now_us();
      if (done < samples_max) latency_us[done] = (float)(now - c->started_us);
      ++done;
      if (now < end_us) {
        submit(c, payload, length);
      } else {
        polled[i].fd = -1;
        --open;
      }
    }
  }
  const double seconds = (now_us() - began_us) / 1e6;
  const size_t samples = done < samples_max ? done : samples_max;
  qsort(latency_us, samples, sizeof *latency_us, compare);
  printf("{\"operations\": %llu, \"iops\": %.1f, \"p50us\": %.1f, \"p99us\": %.1f}\n", (unsigned long long)done,
         (double)done / seconds,
         latency_us[samples / 2], latency_us[samples * 99 / 100]);
  for (int i = 0; i < connections; ++i) {
    struct request bye = {htonl(0x25609513), 0, htons(cmd_disc), 0, 0, 0};
    struct iovec part = {&bye, sizeof bye};
    give(all[i].fd, &part, 1);
    close(all[i].fd);
  }
  return 0;
}
