#pragma once

#include <string>
#include <vector>

namespace voldfs::mgmt {

// What the bricks and mounts of this host (of its network namespace) tell of themselves; those that do not answer in time are
// left out. Each in Prometheus' text format.
std::vector<std::string> local_metrics(int timeout_ms);

// Expositions of several processes as one: every family once, with the samples of all. Lines that belong to no family are
// left out.
std::string merge_expositions(const std::vector<std::string>& texts);

}  // namespace voldfs::mgmt
