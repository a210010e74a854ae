// Lanes under the thread sanitizer: order, ends, and everything that races with an end.
#include "native/core/lane.h"

#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <utility>

#include "check.h"
#include "native/core/aligned-pool.h"

namespace keepgate {
namespace {

class CallJob final : public Job {
 public:
  CallJob(std::function<void()> call, std::atomic<int>* alive) : call_(std::move(call)), alive_(alive) {
    ++*alive_;
  }
  ~CallJob() override { --*alive_; }
  void Run() override { call_(); }

 private:
  std::function<void()> call_;
  std::atomic<int>* alive_;
};

class Collector final : public JobSink {
 public:
  void Finished(std::unique_ptr<Job> job) override {
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      jobs_.push_back(std::move(job));
    }
    changed_.notify_all();
  }

  void WaitFor(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return jobs_.size() >= count; });
  }

  size_t Count() {
    const std::lock_guard<std::mutex> guard(mutex_);
    return jobs_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Job>> jobs_;
};

// Holds jobs back until it is opened.
class Gate {
 public:
  void Pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
  }
  void Open() {
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      open_ = true;
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

bool Submit(Lane* lane, std::atomic<int>* alive, std::function<void()> call) {
  std::unique_ptr<Job> job = std::make_unique<CallJob>(std::move(call), alive);
  return lane->Submit(job);
}

TEST(ALaneOfOneThreadKeepsTheOrder) {
  std::atomic<int> alive{0};
  std::vector<int> order;
  {
    Collector collector;
    Lane lane({"order", 1, std::chrono::seconds(10)}, collector);
    for (int index = 0; index < 1000; ++index) {
      CHECK(Submit(&lane, &alive, [&order, index] { order.push_back(index); }));
    }
    collector.WaitFor(1000);
    CHECK(lane.ThreadCount() == 1);
    lane.Stop();
  }
  CHECK(order.size() == 1000);
  for (int index = 0; index < 1000; ++index) CHECK(order[static_cast<size_t>(index)] == index);
  CHECK(alive == 0);
}

TEST(ThreadsStartOnlyForWorkThatWaits) {
  std::atomic<int> alive{0};
  Collector collector;
  Gate gate;
  std::atomic<int> inside{0};
  Lane lane({"threads", 3, std::chrono::seconds(10)}, collector);
  CHECK(lane.ThreadCount() == 0);
  for (int index = 0; index < 5; ++index) {
    CHECK(Submit(&lane, &alive, [&] {
      ++inside;
      gate.Pass();
    }));
  }
  CHECK(lane.ThreadCount() == 3);
  gate.Open();
  collector.WaitFor(5);
  CHECK(inside == 5);
}

TEST(IdleThreadsEndAndNewWorkStartsOthers) {
  std::atomic<int> alive{0};
  Collector collector;
  Lane lane({"idle", 2, std::chrono::milliseconds(1)}, collector);
  for (size_t round = 1; round <= 20; ++round) {
    CHECK(Submit(&lane, &alive, [] {}));
    collector.WaitFor(round);
    while (lane.ThreadCount() != 0) sched_yield();
  }
}

TEST(StoppingWaitsForWhatRunsAndDropsWhatWaits) {
  std::atomic<int> alive{0};
  Collector collector;
  Gate gate;
  Gate started;
  std::atomic<bool> over{false};
  std::atomic<bool> dropped_ran{false};
  {
    Lane lane({"stop", 1, std::chrono::seconds(10)}, collector);
    CHECK(Submit(&lane, &alive, [&] {
      started.Open();
      gate.Pass();
      over = true;
    }));
    CHECK(Submit(&lane, &alive, [&] { dropped_ran = true; }));
    started.Pass();
    // The stop is under way before or after the gate opens; both must end well.
    Collector other_sink;
    Lane opener({"opener", 1, std::chrono::seconds(10)}, other_sink);
    CHECK(Submit(&opener, &alive, [&] { gate.Open(); }));
    lane.Stop();
    CHECK(over);
    CHECK(collector.Count() >= 1);
    CHECK(dropped_ran == (collector.Count() == 2));
    CHECK(!Submit(&lane, &alive, [] {}));
  }
}

TEST(ThePoolReusesBuffersUpToItsLimit) {
  AlignedPool pool(3 * 4096);
  uint8_t* first = pool.Take(5000);
  CHECK(reinterpret_cast<uintptr_t>(first) % 4096 == 0);
  first[AlignedPool::CapacityFor(5000) - 1] = 1;
  pool.Give(first, 5000);
  CHECK(pool.FreeBytes() == 8192);
  CHECK(pool.Take(8192) == first);
  CHECK(pool.FreeBytes() == 0);
  uint8_t* second = pool.Take(1);
  uint8_t* third = pool.Take(0);
  pool.Give(first, 8192);
  pool.Give(second, 1);
  pool.Give(third, 0);  // beyond the limit
  CHECK(pool.FreeBytes() == 3 * 4096);
}

TEST(DiscardedPagesAreThoseInsideOnly) {
  AlignedPool pool(0);
  constexpr size_t kPage = 4096;
  uint8_t* bytes = pool.Take(4 * kPage);
  const auto resident = [&] {
    unsigned char pages[4];
    CHECK(mincore(bytes, sizeof pages * kPage, pages) == 0);
    return (pages[0] & 1) + (pages[1] & 1) + (pages[2] & 1) + (pages[3] & 1);
  };
  std::memset(bytes, 1, 4 * kPage);
  CHECK(resident() == 4);
  DiscardPages(bytes + 1, kPage);  // none is whole
  CHECK(resident() == 4);
  DiscardPages(bytes + 1, 3 * kPage);
  CHECK(resident() == 2);
  CHECK(bytes[0] == 1 && bytes[kPage - 1] == 1 && bytes[3 * kPage] == 1);
  DiscardPages(bytes, 4 * kPage);
  CHECK(resident() == 0);
  bytes[kPage] = 2;
  CHECK(bytes[kPage] == 2);
  pool.Give(bytes, 4 * kPage);
}

}  // namespace
}  // namespace keepgate
