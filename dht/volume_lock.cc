#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>
#include <tuple>
#include <utility>

#include "dht/file_call.h"
#include "dht/lock_waits.h"

// Locks. A brick keeps those of its files; a wait is queued there and its end told by a notification. What goes over
// bricks is done here: the search for cycles of waits, and taking locks again after a restart.
namespace voldfs::dht {
namespace {

constexpr uint32_t kWait = 1, kTest = 2, kHeldToo = 4;    // wire::LockBody::flags
constexpr size_t kChaseMax = 256;                         // owners that a search for a cycle visits
constexpr auto kAgainDelay = std::chrono::milliseconds(100);  // a brick that is down or in its grace period

// For requests that are given up when the brick is down.
const std::atomic<bool> kInterrupted = true;

Caller without_waiting() {
  Caller caller;
  caller.interrupted = &kInterrupted;
  return caller;
}

bool is_brick_away(Error error) { return error.code == EHOSTDOWN || error.code == EINTR || error.code == EIO; }

}  // namespace

LockWaits& lock_waits(Volume::Impl& volume) {
  std::call_once(volume.lock_waits_made, [&] { volume.lock_waits = std::make_shared<LockWaits>(volume); });
  return *volume.lock_waits;
}

LockWaits::LockWaits(Volume::Impl& volume) : volume_(volume) {
  volume_.set_lock_granted([this](const wire::LockBody& lock) { notified(lock); });
}

LockWaits::~LockWaits() { volume_.set_lock_granted({}); }

uint64_t LockWaits::reserve() {
  std::lock_guard guard(mutex_);
  waits_.try_emplace(next_ticket_);
  return next_ticket_++;
}

wire::LockBody LockWaits::body(const OpenFile& file, const Volume::LockRequest& request) const {
  wire::LockBody body{};
  body.object = volume_.object_ref(file.node());
  body.owner = {volume_.client_options->client, request.owner};
  body.start = request.start, body.end = request.end;
  body.kind = request.kind, body.type = request.type;
  body.pid = request.pid;
  body.open = file.number();
  return body;
}

void LockWaits::lock(const OpenFilePtr& file, const Volume::LockRequest& request, bool wait, const Caller& caller,
                     uint64_t ticket, Granted granted) {
  {
    std::lock_guard guard(mutex_);
    Wait& entry = waits_[ticket];
    entry.wait = wait;
    entry.file = file;
    entry.lock = body(*file, request);
    entry.lock.ticket = ticket;
    entry.lock.flags = wait ? kWait : 0;
    entry.caller = caller;
    entry.granted = std::move(granted);
  }
  send(ticket);
}

// The answer may be that of a brick which has died since: when everything was taken again, this was not yet known to be held, or waited
// for.
bool LockWaits::is_overtaken(const Wait& wait) const {
  const auto now = reclaims_.find(wait.file->brick());
  return now != reclaims_.end() && now->second != wait.reclaims && wait.lock.type != wire::LockType::kUnlock;
}

// Ends the wait unless somebody else has.
void LockWaits::end(uint64_t ticket, int error) {
  Granted granted;
  {
    std::unique_lock guard(mutex_);
    const auto found = waits_.find(ticket);
    if (found == waits_.end()) return;
    if (error == 0 && is_overtaken(found->second)) {
      guard.unlock();
      return send_again(ticket);
    }
    if (error == 0) held_.apply(found->second.lock, found->second.file.get());
    else held_.restore(found->second.given_up);
    granted = std::move(found->second.granted);
    waits_.erase(found);
  }
  granted(error);
}

void LockWaits::send(uint64_t ticket) {
  OpenFilePtr file;
  wire::LockBody lock;
  Caller caller;
  bool cancelled = false;
  {
    std::lock_guard guard(mutex_);
    const auto found = waits_.find(ticket);
    if (found == waits_.end()) return;
    Wait& wait = found->second;
    cancelled = wait.cancelled && wait.wait;
    wait.state = State::kSent;
    wait.reclaims = reclaims_[wait.file->brick()];
    if (!cancelled)
      for (const HeldLocks::Held& each : held_.give_up(wait.lock)) wait.given_up.push_back(each);
    file = wait.file, lock = wait.lock, caller = wait.caller;
  }
  if (cancelled) return end(ticket, EINTR);
  const auto make = [&lock](const wire::ObjectRef& object, uint32_t open) {
    lock.object = object, lock.open = open;
    return wire::Request(wire::Op::kLock, lock);
  };
  // A wait does not keep its worker while the brick is in its grace period; what does not wait, may.
  const auto reply = lock.flags & kWait
                         ? volume_.call(file->brick(), make(volume_.object_ref(file->node()), file->number()), caller)
                         : call_file(volume_, file, false, make, caller);
  if ((reply || reply.error().code == wire::kQueued) && lock.type != wire::LockType::kUnlock) {
    // Its end was told already. Sent again over a new connection, the request may have come behind that, and behind the unlock too.
    std::unique_lock guard(mutex_);
    if (!waits_.contains(ticket)) {
      const bool holds = held_.covers(lock);
      guard.unlock();
      if (!holds) give_back(lock);
      return;
    }
  }
  answered(ticket, reply);
}

void LockWaits::answered(uint64_t ticket, const Result<wire::Reply>& reply) {
  if (reply) return end(ticket, 0);
  switch (reply.error().code) {
    case wire::kQueued: {
      bool cancelled = false, overtaken = false;
      {
        std::lock_guard guard(mutex_);
        const auto found = waits_.find(ticket);
        if (found == waits_.end()) return;  // its end was told before its beginning
        overtaken = is_overtaken(found->second);
        found->second.state = State::kQueued;
        cancelled = found->second.cancelled;
      }
      if (overtaken) return send_again(ticket);
      if (cancelled) return give_up(ticket, EINTR);
      if (is_in_cycle(ticket)) end_cycle(ticket);
      return;
    }
    case EHOSTDOWN:
    case wire::kGrace:
    case wire::kOpenUnknown:
      return send_again(ticket);
    default:
      return end(ticket, reply.error().is_errno() ? reply.error().code : EIO);
  }
}

void LockWaits::send_again(uint64_t ticket) {
  bool cancelled = false;
  {
    std::lock_guard guard(mutex_);
    const auto found = waits_.find(ticket);
    if (found == waits_.end()) return;
    cancelled = found->second.cancelled;
    found->second.state = State::kAgain;
    found->second.caller.only_if_up = true;  // from here on it is the one thread of later_ that sends
  }
  if (cancelled) return end(ticket, EINTR);
  later_.run(kAgainDelay, [this, ticket] { send(ticket); });
}

void LockWaits::notified(const wire::LockBody& lock) {
  {
    std::lock_guard guard(mutex_);
    const auto found = waits_.find(lock.ticket);
    const bool known = found != waits_.end() && found->second.state != State::kReserved;
    if (!known) {
      // Given up while the brick could not be told, and granted after that: it goes back.
      if (lock.flags != 0 || held_.covers(lock)) return;
      give_back(lock);
      return;
    }
  }
  end(lock.ticket, static_cast<int>(lock.flags));
}

void LockWaits::cancel(uint64_t ticket) {
  {
    std::lock_guard guard(mutex_);
    const auto found = waits_.find(ticket);
    if (found == waits_.end()) return;
    found->second.cancelled = true;
    // Who has it in hand sees the mark.
    if (found->second.state == State::kReserved || found->second.state == State::kSent) return;
  }
  give_up(ticket, EINTR);
}

void LockWaits::give_up(uint64_t ticket, int error) {
  wire::LockBody lock;
  OpenFilePtr file;
  bool queued = false;
  {
    std::lock_guard guard(mutex_);
    const auto found = waits_.find(ticket);
    if (found == waits_.end()) return;
    lock = found->second.lock, file = found->second.file;
    queued = found->second.state == State::kQueued;
  }
  if (queued) {
    const auto gone = volume_.call(file->brick(), wire::Request(wire::Op::kLockCancel, lock), without_waiting());
    // The wait has ended by itself: the notification of how is on its way.
    if (!gone && gone.error().code == ENOENT) return;
    if (!gone) tell_later(file->brick(), wire::Op::kLockCancel, lock);
  }
  end(ticket, error);
}

// Something was granted of which nobody waits any more. By its ticket, for its owner may have taken another lock on the file since.
void LockWaits::give_back(wire::LockBody lock) {
  lock.flags = kHeldToo;
  if (const NodePtr node = volume_.nodes.find(lock.object.id)) tell_later(node->location().brick, wire::Op::kLockCancel, lock);
}

void LockWaits::tell_later(uint16_t brick, wire::Op op, const wire::LockBody& lock) {
  later_.run(kAgainDelay, [this, brick, op, lock] {
    Caller quick;
    quick.only_if_up = true;
    const auto told = volume_.call(brick, wire::Request(op, lock), quick);
    // In the grace period nothing is known of it yet; a session that is gone has no locks.
    if (!told && (is_brick_away(told.error()) || told.error().code == wire::kGrace)) tell_later(brick, op, lock);
  });
}

// --- Cycles -------------------------------------------------------------------------------------------------

std::vector<wire::LockOwner> LockWaits::waits_of(const wire::LockOwner& owner) {
  std::vector<wire::LockOwner> owners;
  Caller quick;
  quick.only_if_up = true;
  const auto make = [&owner](uint16_t) { return wire::Request(wire::Op::kLockWaits, owner); };
  for (const Answer& answer : volume_.ask(volume_.all_ordinals(), make, quick)) {
    if (!answer.status) continue;
    const size_t before = owners.size();
    owners.resize(before + answer.reply.data.size() / sizeof(wire::LockOwner));
    if (owners.size() > before)
      std::memcpy(owners.data() + before, answer.reply.data.data(), (owners.size() - before) * sizeof(wire::LockOwner));
  }
  return owners;
}

// Each brick finds the cycles of its own. One that goes over several is found by the client whose wait closes it: a wait is
// queued before it is chased, so that of two that close it together at least one sees it whole.
bool LockWaits::is_in_cycle(uint64_t ticket) {
  wire::LockOwner self;
  {
    std::lock_guard guard(mutex_);
    const auto found = waits_.find(ticket);
    if (found == waits_.end() || found->second.lock.kind != wire::LockKind::kPosix) return false;
    self = found->second.lock.owner;
  }
  if (volume_.all_ordinals().size() < 2) return false;
  const auto key = [](const wire::LockOwner& owner) { return std::pair(owner.client, owner.owner); };
  std::set<std::pair<Id, uint64_t>> seen;
  std::vector<wire::LockOwner> ahead = waits_of(self);
  while (!ahead.empty() && seen.size() < kChaseMax) {
    const wire::LockOwner owner = ahead.back();
    ahead.pop_back();
    if (key(owner) == key(self)) return true;
    if (!seen.insert(key(owner)).second) continue;
    const auto more = waits_of(owner);
    ahead.insert(ahead.end(), more.begin(), more.end());
  }
  return false;
}

// The bricks were asked one after the other, and what they said need not be true any more. A cycle of waits does not end by itself: if
// this one has not ended, the brick takes it back. Where that is not known it goes on, and is looked at again.
void LockWaits::end_cycle(uint64_t ticket) {
  wire::LockBody lock;
  uint16_t brick = 0;
  {
    std::lock_guard guard(mutex_);
    const auto found = waits_.find(ticket);
    if (found == waits_.end()) return;
    lock = found->second.lock, brick = found->second.file->brick();
  }
  const auto gone = volume_.call(brick, wire::Request(wire::Op::kLockCancel, lock), without_waiting());
  if (gone) return end(ticket, EDEADLK);
  if (gone.error().code != ENOENT) send_again(ticket);  // ENOENT: the notification of its end is on its way
}

// --- Ends and restarts --------------------------------------------------------------------------------------

void LockWaits::drop(const OpenFile& file, wire::LockKind kind, uint64_t owner, const Caller& caller) {
  const wire::LockBody lock = body(file, {kind, wire::LockType::kUnlock, owner, 0, INT64_MAX, caller.pid});
  {
    std::lock_guard guard(mutex_);
    if (!held_.drop(lock)) return;  // the usual close: nothing was locked, nobody is asked
  }
  const auto told = volume_.call(file.brick(), wire::Request(wire::Op::kLockDrop, lock), caller);
  if (!told) tell_later(file.brick(), wire::Op::kLockDrop, lock);
}

void LockWaits::drop_open(const OpenFile& file, const Caller& caller) {
  std::vector<wire::LockBody> left;
  {
    std::lock_guard guard(mutex_);
    if (held_.size() == 0) return;
    left = held_.taken_via(file.node()->id(), &file);
  }
  for (const wire::LockBody& lock : left) drop(file, lock.kind, lock.owner.owner, caller);
}

bool LockWaits::reclaim(OpenFile& file, bool lost) {
  std::vector<wire::LockBody> taken;
  std::vector<uint64_t> waiting;
  {
    std::lock_guard guard(mutex_);
    ++reclaims_[file.brick()];
    taken = held_.taken_via(file.node()->id(), &file);
    for (const auto& [ticket, wait] : waits_)
      if (wait.file.get() == &file && wait.state == State::kQueued) waiting.push_back(ticket);
  }
  for (wire::LockBody& lock : taken) {
    lock.object = volume_.object_ref(file.node());
    lock.open = file.number();
    lock.flags = 0;
    wire::Request request(wire::Op::kLock, lock);
    request.header().flags |= wire::kFlagReclaim;
    if (const auto again = volume_.call(file.brick(), std::move(request), Caller{}); !again) {
      if (again.error().code == EHOSTDOWN) return false;  // the waits too come when it is back
      spdlog::error("lock.reclaim failed file={} start={} end={} status={} session_lost={}", file.node()->id().hex(),
                    lock.start, lock.end, again.error().code, lost);
      std::lock_guard guard(mutex_);
      lock.type = wire::LockType::kUnlock;
      held_.apply(lock, &file);
    }
  }
  for (const uint64_t ticket : waiting) send_again(ticket);
  return true;
}

// --- As the kernel side calls them --------------------------------------------------------------------------

uint64_t Volume::next_ticket() { return lock_waits(*impl_).reserve(); }

void Volume::lock(const OpenFilePtr& file, const LockRequest& request, bool wait, const Caller& caller, uint64_t ticket,
                  std::function<void(int error)> granted) {
  lock_waits(*impl_).lock(file, request, wait, caller, ticket, std::move(granted));
}

void Volume::cancel_lock(uint64_t ticket) { lock_waits(*impl_).cancel(ticket); }

Result<Volume::LockRequest> Volume::test_lock(const OpenFilePtr& file, const LockRequest& request, const Caller& caller) {
  wire::LockBody body = lock_waits(*impl_).body(*file, request);
  body.flags = kTest;
  const auto reply = call_file(
      *impl_, file, false,
      [&body](const wire::ObjectRef& object, uint32_t open) {
        body.object = object, body.open = open;
        return wire::Request(wire::Op::kLock, body);
      },
      caller);
  if (!reply) return fail(reply.error());
  const auto found = reply->body<wire::LockBody>();
  if (!found) return fail(found.error());
  return LockRequest{found->kind, found->type, found->owner.owner, found->start, found->end, found->pid};
}

void Volume::drop_locks(const OpenFilePtr& file, wire::LockKind kind, uint64_t owner, const Caller& caller) {
  lock_waits(*impl_).drop(*file, kind, owner, caller);
}

}  // namespace voldfs::dht
