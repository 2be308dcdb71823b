#pragma once

#include "mgmt/cluster_state.h"

namespace voldfs::mgmt {

// The commands of the state machine, one function each; the table in cluster_commands.cc lists them.
struct Commands {
  // The result's fields, or the reason of a refusal, which leaves `state` as it was. Throws nothing.
  static Explained<Json> run(ClusterState& state, const Json& command);

  // cluster_commands.cc: the cluster and its peers
  static Explained<Json> cluster_init(ClusterState& state, const Json& command);
  static Explained<Json> cluster_replace(ClusterState& state, const Json& command);
  static Explained<Json> peer_add(ClusterState& state, const Json& command);
  static Explained<Json> peer_remove(ClusterState& state, const Json& command);
  static Explained<Json> peer_set_address(ClusterState& state, const Json& command);
  static Explained<Json> peer_set_role(ClusterState& state, const Json& command);
  static Explained<Json> peer_renew(ClusterState& state, const Json& command);
  static Explained<Json> peer_takeover(ClusterState& state, const Json& command);
  static Explained<Json> voter_replace(ClusterState& state, const Json& command);
  static Explained<Json> webhook_add(ClusterState& state, const Json& command);
  static Explained<Json> webhook_remove(ClusterState& state, const Json& command);

  // volume_commands.cc
  static Explained<Json> volume_create(ClusterState& state, const Json& command);
  static Explained<Json> volume_start(ClusterState& state, const Json& command);
  static Explained<Json> volume_stop(ClusterState& state, const Json& command);
  static Explained<Json> volume_delete(ClusterState& state, const Json& command);
  static Explained<Json> volume_set(ClusterState& state, const Json& command);
  static Explained<Json> volume_reset(ClusterState& state, const Json& command);
  static Explained<Json> volume_rename(ClusterState& state, const Json& command);
  static Explained<Json> brick_ready(ClusterState& state, const Json& command);
};

}  // namespace voldfs::mgmt
