#pragma once

#include <string>

#include "tests/lib/cluster.h"

namespace voldfs::test {

// What voldcheck says of a cluster's bricks, notes aside; a finding a line, nothing if all is well. Stops the bricks.
std::string check_bricks(Cluster& cluster);

}  // namespace voldfs::test
