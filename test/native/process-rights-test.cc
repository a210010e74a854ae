// Talking to a service manager, with a socket in its place, and who goes first.
#include "native/core/process-rights.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <thread>

#include "check.h"

namespace keepgate {
namespace {

// A bound datagram socket; '@' stands for an abstract name's leading zero byte.
class Manager {
 public:
  explicit Manager(const std::string& path) : fd_(socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    CHECK(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.data(), path.size());
    if (path[0] == '@') address.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    CHECK(bind(fd_, reinterpret_cast<const sockaddr*>(&address), length) == 0);
  }
  ~Manager() { close(fd_); }

  std::string Receive() const {
    char text[256];
    const ssize_t count = recv(fd_, text, sizeof text, MSG_DONTWAIT);
    return count < 0 ? "" : std::string(text, static_cast<size_t>(count));
  }

 private:
  int fd_;
};

int64_t NiceOfThisThread() { return getpriority(PRIO_PROCESS, 0); }

TEST(OneThreadYieldsAndThoseItStarts) {
  const int64_t before = NiceOfThisThread();
  int64_t yielded = 0;
  int64_t started = 0;
  std::thread([&] {
    CHECK(YieldToOthers(2) == 0);
    yielded = NiceOfThisThread();
    std::thread([&] { started = NiceOfThisThread(); }).join();
  }).join();
  CHECK(yielded == std::min<int64_t>(before + 2, 19));
  CHECK(started == yielded);
  CHECK(NiceOfThisThread() == before);
}

TEST(AMessageReachesTheManagersSocket) {
  const test::TemporaryDirectory directory;
  const std::string abstract = "@keepgate-native-test-" + std::to_string(getpid());
  for (const std::string& path : {directory / "notify", abstract}) {
    const Manager manager(path);
    CHECK(NotifyServiceManager(path, "READY=1\nSTATUS=fine") == 0);
    CHECK(manager.Receive() == "READY=1\nSTATUS=fine");
  }
}

TEST(NoManagerOrNoSocketIsAnError) {
  const test::TemporaryDirectory directory;
  CHECK(NotifyServiceManager(directory / "nobody", "READY=1") == -ENOENT);
  CHECK(NotifyServiceManager("relative", "READY=1") == -EINVAL);
  CHECK(NotifyServiceManager("", "READY=1") == -EINVAL);
  CHECK(NotifyServiceManager("/" + std::string(200, 'x'), "READY=1") == -ENAMETOOLONG);
}

}  // namespace
}  // namespace keepgate
