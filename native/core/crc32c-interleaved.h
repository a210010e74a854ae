// The loop that the hardware kernels share. A CRC instruction takes three cycles but one can start every
// cycle, so three stretches of the input are summed side by side and then joined. 4096 bytes are three long
// stretches and two words.
//
// Included once by each kernel, inside its unnamed namespace, after it has defined
//   KEEPGATE_CRC_TARGET                    the attribute that allows its instructions (inlining needs it on
//   every function) uint32_t Word(uint32_t, uint64_t)      the register after eight bytes, the first in the
//   lowest bits uint32_t Byte(uint32_t, uint8_t)       the register after one byte
// and has included <cstring> and crc32c-polynomial.h. Hence no include guard.

constexpr size_t kLongStretch = 1360;
constexpr size_t kShortStretch = 168;

constexpr ShiftTable kShiftLong(kLongStretch);
constexpr ShiftTable kShiftTwoLong(2 * kLongStretch);
constexpr ShiftTable kShiftShort(kShortStretch);
constexpr ShiftTable kShiftTwoShort(2 * kShortStretch);

template <bool kCopy>
KEEPGATE_CRC_TARGET inline uint64_t Load(const uint8_t* source, uint8_t* target, size_t at) {
  uint64_t word;
  std::memcpy(&word, source + at, sizeof word);
  if (kCopy) std::memcpy(target + at, &word, sizeof word);
  return word;
}

template <bool kCopy, size_t kStretch>
KEEPGATE_CRC_TARGET inline uint32_t ThreeStretches(uint32_t state, const uint8_t* source, uint8_t* target,
                                                   const ShiftTable& shift, const ShiftTable& shift_two) {
  uint32_t second = 0;
  uint32_t third = 0;
  for (size_t at = 0; at < kStretch; at += 8) {
    state = Word(state, Load<kCopy>(source, target, at));
    second = Word(second, Load<kCopy>(source, target, at + kStretch));
    third = Word(third, Load<kCopy>(source, target, at + 2 * kStretch));
  }
  return shift_two(state) ^ shift(second) ^ third;
}

// `target` is used where kCopy only.
template <bool kCopy>
KEEPGATE_CRC_TARGET inline uint32_t Sum(uint32_t state, const uint8_t* source, uint8_t* target,
                                        size_t length) {
  const auto advance = [&](size_t bytes) {
    source += bytes;
    if (kCopy) target += bytes;
    length -= bytes;
  };
  while (length >= 3 * kLongStretch) {
    state = ThreeStretches<kCopy, kLongStretch>(state, source, target, kShiftLong, kShiftTwoLong);
    advance(3 * kLongStretch);
  }
  while (length >= 3 * kShortStretch) {
    state = ThreeStretches<kCopy, kShortStretch>(state, source, target, kShiftShort, kShiftTwoShort);
    advance(3 * kShortStretch);
  }
  while (length >= 8) {
    state = Word(state, Load<kCopy>(source, target, 0));
    advance(8);
  }
  while (length > 0) {
    if (kCopy) *target = *source;
    state = Byte(state, *source);
    advance(1);
  }
  return state;
}

KEEPGATE_CRC_TARGET uint32_t Update(uint32_t state, const uint8_t* bytes, size_t length) {
  return Sum<false>(state, bytes, nullptr, length);
}

KEEPGATE_CRC_TARGET uint32_t Copy(uint32_t state, uint8_t* target, const uint8_t* source, size_t length) {
  return Sum<true>(state, source, target, length);
}
