#include "lane.h"

#include <signal.h>

#include <algorithm>
#include <utility>

namespace keepgate {
namespace {

constexpr size_t kStackBytes = 256 * 1024;

// Starts a thread that takes no signals: those are for the event loop's thread.
int StartQuietThread(pthread_t* thread, void* (*main)(void*), void* argument) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(thread, &attributes, main, argument);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return error;
}

}  // namespace

Lane::Lane(Options options, JobSink& sink) : options_(std::move(options)), sink_(sink) {}

Lane::~Lane() { Stop(); }

bool Lane::Submit(std::unique_ptr<Job>& job) {
  JoinEnded();
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (stopping_) return false;
    // One idle thread per queued job is enough; otherwise start another, or let it queue.
    if (queue_.size() >= idle_ && running_.size() < options_.threads_max && !StartThread() &&
        running_.empty()) {
      return false;
    }
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
  return true;
}

void Lane::Stop() {
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (;;) {
    pthread_t thread;
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      if (running_.empty()) break;
      thread = running_.back();
      running_.pop_back();
    }
    pthread_join(thread, nullptr);
  }
  JoinEnded();
  queue_.clear();
}

size_t Lane::ThreadCount() const {
  const std::lock_guard<std::mutex> guard(mutex_);
  return running_.size();
}

// Called with the mutex held.
bool Lane::StartThread() {
  pthread_t thread;
  if (StartQuietThread(&thread, ThreadMain, this) != 0) return false;
  pthread_setname_np(thread, options_.name.substr(0, 15).c_str());
  running_.push_back(thread);
  return true;
}

void Lane::JoinEnded() {
  std::vector<pthread_t> ended;
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    ended.swap(ended_);
  }
  for (const pthread_t thread : ended) pthread_join(thread, nullptr);
}

void* Lane::ThreadMain(void* lane) {
  static_cast<Lane*>(lane)->Work();
  return nullptr;
}

void Lane::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    ++idle_;
    const bool roused =
        wake_.wait_for(lock, options_.idle_max, [this] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (stopping_) return;  // Stop joins what is in running_
    if (!roused) {
      const auto self = std::find_if(running_.begin(), running_.end(), [](pthread_t thread) {
        return pthread_equal(thread, pthread_self()) != 0;
      });
      ended_.push_back(*self);
      running_.erase(self);
      return;
    }
    std::unique_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    job->Run();
    sink_.Finished(std::move(job));
    lock.lock();
  }
}

}  // namespace keepgate
