#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "mgmt/events.h"
#include "mgmt/http.h"
#include "mgmt/node.h"
#include "mgmt/reconciler.h"

namespace voldfs::mgmt {

// What a node answers over HTTP; mgmt/openapi.json describes it. Any thread. Reads come from this node's copy of the
// state, take no lock that a change waits for, and never ask for a quorum.
class Api {
 public:
  Api(Node& node, Reconciler& reconciler, Events& events, std::string version)
      : node_(node), reconciler_(reconciler), events_(events), version_(std::move(version)) {}
  HttpReply handle(const HttpRequest& request);

  // Who may ask.
  enum class Access {
    kRead,    // root over the unix socket; over TCP with the token, or as a node
    kSocket,  // the unix socket alone: what changes something, or tells a secret
    kNodes,   // nodes among themselves
  };
  struct Arguments {
    Json body;         // POST
    std::string name;  // what stands for {name} in the path
  };
  struct Route {
    const char* method;
    const char* path;
    Access access;
    HttpReply (Api::*answer)(const HttpRequest& request, const Arguments& arguments);
  };
  static const std::vector<Route>& routes();

 private:
#define VOLDFS_ANSWER(name) HttpReply name(const HttpRequest& request, const Arguments& arguments)
  VOLDFS_ANSWER(get_health);
  VOLDFS_ANSWER(get_metrics);
  VOLDFS_ANSWER(get_openapi);
  VOLDFS_ANSWER(get_state);
  VOLDFS_ANSWER(get_status);
  VOLDFS_ANSWER(get_peers);
  VOLDFS_ANSWER(get_volumes);
  VOLDFS_ANSWER(get_volume_names);
  VOLDFS_ANSWER(get_volume);
  VOLDFS_ANSWER(get_map);
  VOLDFS_ANSWER(get_options);
  VOLDFS_ANSWER(get_events);
  VOLDFS_ANSWER(get_clients);
  VOLDFS_ANSWER(get_doctor);
  VOLDFS_ANSWER(get_token);
  VOLDFS_ANSWER(get_backup);
  VOLDFS_ANSWER(post_command);
  VOLDFS_ANSWER(post_probe);
  VOLDFS_ANSWER(post_recover);
  VOLDFS_ANSWER(post_restore);
  VOLDFS_ANSWER(post_rotate);
  VOLDFS_ANSWER(get_ping);
  VOLDFS_ANSWER(get_local_bricks);
  VOLDFS_ANSWER(get_local_doctor);
  VOLDFS_ANSWER(post_local_commit);
  VOLDFS_ANSWER(post_local_probe);
  VOLDFS_ANSWER(post_local_renew);
  VOLDFS_ANSWER(post_local_rotate);
  VOLDFS_ANSWER(post_local_event);
  VOLDFS_ANSWER(post_local_validate);
#undef VOLDFS_ANSWER
  Json known() const;
  // Of all volumes, or of one alone (of none, if that is "").
  using Only = std::optional<std::string>;
  struct PeerStatus {
    bool connected = false;
    Json bricks;
  };
  PeerStatus peer_status(const ClusterState& state, const Peer& peer, const Only& volume) const;
  Json status(const Only& volume) const;
  Json local_bricks(const Only& volume) const;
  std::string metrics() const;
  // api_cluster.cc: what needs the other nodes, or the bricks themselves.
  Json events(const HttpRequest& request) const;
  Json clients(const std::string& volume) const;
  Json doctor() const;
  Json local_doctor() const;
  Json rotate_logs(const Json& request) const;
  Json local_rotate(const Json& request) const;
  // Commands of the API that need more than the log: HOST:/PATH becomes ids, and the nodes concerned are asked.
  Json change(const Json& command);
  Explained<Json> plan_create(const Json& command) const;
  Json set_address(const Json& command);

  Node& node_;
  Reconciler& reconciler_;
  Events& events_;
  const std::string version_;
  std::atomic<int> changes_{0};
};

}  // namespace voldfs::mgmt
