#include "crc32c.h"

#include <atomic>
#include <cstring>

#include "crc32c-polynomial.h"

namespace keepgate {
namespace {

constexpr ShiftTable kShiftBlock(4096);

const CrcKernel* FastestCrcKernel() {
  if (const CrcKernel* kernel = Avx512CrcKernel()) return kernel;
  if (const CrcKernel* kernel = Sse42CrcKernel()) return kernel;
  if (const CrcKernel* kernel = ArmCrcKernel()) return kernel;
  return PortableCrcKernel();
}

std::atomic<const CrcKernel*>& Active() {
  static std::atomic<const CrcKernel*> active{FastestCrcKernel()};
  return active;
}

}  // namespace

const CrcKernel& ActiveCrcKernel() { return *Active().load(std::memory_order_relaxed); }

bool ForceCrcKernel(const char* name) {
  if (std::strcmp(name, "auto") == 0) {
    Active().store(FastestCrcKernel(), std::memory_order_relaxed);
    return true;
  }
  for (const CrcKernel* kernel : {PortableCrcKernel(), Sse42CrcKernel(), Avx512CrcKernel(), ArmCrcKernel()}) {
    if (kernel == nullptr || std::strcmp(kernel->name, name) != 0) continue;
    Active().store(kernel, std::memory_order_relaxed);
    return true;
  }
  return false;
}

uint32_t ShiftByBlock(uint32_t sum) { return kShiftBlock(sum); }

}  // namespace keepgate
