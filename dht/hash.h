#pragma once

#include <cstdint>

#include "brick/base/id.h"

// The arithmetic of placement, in integers alone, so that every compiler and machine comes to the same result.
// Frozen, as all that dht/layout.h says it is.
namespace voldfs::dht {

// Fixed point: bits behind the point of a log2 and of a cost.
inline constexpr unsigned kLog2FractionBits = 48;

// log2(x), x >= 1, from a table of 1,024 steps and straight lines between them: off by less than 2^-22, and
// never falling while x rises.
uint64_t log2_fixed(uint64_t x);

// -log2((hash + 1) / 2^64), at least 1: what a brick of weight 1 would have to pay for a name.
uint64_t rendezvous_cost(uint64_t hash);

// XXH3_64 over the key's eight bytes, little-endian, and the brick's id.
uint64_t rendezvous_hash(uint64_t key, const Id& brick);

}  // namespace voldfs::dht
