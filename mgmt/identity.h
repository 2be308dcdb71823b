#pragma once

#include <map>
#include <string>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "mgmt/consensus.h"

namespace voldfs::mgmt {

// Who this node is: /etc/voldfs/node.json, with a copy in the state directory. Outlives the log and the state.
struct Identity {
  enum class Standing {
    kNew,      // its log has not been begun
    kJoining,  // waits for a cluster's log; knows `contacts` to get it from
    kMember,   // has a log, and has lost something if there is none
  };
  Id node;
  std::string name;
  Id cluster, incarnation;
  uint64_t voter = 0;
  Standing standing = Standing::kNew;
  std::map<uint64_t, Endpoint> contacts;        // voters of the cluster, and where their logs listen
  std::map<uint64_t, uint16_t> contact_api_ports;

  static Identity make(std::string name);       // of a new node, in a cluster of its own
};

// Ids of voters fit a JSON number of any reader (53 bits).
uint64_t random_voter();

Explained<Identity> load_or_make_identity(const std::string& path, const std::string& copy, const std::string& name);
Explained<void> save_identity(const Identity& identity, const std::string& path, const std::string& copy);

}  // namespace voldfs::mgmt
