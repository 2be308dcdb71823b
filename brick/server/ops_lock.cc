#include "brick/server/ops_lock.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "brick/server/lock_table.h"
#include "brick/store/store.h"

namespace voldfs::server {

namespace {

constexpr uint32_t kWait = 1, kTest = 2, kHeldToo = 4;

Result<wire::LockBody> lock_body(Call& call) {
  auto body = call.request.as<wire::LockBody>();
  if (!body) return body;
  if (auto checked = check_lock(*body); !checked) return fail(checked.error());
  // A client speaks for its own owners: another's locks are not its to take or drop.
  if (body->owner.client != call.client) return fail(EPERM);
  return body;
}

}  // namespace

Result<void> check_lock(const wire::LockBody& body) {
  const auto kind = static_cast<uint16_t>(body.kind);
  const auto type = static_cast<uint16_t>(body.type);
  if (kind < 1 || kind > 3 || type > 2 || (body.flags & ~(kWait | kTest | kHeldToo)) != 0) return fail(EINVAL);
  if (body.start > body.end || body.end > std::numeric_limits<int64_t>::max()) return fail(EINVAL);
  return {};
}

Result<void> op_lock(Call& call) {
  const auto body = lock_body(call);
  if (!body) return fail(body.error());
  const bool reclaim = (call.request.header.flags & wire::kFlagReclaim) != 0;
  // What an earlier life of the brick has given out comes first; nothing can be reclaimed once others were let in.
  if (call.store.in_grace() && !reclaim && body->type != wire::LockType::kUnlock) return fail(wire::kGrace);
  if (!call.store.in_grace() && reclaim) return fail(ENOLCK);
  if ((body->flags & kTest) != 0) {
    call.reply.set_body(call.locks.test(*body));
    return {};
  }
  wire::LockBody answer = *body;
  const auto result = call.locks.lock(call.session_id, *body, (body->flags & kWait) != 0, &answer);
  call.reply.set_body(answer);
  return result;
}

Result<void> op_lock_cancel(Call& call) {
  const auto body = lock_body(call);
  if (!body) return fail(body.error());
  return call.locks.cancel(call.session_id, *body, (body->flags & kHeldToo) != 0);
}

Result<void> op_lock_waits(Call& call) {
  const auto owner = call.request.as<wire::LockOwner>();
  if (!owner) return fail(owner.error());
  const auto waits = call.locks.waits_of(*owner);
  const size_t bytes = std::min(waits.size() * sizeof(wire::LockOwner), size_t{wire::kDataMax});
  call.reply.data.resize(bytes - bytes % sizeof(wire::LockOwner));
  if (!call.reply.data.empty()) std::memcpy(call.reply.data.data(), waits.data(), call.reply.data.size());
  return {};
}

Result<void> op_lock_drop(Call& call) {
  const auto body = lock_body(call);
  if (!body) return fail(body.error());
  call.locks.drop(*body);
  return {};
}

}  // namespace voldfs::server
