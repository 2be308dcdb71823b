#include "dht/hash.h"

#include <xxhash.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

namespace voldfs::dht {
namespace {

__extension__ typedef unsigned __int128 uint128_t;

constexpr unsigned kTableBits = 10;
constexpr size_t kSteps = size_t{1} << kTableBits;

// log2(1 + i / kSteps), truncated, digit by digit (Knuth, TAOCP 1, 1.2.2, exercise 28): squaring a number in [1, 2)
// doubles its logarithm, whose integer part is then the next binary digit.
constexpr uint64_t log2_of_step(size_t i) {
  uint64_t x = (uint64_t{1} << 63) + (static_cast<uint64_t>(i) << (63 - kTableBits));  // 1 bit before the point
  uint64_t digits = 0;
  for (unsigned n = 0; n < kLog2FractionBits; ++n) {
    const uint128_t square = static_cast<uint128_t>(x) * x;  // in [1, 4): 2 bits before the point
    const bool digit = square >> 127;
    x = static_cast<uint64_t>(square >> (digit ? 64 : 63));
    digits = digits << 1 | static_cast<uint64_t>(digit);
  }
  return digits;
}

constexpr std::array<uint64_t, kSteps + 1> make_table() {
  std::array<uint64_t, kSteps + 1> table{};
  for (size_t i = 0; i < kSteps; ++i) table[i] = log2_of_step(i);
  table[kSteps] = uint64_t{1} << kLog2FractionBits;
  return table;
}

constexpr std::array<uint64_t, kSteps + 1> kTable = make_table();

}  // namespace

uint64_t log2_fixed(uint64_t x) {
  const unsigned exponent = 63 - static_cast<unsigned>(std::countl_zero(x));
  const uint64_t mantissa = x << (63 - exponent) << 1;  // behind the point, which the leading 1 stands before
  const size_t step = mantissa >> (64 - kTableBits);
  const uint64_t rest = mantissa << kTableBits;
  const uint64_t rise = static_cast<uint64_t>(
      static_cast<uint128_t>(kTable[step + 1] - kTable[step]) * rest >> 64);
  return (uint64_t{exponent} << kLog2FractionBits) + kTable[step] + rise;
}

uint64_t rendezvous_cost(uint64_t hash) {
  // A cost of 0 would win whatever the weight.
  if (hash == UINT64_MAX) return 1;
  return (uint64_t{64} << kLog2FractionBits) - log2_fixed(hash + 1);
}

uint64_t rendezvous_hash(uint64_t key, const Id& brick) {
  std::array<uint8_t, sizeof(uint64_t) + sizeof(Id)> input;
  for (size_t i = 0; i < sizeof key; ++i) input[i] = static_cast<uint8_t>(key >> (8 * i));
  std::memcpy(input.data() + sizeof key, brick.bytes.data(), sizeof(Id));
  return XXH3_64bits(input.data(), input.size());
}

}  // namespace voldfs::dht
