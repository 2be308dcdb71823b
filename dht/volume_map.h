#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "dht/layout.h"

namespace voldfs::dht {

enum class BrickState : uint8_t { kActive, kLeaving, kGone };

struct BrickEntry {
  Id id;
  uint16_t ordinal = 0;      // 1 to 1,023, never reused
  std::string node;          // name of the node it is on, for people
  std::string host;          // address literal
  uint16_t port = 0;
  std::string unix_socket;   // path on the node; empty: none
  std::string path;          // directory on the node
  uint32_t weight = 100;
  BrickState state = BrickState::kActive;
};

// The volume map, DESIGN 3: all that a client or a brick must know. A value; one JSON document.
struct VolumeMap {
  Id volume;
  std::string name;
  Id incarnation, parent_incarnation;
  uint64_t version = 1;
  std::vector<BrickEntry> bricks;          // by ordinal
  std::vector<Layout> layouts;             // by epoch, the newest last
  uint16_t root_home = 0;                  // ordinal
  std::map<std::string, std::string> options;
  bool started = true;                     // false: its bricks are not to be waited for

  // A sentence says what is wrong and where. Unknown keys are kept out; a newer `format` is refused.
  static Explained<VolumeMap> parse(std::string_view json);
  std::string to_json() const;             // pretty, ends with a newline; same map, same bytes

  const BrickEntry* brick(uint16_t ordinal) const;   // null: there is none
  const BrickEntry* brick(const Id& id) const;
  const Layout* layout(uint32_t epoch) const;        // epoch 0 hashes as epoch 1; null: newer than this map
  const Layout& newest_layout() const;
};

// Whether `found` replaces `have`: newer version of the same incarnation, or a direct descendant incarnation of
// the same volume. kSibling: neither descends from the other; both are refused until a human decides.
enum class MapOrder { kNewer, kSame, kOlder, kSibling, kOtherVolume };
MapOrder compare_maps(const VolumeMap& have, const VolumeMap& found);

// The volume's secret beside a map file: MAPFILE + ".secret", 64 hexadecimal digits, 0600. Refuses one that others can read.
Explained<std::vector<uint8_t>> read_secret(const std::string& path);

}  // namespace voldfs::dht
