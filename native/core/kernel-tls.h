// The kernel encrypts and decrypts what a TCP connection carries, from where a handshake in user space left
// off.
#ifndef KEEPGATE_CORE_KERNEL_TLS_H_
#define KEEPGATE_CORE_KERNEL_TLS_H_

#include <cstddef>
#include <cstdint>

namespace keepgate {

// One direction of TLS 1.3 with ChaCha20-Poly1305: key 32, static IV 12, number of the next record 8
// (big-endian).
constexpr size_t kTlsDirectionBytes = 32 + 12 + 8;

// Both directions at once; 0, or a negative errno: -ENOENT where the kernel has no TLS (module `tls`),
// -ENOPROTOOPT where it lacks the cipher. After a failure the connection is of no use.
int64_t InstallKernelTls(int socket, const uint8_t* transmit, const uint8_t* receive);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_KERNEL_TLS_H_
