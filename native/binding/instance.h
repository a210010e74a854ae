// Everything that the addon holds for one JavaScript environment (the main thread, or one worker): lanes,
// open files, and the operations under way. It goes when its environment does: running operations are waited
// for, queued ones are dropped, files closed.
//
// An operation is work for a lane's thread. It keeps alive what the work uses: the open file, and the
// JavaScript buffers (by reference) until its promise is settled on the environment's own thread. Threads
// hand finished operations over in one list; one wake-up settles all that are there. While any is under way
// the environment's event loop stays alive; idle lanes do not keep it.
#ifndef KEEPGATE_BINDING_INSTANCE_H_
#define KEEPGATE_BINDING_INSTANCE_H_

#include <node_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "../core/lane.h"
#include "outcome.h"

namespace keepgate {

using Work = std::function<Outcome()>;

class Instance;

// Where the operations on a file run: reads beside one another, writes in their order, and syncs where
// nothing else queues behind them.
struct FileLanes {
  Lane* read;
  Lane* write;
  Lane* sync;
};

// A descriptor with the lanes that its operations run on. Operations share it, and the descriptor is closed
// when the last one has let go. Made and let go on the environment's thread; work on a lane uses `fd` only.
struct OpenedFile {
  OpenedFile(Instance& owner, const FileLanes& file_lanes) : instance(owner), lanes(file_lanes) {}
  ~OpenedFile();
  OpenedFile(const OpenedFile&) = delete;
  OpenedFile& operator=(const OpenedFile&) = delete;

  Instance& instance;
  const FileLanes lanes;
  int fd = -1;
  // Whether reads without waiting are worth trying.
  bool answers_cached_reads = true;
  // Hints to write out that no thread has come to yet.
  std::atomic<int> write_outs_queued{0};
  // Set once closing was asked for: closes `fd` on the lane, and settles the promise of that.
  std::unique_ptr<Job> closing;
};

class Instance final : public JobSink {
 public:
  // Null after it has thrown.
  static Instance* Create(napi_env env);
  ~Instance() override;

  // The number of the lane of that name, made at the first call; it lives as long as the instance.
  size_t LaneNumber(const std::string& name, const std::string& thread_name, size_t threads_max);
  // Null where there is none of that number.
  Lane* LaneAt(size_t number) const;

  // A number that stands for the file, never used twice.
  double Keep(std::shared_ptr<OpenedFile> file);
  // Null where no such file is open.
  const std::shared_ptr<OpenedFile>* Find(int64_t handle) const;
  // No further operation finds the file; the promise resolves once the descriptor is closed. Null where it is
  // not open.
  napi_value Close(int64_t handle);

  // A promise of the outcome of `work`, which runs on `lane`. `kept` are buffers that it uses. `settle`,
  // where given, replaces the outcome on the environment's thread.
  napi_value Run(Lane* lane, Work work, const std::vector<napi_value>& kept = {},
                 std::function<Outcome(Outcome)> settle = nullptr);
  // Runs without a promise, and without keeping the event loop alive.
  void RunUnheeded(Lane* lane, std::function<void()> work);

  // Settles it even where the lane does not take it.
  void SubmitClosing(Lane* lane, std::unique_ptr<Job> job);

  void Finished(std::unique_ptr<Job> job) override;

 private:
  class Operation;

  explicit Instance(napi_env env) : env_(env) {}
  void SettleFinished();
  void BeginPending();
  void EndPending();
  void TearDown();

  const napi_env env_;
  napi_threadsafe_function wake_ = nullptr;
  size_t pending_ = 0;
  double next_handle_ = 1;
  std::unordered_map<int64_t, std::shared_ptr<OpenedFile>> files_;
  std::unordered_map<std::string, size_t> lane_numbers_;
  std::vector<std::unique_ptr<Lane>> lanes_;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Job>> finished_;
};

}  // namespace keepgate

#endif  // KEEPGATE_BINDING_INSTANCE_H_
