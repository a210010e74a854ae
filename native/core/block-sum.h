// Sums of 4096-byte blocks: plain, block and log sums (defined in src/ports/checksum.ts), and the test for
// zeros.
//
// The three kinds differ in what is summed before the data only, so each follows from the plain sum by one
// exclusive or: sum(prefix || data) = ShiftByBlock(sum(prefix)) ^ sum(data). No function here looks at the
// data twice.
//
// Callers have checked that all ranges are inside their buffers.
#ifndef KEEPGATE_CORE_BLOCK_SUM_H_
#define KEEPGATE_CORE_BLOCK_SUM_H_

#include <cstddef>
#include <cstdint>

namespace keepgate {

constexpr size_t kBlockBytes = 4096;

// Values that a block sum never has, since they mean something else.
constexpr uint32_t kZeroBlockSum = 0;
constexpr uint32_t kRemoteOnlySum = 1;

// Copies `length` bytes to target + target_start, continuing or beginning sums[k] of target's block k.
void CopyAndSum(const uint8_t* source, size_t length, uint8_t* target, size_t target_start, uint32_t* sums);

void SumBlocks(const uint8_t* bytes, size_t count, uint32_t* sums);

// Conversions in place, for consecutive blocks.
void PlainToLogSums(uint32_t* sums, size_t count, uint64_t first_block, uint64_t lsn);
void LogToBlockSums(uint32_t* sums, size_t count, uint64_t first_block, uint64_t lsn);
void PlainToBlockSums(uint32_t* sums, size_t count, uint64_t first_block);

// Index of the first block that is not what its sum says, or -1. A block whose sum is kZeroBlockSum is set to
// zeros.
int64_t VerifyBlocks(uint8_t* bytes, size_t count, uint64_t first_block, const uint32_t* sums);
int64_t VerifyLogBlocks(const uint8_t* bytes, size_t count, uint64_t first_block, uint64_t lsn,
                        const uint32_t* sums);

enum BlockState : uint8_t { kSound = 0, kSoundZeros = 1, kUnsound = 2 };
// Block k, number blocks[k], was written at lsns[k] and has the log sum sums[k]. A sound one gets its block
// sum there; returns how many are not sound.
size_t CheckLogBlocks(const uint8_t* bytes, size_t count, const double* blocks, const double* lsns,
                      uint32_t* sums, uint8_t* states);

bool IsZero(const uint8_t* bytes, size_t length);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_BLOCK_SUM_H_
