#include "every-thread.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace keepgate {
namespace {

std::atomic<void (*)()> current_work{nullptr};
std::atomic<size_t> calls{0};

// None that the C library, libuv or V8 use.
int WorkSignal() { return SIGRTMAX - 1; }

void HandleSignal(int) {
  const int error = errno;
  current_work.load()();
  calls.fetch_add(1);
  errno = error;
}

// proc(5): the signals that a thread blocks, as a hexadecimal mask.
bool Blocks(long thread, int signal) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/task/%ld/status", thread);
  std::FILE* status = std::fopen(path, "re");
  if (status == nullptr) return false;
  char line[256];
  unsigned long long mask = 0;
  while (std::fgets(line, sizeof line, status) != nullptr) {
    if (std::sscanf(line, "SigBlk: %llx", &mask) == 1) break;
  }
  std::fclose(status);
  return ((mask >> (signal - 1)) & 1) != 0;
}

struct Asked {
  size_t all = 0;
  size_t deaf = 0;  // block the signal: not worth waiting for
};

// Sends the signal to every thread but this one.
Asked AskOthers() {
  Asked asked;
  DIR* directory = opendir("/proc/self/task");
  if (directory == nullptr) return asked;
  const long process = getpid();
  const long self = syscall(SYS_gettid);
  while (const dirent* entry = readdir(directory)) {
    const long thread = std::strtol(entry->d_name, nullptr, 10);
    if (thread <= 0 || thread == self) continue;
    const bool deaf = Blocks(thread, WorkSignal());
    if (syscall(SYS_tgkill, process, thread, WorkSignal()) != 0) continue;
    ++asked.all;
    if (deaf) ++asked.deaf;
  }
  closedir(directory);
  return asked;
}

}  // namespace

size_t OnEveryThread(void (*work)(), std::chrono::milliseconds wait_max) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  work();
  current_work = work;
  // The handler stays: the default action of a signal that was blocked until later would end the process.
  struct sigaction action = {};
  action.sa_handler = HandleSignal;
  action.sa_flags = SA_RESTART;
  sigaction(WorkSignal(), &action, nullptr);
  const size_t before = calls;
  const Asked asked = AskOthers();
  const auto deadline = std::chrono::steady_clock::now() + wait_max;
  while (calls - before + asked.deaf < asked.all && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  const size_t called = calls - before;
  return called < asked.all ? asked.all - called : 0;
}

}  // namespace keepgate
