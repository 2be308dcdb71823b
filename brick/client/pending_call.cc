#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "brick/base/clock.h"
#include "brick/client/brick_client_impl.h"
#include "brick/wire/op_info.h"

namespace voldfs::client {

// One request on its way: takes a slot, is sent, is answered; and from "lost" back to "sent" as often as it takes. The slot
// and its sequence are kept from the first sending on: by them the brick knows a repetition.
struct PendingCall::State {
  State(BrickClient::Impl& brick_in, wire::Request request_in, const Caller& caller_in, std::span<std::byte> data_into_in);

  enum class Patience { kNone, kWaitForSlot };
  Result<void> try_send(Patience patience);
  Result<void> take_slot(Patience patience);
  Result<void> ensure_connection(const Standing& standing);
  Result<void> receive();
  Result<void> judge();
  Result<void> await_better_times();
  bool gives_up();
  void set_descriptor_flag(wire::RequestHeader& header);
  void drop_connection() { brick.pool.set(slot, nullptr, 0); }
  void release_slot();
  Result<void> end(Result<void> result);

  BrickClient::Impl& brick;
  wire::Request request;
  const Caller caller;
  const std::span<std::byte> data_into;
  wire::Reply reply;
  Result<void> result;
  bool once = false;
  bool started = false, in_flight = false, done = false;
  bool maybe_done = false;         // it was sent, and no answer says that it was not carried out
  bool answered = false;           // by the brick, and not that it is to be asked again
  uint32_t sent_count = 0;
  uint64_t session = 0;            // that it was sent in last
  Slot* slot = nullptr;
  int64_t looked_ms = 0;           // at the caller's signals
  int64_t down_since_ms = 0;       // 0: the brick was there when last looked at
  uint32_t pause_ms = 0;           // before the next attempt
};

PendingCall::State::State(BrickClient::Impl& brick_in, wire::Request request_in, const Caller& caller_in,
                          std::span<std::byte> data_into_in)
    : brick(brick_in), request(std::move(request_in)), caller(caller_in), data_into(data_into_in) {
  wire::RequestHeader& header = request.header();
  header.uid = caller.uid;
  header.gid = caller.gid;
  header.pid = caller.pid;
  header.umask = caller.umask;
  const wire::OpInfo* info = wire::op_info(static_cast<wire::Op>(header.op));
  once = info != nullptr && info->once;
}

PendingCall::PendingCall(BrickClient& brick, wire::Request request, const Caller& caller, std::span<std::byte> data_into)
    : state_(std::make_unique<State>(*brick.impl_, std::move(request), caller, data_into)) {}

PendingCall::~PendingCall() {
  if (state_->started && !state_->done) (void)wait();
}

wire::Reply& PendingCall::reply() { return state_->reply; }

// Never waits for a slot or for a brick that is down: the caller may hold what another needs. What cannot be sent now
// is sent by wait().
void PendingCall::send() {
  state_->started = true;
  (void)state_->try_send(State::Patience::kNone);
}

Result<void> PendingCall::wait() {
  State& state = *state_;
  state.started = true;
  while (!state.done) {
    Result<void> step;
    if (!state.in_flight) step = state.try_send(State::Patience::kWaitForSlot);
    if (step && !state.done) step = state.receive();
    if (!step && !state.done) step = state.await_better_times();
    if (!step && !state.done) (void)state.end(step);
  }
  state.release_slot();
  return state.result;
}

Result<void> PendingCall::State::end(Result<void> outcome) {
  done = true;
  result = outcome;
  return outcome;
}

void PendingCall::State::release_slot() {
  if (slot != nullptr) slot->unsure = maybe_done && !answered;
  if (slot != nullptr) brick.pool.release(std::exchange(slot, nullptr));
}

Result<void> PendingCall::State::take_slot(Patience patience) {
  if (slot != nullptr) return {};
  if (brick.control.is_this_thread()) {
    slot = brick.pool.reserved();
  } else {
    slot = patience == Patience::kNone ? brick.pool.try_acquire() : brick.pool.acquire();
  }
  return slot != nullptr ? Result<void>{} : fail(EBUSY);
}

Result<void> PendingCall::State::ensure_connection(const Standing& standing) {
  if (slot->connection && slot->epoch == standing.epoch) return {};
  auto connection = Connection::open(brick.address.now(), *brick.options, ConnectionKind::kRequests, standing.session);
  if (!connection && connection.error().code == wire::kSessionGone) brick.control.session_gone(standing.session);
  if (!connection) return fail(connection.error());
  // A brick that has restarted behind our back: nothing may go there before everything was reclaimed.
  if ((*connection)->welcome().incarnation != standing.incarnation) return fail(ECONNRESET);
  brick.pool.set(slot, std::move(*connection), standing.epoch);
  return {};
}

// A reclaimed open says over any connection that its descriptor is here.
void PendingCall::State::set_descriptor_flag(wire::RequestHeader& header) {
  header.flags &= static_cast<uint16_t>(~wire::kFlagTakesDescriptor);
  const auto op = static_cast<wire::Op>(header.op);
  const bool opens = op == wire::Op::kOpen || op == wire::Op::kCreate || op == wire::Op::kTmpfile;
  const bool reclaims = (header.flags & wire::kFlagReclaim) != 0;
  if (caller.takes_descriptor && opens && (reclaims || slot->connection->passes_descriptors()))
    header.flags |= wire::kFlagTakesDescriptor;
}

Result<void> PendingCall::State::try_send(Patience patience) {
  const auto standing = brick.control.standing();
  if (!standing) return fail(standing.error());
  // What the slot would have remembered went with its session: nobody knows any more whether it was carried out.
  if (maybe_done && once && session != standing->session) return end(fail(wire::kUnsettled));
  if (auto taken = take_slot(patience); !taken) return taken;
  if (auto connected = ensure_connection(*standing); !connected) {
    brick.control.look();
    return connected;
  }
  wire::RequestHeader& header = request.header();
  if (sent_count++ == 0) {
    header.slot = slot->number;
    header.sequence = ++slot->sequence;
  } else {
    header.flags |= wire::kFlagResend;
  }
  header.session = session = standing->session;
  header.cpu = static_cast<uint16_t>(slot->cpu + 1);
  set_descriptor_flag(header);
  maybe_done = true;
  answered = false;
  if (auto sent = slot->connection->send(request); !sent) {
    drop_connection();
    return sent;
  }
  in_flight = true;
  return {};
}

Result<void> PendingCall::State::receive() {
  in_flight = false;
  auto received = slot->connection->receive(reply, data_into);
  const wire::RequestHeader& header = request.header();
  if (received && (reply.header.op != header.op || reply.header.sequence != header.sequence)) received = fail(EPROTO);
  if (!received) {
    drop_connection();
    return received;
  }
  down_since_ms = 0;
  brick.round_trips.fetch_add(1, std::memory_order_relaxed);
  brick.control.met_map(reply.header.map_version, header.map_version);
  return judge();
}

// What the reply's status means for the way of the request.
Result<void> PendingCall::State::judge() {
  const int status = static_cast<int>(reply.header.status);
  answered = status != wire::kSlotBusy;
  switch (status) {
    case 0: return end({});
    case wire::kGrace:
      maybe_done = false;  // had it been carried out, its slot would have answered
      return fail(status);
    case wire::kSlotBusy: return fail(status);
    case wire::kSessionGone:
      if (sent_count == 1) maybe_done = false;
      brick.control.session_gone(session);
      return fail(status);
    default: return end(fail(status));
  }
}

bool PendingCall::State::gives_up() {
  if (caller.gives_up()) return true;
  const int64_t now = boottime_ms();
  if (now - looked_ms < kKilledMs) return false;
  looked_ms = now;
  return caller.is_being_killed();
}

// After an attempt that came to nothing. An error ends the call.
Result<void> PendingCall::State::await_better_times() {
  if (brick.control.is_this_thread()) return fail(EHOSTDOWN);  // reclaiming: the next connection starts it over
  if (!maybe_done && gives_up()) return fail(EINTR);
  const auto standing = brick.control.standing();
  if (standing) {
    // The brick is there, or not yet known to be down. The first time it is tried again at once.
    down_since_ms = 0;
    const uint32_t pause = std::exchange(pause_ms, std::clamp(pause_ms * 2, kPollFirstMs, kPollLastMs));
    if (pause != 0) std::this_thread::sleep_for(std::chrono::milliseconds(pause));
    return {};
  }
  const int64_t now = boottime_ms();
  if (down_since_ms == 0) down_since_ms = now;
  const OnBrickDown on_brick_down = brick.on_brick_down.load(std::memory_order_relaxed);
  const uint32_t timeout_ms = brick.down_timeout_ms.load(std::memory_order_relaxed);
  const bool known_to_be_down = standing.error().code != EAGAIN;
  const bool is_patient = on_brick_down == OnBrickDown::kWait && brick.control.down_for_ms() < caller.patience_ms;
  if (caller.only_if_up && known_to_be_down && !is_patient) return fail(EHOSTDOWN);
  if (on_brick_down == OnBrickDown::kStopped && known_to_be_down) return fail(ENOTCONN);
  if (on_brick_down == OnBrickDown::kError && known_to_be_down) return fail(EIO);
  if (timeout_ms != 0 && now - down_since_ms >= timeout_ms) return fail(EIO);
  brick.control.wait(kInterruptMs);
  return {};
}

}  // namespace voldfs::client
