#pragma once

#include <string>

#include "tools/ctl/command.h"

namespace voldfs::ctl {

// Starts the brick of this machine that `which` names, by its id or its directory, from its flags in CONF/bricks/ID.conf: as
// voldmgmt would, and without it. A brick that is served already is left alone.
Explained<Report> start_brick(const std::string& conf_dir, const std::string& which);

}  // namespace voldfs::ctl
