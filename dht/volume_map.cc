#include "dht/volume_map.h"

#include <algorithm>

namespace voldfs::dht {

const BrickEntry* VolumeMap::brick(uint16_t ordinal) const {
  const auto found = std::find_if(bricks.begin(), bricks.end(), [&](const auto& b) { return b.ordinal == ordinal; });
  return found != bricks.end() ? &*found : nullptr;
}

const BrickEntry* VolumeMap::brick(const Id& id) const {
  const auto found = std::find_if(bricks.begin(), bricks.end(), [&](const auto& b) { return b.id == id; });
  return found != bricks.end() ? &*found : nullptr;
}

const Layout* VolumeMap::layout(uint32_t epoch) const {
  const uint32_t wanted = std::max(epoch, uint32_t{1});
  const auto found =
      std::find_if(layouts.begin(), layouts.end(), [&](const Layout& layout) { return layout.epoch() == wanted; });
  return found != layouts.end() ? &*found : nullptr;
}

const Layout& VolumeMap::newest_layout() const { return layouts.back(); }

MapOrder compare_maps(const VolumeMap& have, const VolumeMap& found) {
  if (have.volume != found.volume) return MapOrder::kOtherVolume;
  if (have.incarnation == found.incarnation) {
    if (have.version == found.version) return MapOrder::kSame;
    return have.version < found.version ? MapOrder::kNewer : MapOrder::kOlder;
  }
  if (found.parent_incarnation == have.incarnation) return MapOrder::kNewer;
  if (have.parent_incarnation == found.incarnation) return MapOrder::kOlder;
  return MapOrder::kSibling;
}

}  // namespace voldfs::dht
