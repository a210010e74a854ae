// What the kernel knows of a TCP connection's way: how long it takes, and what waits to be taken.
#ifndef KEEPGATE_CORE_TCP_DELAY_H_
#define KEEPGATE_CORE_TCP_DELAY_H_

#include <cstdint>

namespace keepgate {

// The smoothed round-trip time in microseconds, or a negative errno (-ENOTSOCK, -EOPNOTSUPP: no TCP socket).
int64_t TcpRoundTripUs(int socket);

// Bytes that were written and that the other side has not acknowledged, sent or not; or a negative errno.
int64_t TcpOutstandingBytes(int socket);

// How often in a row the other side has left unanswered what was sent to it again, or asked whether it is
// there; 0 while it owes nothing. Or a negative errno.
int64_t TcpUnanswered(int socket);

// Milliseconds since it acknowledged anything, new or not; or a negative errno.
int64_t TcpSilentMs(int socket);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_TCP_DELAY_H_
