#include "kernel-tls.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

namespace keepgate {
namespace {

int64_t SetDirection(int socket, int direction, const uint8_t* bytes) {
  tls12_crypto_info_chacha20_poly1305 info = {};
  static_assert(sizeof info.key + sizeof info.iv + sizeof info.rec_seq == kTlsDirectionBytes);
  info.info.version = TLS_1_3_VERSION;
  info.info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
  memcpy(info.key, bytes, sizeof info.key);
  memcpy(info.iv, bytes + sizeof info.key, sizeof info.iv);
  memcpy(info.rec_seq, bytes + sizeof info.key + sizeof info.iv, sizeof info.rec_seq);
  const int result = setsockopt(socket, SOL_TLS, direction, &info, sizeof info);
  const int64_t error = result == 0 ? 0 : errno == ENOENT ? -ENOPROTOOPT : -errno;
  explicit_bzero(&info, sizeof info);
  return error;
}

}  // namespace

int64_t InstallKernelTls(int socket, const uint8_t* transmit, const uint8_t* receive) {
  if (setsockopt(socket, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") != 0) return -errno;
  const int64_t error = SetDirection(socket, TLS_TX, transmit);
  return error < 0 ? error : SetDirection(socket, TLS_RX, receive);
}

}  // namespace keepgate
