// Arithmetic modulo the Castagnoli polynomial, at compile time: the tables that the kernels look up.
//
// Numbers are polynomials over GF(2) with their bits reflected: bit 31 is the coefficient of x^0. Appending n
// zero bytes to a message multiplies its register by x^(8n); as this is linear, four tables of 256 entries do
// it for any register with four look-ups.
#ifndef KEEPGATE_CORE_CRC32C_POLYNOMIAL_H_
#define KEEPGATE_CORE_CRC32C_POLYNOMIAL_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace keepgate {

constexpr uint32_t kCastagnoli = 0x82f63b78;
constexpr uint32_t kPolynomialOne = 0x80000000;

constexpr uint32_t TimesX(uint32_t value) {
  return (value & 1) != 0 ? (value >> 1) ^ kCastagnoli : value >> 1;
}

constexpr uint32_t Multiply(uint32_t left, uint32_t right) {
  uint32_t product = 0;
  for (uint32_t bit = kPolynomialOne; bit != 0; bit >>= 1) {
    if ((left & bit) != 0) product ^= right;
    right = TimesX(right);
  }
  return product;
}

// x^(8 * bytes) by repeated squaring.
constexpr uint32_t PowerOfBytes(size_t bytes) {
  uint32_t power = kPolynomialOne;
  uint32_t square = kPolynomialOne >> 8;  // x^8
  for (; bytes != 0; bytes >>= 1) {
    if ((bytes & 1) != 0) power = Multiply(power, square);
    square = Multiply(square, square);
  }
  return power;
}

class ShiftTable {
 public:
  explicit constexpr ShiftTable(size_t bytes) : entries_{} {
    // The tables are linear, so 32 products suffice; the other entries are sums of them.
    uint32_t column = PowerOfBytes(bytes);
    for (int bit = 31; bit >= 0; --bit) {
      auto& table = entries_[static_cast<size_t>(bit) / 8];
      table[size_t{1} << (bit % 8)] = column;
      column = TimesX(column);
    }
    for (auto& table : entries_) {
      for (size_t value = 1; value < 256; ++value) {
        const size_t lowest = value & (~value + 1);
        if (lowest != value) table[value] = table[lowest] ^ table[value ^ lowest];
      }
    }
  }

  constexpr uint32_t operator()(uint32_t state) const {
    return entries_[0][state & 0xff] ^ entries_[1][(state >> 8) & 0xff] ^ entries_[2][(state >> 16) & 0xff] ^
           entries_[3][state >> 24];
  }

 private:
  std::array<std::array<uint32_t, 256>, 4> entries_;
};

}  // namespace keepgate

#endif  // KEEPGATE_CORE_CRC32C_POLYNOMIAL_H_
