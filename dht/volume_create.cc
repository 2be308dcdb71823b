#include "dht/volume_create.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "dht/open_file.h"
#include "dht/recent_names.h"
#include "dht/transaction.h"

namespace voldfs::dht {

namespace {

constexpr size_t kPlacesMax = 4;   // bricks that are asked for room
constexpr int kCreateTriesMax = 16;

wire::ObjectType type_of(uint32_t mode) {
  const auto type = static_cast<wire::ObjectType>((mode & S_IFMT) >> 12);  // IFTODT
  return type == wire::ObjectType::kNone ? wire::ObjectType::kFile : type;
}

// Something new without an open: mknod and symlink.
Result<Entry> make_object(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Id& id,
                          wire::ObjectType type, const MakeDirRequest& make, const Caller& caller) {
  if (auto good = wire::check_name(name); !good) return fail(good.error());
  volume.will_make(dir, name);
  if (dir->record().epoch == 0) {
    auto there = resolve(volume, dir, name, caller);
    if (there) return fail(EEXIST);
    if (there.error().code != ENOENT) return fail(there.error());
  }
  int waits = 0;
  for (int tries = 0; tries < kCreateTriesMax;) {
    uint16_t asked = 0;
    auto reply = volume.call_name(dir, name, IfAbsent::kMaterialize, make, caller, &asked);
    if (!reply && reply.error().code == ENOSPC)
      reply = place_elsewhere(volume, dir, name, id, type, make, caller, asked);
    if (reply) {
      auto body = reply->body<wire::EntryBody>();
      if (!body) return fail(body.error());
      return volume.entry_from(*body, dir, name, asked, grant_of(*reply));
    }
    switch (reply.error().code) {
      case EBUSY: case wire::kLeaving: case wire::kTxnDecided:
        if (auto waited = wait_for_name(volume, dir, name, waits, caller); !waited) return fail(waited.error());
        break;
      case EEXIST: case wire::kStub:
        ++tries;
        if (auto cleared = clear_copy(volume, dir, name, caller); !cleared) return fail(cleared.error());
        break;
      default: return fail(reply.error());
    }
  }
  return fail(EIO);
}

}  // namespace

Result<void> clear_copy(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Caller& caller) {
  auto found = resolve(volume, dir, name, caller);
  if (found) return fail(EEXIST);
  if (found.error().code != ENOENT) return fail(found.error());
  return volume.park(volume.hashed(dir, name), dir, name, Id{}, caller);
}

Result<wire::Reply> place_elsewhere(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Id& id,
                                    wire::ObjectType type, const MakeDirRequest& make, const Caller& caller,
                                    uint16_t& brick) {
  const auto map = volume.map();
  const Layout* layout = map->layout(dir->record().epoch);
  if (!layout) return fail(EIO);
  Caller quick = caller;
  quick.only_if_up = true;  // there are others to ask; what was made and not heard of goes with the transaction
  for (const uint16_t ordinal : layout->rank(dir->id(), name, kPlacesMax + 1)) {
    if (ordinal == volume.hashed(dir, name)) continue;
    wire::Link object{};
    object.brick = volume.brick_id(ordinal);
    object.object = id;
    object.type = type;
    Transaction txn(volume, wire::TxnKind::kPlace, dir, name, object, caller);
    if (auto prepared = txn.prepare(); !prepared) return fail(prepared.error());
    auto made = volume.call_dir(ordinal, dir, IfAbsent::kMaterialize, make, quick);
    if (!made && made.error().code == EEXIST) {
      // No stub leads to what is there: the authority had no such name.
      if (auto parked = volume.park(ordinal, dir, name, Id{}, quick); !parked) return fail(parked.error());
      made = volume.call_dir(ordinal, dir, IfAbsent::kMaterialize, make, quick);
    }
    if (!made) {
      if (made.error().code == ENOSPC || made.error().code == EHOSTDOWN) continue;
      return fail(made.error());
    }
    if (auto committed = txn.commit(); !committed) return fail(committed.error());
    txn.finish();
    brick = ordinal;
    return made;
  }
  return fail(ENOSPC);
}

Result<Created> Volume::create(const NodePtr& dir, std::string_view name, uint32_t mode, uint32_t flags,
                               const Caller& caller) {
  Impl& impl = *impl_;
  if (auto good = wire::check_name(name); !good) return fail(good.error());
  impl.will_make(dir, name);
  const Id id = Id::random();
  const auto make = [&](const wire::DirRef& ref) {
    return wire::Request(wire::Op::kCreate, wire::CreateBody{ref, id, mode, flags}, name);
  };
  const auto make_exclusive = [&](const wire::DirRef& ref) {
    return wire::Request(wire::Op::kCreate, wire::CreateBody{ref, id, mode, flags | O_EXCL}, name);
  };
  const auto open_existing = [&](Entry entry) -> Result<Created> {
    entry.attr_grants.clear();  // as in setattr: the kernel would keep them beyond a recall
    if (flags & O_EXCL) return fail(EEXIST);
    if (entry.node->is_directory()) return fail(EISDIR);
    auto file = open(entry.node, flags & ~static_cast<uint32_t>(O_CREAT | O_EXCL), caller);
    if (!file) return fail(file.error());
    return Created{entry, *file};
  };

  int waits = 0;
  for (int tries = 0; tries < kCreateTriesMax; ) {
    if (dir->record().epoch == 0) {
      auto there = impl.lookup(dir, name, caller);
      if (there) return open_existing(*there);
      if (there.error().code != ENOENT) return fail(there.error());
    }
    uint16_t asked = 0;
    auto reply = impl.call_name(dir, name, IfAbsent::kMaterialize, make, caller, &asked);
    if (!reply && reply.error().code == ENOSPC)
      reply = place_elsewhere(impl, dir, name, id, wire::ObjectType::kFile, make_exclusive, caller, asked);
    if (reply) {
      auto body = reply->body<wire::EntryBody>();
      if (!body) return fail(body.error());
      auto entry = impl.entry_from(*body, dir, name, asked, grant_of(*reply));
      if (!entry) return fail(entry.error());
      if (asked == impl.hashed(dir, name))  // otherwise the name is a stub
        impl.recent_names->note(dir, name, resolved_from(*body, asked), grant_of(*reply));
      const Grant grant = attr_grant_of(*reply, body->attr);
      if (!body->existed) entry->node->note_no_capability(grant_of(*reply));
      if (reply->descriptor && body->existed) impl.opened_for_mapping(asked, *reply, entry->node->id(), flags);
      return Created{*entry, OpenFile::make(impl, entry->node, asked, *body, grant, flags, caller, std::move(reply->descriptor))};
    }
    switch (reply.error().code) {
      case EBUSY: case wire::kLeaving: case wire::kTxnDecided:
        if (auto waited = wait_for_name(impl, dir, name, waits, caller); !waited) return fail(waited.error());
        break;
      case wire::kStub: {
        ++tries;
        auto there = impl.lookup(dir, name, caller);
        if (there) return open_existing(*there);
        if (there.error().code != ENOENT) return fail(there.error());
        break;
      }
      case EISDIR: case EEXIST:
        ++tries;
        if (auto cleared = clear_copy(impl, dir, name, caller); !cleared)
          return fail(cleared.error().code == EEXIST ? reply.error() : cleared.error());
        break;
      default: return fail(reply.error());
    }
  }
  return fail(EIO);
}

// A file without a name is nobody's but its open's: any brick will do, so the id spreads them by weight.
Result<Created> Volume::tmpfile(const NodePtr& dir, uint32_t mode, uint32_t flags, const Caller& caller) {
  Impl& impl = *impl_;
  const Id id = Id::random();
  uint16_t asked = 0;
  auto reply = impl.call_name(
      dir, id.hex(), IfAbsent::kMaterialize,
      [&](const wire::DirRef& ref) {
        return wire::Request(wire::Op::kTmpfile, wire::CreateBody{ref, id, mode, flags});
      },
      caller, &asked);
  if (!reply) return fail(reply.error());
  auto body = reply->body<wire::EntryBody>();
  if (!body) return fail(body.error());
  auto entry = impl.entry_from(*body, nullptr, {}, asked);
  if (!entry) return fail(entry.error());
  const Grant grant = attr_grant_of(*reply, body->attr);
  return Created{*entry, OpenFile::make(impl, entry->node, asked, *body, grant, flags, caller, std::move(reply->descriptor))};
}

Result<Entry> Volume::mknod(const NodePtr& dir, std::string_view name, uint32_t mode, uint64_t rdev,
                            const Caller& caller) {
  if (S_ISDIR(mode)) return fail(EPERM);
  const Id id = Id::random();
  return make_object(
      *impl_, dir, name, id, type_of(mode),
      [&](const wire::DirRef& ref) {
        return wire::Request(wire::Op::kMknod, wire::MakeBody{ref, id, mode, 0, rdev}, name);
      },
      caller);
}

Result<Entry> Volume::symlink(const NodePtr& dir, std::string_view name, std::string_view target,
                              const Caller& caller) {
  if (target.empty()) return fail(ENOENT);
  if (target.size() >= wire::kTextMax) return fail(ENAMETOOLONG);
  const Id id = Id::random();
  return make_object(
      *impl_, dir, name, id, wire::ObjectType::kSymlink,
      [&](const wire::DirRef& ref) {
        return wire::Request(wire::Op::kSymlink, wire::MakeBody{ref, id, S_IFLNK | 0777, 0, 0}, name, target);
      },
      caller);
}

}  // namespace voldfs::dht
