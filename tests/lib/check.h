#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/lib/cluster.h"
#include "tools/check/scan.h"

namespace voldfs::test {

// What voldcheck says of a cluster's bricks, notes aside; a finding a line, nothing if all is well. Stops the bricks.
std::string check_bricks(Cluster& cluster);

// What voldcheck reads off the bricks, by ordinal; a brick that cannot be read is a failure of the test. REQUIRES: they are stopped.
std::vector<std::unique_ptr<check::BrickScan>> scan_bricks(Cluster& cluster);

}  // namespace voldfs::test
