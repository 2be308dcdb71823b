#include "dht/transaction.h"
#include "dht/volume_create.h"
#include "dht/volume_lookup.h"

namespace voldfs::dht {

namespace {

constexpr int kLinkTriesMax = 16;
constexpr uint32_t kLinkOffHash = 1;  // LinkBody::flags

wire::Request link_request(const wire::DirRef& dir, std::string_view name, const wire::ObjectRef& object,
                           uint32_t flags, const Id& txn) {
  return wire::Request(wire::Op::kLink, wire::LinkBody{dir, object, flags, 0, txn}, name);
}

// The name's authority is the object's brick: one request.
Result<wire::Reply> link_here(Volume::Impl& volume, const NodePtr& node, const NodePtr& dir, std::string_view name,
                              const Caller& caller) {
  return volume.call_name(
      dir, name, IfAbsent::kMaterialize,
      [&](const wire::DirRef& ref) { return link_request(ref, name, volume.object_ref(node), 0, {}); }, caller);
}

// The name's authority is another brick: a stub there, and the name on the object's brick, which is noted first so that
// whoever has to abort takes it away.
Result<wire::Reply> link_across(Volume::Impl& volume, const NodePtr& node, const NodePtr& dir, std::string_view name,
                                const Caller& caller) {
  const Node::Location place = node->location();
  auto taken = resolve(volume, dir, name, caller);
  if (taken) return fail(taken->marked ? EBUSY : EEXIST);
  if (taken.error().code != ENOENT) return fail(taken.error());

  wire::Link object{};
  object.brick = volume.brick_id(place.brick);
  object.object = node->id();
  object.type = node->type();
  object.handle = place.handle;
  Transaction txn(volume, wire::TxnKind::kLink, dir, name, object, caller);
  if (auto prepared = txn.prepare(); !prepared) return fail(prepared.error());
  const auto make = [&](const wire::DirRef& ref) {
    return link_request(ref, name, volume.object_ref(node), kLinkOffHash, txn.id());
  };
  auto linked = volume.call_dir(place.brick, dir, IfAbsent::kMaterialize, make, caller);
  if (!linked && linked.error().code == EEXIST) {  // no stub led to it
    if (auto parked = volume.park(place.brick, dir, name, Id{}, caller); !parked) return fail(parked.error());
    linked = volume.call_dir(place.brick, dir, IfAbsent::kMaterialize, make, caller);
  }
  if (!linked) return linked;
  if (auto committed = txn.commit(); !committed) return fail(committed.error());
  txn.finish();
  return linked;
}

}  // namespace

Result<Entry> Volume::link(const NodePtr& node, const NodePtr& dir, std::string_view name, const Caller& caller) {
  Impl& impl = *impl_;
  if (auto good = wire::check_name(name); !good) return fail(good.error());
  if (node->is_directory()) return fail(EPERM);
  impl.will_make(dir, name);
  int waits = 0;
  for (int tries = 0; tries < kLinkTriesMax;) {
    const uint16_t brick = node->location().brick;
    const bool here = impl.hashed(dir, name) == brick;
    if (here && dir->record().epoch == 0) {  // it may be anybody's
      auto taken = resolve(impl, dir, name, caller);
      if (taken) return fail(EEXIST);
      if (taken.error().code != ENOENT) return fail(taken.error());
    }
    auto linked = here ? link_here(impl, node, dir, name, caller) : link_across(impl, node, dir, name, caller);
    if (linked) {
      auto body = linked->body<wire::EntryBody>();
      if (!body) return fail(body.error());
      auto entry = impl.entry_from(*body, dir, name, brick, grant_of(*linked));
      if (entry) entry->attr_grants.clear();  // as in setattr: the kernel would keep them beyond a recall
      return entry;
    }
    switch (linked.error().code) {
      case EBUSY: case wire::kLeaving: case wire::kTxnDecided:
        if (auto waited = wait_for_name(impl, dir, name, waits, caller); !waited) return fail(waited.error());
        break;
      case wire::kStaleHandle: case wire::kMoved:
        ++tries;
        if (auto found = impl.relocate(node, caller); !found) return fail(found.error());
        break;
      case EEXIST: case wire::kStub: case wire::kOtherId:
        ++tries;
        if (auto cleared = clear_copy(impl, dir, name, caller); !cleared) return fail(cleared.error());
        break;
      default: return fail(linked.error());
    }
  }
  return fail(EIO);
}

}  // namespace voldfs::dht
