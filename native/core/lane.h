// A lane: a queue of jobs and the few threads that work on it, first in, first out. Everything that may wait
// for a disk runs on one, so that a disk that hangs delays its own lane and nothing else.
//
// Threads start when work waits and end after they were idle for a while, so that a lane that is not used
// costs nothing. Submit and Stop belong to one thread (the owner's); jobs run on the lane's threads and are
// then handed to the sink, there.
#ifndef KEEPGATE_CORE_LANE_H_
#define KEEPGATE_CORE_LANE_H_

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace keepgate {

class Job {
 public:
  virtual ~Job() = default;
  virtual void Run() = 0;
};

class JobSink {
 public:
  virtual ~JobSink() = default;
  // Called on the lane's thread, once for each job that ran.
  virtual void Finished(std::unique_ptr<Job> job) = 0;
};

class Lane {
 public:
  struct Options {
    std::string name;  // of its threads; the kernel shows 15 characters
    size_t threads_max = 1;
    std::chrono::milliseconds idle_max{10'000};
  };

  // The sink must outlive the lane.
  Lane(Options options, JobSink& sink);
  // As Stop.
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // False: stopped, or the system has no thread to give and none is running; the job was not taken.
  bool Submit(std::unique_ptr<Job>& job);
  // Lets the jobs that are running finish and ends the threads; jobs still queued are destroyed without
  // having run.
  void Stop();

  size_t ThreadCount() const;

 private:
  static void* ThreadMain(void* lane);
  void Work();
  bool StartThread();
  void JoinEnded();

  const Options options_;
  JobSink& sink_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> queue_;
  std::vector<pthread_t> running_;
  std::vector<pthread_t> ended_;  // have left Work, and are yet to be joined
  size_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace keepgate

#endif  // KEEPGATE_CORE_LANE_H_
