#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "brick/base/result.h"
#include "brick/client/brick_client.h"
#include "fuse/mount.h"

namespace voldfs::fuse {

// What the `-o` of a mount says. The names are mount.glusterfs' where the meaning is the same.
struct MountOptions {
  MountBehaviour behaviour;
  unsigned long mount_flags = 0;            // MS_*
  bool allow_other = true;
  bool remount = false;
  std::string log_file;                     // empty: /var/log/voldfs/ and the mount point's name
  // When the user has fixed them; otherwise what the volume's options say (client.*).
  std::optional<std::string> log_level;     // of spdlog
  std::optional<client::OnBrickDown> on_brick_down;
  std::optional<uint32_t> brick_timeout_s;  // of a wait for a brick that is down; 0: without end
  bool unix_sockets = true;                 // of bricks on this host
  uint32_t connections = 4;                 // to one brick
  std::string secret;                       // file; empty: see find_volume()
  std::string map_cache;                    // directory of the maps that mounts have met; empty: /var/lib/voldfs/mounts
  std::string subdirectory;                 // of the volume, to be mounted as the root
  std::vector<std::string> servers;         // further ones to ask for the map
  uint16_t map_port = 24108;
  std::string contexts;                     // security contexts, handed to the kernel
};

// Parses "ro,log-level=debug,..." into `options`. An unknown option, or a value that is none: a sentence with the
// nearest name. `sloppy`: unknown ones are passed over (mount -s).
Explained<void> parse_mount_options(std::string_view text, bool sloppy, MountOptions& options);

}  // namespace voldfs::fuse
