#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"

namespace voldfs::store {

// What a brick reads of the volume map, which it otherwise stores and passes on as it is.
struct MapDocument {
  struct Brick {
    Id id;
    uint16_t ordinal = 0;
    std::string path;
  };
  std::string text;
  Id volume;
  std::string name;
  Id incarnation, parent_incarnation;
  uint64_t version = 0;
  std::vector<Brick> bricks;
  uint16_t root_home = 0;
  uint32_t epoch = 1;        // the newest layout's
  std::map<std::string, std::string> options;

  static Explained<MapDocument> parse(std::string_view text);
  const Brick* brick(const Id& id) const;           // null: not in the map
  const Brick* brick_at(const std::string& path) const;
};

// Whether `found` replaces `have` (DESIGN 3): a newer version of the same incarnation, or a direct descendant.
enum class MapChange { kNewer, kSame, kRefused, kOtherVolume };
MapChange compare(const MapDocument& have, const MapDocument& found);

}  // namespace voldfs::store
