#pragma once

#include <memory>
#include <vector>

#include "tools/check/scan.h"

namespace voldfs::check {

// Mends what can be told from the tree alone: the index of directories and the counters of subdirectories. Marks
// the findings that it has dealt with. Nothing else is touched. Errors are added to the findings.
void repair(const std::vector<std::unique_ptr<BrickScan>>& scans, const dht::VolumeMap& map, Findings& findings);

}  // namespace voldfs::check
