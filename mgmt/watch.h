#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "mgmt/events.h"
#include "mgmt/reconciler.h"

namespace voldfs::mgmt {

// Looks once a second at what no command tells of, and makes events of it: bricks of this node that came or went, the
// majority lost or back, peers that fell silent (the leader's word). The leader gives the place of a voter that stays silent
// to a stand-by.
class Watch {
 public:
  Watch(Node& node, Reconciler& reconciler, Events& events);
  ~Watch();

 private:
  struct Silence {
    int64_t since_ms = 0;
    std::string name;
  };
  void run();
  void look_at_bricks(const ClusterState& state);
  void look_at_majority();
  void look_at_peers(const ClusterState& state);
  void replace_lost_voter(const ClusterState& state);

  Node& node_;
  Reconciler& reconciler_;
  Events& events_;
  // The thread's.
  struct Brick {
    int64_t first_look_ms = 0;
    bool served = false, told = false;  // told: that it is down
  };
  std::map<Id, Brick> bricks_;
  int majority_ = -1;              // -1: not looked yet
  std::map<Id, Silence> silent_;   // as the leader sees it
  int64_t peers_next_ms_ = 0;

  std::mutex mutex_;
  std::condition_variable wake_;   // with mutex_
  bool stopping_ = false;          // guarded by mutex_
  std::thread thread_;
};

}  // namespace voldfs::mgmt
