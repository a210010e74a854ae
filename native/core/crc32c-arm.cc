// The CRC32C instructions that ARMv8.0 has as an option and ARMv8.1 always.
#include "crc32c.h"

#if defined(__aarch64__) && defined(__linux__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

#include <arm_acle.h>
#include <sys/auxv.h>

#include <cstring>

#include "crc32c-polynomial.h"

#define KEEPGATE_CRC_TARGET __attribute__((target("+crc")))

namespace keepgate {
namespace {

constexpr unsigned long kHwcapCrc32 = 1ul << 7;  // HWCAP_CRC32 of asm/hwcap.h

KEEPGATE_CRC_TARGET inline uint32_t Word(uint32_t state, uint64_t word) { return __crc32cd(state, word); }

KEEPGATE_CRC_TARGET inline uint32_t Byte(uint32_t state, uint8_t byte) { return __crc32cb(state, byte); }

#include "crc32c-interleaved.h"

constexpr CrcKernel kKernel = {"armv8", Update, Copy};

}  // namespace

const CrcKernel* ArmCrcKernel() { return (getauxval(AT_HWCAP) & kHwcapCrc32) != 0 ? &kKernel : nullptr; }

}  // namespace keepgate

#else

namespace keepgate {
const CrcKernel* ArmCrcKernel() { return nullptr; }
}  // namespace keepgate

#endif
