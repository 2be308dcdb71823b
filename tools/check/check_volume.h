#pragma once

#include <memory>
#include <vector>

#include "tools/check/scan.h"

namespace voldfs::check {

// What several bricks must agree on: where a name's authority is, what its stub leads to, whose copy of a
// directory is whose, the sets, the counts of subdirectories, ids that are unique in the volume. What concerns
// a brick that is not among `scans` is left out.
Findings check_volume(const std::vector<std::unique_ptr<BrickScan>>& scans, const dht::VolumeMap& map);

// The names of a directory that lead to directories and whose authority is this brick: what its record's
// `subdirectories` should be.
uint32_t count_subdirectories(const BrickScan& scan, const ScannedDirectory& directory, const dht::VolumeMap& map);

}  // namespace voldfs::check
