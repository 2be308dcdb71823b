#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "dht/grant.h"

namespace voldfs::dht {

// All names that a directory may have: those that it had when it was made by this mount (none) or was listed, and those that this
// mount has tried to make since. Any other is missing, as long as no brick has recalled what it granted then. Names that are gone
// again stay in it: they are asked about. Guarded by its owner.
class KnownNames {
 public:
  // Before the request that makes it.
  void will_have(std::string_view name);
  // Before somebody looks at the names that it has. Those that are being made at this moment, and he may miss, are in from the
  // start: the kernel holds the directory's lock while it has a name made, so that they are few.
  void begin();
  // What he has seen; may be called several times.
  void has(std::string_view name);
  // From here on it has all names. `grants`: of the directory's names, by each brick that may come to have some without its set
  // growing first (which home, one of them, would recall); of the time when he looked there first.
  void complete(std::vector<Grant> grants);
  // The grants by which the name is missing; empty: it may be there.
  std::vector<Grant> grants_of_missing(std::string_view name) const;
  const std::vector<Grant>& grants() const { return grants_; }  // none: it is not complete

 private:
  static constexpr size_t kNamesMax = 16'384;
  void add(uint64_t hash);

  std::array<uint64_t, 8> tried_{};      // last
  size_t next_tried_ = 0;
  bool is_noting_ = false;               // from begin() on, until there are too many
  std::vector<Grant> grants_;
  std::unordered_set<uint64_t> hashes_;  // two names with one hash: one more question
};

}  // namespace voldfs::dht
