#pragma once

#include <array>
#include <mutex>
#include <string_view>

#include "brick/base/id.h"

namespace voldfs::store {

// Who may act on a name or an object: striped mutexes of (directory id, name) and of object id. Two names or
// objects can share a stripe, so what takes two takes them through one call, which orders them.
//
// Lock order, outermost first:
//   1. Directory::entries() (shared by what adds or changes names, exclusive for what ends a directory),
//      several in the order of their ids (EntriesGuard)
//   2. names
//   3. objects
//   4. Directory's record mutex, OpenFiles', Pins' and Handles' own, the directory cache's: leaves of their classes
// 1 to 3 are held across the system calls that change the entry: that is what they are for. They stall only
// who asks for the same name (or stripe), never a ring.
//
// Any thread.
class NameLocks {
 public:
  // Up to two held stripes.
  class [[nodiscard]] Guard {
   public:
    Guard() = default;

   private:
    friend class NameLocks;
    std::unique_lock<std::mutex> first_, second_;
  };

  Guard name(const Id& dir, std::string_view name);
  Guard names(const Id& dir1, std::string_view name1, const Id& dir2, std::string_view name2);
  Guard object(const Id& object);
  Guard objects(const Id& object1, const Id& object2);  // either may be none

 private:
  static constexpr size_t kStripes = 1024;
  using Stripes = std::array<std::mutex, kStripes>;
  static Guard both(Stripes& stripes, size_t one, size_t two);

  Stripes names_, objects_;
};

}  // namespace voldfs::store
