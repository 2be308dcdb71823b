#include "brick/store/name_lock.h"

#include <xxhash.h>

#include <utility>

namespace voldfs::store {
namespace {

size_t name_hash(const Id& dir, std::string_view name) {
  return static_cast<size_t>(XXH3_64bits_withSeed(name.data(), name.size(), IdHash{}(dir)));
}

}  // namespace

NameLocks::Guard NameLocks::both(Stripes& stripes, size_t one, size_t two) {
  if (one > two) std::swap(one, two);
  Guard guard;
  guard.first_ = std::unique_lock(stripes[one]);
  if (two != one) guard.second_ = std::unique_lock(stripes[two]);
  return guard;
}

NameLocks::Guard NameLocks::name(const Id& dir, std::string_view name) {
  const size_t stripe = name_hash(dir, name) % kStripes;
  return both(names_, stripe, stripe);
}

NameLocks::Guard NameLocks::names(const Id& dir1, std::string_view name1, const Id& dir2, std::string_view name2) {
  return both(names_, name_hash(dir1, name1) % kStripes, name_hash(dir2, name2) % kStripes);
}

NameLocks::Guard NameLocks::object(const Id& object) {
  return objects(object, Id{});
}

NameLocks::Guard NameLocks::objects(const Id& object1, const Id& object2) {
  const Id& one = object1.is_none() ? object2 : object1;
  const Id& two = object2.is_none() ? object1 : object2;
  if (one.is_none()) return Guard();
  return both(objects_, IdHash{}(one) % kStripes, IdHash{}(two) % kStripes);
}

}  // namespace voldfs::store
