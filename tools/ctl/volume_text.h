#pragma once

#include <string>

#include "tools/ctl/state_source.h"

// What voldctl prints of volumes, in the columns of `gluster`.
namespace voldfs::ctl {

std::string volume_info_text(const std::string& name, const Json& volume);
std::string volume_status_text(const std::string& name, const Json& volume, const Json& status, bool detail);
std::string option_help_text();

}  // namespace voldfs::ctl
