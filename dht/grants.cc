#include "dht/grants.h"

#include <algorithm>
#include <limits>

#include "brick/base/clock.h"

namespace voldfs::dht {

Grants::Grants() = default;

const Grants::Brick* Grants::find(uint16_t brick) const {
  return brick < bricks_.size() ? bricks_[brick].get() : nullptr;
}

Grants::Brick& Grants::brick(uint16_t ordinal) {
  auto& brick = bricks_.at(ordinal);
  if (!brick) brick = std::make_unique<Brick>();
  return *brick;
}

Grants::Asking Grants::ask(uint16_t brick) const {
  std::shared_lock lock(mutex_);
  const Brick* known = find(brick);
  return {brick, boottime_ms(), known ? known->generation : 1};
}

Grant age_of(const wire::Reply& reply) {
  const int64_t end_ms = reply.header.grant_ms != 0 ? reply.asked_ms + reply.header.grant_ms : 0;
  return {reply.asked_generation, reply.header.object_sequence, end_ms, reply.asked_brick};
}

Grant grant_of(const wire::Reply& reply) {
  if (reply.header.grant_ms == 0 || reply.header.object_sequence == 0 || reply.asked_brick == 0) return {};
  return age_of(reply);
}

Grant attr_grant_of(const wire::Reply& reply, const wire::Attr& attr) {
  return attr.flags & wire::kAttrPinned ? Grant{} : grant_of(reply);
}

void Grants::recalled(uint16_t ordinal, const Id& object, uint64_t sequence) {
  std::unique_lock lock(mutex_);
  uint64_t& highest = brick(ordinal).recalled[IdHash{}(object) % kSlots];
  highest = std::max(highest, sequence);
}

void Grants::dropped(uint16_t ordinal) {
  std::unique_lock lock(mutex_);
  Brick& forgetful = brick(ordinal);
  ++forgetful.generation;
  forgetful.recalled.fill(0);  // a restarted brick counts from the beginning
}

double Grants::Delivery::seconds(const Id& object, std::span<const Grant> grants) const {
  if (grants.empty()) return 0;
  int64_t end = std::numeric_limits<int64_t>::max();
  for (const Grant& grant : grants) {
    if (grant.sequence == 0) return 0;
    const Brick* brick = grants_.find(grant.brick);
    if (grant.generation != (brick ? brick->generation : 1)) return 0;
    if (brick && grant.sequence < brick->recalled[IdHash{}(object) % kSlots]) return 0;
    end = std::min(end, grant.end_ms);
  }
  return static_cast<double>(std::max<int64_t>(0, end - boottime_ms())) / 1000;
}

}  // namespace voldfs::dht
