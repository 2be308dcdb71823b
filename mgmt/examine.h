#pragma once

#include <map>
#include <string>

#include "mgmt/cluster_state.h"

// `voldctl doctor`: looks at a node, and says in plain words what is wrong and what would mend it. Changes nothing.
namespace voldfs::mgmt {

struct ExamineOptions {
  std::string state_dir, conf_dir;
  Id node;                             // whose bricks are looked at
  std::string address;                 // where the daemon listens; empty: no daemon runs
  std::map<Id, std::string> troubles;  // what the daemon knows to be in a brick's way
};

// [{severity: "error" | "warning", area, what, mend}]; area is one of kAreas.
Json examine_node(const ClusterState& state, const ExamineOptions& options);

inline constexpr const char* kAreas[] = {"state", "peers", "clocks", "versions", "bricks", "ports", "attributes", "maps", "locks"};

Json finding(const char* severity, const char* area, std::string what, std::string mend);

}  // namespace voldfs::mgmt
