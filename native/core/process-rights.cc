#include "process-rights.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

namespace keepgate {
namespace {

constexpr int kPrSetIoFlusher = 57;  // PR_SET_IO_FLUSHER of linux/prctl.h, Linux 5.6

bool HasCapability(unsigned capability) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  return (data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

}  // namespace

int64_t SetIoFlusher() { return prctl(kPrSetIoFlusher, 1, 0, 0, 0) == 0 ? 0 : -errno; }

int64_t LockMemory() {
  rlimit limit;
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return -errno;
  if (limit.rlim_cur != RLIM_INFINITY && !HasCapability(CAP_IPC_LOCK)) return -EPERM;
  // ONFAULT: the JavaScript engine reserves gigabytes of address space that it never touches.
  return mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0 ? 0 : -errno;
}

int64_t NotifyServiceManager(const std::string& socket_path, const std::string& message) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (socket_path.size() < 2 || (socket_path[0] != '/' && socket_path[0] != '@')) return -EINVAL;
  if (socket_path.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  const socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_path.size());
  const ssize_t sent = sendto(fd, message.data(), message.size(), MSG_NOSIGNAL,
                              reinterpret_cast<const sockaddr*>(&address), length);
  const int64_t result = sent >= 0 ? 0 : -errno;
  close(fd);
  return result;
}

}  // namespace keepgate
