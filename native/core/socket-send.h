// Sending on a socket that Node's event loop owns.
#ifndef KEEPGATE_CORE_SOCKET_SEND_H_
#define KEEPGATE_CORE_SOCKET_SEND_H_

#include <cstddef>
#include <cstdint>

namespace keepgate {

// How many of the bytes the kernel took without waiting, perhaps none, or a negative errno (send(2)).
int64_t SendNow(int socket, const uint8_t* bytes, size_t length);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_SOCKET_SEND_H_
