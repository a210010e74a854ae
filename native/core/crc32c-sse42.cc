// The crc32 instruction of SSE 4.2. This file is compiled for the baseline; only the functions marked so use
// it.
#include "crc32c.h"

#if defined(__x86_64__)

#include <nmmintrin.h>

#include <cstring>

#include "crc32c-polynomial.h"

#define KEEPGATE_CRC_TARGET __attribute__((target("sse4.2")))

namespace keepgate {
namespace {

KEEPGATE_CRC_TARGET inline uint32_t Word(uint32_t state, uint64_t word) {
  return static_cast<uint32_t>(_mm_crc32_u64(state, word));
}

KEEPGATE_CRC_TARGET inline uint32_t Byte(uint32_t state, uint8_t byte) { return _mm_crc32_u8(state, byte); }

#include "crc32c-interleaved.h"

constexpr CrcKernel kKernel = {"sse4.2", Update, Copy};

}  // namespace

const CrcKernel* Sse42CrcKernel() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("sse4.2") ? &kKernel : nullptr;
}

}  // namespace keepgate

#else

namespace keepgate {
const CrcKernel* Sse42CrcKernel() { return nullptr; }
}  // namespace keepgate

#endif
