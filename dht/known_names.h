#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "dht/grant.h"

namespace voldfs::dht {

// The names that a directory may have, of one that this mount has made: it was empty, so a name that this mount has not tried
// to make since is missing, as long as no brick has recalled what it granted then. Names that are gone again stay in it: they
// are asked about. Guarded by its owner.
class KnownNames {
 public:
  // `grants`: of the directory's names, by each brick that may come to have some without its set growing first (which
  // home, one of them, would recall).
  explicit KnownNames(std::vector<Grant> grants) : grants_(std::move(grants)) {}

  // Before the request that makes it. False: too many are known, and all that this object says is void.
  bool add(std::string_view name);
  bool may_have(std::string_view name) const;
  const std::vector<Grant>& grants() const { return grants_; }

 private:
  static constexpr size_t kNamesMax = 16'384;
  const std::vector<Grant> grants_;
  std::unordered_set<uint64_t> hashes_;  // two names with one hash: one more question
};

}  // namespace voldfs::dht
