#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "brick/client/connection.h"

namespace voldfs::client {

// The session that requests may be sent in.
struct Standing {
  uint64_t session = 0;
  uint64_t incarnation = 0;   // of the brick
  uint64_t epoch = 0;         // grows whenever the brick was restarted or the session lost: connections made before are void
};

// The session with a brick and the control connection that keeps it: one thread, which makes the connection again
// whenever it is lost, sends heartbeats, takes notifications, and has everything reclaimed before others may go on. The
// other functions: any thread.
class Control {
 public:
  struct Callbacks {
    std::function<void()> idle;     // a few times a second
    std::function<void()> on_down;  // the brick has been silent for the time of a lease
    // Before others go on: what was given up in an unknown state comes to its end. On failure the connection is made once more.
    std::function<Result<void>(const Standing&)> settle;
  };
  Control(const MovingAddress& where, const ClientOptions& options, const Notifications& notifications, Callbacks callbacks);
  ~Control() { stop(); }

  // The session, at once, when requests may be sent; otherwise why not: EAGAIN: not known yet; what connect says when the
  // last attempt failed. Asks for a session if nobody did before.
  Result<Standing> standing();
  bool is_up() const;
  // Since the brick was last there, or was first looked for. 0: it is there, or nobody has looked yet.
  int64_t down_for_ms() const;
  // Until standing() may have changed, at most so long.
  void wait(uint32_t milliseconds);
  // Requests made by the thread that reclaims pass, and never wait.
  bool is_this_thread() const { return thread_id_.load() == std::this_thread::get_id(); }

  // A request was told that this session is gone: a new one is made.
  void session_gone(uint64_t session);
  // A connection met a brick of another incarnation, or failed: the control connection is looked at.
  void look();
  // A reply told of a map of this version; the client's own is `known` (0: not said).
  void met_map(uint64_t version, uint64_t known);

  void stop();  // says kBye when connected

 private:
  enum class State { kNew, kDown, kReclaiming, kUp };

  void run();
  Result<void> connect();
  void reclaim(bool lost);
  void serve();
  Result<void> heartbeat();
  bool take_message();
  void deliver(const wire::Reply& message);
  void lose_connection();    // whether the brick is down, the next attempt to connect shows
  void go_down(Error error);
  void back_off(uint32_t& milliseconds);
  void say_bye();
  bool sleep(uint32_t milliseconds);  // false: stopping

  const MovingAddress& where_;
  const BrickAddress address_;  // for its id and ordinal, which stay
  const ClientOptions& options_;
  const Notifications& notifications_;
  const Callbacks callbacks_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::kNew;            // guarded by mutex_
  Standing standing_;                    // guarded by mutex_
  Error why_down_{EAGAIN};               // guarded by mutex_
  int64_t down_since_ms_ = 0;            // guarded by mutex_; 0: not since the last time it was up
  uint64_t gone_session_ = 0;            // guarded by mutex_
  bool wanted_ = false, stopping_ = false;  // guarded by mutex_
  std::atomic<uint64_t> map_version_{0}; // the newest met
  std::atomic<bool> tell_map_{false};

  // The thread's own.
  std::unique_ptr<Connection> connection_;
  uint64_t last_notification_ = 0;       // of this life of the brick: what comes again was not acknowledged in time
  bool reclaim_due_ = false, lost_ = false;  // since a brick was met that has forgotten something, until all is reclaimed
  int64_t heartbeat_sent_ms_ = 0;        // of the one that is not answered; 0: none
  int64_t next_heartbeat_ms_ = 0;
  uint64_t sequence_ = 0;
  const unique_fd wake_;                 // eventfd
  std::atomic<std::thread::id> thread_id_;
  std::thread thread_;
};

}  // namespace voldfs::client
