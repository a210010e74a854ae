// Every kernel against the vectors of RFC 3720 B.4 and against the definition, bit by bit.
#include "native/core/crc32c.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "native/core/block-sum.h"

namespace keepgate {
namespace {

using Bytes = std::vector<uint8_t>;

uint32_t ByDefinition(uint32_t state, const uint8_t* bytes, size_t length) {
  for (size_t index = 0; index < length; ++index) {
    state ^= bytes[index];
    for (int bit = 0; bit < 8; ++bit) state = (state & 1) != 0 ? (state >> 1) ^ 0x82f63b78 : state >> 1;
  }
  return state;
}

uint32_t Reference(const uint8_t* bytes, size_t length) { return ~ByDefinition(~0u, bytes, length); }

std::vector<const CrcKernel*> Kernels() {
  std::vector<const CrcKernel*> kernels;
  for (const CrcKernel* kernel : {PortableCrcKernel(), Sse42CrcKernel(), Avx512CrcKernel(), ArmCrcKernel()}) {
    if (kernel != nullptr) kernels.push_back(kernel);
  }
  return kernels;
}

Bytes RandomBytes(size_t length) {
  std::mt19937 random(static_cast<unsigned>(length) + 1);
  Bytes bytes(length);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

Bytes Prefixed(std::initializer_list<uint64_t> words, const uint8_t* data, size_t length) {
  Bytes all;
  for (const uint64_t word : words) {
    for (int index = 0; index < 8; ++index) all.push_back(static_cast<uint8_t>(word >> (8 * index)));
  }
  all.insert(all.end(), data, data + length);
  return all;
}

TEST(KernelsGiveTheVectorsOfTheStandard) {
  Bytes ascending(32);
  std::iota(ascending.begin(), ascending.end(), uint8_t{0});
  const Bytes descending(ascending.rbegin(), ascending.rend());
  const Bytes read_command = {0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                              0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
                              0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
                              0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  const struct {
    Bytes bytes;
    uint32_t sum;
  } vectors[] = {{Bytes(32, 0x00), 0x8a9136aa}, {Bytes(32, 0xff), 0x62a8ab43}, {ascending, 0x46dd794e},
                 {descending, 0x113fdb5c},      {read_command, 0xd9963a56},    {{}, 0}};
  for (const CrcKernel* kernel : Kernels()) {
    for (const auto& vector : vectors) {
      CHECK(~kernel->update(~0u, vector.bytes.data(), vector.bytes.size()) == vector.sum);
    }
  }
}

TEST(KernelsAgreeWithTheDefinitionAtEveryLengthAndAlignment) {
  const Bytes bytes = RandomBytes(9000);
  for (const CrcKernel* kernel : Kernels()) {
    for (size_t length = 0; length <= 300; ++length) {
      const size_t start = length % 17;
      CHECK(kernel->update(7, &bytes[start], length) == ByDefinition(7, &bytes[start], length));
    }
    for (const size_t length :
         {503, 504, 505, 1007, 1008, 4079, 4080, 4081, 4095, 4096, 4097, 8160, 8192, 8999}) {
      CHECK(kernel->update(7, bytes.data(), length) == ByDefinition(7, bytes.data(), length));
    }
  }
}

TEST(SumsContinueOverEverySplit) {
  const Bytes bytes = RandomBytes(300);
  const uint32_t whole = Reference(bytes.data(), bytes.size());
  for (const CrcKernel* kernel : Kernels()) {
    for (size_t split = 0; split <= bytes.size(); ++split) {
      const uint32_t state = kernel->update(~0u, bytes.data(), split);
      CHECK(~kernel->update(state, bytes.data() + split, bytes.size() - split) == whole);
    }
  }
}

TEST(CopiesAreExactAndStayInside) {
  const Bytes source = RandomBytes(9000);
  for (const CrcKernel* kernel : Kernels()) {
    for (const size_t length : {0, 1, 7, 8, 9, 167, 504, 512, 1361, 4080, 4096, 4100, 8192, 8990}) {
      Bytes target(length + 16, 0xa5);
      CHECK(kernel->copy(3, &target[8], &source[5], length) == ByDefinition(3, &source[5], length));
      CHECK(length == 0 || std::memcmp(&target[8], &source[5], length) == 0);
      CHECK(std::all_of(target.begin(), target.begin() + 8, [](uint8_t byte) { return byte == 0xa5; }));
      CHECK(std::all_of(target.end() - 8, target.end(), [](uint8_t byte) { return byte == 0xa5; }));
    }
  }
}

TEST(AShiftStandsForABlockThatFollows) {
  const Bytes prefix = RandomBytes(77);
  const Bytes block = RandomBytes(kBlockBytes);
  Bytes both = prefix;
  both.insert(both.end(), block.begin(), block.end());
  const uint32_t joined =
      ShiftByBlock(Reference(prefix.data(), prefix.size())) ^ Reference(block.data(), block.size());
  CHECK(joined == Reference(both.data(), both.size()));
}

TEST(AForcedKernelIsUsedUntilAnotherIs) {
  for (const CrcKernel* kernel : Kernels()) {
    CHECK(ForceCrcKernel(kernel->name));
    CHECK(&ActiveCrcKernel() == kernel);
  }
  CHECK(!ForceCrcKernel("abacus"));
  CHECK(&ActiveCrcKernel() == Kernels().back());
  CHECK(ForceCrcKernel("auto"));
}

TEST(BlockAndLogSumsFollowFromThePlainOne) {
  constexpr uint64_t kFirst = 0x1'0000'0001;
  constexpr uint64_t kLsn = 0x1f'ffff'ffff'fffe;
  const Bytes blocks = RandomBytes(3 * kBlockBytes);
  for (const CrcKernel* kernel : Kernels()) {
    CHECK(ForceCrcKernel(kernel->name));
    uint32_t plain[3];
    SumBlocks(blocks.data(), 3, plain);
    uint32_t block[3];
    uint32_t log[3];
    std::memcpy(block, plain, sizeof plain);
    std::memcpy(log, plain, sizeof plain);
    PlainToBlockSums(block, 3, kFirst);
    PlainToLogSums(log, 3, kFirst, kLsn);
    for (size_t index = 0; index < 3; ++index) {
      const uint8_t* data = &blocks[index * kBlockBytes];
      const Bytes seeded = Prefixed({kFirst + index}, data, kBlockBytes);
      const Bytes logged = Prefixed({kLsn, kFirst + index}, data, kBlockBytes);
      CHECK(plain[index] == Reference(data, kBlockBytes));
      CHECK(block[index] == Reference(seeded.data(), seeded.size()));
      CHECK(log[index] == Reference(logged.data(), logged.size()));
    }
    LogToBlockSums(log, 3, kFirst, kLsn);
    CHECK(std::memcmp(log, block, sizeof log) == 0);
  }
  CHECK(ForceCrcKernel("auto"));
}

// The last word of a block decides its sum freely: a block whose sum would be a reserved value.
Bytes BlockWithSum(uint64_t number, uint32_t wanted) {
  Bytes block = RandomBytes(kBlockBytes);
  // Gaussian elimination over the 32 bits of the last word.
  const auto sum_with = [&](uint32_t word) {
    std::memcpy(&block[kBlockBytes - 4], &word, sizeof word);
    const Bytes seeded = Prefixed({number}, block.data(), kBlockBytes);
    return Reference(seeded.data(), seeded.size());
  };
  const uint32_t base = sum_with(0);
  std::vector<std::pair<uint32_t, uint32_t>> rows;  // effect on the sum, word
  for (int bit = 0; bit < 32; ++bit) rows.emplace_back(sum_with(1u << bit) ^ base, 1u << bit);
  uint32_t word = 0;
  uint32_t rest = base ^ wanted;
  for (int bit = 0; bit < 32; ++bit) {
    const uint32_t mask = 1u << bit;
    const auto pivot = std::find_if(rows.begin() + bit, rows.end(),
                                    [mask](const auto& row) { return (row.first & mask) != 0; });
    CHECK(pivot != rows.end());
    std::iter_swap(rows.begin() + bit, pivot);
    const auto chosen = rows[static_cast<size_t>(bit)];
    for (size_t row = static_cast<size_t>(bit) + 1; row < rows.size(); ++row) {
      if ((rows[row].first & mask) == 0) continue;
      rows[row].first ^= chosen.first;
      rows[row].second ^= chosen.second;
    }
    if ((rest & mask) != 0) {
      rest ^= chosen.first;
      word ^= chosen.second;
    }
  }
  CHECK(sum_with(word) == wanted);
  return block;
}

TEST(ReservedValuesAreNeverABlocksSum) {
  for (const uint32_t reserved : {kZeroBlockSum, kRemoteOnlySum}) {
    Bytes block = BlockWithSum(9, reserved);
    uint32_t sum;
    SumBlocks(block.data(), 1, &sum);
    PlainToBlockSums(&sum, 1, 9);
    CHECK(sum == reserved + 2);
    CHECK(VerifyBlocks(block.data(), 1, 9, &sum) == -1);
    uint32_t log;
    SumBlocks(block.data(), 1, &log);
    PlainToLogSums(&log, 1, 9, 4);
    LogToBlockSums(&log, 1, 9, 4);
    CHECK(log == reserved + 2);
    CHECK(VerifyBlocks(block.data(), 1, 9, &kRemoteOnlySum) == 0);
  }
}

TEST(VerifyingFindsTheFirstBlockThatDiffers) {
  Bytes blocks = RandomBytes(5 * kBlockBytes);
  uint32_t sums[5];
  SumBlocks(blocks.data(), 5, sums);
  uint32_t log[5];
  std::memcpy(log, sums, sizeof sums);
  PlainToBlockSums(sums, 5, 100);
  PlainToLogSums(log, 5, 100, 8);
  CHECK(VerifyBlocks(blocks.data(), 5, 100, sums) == -1);
  CHECK(VerifyLogBlocks(blocks.data(), 5, 100, 8, log) == -1);
  CHECK(VerifyBlocks(blocks.data(), 5, 101, sums) == 0);
  CHECK(VerifyLogBlocks(blocks.data(), 5, 100, 9, log) == 0);
  for (const size_t bit : {size_t{0}, 3 * kBlockBytes * 8 + 12345, 5 * kBlockBytes * 8 - 1}) {
    blocks[bit / 8] = static_cast<uint8_t>(blocks[bit / 8] ^ (1 << (bit % 8)));
    CHECK(VerifyBlocks(blocks.data(), 5, 100, sums) == static_cast<int64_t>(bit / 8 / kBlockBytes));
    CHECK(VerifyLogBlocks(blocks.data(), 5, 100, 8, log) == static_cast<int64_t>(bit / 8 / kBlockBytes));
    blocks[bit / 8] = static_cast<uint8_t>(blocks[bit / 8] ^ (1 << (bit % 8)));
  }
  sums[2] = kZeroBlockSum;
  CHECK(VerifyBlocks(blocks.data(), 5, 100, sums) == -1);
  CHECK(IsZero(&blocks[2 * kBlockBytes], kBlockBytes));
  CHECK(!IsZero(&blocks[2 * kBlockBytes], kBlockBytes + 8));
  sums[3] = kRemoteOnlySum;
  CHECK(VerifyBlocks(blocks.data(), 5, 100, sums) == 3);
}

TEST(CopiedPiecesMakeWholeBlocksSums) {
  const Bytes source = RandomBytes(3 * kBlockBytes);
  for (const size_t piece : {1, 511, 512, 1000, 4096, 5000, 12288}) {
    Bytes target(source.size());
    uint32_t sums[3] = {1, 2, 3};
    for (size_t at = 0; at < source.size(); at += piece) {
      CopyAndSum(&source[at], std::min(piece, source.size() - at), target.data(), at, sums);
    }
    CHECK(target == source);
    for (size_t index = 0; index < 3; ++index) {
      CHECK(sums[index] == Reference(&source[index * kBlockBytes], kBlockBytes));
    }
  }
}

TEST(EveryByteCountsInTheTestForZeros) {
  for (size_t length = 0; length <= 200; ++length) {
    Bytes bytes(length, 0);
    CHECK(IsZero(bytes.data(), length));
    for (size_t at = 0; at < length; ++at) {
      bytes[at] = 0x10;
      CHECK(!IsZero(bytes.data(), length));
      bytes[at] = 0;
    }
  }
}

}  // namespace
}  // namespace keepgate
