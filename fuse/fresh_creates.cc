#include "fuse/fresh_creates.h"

#include "brick/base/clock.h"

namespace voldfs::fuse {

void FreshCreates::note(uint32_t thread, const dht::Entry& made) {
  if (thread == 0) return;
  Slot& slot = slots_[thread % slots_.size()];
  std::lock_guard lock(slot.mutex);
  slot.file = made.node->id(), slot.thread = thread, slot.attr = made.attr;
  slot.end_ms = boottime_ms() + kLife_ms;
}

std::optional<wire::Attr> FreshCreates::take(uint32_t thread, const dht::Node& node) {
  Slot& slot = slots_[thread % slots_.size()];
  std::lock_guard lock(slot.mutex);
  if (slot.thread != thread || slot.file != node.id()) return std::nullopt;
  slot.file = {};
  if (slot.end_ms < boottime_ms()) return std::nullopt;
  return slot.attr;
}

}  // namespace voldfs::fuse
