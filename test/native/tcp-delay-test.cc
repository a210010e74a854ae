// A connection on loopback whose other side takes nothing for a while.
#include "native/core/tcp-delay.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

namespace keepgate {
namespace {

TEST(AConnectionTellsItsRoundTripAndWhatIsOutstanding) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  CHECK(bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0);
  CHECK(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  CHECK(listen(listener, 1) == 0);
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(client, reinterpret_cast<const sockaddr*>(&address), length) == 0);
  const int server = accept(listener, nullptr, nullptr);
  CHECK(server >= 0);
  CHECK(TcpRoundTripUs(client) > 0);
  CHECK(TcpOutstandingBytes(client) == 0);
  // More than both kernels' buffers hold.
  static char bytes[65536];
  while (send(client, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
  }
  CHECK(TcpOutstandingBytes(client) > 0);
  CHECK(TcpUnanswered(server) == 0);
  CHECK(TcpSilentMs(server) >= 0 && TcpSilentMs(server) < 60'000);
  close(server);
  close(client);
  close(listener);
}

TEST(WhatIsNoConnectionIsAnError) {
  CHECK(TcpRoundTripUs(-1) == -EBADF);
  CHECK(TcpOutstandingBytes(-1) == -EBADF);
  CHECK(TcpUnanswered(-1) == -EBADF);
  CHECK(TcpSilentMs(-1) == -EBADF);
}

}  // namespace
}  // namespace keepgate
