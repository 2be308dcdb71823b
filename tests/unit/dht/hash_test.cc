#include "dht/hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace voldfs::dht {
namespace {

constexpr double kOne = static_cast<double>(uint64_t{1} << kLog2FractionBits);

TEST(Hash_Log2, PowersOfTwo_Exact) {
  for (unsigned n = 0; n < 64; ++n) {
    EXPECT_EQ(log2_fixed(uint64_t{1} << n), uint64_t{n} << kLog2FractionBits) << n;
  }
}

TEST(Hash_Log2, RandomNumbers_CloseToFloatingPoint) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t x = (random() >> (random() % 64)) | 1;
    const double expected = std::log2(static_cast<double>(x));
    ASSERT_NEAR(static_cast<double>(log2_fixed(x)) / kOne, expected, std::ldexp(1, -22)) << x;
  }
}

TEST(Hash_Log2, RisingNumbers_NeverFalls) {
  for (unsigned exponent : {10u, 40u, 63u}) {
    const uint64_t start = uint64_t{1} << exponent;
    uint64_t last = log2_fixed(start - 1);
    const uint64_t step = std::max<uint64_t>(1, start >> 16);
    for (uint64_t x = start; x - start < (start - 1); x += step) {  // ends below 2^(exponent + 1), which may overflow
      const uint64_t now = log2_fixed(x);
      ASSERT_GE(now, last) << x;
      last = now;
      if (x > UINT64_MAX - step) break;
    }
  }
}

TEST(Hash_Cost, Ends_FullAndNeverZero) {
  EXPECT_EQ(rendezvous_cost(0), uint64_t{64} << kLog2FractionBits);
  EXPECT_EQ(rendezvous_cost(UINT64_MAX), 1u);
  EXPECT_GE(rendezvous_cost(UINT64_MAX - 1), 1u);
}

}  // namespace
}  // namespace voldfs::dht
