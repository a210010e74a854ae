#include "block-sum.h"

#include <cstring>

#include "crc32c.h"

namespace keepgate {
namespace {

uint32_t UpdateLittleEndian64(const CrcKernel& kernel, uint32_t state, uint64_t value) {
  uint8_t bytes[8];
  for (size_t index = 0; index < sizeof bytes; ++index)
    bytes[index] = static_cast<uint8_t>(value >> (8 * index));
  return kernel.update(state, bytes, sizeof bytes);
}

// What turns a plain sum into the block sum of `block` (before reserved values are avoided), or into a log
// sum when `state` has taken the LSN in.
uint32_t PrefixMask(const CrcKernel& kernel, uint32_t state, uint64_t block) {
  return ShiftByBlock(~UpdateLittleEndian64(kernel, state, block));
}

constexpr uint32_t kStart = ~uint32_t{0};

constexpr uint32_t AvoidReserved(uint32_t sum) { return sum <= kRemoteOnlySum ? sum + 2 : sum; }

}  // namespace

void CopyAndSum(const uint8_t* source, size_t length, uint8_t* target, size_t target_start, uint32_t* sums) {
  const CrcKernel& kernel = ActiveCrcKernel();
  while (length > 0) {
    const size_t inside = target_start % kBlockBytes;
    const size_t left = kBlockBytes - inside;
    const size_t piece = length < left ? length : left;
    uint32_t& sum = sums[target_start / kBlockBytes];
    sum = ~kernel.copy(inside == 0 ? kStart : ~sum, target + target_start, source, piece);
    source += piece;
    target_start += piece;
    length -= piece;
  }
}

void SumBlocks(const uint8_t* bytes, size_t count, uint32_t* sums) {
  const CrcKernel& kernel = ActiveCrcKernel();
  for (size_t index = 0; index < count; ++index) {
    sums[index] = ~kernel.update(kStart, bytes + index * kBlockBytes, kBlockBytes);
  }
}

void PlainToLogSums(uint32_t* sums, size_t count, uint64_t first_block, uint64_t lsn) {
  const CrcKernel& kernel = ActiveCrcKernel();
  const uint32_t state = UpdateLittleEndian64(kernel, kStart, lsn);
  for (size_t index = 0; index < count; ++index)
    sums[index] ^= PrefixMask(kernel, state, first_block + index);
}

void LogToBlockSums(uint32_t* sums, size_t count, uint64_t first_block, uint64_t lsn) {
  PlainToLogSums(sums, count, first_block, lsn);  // an exclusive or is its own inverse
  PlainToBlockSums(sums, count, first_block);
}

void PlainToBlockSums(uint32_t* sums, size_t count, uint64_t first_block) {
  const CrcKernel& kernel = ActiveCrcKernel();
  for (size_t index = 0; index < count; ++index) {
    sums[index] = AvoidReserved(sums[index] ^ PrefixMask(kernel, kStart, first_block + index));
  }
}

int64_t VerifyBlocks(uint8_t* bytes, size_t count, uint64_t first_block, const uint32_t* sums) {
  const CrcKernel& kernel = ActiveCrcKernel();
  for (size_t index = 0; index < count; ++index) {
    uint8_t* block = bytes + index * kBlockBytes;
    if (sums[index] == kZeroBlockSum) {
      std::memset(block, 0, kBlockBytes);
      continue;
    }
    const uint32_t plain = ~kernel.update(kStart, block, kBlockBytes);
    // kRemoteOnlySum never equals a computed sum, so it needs no case of its own.
    if (AvoidReserved(plain ^ PrefixMask(kernel, kStart, first_block + index)) != sums[index]) {
      return static_cast<int64_t>(index);
    }
  }
  return -1;
}

int64_t VerifyLogBlocks(const uint8_t* bytes, size_t count, uint64_t first_block, uint64_t lsn,
                        const uint32_t* sums) {
  const CrcKernel& kernel = ActiveCrcKernel();
  const uint32_t state = UpdateLittleEndian64(kernel, kStart, lsn);
  for (size_t index = 0; index < count; ++index) {
    const uint32_t plain = ~kernel.update(kStart, bytes + index * kBlockBytes, kBlockBytes);
    if ((plain ^ PrefixMask(kernel, state, first_block + index)) != sums[index])
      return static_cast<int64_t>(index);
  }
  return -1;
}

size_t CheckLogBlocks(const uint8_t* bytes, size_t count, const double* blocks, const double* lsns,
                      uint32_t* sums, uint8_t* states) {
  size_t unsound = 0;
  for (size_t index = 0; index < count; ++index) {
    const uint8_t* block = bytes + index * kBlockBytes;
    const auto number = static_cast<uint64_t>(blocks[index]);
    const auto lsn = static_cast<uint64_t>(lsns[index]);
    if (VerifyLogBlocks(block, 1, number, lsn, sums + index) >= 0) {
      states[index] = kUnsound;
      ++unsound;
      continue;
    }
    LogToBlockSums(sums + index, 1, number, lsn);
    states[index] = IsZero(block, kBlockBytes) ? kSoundZeros : kSound;
  }
  return unsound;
}

bool IsZero(const uint8_t* bytes, size_t length) {
  size_t at = 0;
  for (; length - at >= 64; at += 64) {
    uint64_t words[8];
    std::memcpy(words, bytes + at, sizeof words);
    uint64_t any = 0;
    for (const uint64_t word : words) any |= word;
    if (any != 0) return false;
  }
  for (; at < length; ++at) {
    if (bytes[at] != 0) return false;
  }
  return true;
}

}  // namespace keepgate
