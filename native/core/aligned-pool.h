// Page-aligned buffers, kept for reuse: asking the kernel for fresh pages costs more than filling them.
//
// One pool serves the whole process (worker threads as well); all of it is safe to call from any thread.
// Contents are whatever the previous user left.
#ifndef KEEPGATE_CORE_ALIGNED_POOL_H_
#define KEEPGATE_CORE_ALIGNED_POOL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace keepgate {

class AlignedPool {
 public:
  // Free buffers beyond `free_bytes_max` go back to the system.
  explicit AlignedPool(size_t free_bytes_max);
  ~AlignedPool();
  AlignedPool(const AlignedPool&) = delete;
  AlignedPool& operator=(const AlignedPool&) = delete;

  // Null where there is no memory. The capacity is CapacityFor(length).
  uint8_t* Take(size_t length);
  void Give(uint8_t* buffer, size_t length);

  size_t FreeBytes() const;
  // Length rounded up to whole pages.
  static size_t CapacityFor(size_t length);

 private:
  const size_t free_bytes_max_;
  mutable std::mutex mutex_;
  size_t free_bytes_ = 0;
  std::map<size_t, std::vector<uint8_t*>> free_;  // by capacity
};

// Gives the whole pages inside of [bytes, bytes + length) back to the kernel: their content is lost, the
// address range stays, and takes memory again page by page as it is written. Only of private anonymous memory
// that the caller owns; nothing may be reading into it meanwhile. Where the kernel refuses (locked memory),
// nothing happens.
void DiscardPages(uint8_t* bytes, size_t length);

// Lives until the process ends: buffers may come back while it exits.
AlignedPool& ProcessAlignedPool();

}  // namespace keepgate

#endif  // KEEPGATE_CORE_ALIGNED_POOL_H_
