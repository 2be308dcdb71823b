#include "brick/client/control.h"

#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <chrono>

#include "brick/base/clock.h"

namespace voldfs::client {

namespace {

constexpr uint32_t kTickMs = 250;  // between two looks at the idle connections

}  // namespace

Control::Control(const MovingAddress& where, const ClientOptions& options, const Notifications& notifications,
                 Callbacks callbacks)
    : where_(where),
      address_(where.now()),
      options_(options),
      notifications_(notifications),
      callbacks_(std::move(callbacks)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  // Signals are the application's: none is to land on this thread.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Result<Standing> Control::standing() {
  std::lock_guard lock(mutex_);
  if (state_ == State::kUp || (state_ == State::kReclaiming && is_this_thread())) return standing_;
  if (!wanted_) {
    wanted_ = true;
    changed_.notify_all();
  }
  return fail(state_ == State::kDown ? why_down_ : Error(EAGAIN));
}

bool Control::is_up() const {
  std::lock_guard lock(mutex_);
  return state_ == State::kUp;
}

int64_t Control::down_for_ms() const {
  std::lock_guard lock(mutex_);
  return down_since_ms_ == 0 ? 0 : boottime_ms() - down_since_ms_;
}

void Control::wait(uint32_t milliseconds) {
  std::unique_lock lock(mutex_);
  if (state_ == State::kUp || stopping_) return;
  changed_.wait_for(lock, std::chrono::milliseconds(milliseconds));
}

void Control::session_gone(uint64_t session) {
  {
    std::lock_guard lock(mutex_);
    if (standing_.session != session) return;
    gone_session_ = session;
    if (state_ == State::kUp) state_ = State::kNew;  // nobody sends more before the new one is there
  }
  ::eventfd_write(wake_.get(), 1);
}

void Control::look() { ::eventfd_write(wake_.get(), 1); }

void Control::met_map(uint64_t version, uint64_t known) {
  uint64_t newest = map_version_.load(std::memory_order_relaxed);
  while (version > newest && !map_version_.compare_exchange_weak(newest, version)) {
  }
  if (version <= newest || version <= known) return;
  tell_map_.store(true);
  look();
}

void Control::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  look();
  if (thread_.joinable()) thread_.join();
}

void Control::run() {
  ::pthread_setname_np(::pthread_self(), "brick_control");
  thread_id_.store(std::this_thread::get_id());
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return wanted_ || stopping_; });
  }
  uint32_t backoff_ms = kBackoffFirstMs;
  while (sleep(0)) {
    if (auto connected = connect(); !connected) {
      go_down(connected.error());
      back_off(backoff_ms);
      continue;
    }
    backoff_ms = kBackoffFirstMs;
    serve();
    connection_.reset();
  }
}

bool Control::sleep(uint32_t milliseconds) {
  std::unique_lock lock(mutex_);
  if (milliseconds != 0) changed_.wait_for(lock, std::chrono::milliseconds(milliseconds), [this] { return stopping_; });
  return !stopping_;
}

void Control::back_off(uint32_t& milliseconds) {
  sleep(milliseconds);
  milliseconds = std::min(milliseconds * 2, kBackoffLastMs);
}

void Control::lose_connection() {
  {
    std::lock_guard lock(mutex_);
    if (state_ != State::kDown) state_ = State::kNew;
  }
  changed_.notify_all();
}

void Control::go_down(Error error) {
  bool was_up;
  {
    std::lock_guard lock(mutex_);
    was_up = state_ != State::kDown;
    state_ = State::kDown;
    if (down_since_ms_ == 0) down_since_ms_ = boottime_ms();
    why_down_ = error;
  }
  changed_.notify_all();
  if (was_up) spdlog::warn("brick_down brick={} ordinal={} error={}", address_.brick.hex(), address_.ordinal, error.code);
}

// Makes the connection and finds out what has become of the session; reclaims if something was lost.
Result<void> Control::connect() {
  uint64_t session;
  bool known;
  {
    std::lock_guard lock(mutex_);
    known = standing_.session != 0;
    session = standing_.session != gone_session_ ? standing_.session : 0;
  }
  if (known && notifications_.drop_cached) notifications_.drop_cached(address_.ordinal);
  auto connection = Connection::open(where_.now(), options_, ConnectionKind::kControl, session);
  if (!connection) return fail(connection.error());
  connection_ = std::move(*connection);
  const wire::WelcomeBody& welcome = connection_->welcome();

  bool lost, restarted;
  Standing standing;
  {
    std::lock_guard lock(mutex_);
    lost = known && standing_.session != welcome.session;
    restarted = known && standing_.incarnation != welcome.incarnation;
    if (lost || restarted || !known) ++standing_.epoch;
    standing_.session = welcome.session;
    standing_.incarnation = welcome.incarnation;
    reclaim_due_ |= lost || restarted;
    lost_ |= lost;
    if (lost || restarted) last_notification_ = 0;
    if (reclaim_due_) state_ = State::kReclaiming;
    standing = standing_;
  }
  if (lost || restarted) {
    spdlog::info("brick_back brick={} ordinal={} session_lost={} restarted={}", address_.brick.hex(), address_.ordinal,
                 lost, restarted);
  }
  if (reclaim_due_ && notifications_.reclaim && !notifications_.reclaim(address_.ordinal, lost_)) return fail(EHOSTDOWN);
  if (auto settled = callbacks_.settle(standing); !settled) return settled;
  // The first heartbeat tells the brick that we hold all that we want to.
  if (auto beat = heartbeat(); !beat) return beat;
  reclaim_due_ = lost_ = false;
  {
    std::lock_guard lock(mutex_);
    state_ = State::kUp;
    down_since_ms_ = 0;
  }
  changed_.notify_all();
  return {};
}

