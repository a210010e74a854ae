#include "aligned-pool.h"

#include <sys/mman.h>

#include <cstdlib>

namespace keepgate {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kProcessFreeBytesMax = size_t{32} << 20;

}  // namespace

AlignedPool::AlignedPool(size_t free_bytes_max) : free_bytes_max_(free_bytes_max) {}

AlignedPool::~AlignedPool() {
  for (auto& [capacity, buffers] : free_) {
    for (uint8_t* buffer : buffers) std::free(buffer);
  }
}

size_t AlignedPool::CapacityFor(size_t length) {
  const size_t whole = length == 0 ? 1 : length;
  return (whole + kPageBytes - 1) / kPageBytes * kPageBytes;
}

uint8_t* AlignedPool::Take(size_t length) {
  const size_t capacity = CapacityFor(length);
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    const auto found = free_.find(capacity);
    if (found != free_.end()) {
      uint8_t* buffer = found->second.back();
      found->second.pop_back();
      if (found->second.empty()) free_.erase(found);
      free_bytes_ -= capacity;
      return buffer;
    }
  }
  return static_cast<uint8_t*>(std::aligned_alloc(kPageBytes, capacity));
}

void AlignedPool::Give(uint8_t* buffer, size_t length) {
  const size_t capacity = CapacityFor(length);
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (free_bytes_ + capacity <= free_bytes_max_) {
      free_[capacity].push_back(buffer);
      free_bytes_ += capacity;
      return;
    }
  }
  std::free(buffer);
}

size_t AlignedPool::FreeBytes() const {
  const std::lock_guard<std::mutex> guard(mutex_);
  return free_bytes_;
}

void DiscardPages(uint8_t* bytes, size_t length) {
  const size_t before = (kPageBytes - reinterpret_cast<uintptr_t>(bytes) % kPageBytes) % kPageBytes;
  if (length < before + kPageBytes) return;
  const size_t whole = (length - before) / kPageBytes * kPageBytes;
  static_cast<void>(madvise(bytes + before, whole, MADV_DONTNEED));
}

AlignedPool& ProcessAlignedPool() {
  static AlignedPool* const pool = new AlignedPool(kProcessFreeBytesMax);
  return *pool;
}

}  // namespace keepgate
