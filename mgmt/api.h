#pragma once

#include <atomic>

#include "mgmt/http.h"
#include "mgmt/node.h"
#include "mgmt/reconciler.h"

namespace voldfs::mgmt {

// What a node answers over HTTP; mgmt/openapi.json describes it. Any thread. Reads come from this node's copy of the
// state, take no lock that a change waits for, and never ask for a quorum.
class Api {
 public:
  Api(Node& node, Reconciler& reconciler) : node_(node), reconciler_(reconciler) {}
  HttpReply handle(const HttpRequest& request);

 private:
  HttpReply get(const HttpRequest& request);
  HttpReply post(const HttpRequest& request);
  HttpReply volume(const std::string& rest);
  Json known() const;
  Json status() const;
  Json local_bricks() const;
  std::string metrics() const;
  // Commands of the API that need more than the log: HOST:/PATH becomes ids, and the nodes concerned are asked.
  Json change(const Json& command);
  Explained<Json> plan_create(const Json& command) const;

  Node& node_;
  Reconciler& reconciler_;
  std::atomic<int> changes_{0};
};

// The state as readers get it: without secrets.
Json public_state(const ClusterState& state);

}  // namespace voldfs::mgmt
