#include "dht/known_names.h"

#include <xxhash.h>

#include <utility>

namespace voldfs::dht {
namespace {

uint64_t hash_of(std::string_view name) { return XXH3_64bits(name.data(), name.size()); }

}  // namespace

void KnownNames::add(uint64_t hash) {
  if (!is_noting_) return;
  if (hashes_.size() < kNamesMax) return void(hashes_.insert(hash));
  is_noting_ = false;
  hashes_ = {};
  grants_.clear();
}

void KnownNames::will_have(std::string_view name) {
  const uint64_t hash = hash_of(name);
  tried_[next_tried_++ % tried_.size()] = hash;
  add(hash);
}

void KnownNames::begin() {
  is_noting_ = true;
  grants_.clear();
  hashes_.clear();
  for (const uint64_t hash : tried_) add(hash);
}

void KnownNames::has(std::string_view name) { add(hash_of(name)); }

void KnownNames::complete(std::vector<Grant> grants) {
  if (is_noting_) grants_ = std::move(grants);
}

std::vector<Grant> KnownNames::grants_of_missing(std::string_view name) const {
  if (grants_.empty() || hashes_.contains(hash_of(name))) return {};
  return grants_;
}

}  // namespace voldfs::dht
