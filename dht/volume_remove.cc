#include "dht/volume_remove.h"

#include "dht/look_ahead.h"
#include "dht/recent_names.h"
#include "dht/settle.h"

namespace voldfs::dht {

Result<void> remove_object(Volume::Impl& volume, uint16_t brick, const NodePtr& dir, std::string_view name,
                           const wire::ObjectRef& object, const Caller& caller, const Id& txn) {
  const auto remove = [&](const Id& once_for) {
    return volume.call_dir(
        brick, dir, IfAbsent::kNoEntry,
        [&](const wire::DirRef& ref) {
          return wire::Request(wire::Op::kUnlink, wire::UnlinkBody{ref, object.id, kUnlinkOffHash, 0, once_for}, name);
        },
        caller);
  };
  const auto is_elsewhere = [](const Error& error) {
    return error.code == ENOENT || error.code == wire::kOtherId || error.code == wire::kDirAbsent;
  };
  auto gone = remove(txn);
  if (gone || !is_elsewhere(gone.error())) return gone ? Result<void>{} : fail(gone.error());
  // Or it waits in .voldfs/parked for its place, in which something else lay.
  wire::SettleBody body{};
  body.object = object;
  body.to_dir = dir->id();
  auto settled = volume.call_dir(
      brick, dir, IfAbsent::kNoEntry, [&](const wire::DirRef&) { return wire::Request(wire::Op::kSettle, body, "", name); }, caller);
  if (!settled) return {};
  gone = remove({});
  return gone || is_elsewhere(gone.error()) ? Result<void>{} : fail(gone.error());
}

namespace {

constexpr int kChangedStubsMax = 8;  // names that lead elsewhere at each try

wire::Request unlink_request(const wire::DirRef& dir, std::string_view name, const Id& expected, uint32_t flags,
                             std::span<const uint32_t> closed = {}) {
  return wire::Request(wire::Op::kUnlink, wire::UnlinkBody{dir, expected, flags, 0, {}}, name, {}, std::as_bytes(closed));
}

// The name's authority, as a rule the file's brick, hears first of opens that have ended: it would keep a file that is open.
Result<wire::Reply> unlink_at_authority(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Caller& caller) {
  const uint16_t authority = volume.hashed(dir, name);
  const std::vector<uint32_t> closed = volume.releases.take(authority);
  uint16_t asked = 0;
  auto gone = volume.call_name(
      dir, name, IfAbsent::kNoEntry,
      [&](const wire::DirRef& ref) { return unlink_request(ref, name, {}, 0, closed); }, caller, &asked);
  // Told again if that may not have come through: an open that the brick does not know has ended.
  if (!gone || asked != authority) volume.releases.put_back(authority, closed);
  return gone;
}

// The stub goes first: from then on the name does not exist. A client that dies before it removes the object leaves an
// orphan, which no name leads to and which is parked when met. So nothing is removed while its brick is not there to follow.
Result<void> unlink_stubbed(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Resolved& found,
                            const Caller& caller) {
  if (!found.pending.is_none()) {  // the object may not lie under this name yet
    if (auto done = settle(volume, found.authority, found.pending, caller);
        !done && done.error().code != wire::kTxnUnknown)
      return done;
  }
  auto there = object_behind(volume, dir, name, found, caller);
  if (!there && there.error().code != ESTALE) return fail(there.error());
  auto stub = volume.call_name(
      dir, name, IfAbsent::kNoEntry,
      [&](const wire::DirRef& ref) { return unlink_request(ref, name, found.object.id, kUnlinkStub); }, caller);
  if (!stub) return fail(stub.error());
  return remove_object(volume, found.brick, dir, name, found.object, caller);
}

}  // namespace

Result<void> Volume::unlink(const NodePtr& dir, std::string_view name, const Caller& caller) {
  Impl& impl = *impl_;
  if (auto good = wire::check_name(name); !good) return good;
  impl.recent_names->forget(dir, name);
  impl.look_ahead->forget(dir, name);
  int waits = 0;
  for (int tries = 0; tries < kChangedStubsMax;) {
    auto gone = unlink_at_authority(impl, dir, name, caller);
    if (gone) return {};
    switch (gone.error().code) {
      case EBUSY:
      case wire::kLeaving:
        if (auto waited = wait_for_name(impl, dir, name, waits, caller); !waited) return waited;
        continue;
      case ENOENT:  // adopted: it may be elsewhere, and then has a stub here from the lookup on
        if (dir->record().epoch != 0) return fail(ENOENT);
        if (auto found = impl.lookup(dir, name, caller); !found) return fail(found.error());
        ++tries;
        continue;
      case wire::kStub: break;
      default: return fail(gone.error());
    }
    auto found = resolve(impl, dir, name, caller);
    if (!found) return fail(found.error());
    ++tries;
    if (!found->stub) continue;
    if (found->is_directory()) return fail(EISDIR);
    if (found->marked) {
      if (auto waited = wait_for_name(impl, dir, name, waits, caller); !waited) return waited;
      continue;
    }
    auto removed = unlink_stubbed(impl, dir, name, *found, caller);
    if (removed || (removed.error().code != wire::kOtherId && removed.error().code != wire::kStub &&
                    removed.error().code != wire::kLeaving && removed.error().code != EBUSY))
      return removed;
  }
  return fail(EBUSY);
}

}  // namespace voldfs::dht
