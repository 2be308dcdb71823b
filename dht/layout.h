#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "brick/base/id.h"

// Placement: which brick is the authority of a name. Pure, and frozen for good by golden vectors
// (tests/unit/dht): changing a result loses files.
namespace voldfs::dht {

// How names are turned into keys; its number stands in the layout epoch.
enum class HashRule : uint32_t { kXxh3Rendezvous1 = 1 };

// What a name hashes as: a temporary name (`.NAME.XXXXXX` of rsync and its like) as what it will become, so
// that the final rename stays on one brick. Any other name as itself.
std::string_view effective_name(HashRule rule, std::string_view name);

// XXH3_64 over the parent's id and the effective name.
uint64_t name_key(HashRule rule, const Id& parent, std::string_view name);

struct Target {       // a subvolume that names can be placed on; a brick is the one kind there is
  uint16_t ordinal;
  Id brick;
  uint32_t weight;    // 0: gets no names
};

// One layout epoch. Immutable.
class Layout {
 public:
  Layout(uint32_t epoch, HashRule rule, std::vector<Target> targets);

  uint32_t epoch() const { return epoch_; }
  HashRule rule() const { return rule_; }
  const std::vector<Target>& targets() const { return targets_; }

  // The authority's ordinal: the highest score in weighted rendezvous hashing (Schindelhauer and Schomaker, 2005),
  // -log2(h / 2^64) / weight minimal, in integers alone; ties by brick id.
  uint16_t place(const Id& parent, std::string_view name) const;
  // The `count` best, best first: home and backup of a directory of that name. Fewer if there are fewer bricks.
  std::vector<uint16_t> rank(const Id& parent, std::string_view name, size_t count) const;

 private:
  uint32_t epoch_;
  HashRule rule_;
  std::vector<Target> targets_;
};

}  // namespace voldfs::dht
