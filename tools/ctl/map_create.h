#pragma once

#include <string>
#include <vector>

#include "dht/volume_map.h"
#include "tools/ctl/brick_spec.h"

namespace voldfs::ctl {

struct NewVolume {
  std::string name;
  std::vector<BrickSpec> bricks;
  uint16_t port_base = 24200;   // bricks without a port get the lowest free one of their host from here on
  std::string unix_dir;         // of the bricks' sockets, UNIX_DIR/BRICKID.sock; empty: none
};

// The first map of a new volume: new ids, every brick active and equal, one layout, the root at home on the first brick.
Explained<dht::VolumeMap> make_map(const NewVolume& volume);

// Writes `path` (0644) and its secret `path`.secret (0600), both on the disk when it returns. Refuses to replace either.
Explained<void> write_map_and_secret(const dht::VolumeMap& map, const std::string& path);

// The map in a file. `path` may be a brick's .voldfs/map.json as well.
Explained<dht::VolumeMap> read_map(const std::string& path);

}  // namespace voldfs::ctl
