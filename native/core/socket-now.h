// Sending and receiving on a socket that Node's event loop owns, without going through the loop.
#ifndef KEEPGATE_CORE_SOCKET_NOW_H_
#define KEEPGATE_CORE_SOCKET_NOW_H_

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace keepgate {

// How many of the bytes the kernel took without waiting, perhaps none, or a negative errno (send(2)).
int64_t SendNow(int socket, const uint8_t* bytes, size_t length);

// Receives what comes within `awake`, asking again and again without sleeping; it gives up as soon as
// `others`, an epoll instance, has an event. How many bytes came; 0: none, or the peer will send no more,
// which the next one who asks is told again; or a negative errno (recv(2)).
int64_t ReceiveSoon(int socket, uint8_t* bytes, size_t length, int others, std::chrono::microseconds awake);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_SOCKET_NOW_H_
