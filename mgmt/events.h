#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "mgmt/node.h"

namespace voldfs::mgmt {

inline constexpr size_t kEventsKept = 4096;      // on each node, in memory; older ones are gone
inline constexpr size_t kEventsUnsentMax = 1024; // to peers and webhooks; above, the oldest are dropped and counted
inline constexpr size_t kEventsAnswerMax = 512;  // in one answer
inline constexpr int kEventsWaitMaxMs = 10'000;
inline constexpr int kEventFollowersMax = 6;     // at once, of the HTTP server's threads; others are answered without waiting

// What has happened in the cluster, as a stream: changes of the state, which every node sees by itself, and what a node alone
// can see (a brick that went down), which it tells its peers. Best effort: a node that is down or cut off misses what others
// tell. Webhooks are posted by one node each: changes by the leader, what a node saw by that node. Any thread.
class Events {
 public:
  explicit Events(Node& node);
  ~Events();

  // A change that was applied to the state. On the log's thread: only notes it.
  void changed(const std::string& type, Json data);
  // What this node saw.
  void seen(const std::string& type, Json data);
  // What a peer saw, as it tells it.
  void told(const Json& event);

  // The events with a number above `after`, waiting for one up to `wait_ms`: {stream, next, missed, events: [...]}. Numbers
  // count within `stream`, which is new with every start of the daemon: with another stream, all that are kept.
  Json after(const std::string& stream, uint64_t number, int wait_ms);
  // Ends all waiting; nothing is sent any more.
  void stop();

 private:
  struct Unsent {
    Json event;
    bool to_peers;
  };
  Json note(const std::string& type, Json data, bool from_state);
  void send_loop();
  void send(const Unsent& unsent);

  Node& node_;
  const std::string stream_;
  std::mutex mutex_;
  std::condition_variable added_, unsent_changed_;  // with mutex_
  std::deque<Json> kept_;                           // guarded by mutex_, oldest first
  uint64_t last_ = 0;                               // guarded by mutex_: number of the newest
  std::deque<Unsent> unsent_;                       // guarded by mutex_
  uint64_t dropped_ = 0;                            // guarded by mutex_
  int followers_ = 0;                               // guarded by mutex_
  bool stopping_ = false;                           // guarded by mutex_
  std::thread sender_;
};

// The event that a command of the state makes, {type, data}; null: none. `before` is the state that it is applied to.
Json event_of(const ClusterState& before, const Json& command, const Json& result);

}  // namespace voldfs::mgmt
