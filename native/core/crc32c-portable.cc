// Slicing by eight: eight tables, eight bytes a step. For processors without a CRC instruction, and the
// reference that the other kernels are tested against (it is itself tested against the bitwise definition).
#include <cstring>

#include "crc32c-polynomial.h"
#include "crc32c.h"

namespace keepgate {
namespace {

using SliceTables = std::array<std::array<uint32_t, 256>, 8>;

constexpr SliceTables MakeSliceTables() {
  SliceTables tables{};
  for (uint32_t value = 0; value < 256; ++value) {
    uint32_t state = value;
    for (int bit = 0; bit < 8; ++bit) state = TimesX(state);
    tables[0][value] = state;
  }
  for (size_t slice = 1; slice < tables.size(); ++slice) {
    for (size_t value = 0; value < 256; ++value) {
      const uint32_t state = tables[slice - 1][value];
      tables[slice][value] = (state >> 8) ^ tables[0][state & 0xff];
    }
  }
  return tables;
}

constexpr SliceTables kSlices = MakeSliceTables();

uint32_t LoadLittleEndian(const uint8_t* bytes) {
  return static_cast<uint32_t>(bytes[0]) | static_cast<uint32_t>(bytes[1]) << 8 |
         static_cast<uint32_t>(bytes[2]) << 16 | static_cast<uint32_t>(bytes[3]) << 24;
}

uint32_t Update(uint32_t state, const uint8_t* bytes, size_t length) {
  for (; length >= 8; length -= 8, bytes += 8) {
    const uint32_t low = state ^ LoadLittleEndian(bytes);
    const uint32_t high = LoadLittleEndian(bytes + 4);
    state = kSlices[7][low & 0xff] ^ kSlices[6][(low >> 8) & 0xff] ^ kSlices[5][(low >> 16) & 0xff] ^
            kSlices[4][low >> 24] ^ kSlices[3][high & 0xff] ^ kSlices[2][(high >> 8) & 0xff] ^
            kSlices[1][(high >> 16) & 0xff] ^ kSlices[0][high >> 24];
  }
  for (; length > 0; --length, ++bytes) state = (state >> 8) ^ kSlices[0][(state ^ *bytes) & 0xff];
  return state;
}

uint32_t Copy(uint32_t state, uint8_t* target, const uint8_t* source, size_t length) {
  // Piece by piece, so that the sum reads what the copy has just brought into the nearest cache.
  constexpr size_t kPiece = 4096;
  while (length > 0) {
    const size_t piece = length < kPiece ? length : kPiece;
    std::memcpy(target, source, piece);
    state = Update(state, target, piece);
    target += piece;
    source += piece;
    length -= piece;
  }
  return state;
}

constexpr CrcKernel kKernel = {"portable", Update, Copy};

}  // namespace

const CrcKernel* PortableCrcKernel() { return &kKernel; }

}  // namespace keepgate
