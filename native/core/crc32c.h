// CRC-32C (Castagnoli polynomial, RFC 3720 appendix B.4): one interface over several implementations
// ("kernels").
//
// The kernel is chosen at run time by what the processor has; tests force each in turn. Kernels work on the
// bare register; `Crc32c` adds the inversions at both ends that the standard asks for, and those cancel out
// when sums are continued: Crc32c(Crc32c(0, a), b) == Crc32c(0, a || b).
#ifndef KEEPGATE_CORE_CRC32C_H_
#define KEEPGATE_CORE_CRC32C_H_

#include <cstddef>
#include <cstdint>

namespace keepgate {

struct CrcKernel {
  const char* name;
  // Both take and return the bare register, and accept any alignment and length.
  uint32_t (*update)(uint32_t state, const uint8_t* bytes, size_t length);
  // Copies while summing. Source and target must not overlap.
  uint32_t (*copy)(uint32_t state, uint8_t* target, const uint8_t* source, size_t length);
};

// Each is null where this processor, or this build, does not have it. The portable one is always there.
const CrcKernel* PortableCrcKernel();
const CrcKernel* Sse42CrcKernel();
const CrcKernel* Avx512CrcKernel();
const CrcKernel* ArmCrcKernel();

// What runs now: the fastest kernel, unless one was forced.
const CrcKernel& ActiveCrcKernel();
// Makes every thread use the kernel of that name ("portable", "sse4.2", "avx512", "armv8"; "auto": the
// fastest one). False: this processor does not have it, and nothing changed.
bool ForceCrcKernel(const char* name);

inline uint32_t Crc32c(uint32_t seed, const uint8_t* bytes, size_t length) {
  return ~ActiveCrcKernel().update(~seed, bytes, length);
}

// What the sum of A becomes when 4096 further bytes follow: Crc32c(A || B) == ShiftByBlock(Crc32c(A)) ^
// Crc32c(B) for any B of 4096 bytes. (Linear in `sum`; holds for standard sums, inversions included.)
uint32_t ShiftByBlock(uint32_t sum);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_CRC32C_H_
