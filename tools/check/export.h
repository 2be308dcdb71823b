#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/check/scan.h"

namespace voldfs::check {

// Copies the plain files of the bricks into one new tree: no stubs, no `.voldfs`, no attributes of voldfs. Owners,
// modes, times, users' attributes, holes and hard links are kept. Where two bricks have the same path, the
// name's authority wins, else the lowest ordinal, and the findings tell. `target`: an empty or new directory.
Explained<Findings> export_files(const std::vector<std::unique_ptr<BrickScan>>& scans, const dht::VolumeMap& map,
                                 const std::string& target);

}  // namespace voldfs::check
