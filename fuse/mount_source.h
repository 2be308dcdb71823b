#pragma once

#include <string>
#include <vector>

#include "brick/base/result.h"
#include "dht/volume_map.h"
#include "fuse/mount_options.h"

namespace voldfs::fuse {

// What is to be mounted: MAPFILE, or SERVER[,SERVER..]:/VOLUME[/SUBDIRECTORY].
struct MountSource {
  std::string map_file;                // absolute; empty: the volume is named
  std::vector<std::string> servers;
  std::string volume;
  std::string subdirectory;            // without slashes at its ends

  static Explained<MountSource> parse(const std::string& text);
};

struct FoundVolume {
  dht::VolumeMap map;
  std::vector<uint8_t> secret;
  std::string cached_map;              // where a newer map is to be kept; empty: nowhere
  bool from_copy = false;              // the map may be of a volume that has gone
};

enum class Copies { kWelcome, kNot };

// Reads the map and the secret: of a map file from beside it. Of a named volume the map from a copy that names one of
// the servers (the mounts' in options.map_cache, or voldmgmt's of this node in /var/lib/voldfs/maps), else from the first server on whose map
// port a brick of it answers, else from any copy; the secret from /etc/voldfs/secrets/VOLUME, else from voldmgmt's.
// Copies::kNot: a copy has turned out to be of no use.
Explained<FoundVolume> find_volume(const MountSource& source, const MountOptions& options, Copies copies = Copies::kWelcome);

// Keeps a newer map, by rename. A map that cannot be kept is a warning in the log.
void save_map(const std::string& path, std::string_view json);

}  // namespace voldfs::fuse
