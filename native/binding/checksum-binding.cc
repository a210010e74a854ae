// src/ports/checksum.ts. Called for every block on the data path: see `npm run bench` for what a call costs.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "../core/block-sum.h"
#include "../core/crc32c.h"
#include "arguments.h"
#include "bindings.h"

namespace keepgate {
namespace {

constexpr int64_t kUint32Max = UINT32_MAX;

bool Overlap(const uint8_t* left, size_t left_length, const uint8_t* right, size_t right_length) {
  const auto left_start = reinterpret_cast<uintptr_t>(left);
  const auto right_start = reinterpret_cast<uintptr_t>(right);
  return left_start < right_start + right_length && right_start < left_start + left_length;
}

// [bytes from `start`] and [sums from `sums_start`] both hold `count` blocks.
bool BlocksInside(const Arguments& arguments, const ByteView& bytes, size_t start, size_t count,
                  const SumView& sums, size_t sums_start) {
  if (!arguments.Inside("sums", sums_start, count, sums.length)) return false;
  if (start <= bytes.length && count <= (bytes.length - start) / kBlockBytes) return true;
  return arguments.ThrowRange(std::to_string(count) + " blocks from " + std::to_string(start) +
                              " do not fit into the " + std::to_string(bytes.length) + " of bytes");
}

// crc32c(seed, bytes, start, end)
napi_value Crc32cBytes(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t seed;
  ByteView bytes;
  size_t start;
  size_t end;
  if (!arguments.Integer(0, "seed", kUint32Max, &seed) || !arguments.Bytes(1, "bytes", &bytes) ||
      !arguments.Index(2, "start", &start) || !arguments.Index(3, "end", &end)) {
    return nullptr;
  }
  if (start > end) {
    arguments.ThrowRange("end must not be below start");
    return nullptr;
  }
  if (!arguments.Inside("bytes", start, end - start, bytes.length)) return nullptr;
  napi_value result = nullptr;
  napi_create_uint32(env, Crc32c(static_cast<uint32_t>(seed), bytes.bytes + start, end - start), &result);
  return result;
}

// copyAndSum(source, sourceStart, sourceEnd, target, targetStart, sums)
napi_value CopyAndSumBytes(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ByteView source;
  size_t start;
  size_t end;
  ByteView target;
  size_t target_start;
  SumView sums;
  if (!arguments.Bytes(0, "source", &source) || !arguments.Index(1, "sourceStart", &start) ||
      !arguments.Index(2, "sourceEnd", &end) || !arguments.Bytes(3, "target", &target) ||
      !arguments.Index(4, "targetStart", &target_start) || !arguments.Sums(5, "sums", &sums)) {
    return nullptr;
  }
  if (start > end) {
    arguments.ThrowRange("sourceEnd must not be below sourceStart");
    return nullptr;
  }
  const size_t length = end - start;
  if (!arguments.Inside("source", start, length, source.length) ||
      !arguments.Inside("target", target_start, length, target.length)) {
    return nullptr;
  }
  if (length == 0) return nullptr;
  const size_t first = target_start / kBlockBytes;
  const size_t last = (target_start + length - 1) / kBlockBytes;
  if (!arguments.Inside("sums", first, last - first + 1, sums.length)) return nullptr;
  if (Overlap(source.bytes + start, length, target.bytes + target_start, length)) {
    arguments.ThrowRange("source and target must not overlap");
    return nullptr;
  }
  CopyAndSum(source.bytes + start, length, target.bytes, target_start, sums.sums);
  return nullptr;
}

// sumBlocks(bytes, start, count, sums, sumsStart)
napi_value SumWholeBlocks(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ByteView bytes;
  size_t start;
  size_t count;
  SumView sums;
  size_t sums_start;
  if (!arguments.Bytes(0, "bytes", &bytes) || !arguments.Index(1, "start", &start) ||
      !arguments.Index(2, "count", &count) || !arguments.Sums(3, "sums", &sums) ||
      !arguments.Index(4, "sumsStart", &sums_start) ||
      !BlocksInside(arguments, bytes, start, count, sums, sums_start)) {
    return nullptr;
  }
  SumBlocks(bytes.bytes + start, count, sums.sums + sums_start);
  return nullptr;
}

using ConvertWithLsn = void (*)(uint32_t*, size_t, uint64_t, uint64_t);

// (sums, sumsStart, count, firstBlock, lsn)
template <ConvertWithLsn kConvert>
napi_value ConvertSumsWithLsn(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  SumView sums;
  size_t start;
  size_t count;
  int64_t first_block;
  int64_t lsn;
  if (!arguments.Sums(0, "sums", &sums) || !arguments.Index(1, "sumsStart", &start) ||
      !arguments.Index(2, "count", &count) ||
      !arguments.Integer(3, "firstBlock", kSafeIntegerMax, &first_block) ||
      !arguments.Integer(4, "lsn", kSafeIntegerMax, &lsn) ||
      !arguments.Inside("sums", start, count, sums.length)) {
    return nullptr;
  }
  kConvert(sums.sums + start, count, static_cast<uint64_t>(first_block), static_cast<uint64_t>(lsn));
  return nullptr;
}

// toBlockSums(sums, sumsStart, count, firstBlock)
napi_value ConvertToBlockSums(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  SumView sums;
  size_t start;
  size_t count;
  int64_t first_block;
  if (!arguments.Sums(0, "sums", &sums) || !arguments.Index(1, "sumsStart", &start) ||
      !arguments.Index(2, "count", &count) ||
      !arguments.Integer(3, "firstBlock", kSafeIntegerMax, &first_block) ||
      !arguments.Inside("sums", start, count, sums.length)) {
    return nullptr;
  }
  PlainToBlockSums(sums.sums + start, count, static_cast<uint64_t>(first_block));
  return nullptr;
}

// verifyBlocks(bytes, start, count, firstBlock, sums, sumsStart)
napi_value Verify(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ByteView bytes;
  size_t start;
  size_t count;
  int64_t first_block;
  SumView sums;
  size_t sums_start;
  if (!arguments.Bytes(0, "bytes", &bytes) || !arguments.Index(1, "start", &start) ||
      !arguments.Index(2, "count", &count) ||
      !arguments.Integer(3, "firstBlock", kSafeIntegerMax, &first_block) ||
      !arguments.Sums(4, "sums", &sums) || !arguments.Index(5, "sumsStart", &sums_start) ||
      !BlocksInside(arguments, bytes, start, count, sums, sums_start)) {
    return nullptr;
  }
  return arguments.Number(static_cast<double>(
      VerifyBlocks(bytes.bytes + start, count, static_cast<uint64_t>(first_block), sums.sums + sums_start)));
}

// verifyLogBlocks(bytes, start, count, firstBlock, lsn, sums, sumsStart)
napi_value VerifyLog(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ByteView bytes;
  size_t start;
  size_t count;
  int64_t first_block;
  int64_t lsn;
  SumView sums;
  size_t sums_start;
  if (!arguments.Bytes(0, "bytes", &bytes) || !arguments.Index(1, "start", &start) ||
      !arguments.Index(2, "count", &count) ||
      !arguments.Integer(3, "firstBlock", kSafeIntegerMax, &first_block) ||
      !arguments.Integer(4, "lsn", kSafeIntegerMax, &lsn) || !arguments.Sums(5, "sums", &sums) ||
      !arguments.Index(6, "sumsStart", &sums_start) ||
      !BlocksInside(arguments, bytes, start, count, sums, sums_start)) {
    return nullptr;
  }
  return arguments.Number(
      static_cast<double>(VerifyLogBlocks(bytes.bytes + start, count, static_cast<uint64_t>(first_block),
                                          static_cast<uint64_t>(lsn), sums.sums + sums_start)));
}

// Each an integer that a JavaScript number holds exactly.
bool WholeNumbers(const Arguments& arguments, const char* name, const NumberView& numbers) {
  for (size_t index = 0; index < numbers.length; ++index) {
    const double number = numbers.numbers[index];
    if (!(number >= 0 && number <= static_cast<double>(kSafeIntegerMax)) || number != std::floor(number)) {
      return arguments.ThrowRange(std::string(name) + " must hold non-negative integers");
    }
  }
  return true;
}

// checkLogBlocks(bytes, blocks, lsns, sums, states)
napi_value CheckBlocksOfLog(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ByteView bytes;
  NumberView blocks;
  NumberView lsns;
  SumView sums;
  ByteView states;
  if (!arguments.Bytes(0, "bytes", &bytes) || !arguments.Numbers(1, "blocks", &blocks) ||
      !arguments.Numbers(2, "lsns", &lsns) || !arguments.Sums(3, "sums", &sums) ||
      !arguments.Bytes(4, "states", &states)) {
    return nullptr;
  }
  const size_t count = blocks.length;
  if (lsns.length != count || sums.length != count || states.length != count) {
    arguments.ThrowRange("blocks, lsns, sums and states must have the same length");
    return nullptr;
  }
  if (!BlocksInside(arguments, bytes, 0, count, sums, 0) || !WholeNumbers(arguments, "blocks", blocks) ||
      !WholeNumbers(arguments, "lsns", lsns)) {
    return nullptr;
  }
  return arguments.Number(static_cast<double>(
      CheckLogBlocks(bytes.bytes, count, blocks.numbers, lsns.numbers, sums.sums, states.bytes)));
}

// isZero(bytes, start, end)
napi_value IsZeroRange(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ByteView bytes;
  size_t start;
  size_t end;
  if (!arguments.Bytes(0, "bytes", &bytes) || !arguments.Index(1, "start", &start) ||
      !arguments.Index(2, "end", &end)) {
    return nullptr;
  }
  if (start > end) {
    arguments.ThrowRange("end must not be below start");
    return nullptr;
  }
  if (!arguments.Inside("bytes", start, end - start, bytes.length)) return nullptr;
  return arguments.Boolean(IsZero(bytes.bytes + start, end - start));
}

// checksumKernel(): the name of the one in use
napi_value KernelName(napi_env env, napi_callback_info) {
  napi_value name = nullptr;
  napi_create_string_utf8(env, ActiveCrcKernel().name, NAPI_AUTO_LENGTH, &name);
  return name;
}

// forceChecksumKernel(name): for tests; false where this processor does not have it
napi_value ForceKernel(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  std::string name;
  if (!arguments.Text(0, "name", &name)) return nullptr;
  return arguments.Boolean(ForceCrcKernel(name.c_str()));
}

}  // namespace

bool DefineChecksums(napi_env env, napi_value exports, Instance* instance) {
  constexpr Binding kBindings[] = {
      {"crc32c", Crc32cBytes},
      {"copyAndSum", CopyAndSumBytes},
      {"sumBlocks", SumWholeBlocks},
      {"toLogSums", ConvertSumsWithLsn<PlainToLogSums>},
      {"logToBlockSums", ConvertSumsWithLsn<LogToBlockSums>},
      {"toBlockSums", ConvertToBlockSums},
      {"verifyBlocks", Verify},
      {"verifyLogBlocks", VerifyLog},
      {"checkLogBlocks", CheckBlocksOfLog},
      {"isZero", IsZeroRange},
      {"checksumKernel", KernelName},
      {"forceChecksumKernel", ForceKernel},
  };
  return Define(env, exports, instance, kBindings, sizeof kBindings / sizeof *kBindings);
}

}  // namespace keepgate
