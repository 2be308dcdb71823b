#pragma once

#include <string>

#include "tools/ctl/state_source.h"

// What voldctl prints of volumes, in the columns of `gluster`.
namespace voldfs::ctl {

std::string volume_info_text(const std::string& name, const Json& volume);
// `bricks`: what is known of each now, by its id.
std::string volume_status_text(const std::string& name, const Json& volume, const Json& bricks, bool detail);
std::string volume_clients_text(const std::string& name, const Json& volume, const Json& bricks);
std::string volume_tasks_text(const std::string& name);
std::string option_help_text();

}  // namespace voldfs::ctl
