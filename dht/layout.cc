#include "dht/layout.h"

#include <algorithm>

#include "dht/hash.h"

namespace voldfs::dht {
namespace {

__extension__ typedef unsigned __int128 uint128_t;

// A target's bid for one name.
struct Bid {
  uint64_t cost;
  const Target* target;
};

Bid bid_of(const Target& target, uint64_t key) { return {rendezvous_cost(rendezvous_hash(key, target.brick)), &target}; }

// cost / weight, compared without dividing: 55 and 32 bits.
bool better(const Bid& a, const Bid& b) {
  const uint128_t left = static_cast<uint128_t>(a.cost) * b.target->weight;
  const uint128_t right = static_cast<uint128_t>(b.cost) * a.target->weight;
  return left != right ? left < right : a.target->brick < b.target->brick;
}

}  // namespace

Layout::Layout(uint32_t epoch, HashRule rule, std::vector<Target> targets)
    : epoch_(epoch), rule_(rule), targets_(std::move(targets)) {}

uint16_t Layout::place(const Id& parent, std::string_view name) const {
  const uint64_t key = name_key(rule_, parent, name);
  Bid best{0, nullptr};
  for (const Target& target : targets_) {
    if (target.weight == 0) continue;
    const Bid bid = bid_of(target, key);
    if (best.target == nullptr || better(bid, best)) best = bid;
  }
  return best.target != nullptr ? best.target->ordinal : 0;
}

std::vector<uint16_t> Layout::rank(const Id& parent, std::string_view name, size_t count) const {
  const uint64_t key = name_key(rule_, parent, name);
  std::vector<Bid> bids;
  bids.reserve(targets_.size());
  for (const Target& target : targets_) {
    if (target.weight != 0) bids.push_back(bid_of(target, key));
  }
  count = std::min(count, bids.size());
  std::partial_sort(bids.begin(), bids.begin() + static_cast<std::ptrdiff_t>(count), bids.end(), better);
  std::vector<uint16_t> ordinals;
  ordinals.reserve(count);
  for (size_t i = 0; i < count; ++i) ordinals.push_back(bids[i].target->ordinal);
  return ordinals;
}

}  // namespace voldfs::dht
