// Who is at the other end of a Unix socket.
#ifndef KEEPGATE_CORE_SOCKET_PEER_H_
#define KEEPGATE_CORE_SOCKET_PEER_H_

#include <cstdint>

namespace keepgate {

// The user that connected (SO_PEERCRED, unix(7)), or a negative errno; -ENOTSUP where the kernel does
// not know.
int64_t PeerUserId(int socket);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_SOCKET_PEER_H_
