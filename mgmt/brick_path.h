#pragma once

#include <string>
#include <string_view>

#include "brick/base/result.h"

namespace voldfs::mgmt {

// HOST:/PATH as it stands on a command line.
struct BrickSpec {
  std::string host, path;  // the path is absolute, without "." and "..", double slashes or a slash at the end
};
Explained<BrickSpec> parse_brick(std::string_view text);

// Whether a directory of this node may become a brick of a new volume. Changes nothing. `force` allows the root file
// system and a mount point itself.
Explained<void> check_brick_path(const std::string& path, bool force);

}  // namespace voldfs::mgmt
