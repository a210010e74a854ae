#include "instance.h"

#include <errno.h>
#include <unistd.h>

#include <utility>

namespace keepgate {

OpenedFile::~OpenedFile() {
  if (closing != nullptr) {
    instance.SubmitClosing(lanes.write, std::move(closing));
  } else if (fd >= 0) {
    close(fd);
  }
}

class Instance::Operation final : public Job {
 public:
  explicit Operation(Work work) : work_(std::move(work)) {}

  void Run() override { outcome_ = work_(); }

  napi_value Promise(napi_env env, const std::vector<napi_value>& kept,
                     std::function<Outcome(Outcome)> settle) {
    napi_value promise = nullptr;
    if (napi_create_promise(env, &deferred_, &promise) != napi_ok) return nullptr;
    settle_ = std::move(settle);
    kept_.reserve(kept.size());
    for (const napi_value value : kept) {
      napi_ref reference = nullptr;
      if (napi_create_reference(env, value, 1, &reference) == napi_ok) kept_.push_back(reference);
    }
    return promise;
  }

  bool promised() const { return deferred_ != nullptr; }
  void Fail(int64_t error) { outcome_ = error; }

  void Settle(napi_env env) {
    Release(env);
    // The work goes first: it holds the file, and what `settle` says may depend on that.
    work_ = nullptr;
    if (settle_) outcome_ = settle_(std::move(outcome_));
    const napi_value value = ToValue(env, outcome_);
    if (value != nullptr) napi_resolve_deferred(env, deferred_, value);
  }

  // Lets go of the buffers.
  void Release(napi_env env) {
    for (const napi_ref reference : kept_) napi_delete_reference(env, reference);
    kept_.clear();
  }

 private:
  Work work_;
  std::function<Outcome(Outcome)> settle_;
  Outcome outcome_ = int64_t{-ECANCELED};
  napi_deferred deferred_ = nullptr;
  std::vector<napi_ref> kept_;
};

Instance* Instance::Create(napi_env env) {
  auto* instance = new Instance(env);
  napi_value name = nullptr;
  const auto settle = [](napi_env callback_env, napi_value, void* context, void*) {
    if (callback_env != nullptr) static_cast<Instance*>(context)->SettleFinished();
  };
  if (napi_create_string_utf8(env, "keepgate lanes", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, instance, settle,
                                      &instance->wake_) != napi_ok ||
      napi_unref_threadsafe_function(env, instance->wake_) != napi_ok) {
    delete instance;
    napi_throw_error(env, nullptr, "the addon cannot start in this environment");
    return nullptr;
  }
  // Hooks run in reverse order, so this one before the thread-safe function's own: no lane calls it after its
  // end.
  napi_add_env_cleanup_hook(
      env, [](void* data) { static_cast<Instance*>(data)->TearDown(); }, instance);
  napi_set_instance_data(
      env, instance, [](napi_env, void* data, void*) { delete static_cast<Instance*>(data); }, nullptr);
  return instance;
}

Instance::~Instance() = default;

size_t Instance::LaneNumber(const std::string& name, const std::string& thread_name, size_t threads_max) {
  const auto [entry, added] = lane_numbers_.emplace(name, lanes_.size());
  if (added) {
    Lane::Options options;
    options.name = thread_name;
    options.threads_max = threads_max;
    lanes_.push_back(std::make_unique<Lane>(std::move(options), *this));
  }
  return entry->second;
}

Lane* Instance::LaneAt(size_t number) const {
  return number < lanes_.size() ? lanes_[number].get() : nullptr;
}

double Instance::Keep(std::shared_ptr<OpenedFile> file) {
  const double handle = next_handle_;
  next_handle_ += 1;
  files_.emplace(static_cast<int64_t>(handle), std::move(file));
  return handle;
}

const std::shared_ptr<OpenedFile>* Instance::Find(int64_t handle) const {
  const auto found = files_.find(handle);
  return found == files_.end() ? nullptr : &found->second;
}

napi_value Instance::Close(int64_t handle) {
  const auto found = files_.find(handle);
  if (found == files_.end()) return nullptr;
  const int fd = found->second->fd;
  auto operation = std::make_unique<Operation>(
      [fd]() -> Outcome { return close(fd) == 0 ? int64_t{0} : static_cast<int64_t>(-errno); });
  const napi_value promise = operation->Promise(env_, {}, nullptr);
  if (promise == nullptr) return nullptr;
  BeginPending();
  found->second->closing = std::move(operation);
  files_.erase(found);
  return promise;
}

napi_value Instance::Run(Lane* lane, Work work, const std::vector<napi_value>& kept,
                         std::function<Outcome(Outcome)> settle) {
  auto operation = std::make_unique<Operation>(std::move(work));
  const napi_value promise = operation->Promise(env_, kept, std::move(settle));
  if (promise == nullptr) return nullptr;
  std::unique_ptr<Job> job = std::move(operation);
  BeginPending();
  if (!lane->Submit(job)) {
    static_cast<Operation*>(job.get())->Fail(-EAGAIN);
    Finished(std::move(job));
  }
  return promise;
}

void Instance::RunUnheeded(Lane* lane, std::function<void()> work) {
  std::unique_ptr<Job> job = std::make_unique<Operation>([work = std::move(work)]() -> Outcome {
    work();
    return int64_t{0};
  });
  static_cast<void>(lane->Submit(job));
}

void Instance::SubmitClosing(Lane* lane, std::unique_ptr<Job> job) {
  if (lane->Submit(job)) return;
  job->Run();
  Finished(std::move(job));
}

void Instance::Finished(std::unique_ptr<Job> job) {
  bool first;
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    first = finished_.empty();
    finished_.push_back(std::move(job));
  }
  if (first) napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
}

void Instance::SettleFinished() {
  std::vector<std::unique_ptr<Job>> finished;
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    finished.swap(finished_);
  }
  for (std::unique_ptr<Job>& job : finished) {
    auto* operation = static_cast<Operation*>(job.get());
    if (!operation->promised()) continue;
    napi_handle_scope scope;
    if (napi_open_handle_scope(env_, &scope) != napi_ok) continue;
    operation->Settle(env_);
    napi_close_handle_scope(env_, scope);
    EndPending();
  }
}

void Instance::BeginPending() {
  if (pending_++ == 0) napi_ref_threadsafe_function(env_, wake_);
}

void Instance::EndPending() {
  if (--pending_ == 0) napi_unref_threadsafe_function(env_, wake_);
}

void Instance::TearDown() {
  for (const std::unique_ptr<Lane>& lane : lanes_) lane->Stop();
  // The promises and references of operations that never settle go with the environment. Letting an operation
  // go may close a file, which adds to the list.
  while (!finished_.empty()) {
    std::vector<std::unique_ptr<Job>> finished;
    finished.swap(finished_);
  }
  files_.clear();
}

}  // namespace keepgate
