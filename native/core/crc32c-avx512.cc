// Carry-less multiplication on 512-bit registers (VPCLMULQDQ): four of them are folded over 256 bytes at a
// time, and what is left is reduced by the crc32 instruction. About three times as fast as that instruction
// alone on data that is in the cache. Folding as in Gopal et al., "Fast CRC Computation for Generic
// Polynomials Using PCLMULQDQ Instruction" (Intel, 2009). This file is compiled for the baseline; only the
// functions marked so use the instructions.
#include "crc32c.h"

#if defined(__x86_64__)

// GCC 12 warns of its own header, which leaves a value undefined on purpose (bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstring>

#define KEEPGATE_AVX512_TARGET __attribute__((target("sse4.2,pclmul,avx512f,avx512vl,avx512dq,vpclmulqdq")))

namespace keepgate {
namespace {

constexpr size_t kStep = 256;

KEEPGATE_AVX512_TARGET inline __m512i Fold(__m512i value, __m512i constants, __m512i next) {
  const __m512i low = _mm512_clmulepi64_epi128(value, constants, 0x00);
  const __m512i high = _mm512_clmulepi64_epi128(value, constants, 0x11);
  return _mm512_ternarylogic_epi64(low, high, next, 0x96);
}

template <bool kCopy>
KEEPGATE_AVX512_TARGET inline __m512i Load(const uint8_t* source, uint8_t* target, size_t at) {
  const __m512i value = _mm512_loadu_si512(source + at);
  if (kCopy) _mm512_storeu_si512(target + at, value);
  return value;
}

// x^(8 n + 32) and x^(8 n - 32) modulo the polynomial, reflected, for a distance of n bytes.
KEEPGATE_AVX512_TARGET inline __m512i Distance(uint32_t low, uint32_t high) {
  return _mm512_broadcast_i32x4(_mm_setr_epi32(static_cast<int>(low), 0, static_cast<int>(high), 0));
}

// At least kStep bytes, a multiple of it.
template <bool kCopy>
KEEPGATE_AVX512_TARGET uint32_t FoldAll(uint32_t state, const uint8_t* source, uint8_t* target,
                                        size_t length) {
  __m512i a = Load<kCopy>(source, target, 0);
  __m512i b = Load<kCopy>(source, target, 64);
  __m512i c = Load<kCopy>(source, target, 128);
  __m512i d = Load<kCopy>(source, target, 192);
  a = _mm512_xor_si512(a, _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  const __m512i far = Distance(0xdcb17aa4, 0xb9e02b86);
  for (size_t at = kStep; at < length; at += kStep) {
    a = Fold(a, far, Load<kCopy>(source, target, at));
    b = Fold(b, far, Load<kCopy>(source, target, at + 64));
    c = Fold(c, far, Load<kCopy>(source, target, at + 128));
    d = Fold(d, far, Load<kCopy>(source, target, at + 192));
  }
  const __m512i near = Distance(0x740eef02, 0x9e4addf8);
  a = Fold(Fold(Fold(a, near, b), near, c), near, d);
  // Each of the first three lanes moves to the last one's place.
  const __m512i lanes = _mm512_setr_epi32(0x1c291d04, 0, static_cast<int>(0xddc0152b), 0, 0x3da6d0cb, 0,
                                          static_cast<int>(0xba4fc28e), 0, static_cast<int>(0xf20c0dfe), 0,
                                          0x493c7d27, 0, 0, 0, 0, 0);
  const __m512i moved = Fold(a, lanes, _mm512_setzero_si512());
  const __m128i joined =
      _mm_xor_si128(_mm_xor_si128(_mm512_castsi512_si128(moved), _mm512_extracti32x4_epi32(moved, 1)),
                    _mm_xor_si128(_mm512_extracti32x4_epi32(moved, 2), _mm512_extracti32x4_epi32(a, 3)));
  const uint64_t low = _mm_crc32_u64(0, static_cast<uint64_t>(_mm_extract_epi64(joined, 0)));
  return static_cast<uint32_t>(_mm_crc32_u64(low, static_cast<uint64_t>(_mm_extract_epi64(joined, 1))));
}

uint32_t Update(uint32_t state, const uint8_t* bytes, size_t length) {
  const size_t folded = length - length % kStep;
  if (folded > 0) state = FoldAll<false>(state, bytes, nullptr, folded);
  return Sse42CrcKernel()->update(state, bytes + folded, length - folded);
}

uint32_t Copy(uint32_t state, uint8_t* target, const uint8_t* source, size_t length) {
  const size_t folded = length - length % kStep;
  if (folded > 0) state = FoldAll<true>(state, source, target, folded);
  return Sse42CrcKernel()->copy(state, target + folded, source + folded, length - folded);
}

constexpr CrcKernel kKernel = {"avx512", Update, Copy};

}  // namespace

const CrcKernel* Avx512CrcKernel() {
  static const bool there = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("vpclmulqdq") &&
                            __builtin_cpu_supports("pclmul") && Sse42CrcKernel() != nullptr;
  return there ? &kKernel : nullptr;
}

}  // namespace keepgate

#else

namespace keepgate {
const CrcKernel* Avx512CrcKernel() { return nullptr; }
}  // namespace keepgate

#endif
