// Threads that wait, threads that run, and one that takes no signals.
#include "native/core/every-thread.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "check.h"

namespace keepgate {
namespace {

std::atomic<int> called{0};
thread_local std::atomic<bool> called_here{false};

void Work() {
  ++called;
  called_here = true;
}

TEST(EveryThreadDoesItUnlessItTakesNoSignals) {
  std::mutex mutex;
  std::condition_variable changed;
  bool over = false;
  int ready = 0;
  std::vector<std::thread> threads;
  for (int index = 0; index < 4; ++index) {
    threads.emplace_back([&, deaf = index == 3] {
      if (deaf) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, nullptr);
      }
      called_here = false;
      std::unique_lock<std::mutex> lock(mutex);
      ++ready;
      changed.notify_all();
      changed.wait(lock, [&] { return over; });
      CHECK(called_here == !deaf);
    });
  }
  {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return ready == 4; });
  }
  // A sanitizer has a thread of its own, which may or may not take it.
  const size_t missing = OnEveryThread(Work, std::chrono::milliseconds(500));
  CHECK(missing >= 1 && missing <= 2);
  CHECK(called >= 4);
  CHECK(called_here);
  {
    const std::lock_guard<std::mutex> guard(mutex);
    over = true;
  }
  changed.notify_all();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace keepgate
