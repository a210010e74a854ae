#include "tcp-delay.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace keepgate {

namespace {

int64_t Ask(int socket, tcp_info* info) {
  socklen_t length = sizeof *info;
  return getsockopt(socket, IPPROTO_TCP, TCP_INFO, info, &length) == 0 ? 0 : -errno;
}

}  // namespace

int64_t TcpRoundTripUs(int socket) {
  tcp_info info = {};
  const int64_t error = Ask(socket, &info);
  return error < 0 ? error : info.tcpi_rtt;
}

int64_t TcpUnanswered(int socket) {
  tcp_info info = {};
  const int64_t error = Ask(socket, &info);
  return error < 0 ? error : info.tcpi_retransmits + info.tcpi_probes;
}

int64_t TcpSilentMs(int socket) {
  tcp_info info = {};
  const int64_t error = Ask(socket, &info);
  return error < 0 ? error : info.tcpi_last_ack_recv;
}

int64_t TcpOutstandingBytes(int socket) {
  int bytes = 0;
  if (ioctl(socket, SIOCOUTQ, &bytes) != 0) return -errno;
  return bytes;
}

}  // namespace keepgate
