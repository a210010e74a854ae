// Who is at the other end of a socket, and whether it still is.
#ifndef KEEPGATE_CORE_SOCKET_PEER_H_
#define KEEPGATE_CORE_SOCKET_PEER_H_

#include <cstdint>

namespace keepgate {

// The user that connected (SO_PEERCRED, unix(7)), or a negative errno; -ENOTSUP where the kernel does
// not know.
int64_t PeerUserId(int socket);

// 1: the peer will send no more, or the connection broke, however much of what it sent is still unread; 0:
// not that the kernel knew; or a negative errno (poll(2), POLLRDHUP).
int64_t PeerHasLeft(int socket);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_SOCKET_PEER_H_
