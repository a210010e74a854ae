#include "socket-now.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

namespace keepgate {
namespace {

// Asking for events costs as much as asking for bytes, and others can wait for a microsecond.
constexpr int kTriesBetweenEvents = 4;

int64_t Outcome(ssize_t result) {
  if (result >= 0) return result;
  return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
}

bool HasEvent(int epoll) {
  pollfd waiting{epoll, POLLIN, 0};
  return poll(&waiting, 1, 0) != 0;
}

}  // namespace

int64_t SendNow(int socket, const uint8_t* bytes, size_t length) {
  ssize_t sent;
  do {
    sent = send(socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return Outcome(sent);
}

int64_t ReceiveSoon(int socket, uint8_t* bytes, size_t length, int others, std::chrono::microseconds awake) {
  const auto until = std::chrono::steady_clock::now() + awake;
  do {
    for (int tries = 0; tries < kTriesBetweenEvents; ++tries) {
      const ssize_t received = recv(socket, bytes, length, MSG_DONTWAIT);
      if (received >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        return Outcome(received);
    }
  } while (!HasEvent(others) && std::chrono::steady_clock::now() < until);
  return 0;
}

}  // namespace keepgate
