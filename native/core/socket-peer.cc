#include "socket-peer.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

namespace keepgate {

int64_t PeerUserId(int socket) {
  ucred peer = {};
  socklen_t length = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -errno;
  // Of a socket that is no Unix socket the kernel says "nobody at all".
  if (peer.uid == static_cast<uid_t>(-1)) return -ENOTSUP;
  return peer.uid;
}

int64_t PeerHasLeft(int socket) {
  pollfd asked{socket, POLLRDHUP, 0};
  if (poll(&asked, 1, 0) < 0) return -errno;
  if ((asked.revents & POLLNVAL) != 0) return -EBADF;
  return asked.revents != 0 ? 1 : 0;
}

}  // namespace keepgate
