#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "dht/volume_map.h"

// What management says to bricks themselves, over their unix socket or TCP, with the volume's secret: so it works in
// either direction with every voldmgmt dead. Any thread.
namespace voldfs::mgmt {

struct BrickContact {
  Id volume;
  std::string secret;   // 64 hexadecimal digits
  dht::BrickEntry brick;
};

// Where a brick is to listen, HOST:PORT.
std::string endpoint_of(const dht::BrickEntry& brick);

// {online: true, pid, listen, since, map_version, total_bytes, free_bytes, total_inodes, free_inodes, clients: [...]}, or {online: false} from a
// brick that did not answer in time, which is for all of them together. kAskedAtOnce are asked at once; in the order of `bricks`.
std::vector<nlohmann::json> ask_bricks(const std::vector<BrickContact>& bricks, uint32_t timeout_ms);

// Hands the brick a map, which it keeps if it is newer than its own, and tells its clients of.
// ESTALE: its own is newer, or neither descends from the other.
Result<void> push_map(const BrickContact& brick, const std::string& map, uint32_t timeout_ms);

}  // namespace voldfs::mgmt
