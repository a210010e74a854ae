#include "socket-send.h"

#include <errno.h>
#include <sys/socket.h>

namespace keepgate {

int64_t SendNow(int socket, const uint8_t* bytes, size_t length) {
  ssize_t sent;
  do {
    sent = send(socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return sent;
  return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
}

}  // namespace keepgate