Result<void> Control::heartbeat() {
  wire::Request request(wire::Op::kHeartbeat);
  request.header().session = connection_->welcome().session;
  request.header().sequence = ++sequence_;
  const int64_t now = boottime_ms();
  if (heartbeat_sent_ms_ == 0) heartbeat_sent_ms_ = now;
  next_heartbeat_ms_ = now + connection_->welcome().lease_ms / kHeartbeatsPerLease;
  return connection_->send(request);
}

// Until the connection is lost, the session is gone, or the end.
void Control::serve() {
  heartbeat_sent_ms_ = boottime_ms();  // of connect()'s
  const int64_t lease_ms = connection_->welcome().lease_ms;
  int64_t next_tick_ms = 0;
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) break;
      if (gone_session_ == standing_.session) return;
    }
    const int64_t now = boottime_ms();
    if (now >= next_tick_ms) {
      callbacks_.idle();
      next_tick_ms = now + kTickMs;
    }
    if (heartbeat_sent_ms_ != 0 && now - heartbeat_sent_ms_ > lease_ms) {
      spdlog::warn("brick_silent brick={} ordinal={} for_ms={}", address_.brick.hex(), address_.ordinal, now - heartbeat_sent_ms_);
      go_down(Error(ETIMEDOUT));
      callbacks_.on_down();
      return;
    }
    if (now >= next_heartbeat_ms_ && !heartbeat()) return lose_connection();
    if (tell_map_.exchange(false) && notifications_.map_changed) notifications_.map_changed(address_.ordinal);

    if (!connection_->has_input()) {
      pollfd ready[2] = {{connection_->fd(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
      const int64_t until = std::min(next_tick_ms, next_heartbeat_ms_);
      ::poll(ready, 2, static_cast<int>(std::max<int64_t>(until - now, 1)));
      eventfd_t ignored;
      if (ready[1].revents != 0) ::eventfd_read(wake_.get(), &ignored);
      if (ready[0].revents == 0) continue;
    }
    if (!take_message()) return lose_connection();
  }
  say_bye();
}

// One message; a brick that stops in the middle of one is silent, and the receive ends with TCP's own timeouts.
bool Control::take_message() {
  wire::Reply message;
  if (!connection_->receive(message, {})) return false;
  deliver(message);
  return true;
}

void Control::deliver(const wire::Reply& message) {
  const auto op = static_cast<wire::Op>(message.header.op);
  met_map(message.header.map_version, 0);
  if (op == wire::Op::kHeartbeat) {
    heartbeat_sent_ms_ = 0;
    return;
  }
  const bool is_new = message.header.sequence > last_notification_;
  last_notification_ = std::max(last_notification_, message.header.sequence);
  if (!is_new) {
    // Acted upon already. A lock that was granted then may have been given back, and taken again.
  } else if (op == wire::Op::kNotifyLock && notifications_.lock_granted) {
    if (const auto lock = message.body<wire::LockBody>()) notifications_.lock_granted(*lock);
  } else if (op == wire::Op::kNotifyRecall && notifications_.recall) {
    if (const auto recall = message.body<wire::RecallBody>()) notifications_.recall(*recall, message.name);
  } else if (op == wire::Op::kNotifyMap && notifications_.map_changed) {
    notifications_.map_changed(address_.ordinal);
  }
  // Whatever it was: the brick is not to send it again.
  wire::Request ack(wire::Op::kAck, wire::AckBody{message.header.sequence});
  ack.header().session = connection_->welcome().session;
  // A failure shows at the next receive.
  (void)connection_->send(ack);
}

void Control::say_bye() {
  wire::Request bye(wire::Op::kBye);
  bye.header().session = connection_->welcome().session;
  bye.header().sequence = ++sequence_;
  if (!connection_->send(bye)) return;
  // Until the answer, so that the brick has closed our files when the mount has ended; notifications may come before.
  const timeval time{kByeMs / 1000, kByeMs % 1000 * 1000};
  ::setsockopt(connection_->fd(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  const int64_t until = boottime_ms() + kByeMs;
  wire::Reply reply;
  while (boottime_ms() < until && connection_->receive(reply, {})) {
    if (reply.header.op == static_cast<uint16_t>(wire::Op::kBye)) return;
  }
}

}  // namespace voldfs::client
