#include "dht/known_names.h"

#include <xxhash.h>

namespace voldfs::dht {
namespace {

uint64_t hash_of(std::string_view name) { return XXH3_64bits(name.data(), name.size()); }

}  // namespace

bool KnownNames::add(std::string_view name) {
  if (hashes_.size() >= kNamesMax) return false;
  hashes_.insert(hash_of(name));
  return true;
}

bool KnownNames::may_have(std::string_view name) const { return hashes_.contains(hash_of(name)); }

}  // namespace voldfs::dht
