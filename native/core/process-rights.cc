#include "process-rights.h"

#include <errno.h>
#include <linux/capability.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "every-thread.h"

namespace keepgate {
namespace {

// A path is PATH_MAX long at most; what stands before it is shorter than 128.
constexpr size_t kMapsLineBytesMax = 4096 + 128;
constexpr std::chrono::milliseconds kMarkWaitMax{100};
constexpr int kPrSetIoFlusher = 57;  // PR_SET_IO_FLUSHER of linux/prctl.h, Linux 5.6

bool HasCapability(unsigned capability) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  return (data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

}  // namespace

int64_t SetIoFlusher() {
  if (prctl(kPrSetIoFlusher, 1, 0, 0, 0) != 0) return -errno;
  // The JavaScript engine has started its helpers long before it could load this.
  const auto mark = [] { static_cast<void>(prctl(kPrSetIoFlusher, 1, 0, 0, 0)); };
  return static_cast<int64_t>(OnEveryThread(mark, kMarkWaitMax));
}

int64_t LockMemory() {
  rlimit limit;
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return -errno;
  if (limit.rlim_cur != RLIM_INFINITY && !HasCapability(CAP_IPC_LOCK)) return -EPERM;
  // Not mlockall(2): V8 gives pages back with madvise(MADV_DONTNEED), which locked memory refuses (EINVAL),
  // and V8 aborts the process on that.
  std::FILE* maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return -errno;
  int64_t result = 0;
  char line[kMapsLineBytesMax];
  while (result == 0 && std::fgets(line, sizeof line, maps) != nullptr) {
    unsigned long start = 0;
    unsigned long end = 0;
    if (std::sscanf(line, "%lx-%lx", &start, &end) != 2 || std::strchr(line, '/') == nullptr) continue;
    if (mlock2(reinterpret_cast<void*>(start), end - start, MLOCK_ONFAULT) != 0) result = -errno;
  }
  std::fclose(maps);
  return result;
}

int64_t ReturnFreedMemory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 64 * 1024);
  mallopt(M_TRIM_THRESHOLD, 256 * 1024);
  mallopt(M_ARENA_MAX, 2);
#endif
  return 0;
}

int64_t YieldToOthers(int nice) {
  errno = 0;
  const int now = getpriority(PRIO_PROCESS, 0);
  if (now == -1 && errno != 0) return -errno;
  // Linux's "process" 0 is the calling thread, whatever POSIX says.
  return setpriority(PRIO_PROCESS, 0, now + nice) == 0 ? 0 : -errno;
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
