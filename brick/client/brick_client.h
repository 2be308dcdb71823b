#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/wire/message.h"

namespace voldfs::client {

// Where a brick is and how to be let in.
struct BrickAddress {
  Id brick;
  uint16_t ordinal = 0;
  std::string host;         // address literal
  uint16_t port = 0;
  std::string unix_socket;  // path; tried first when it exists on this host; empty: none
};

// One that may change. Any thread.
class MovingAddress {
 public:
  explicit MovingAddress(BrickAddress address) : address_(std::move(address)) {}
  BrickAddress now() const {
    const std::lock_guard lock(mutex_);
    return address_;
  }
  void set(BrickAddress address) {
    const std::lock_guard lock(mutex_);
    address_ = std::move(address);
  }

 private:
  mutable std::mutex mutex_;
  BrickAddress address_;  // guarded by mutex_
};

enum class OnBrickDown : uint8_t {
  kWait,
  kError,    // EIO at once
  kStopped,  // ENOTCONN at once: the volume is stopped, and nobody is to wait for its bricks
};

struct ClientOptions {
  Id volume;
  Id client;                // random, of the mount's life
  std::vector<uint8_t> secret;
  uint32_t connections_max = 8;           // to one brick, each with a slot
  uint32_t idle_close_ms = 10'000;        // an unused connection's life
  OnBrickDown on_brick_down = OnBrickDown::kWait;
  uint32_t down_timeout_ms = 0;           // kWait: EIO after this long; 0: wait for ever
  uint32_t connect_timeout_ms = 3'000;    // of one attempt
  bool use_unix_sockets = true;
};

// Whose request it is; and how a wait for a brick that is down ends early.
struct Caller {
  uint32_t uid = 0, gid = 0, pid = 0, umask = 0;
  uint64_t lock_owner = 0;
  // Set from another thread when a signal has come for the application: a request that waits for a brick that is
  // down, and has not been sent, ends with EINTR if it gives up. May be null.
  const std::atomic<bool>* interrupted = nullptr;
  // A signal that the application lives on after does not count: calls on a local file system are not interrupted, and
  // programs do not expect EINTR of them. `pid` is the kernel's number of the thread that asks; 0: it never gives up.
  bool only_if_killed = false;
  bool gives_up() const;
  // The same, where nobody has told: the kernel does not tell of every signal (fuse/interrupts.h). It takes a look at the thread, tens of us. A
  // thread that has gone is no reason: the kernel reads ahead in the name of such.
  bool is_being_killed() const;
  // The caller can ask another brick instead: whatever OnBrickDown says, a request to a brick that is down, or goes
  // down before it has answered, ends with EHOSTDOWN at once. For requests that change nothing.
  bool only_if_up = false;
  // With only_if_up: a brick that has just gone down is waited for until it has been down for so long (not with
  // OnBrickDown::kError). For answers of others that may be older than what the brick itself has said.
  uint32_t patience_ms = 0;
  // Of an open: its descriptor is wanted (Reply::descriptor), where the brick is on this host and hands it out. Of one that is
  // reclaimed: it was handed out before.
  bool takes_descriptor = false;
};

// A signal is about to interrupt what the thread waits in. False also where nothing can be told: without /proc, or of a thread in a PID
// namespace that is not ours (0).
bool has_signal(uint32_t thread);

class BrickClient;

// A request on its way. send() starts it, wait() ends it; requests to several bricks are sent first and
// awaited after. Not movable while in flight; one thread. Destroying an unawaited call awaits it.
class PendingCall {
 public:
  PendingCall(BrickClient& brick, wire::Request request, const Caller& caller, std::span<std::byte> data_into = {});
  ~PendingCall();
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;

  void send();
  // The reply, its status 0. Otherwise the error: an errno, or a wire::Status; `reply()` then has the body that
  // goes with it. A lost connection is made again and the request sent again with its slot and sequence, as
  // ClientOptions::on_brick_down says: EIO when given up, EINTR when interrupted.
  Result<void> wait();
  wire::Reply& reply();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What a brick told without being asked, on the control connection's thread; short, never blocking.
struct Notifications {
  std::function<void(const wire::LockBody&)> lock_granted;
  std::function<void(const wire::RecallBody&, std::string_view name)> recall;
  std::function<void(uint16_t ordinal)> map_changed;
  // Before the control connection is made again: recalls may have been missed. The brick takes the new connection as
  // our word that nothing is cached any more that it granted before.
  std::function<void(uint16_t ordinal)> drop_cached;
  // The brick has restarted or the session was lost: opens and locks are to be reclaimed, in this thread,
  // before other requests go on. `lost`: the session is a new one, the brick forgot the locks. False: the brick went away again before
  // it had answered for all; it is called once more when the brick is back, even if nothing has restarted.
  std::function<bool(uint16_t ordinal, bool lost)> reclaim;
};

// All connections to one brick and the session that spans them. Connections are taken most recently used
// first, opened when all are busy, closed when idle. Any thread.
class BrickClient {
 public:
  BrickClient(BrickAddress address, std::shared_ptr<const ClientOptions> options, Notifications notifications);
  ~BrickClient();  // says kBye when connected; waits for nothing that is down

  BrickAddress address() const;
  // The same brick, at another place: for connections that are made from now on.
  void move_to(BrickAddress address);
  bool is_up() const;                       // as last seen
  Result<void> connect(uint32_t timeout_ms);  // for the mount: a session, or why not

  // One request and its answer, blocking. `data_into`: where a payload is to be received, else Reply::owned_data.
  Result<wire::Reply> call(wire::Request request, const Caller& caller, std::span<std::byte> data_into = {});
  // As call(); on a protocol status, `*refusal` (if not null) gets the reply whose body explains it.
  Result<wire::Reply> call(wire::Request request, const Caller& caller, wire::Reply* refusal,
                           std::span<std::byte> data_into = {});

  // As ClientOptions has it, from now on; requests that wait already heed it within kInterruptMs.
  void set_on_brick_down(OnBrickDown how, uint32_t down_timeout_ms);

  uint64_t round_trips() const;             // since the start, for metrics and tests

 private:
  friend class PendingCall;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace voldfs::client
