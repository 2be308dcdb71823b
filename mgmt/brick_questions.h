#pragma once

#include "mgmt/brick_link.h"
#include "mgmt/cluster_state.h"

namespace voldfs::mgmt {

// The bricks of the started volumes: of all, or of the one named. Those of `peers` alone, if it is given.
std::vector<BrickContact> contacts_of(const ClusterState& state, const std::string& volume, const std::set<Id>* peers = nullptr);
// What they say of themselves, by id; {online: false} of one that says nothing.
Json ask_by_id(const std::vector<BrickContact>& bricks, uint32_t timeout_ms);

}  // namespace voldfs::mgmt
