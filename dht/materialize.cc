#include <algorithm>

#include <spdlog/spdlog.h>

#include "dht/volume_impl.h"

// Directories come to a brick when it first gets something of them. DESIGN 4, "Directories".
namespace voldfs::dht {

namespace {

wire::Request request_copy(wire::Op op, const wire::EntryBody& home, uint8_t role, std::string_view name,
                           std::span<const std::byte> xattrs) {
  wire::MaterializeBody body{home.dir, home.attr};
  body.record.role = role;
  body.record.subdirectories = 0;
  return wire::Request(op, body, name, {}, xattrs);
}

// What another brick needs to hold a directory: its record, attributes and name from home, or from the backup while home is
// down.
struct Export {
  wire::EntryBody body{};
  std::string name;
  std::vector<std::byte> xattrs;
};

Result<Export> export_from(const NodePtr& dir, wire::Reply& reply) {
  auto body = reply.body<wire::EntryBody>();
  if (!body) return fail(body.error());
  dir->update_record(body->dir);
  Export out{*body, reply.name, {reply.data.begin(), reply.data.end()}};
  if (out.name.empty()) out.name = dir->name().name;
  return out;
}

Result<Export> fetch_export(Volume::Impl& volume, const NodePtr& dir, const Caller& caller) {
  const wire::DirRef ref{dir->id(), 0, 0, 0};
  const wire::DirRecord record = dir->record();
  auto reply = volume.call(record.home, wire::Request(wire::Op::kDirExport, ref),
                           record.backup != 0 ? unless_down(caller) : caller);
  if (!reply && reply.error().code == EHOSTDOWN && record.backup != 0) {
    reply = volume.call(record.backup, wire::Request(wire::Op::kDirExport, ref), unless_down(caller));
    if (!reply) reply = volume.call(record.home, wire::Request(wire::Op::kDirExport, ref), caller);
  }
  if (!reply) {
    const int code = reply.error().code;
    return fail(code == wire::kDirRemoved || code == wire::kDirAbsent ? ENOENT : code);
  }
  return export_from(dir, *reply);
}

Result<wire::DirRecord> record_from(const NodePtr& dir, const Result<wire::Reply>& reply) {
  if (!reply) {
    const int code = reply.error().code;
    return fail(code == wire::kDirAbsent || code == wire::kDirRemoved ? ENOENT : code);
  }
  auto entry = reply->body<wire::EntryBody>();
  if (!entry) return fail(entry.error());
  dir->update_record(entry->dir);
  return entry->dir;
}

// The set grows at home first, then at the backup: a brick is never asked for names that no rmdir would ask it about.
Result<Export> grow_set(Volume::Impl& volume, const NodePtr& dir, uint16_t ordinal, const Caller& caller) {
  wire::SetGrowBody grow{};
  grow.id = dir->id();
  grow.ordinal = ordinal;
  auto reply = volume.call(dir->record().home, wire::Request(wire::Op::kSetGrow, grow), caller);
  if (!reply) {
    const int code = reply.error().code;
    return fail(code == wire::kDirAbsent ? ENOENT : code);
  }
  dir->forget_attr(age_of(*reply));
  auto grown = export_from(dir, *reply);
  if (!grown) return grown;
  const uint16_t backup = grown->body.dir.backup;
  if (backup == 0 || backup == ordinal) return grown;  // there, kMaterialize brings the record along
  grow.change = grown->body.dir.change;
  // One that misses the change is brought up to date when it is asked for the directory next.
  auto told = volume.call(backup, wire::Request(wire::Op::kSetGrow, grow), unless_down(caller));
  if (told) dir->forget_attr(age_of(*told));
  if (!told && told.error().code == wire::kDirAbsent) return grown;  // made when the directory is refreshed there
  if (!told && told.error().code == wire::kDirBehind) {
    if (auto done = volume.refresh(dir, backup, caller); !done) return fail(done.error());
    return grown;
  }
  if (!told && told.error().code != EHOSTDOWN && told.error().code != EIO) return fail(told.error());
  return grown;
}

// What the record says that a brick is for the directory.
uint8_t role_at(uint16_t ordinal, const wire::DirRecord& record) {
  uint8_t role = record.set.has(ordinal) ? wire::kRoleMember : wire::kRoleSkeleton;
  if (record.backup == ordinal) role = static_cast<uint8_t>((role & ~wire::kRoleSkeleton) | wire::kRoleBackup);
  return role;
}

// Makes the copy of one directory; ancestors that are missing come first, from the nearest up.
Result<void> make_copy(Volume::Impl& volume, const Export& from, uint16_t ordinal, const Caller& caller,
                       size_t depth = 0) {
  if (depth > kAncestorsMax) return fail(ELOOP);
  if (from.body.dir.id == kRootId) return {};  // every brick has the root
  const uint8_t role = role_at(ordinal, from.body.dir);
  for (int tries = 0; tries < kRetriesMax; ++tries) {
    auto made = volume.call(
        ordinal, request_copy(wire::Op::kMaterialize, from.body, role, from.name, from.xattrs), caller);
    if (made) return {};
    if (made.error().code != wire::kDirAbsent)
      return fail(made.error().code == wire::kDirRemoved ? Error(ENOENT) : made.error());
    auto parent = volume.directory(from.body.dir.parent, caller);
    if (!parent) return fail(parent.error());
    auto above = fetch_export(volume, *parent, caller);
    if (!above) return fail(above.error());
    if (auto done = make_copy(volume, *above, ordinal, caller, depth + 1); !done) return done;
  }
  return fail(EIO);
}

// Brings a directory and those above it to their places at a brick that holds the directory's copy, or makes them there: it has missed
// renames, or was only on the way to something else.
Result<void> mend_way(Volume::Impl& volume, const NodePtr& dir, uint16_t ordinal, const Caller& caller, size_t depth = 0) {
  if (dir->id() == kRootId) return {};
  if (depth > kAncestorsMax) return fail(ELOOP);
  auto from = fetch_export(volume, dir, caller);
  if (!from) return fail(from.error());
  auto parent = volume.directory(from->body.dir.parent, caller);
  if (!parent) return fail(parent.error());
  if (auto mended = mend_way(volume, *parent, ordinal, caller, depth + 1); !mended) return mended;
  const wire::DirRecord& record = from->body.dir;
  const wire::DirUpdateBody body{record.id, record.parent, record.txn, record.change};
  auto moved = volume.call(ordinal, wire::Request(wire::Op::kDirUpdate, body, from->name), caller);
  if (!moved && moved.error().code == wire::kDirAbsent) return make_copy(volume, *from, ordinal, caller);
  return moved ? Result<void>{} : fail(moved.error());
}

// kDirUpdate, and if its way is not there, that first.
Result<wire::EntryBody> update_at(Volume::Impl& volume, uint16_t ordinal, const wire::DirUpdateBody& body, const NodePtr& to,
                                  std::string_view name, const Caller& caller) {
  for (bool again = false;; again = true) {
    auto reply = volume.call(ordinal, wire::Request(wire::Op::kDirUpdate, body, name), caller);
    if (!reply) return fail(reply.error());
    auto entry = reply->body<wire::EntryBody>();
    if (!entry || entry->existed || again) return entry;
    if (auto mended = mend_way(volume, to, ordinal, caller); !mended) return fail(mended.error());
  }
}

}  // namespace

Result<void> Volume::Impl::materialize(const NodePtr& dir, uint16_t ordinal, const Caller& caller) {
  auto grown = grow_set(*this, dir, ordinal, caller);
  if (!grown) return fail(grown.error());
  return make_copy(*this, *grown, ordinal, caller);
}

Result<void> Volume::Impl::make_skeleton(const NodePtr& dir, uint16_t ordinal, const Caller& caller) {
  auto from = fetch_export(*this, dir, caller);
  if (!from) return fail(from.error());
  return make_copy(*this, *from, ordinal, caller);
}

Result<void> Volume::Impl::refresh(const NodePtr& dir, uint16_t ordinal, const Caller& caller) {
  auto from = fetch_export(*this, dir, caller);
  if (!from) return fail(from.error());
  const uint8_t role = role_at(ordinal, from->body.dir);
  auto done = call(ordinal, request_copy(wire::Op::kDirRefresh, from->body, role, from->name, from->xattrs), caller);
  if (done) return {};
  if (done.error().code == wire::kDirAbsent) return make_copy(*this, *from, ordinal, caller);
  return fail(done.error());
}

Result<void> Volume::Impl::move_directory(const Id& id, const NodePtr& to, std::string_view name, const Id& txn,
                                          const Caller& caller) {
  auto dir = directory(id, caller);
  if (!dir) return fail(dir.error());
  const wire::DirRecord before = (*dir)->record();
  // The old path may be a name of which home is the authority.
  auto entry = update_at(*this, before.home, {id, to->id(), txn, 0}, to, name, caller);
  if (!entry) return fail(entry.error());
  (*dir)->update_record(entry->dir);
  (*dir)->set_name(to, name);

  move_copies(*dir, to, name, txn, caller);
  return {};
}

// Any brick may hold it as a way to something below, which is to lie under its path there too.
void Volume::Impl::move_copies(const NodePtr& dir, const NodePtr& to, std::string_view name, const Id& txn,
                               const Caller& caller) {
  const wire::DirRecord record = dir->record();
  const wire::DirUpdateBody body{dir->id(), to->id(), txn, record.change};
  const auto make = [&](uint16_t) { return wire::Request(wire::Op::kDirUpdate, body, name); };
  std::vector<uint16_t> copies = all_ordinals();
  std::erase(copies, record.home);
  if (copies.empty()) return;
  for (const Answer& answer : ask(copies, make, unless_down(caller))) {
    int code = answer.status ? 0 : answer.status.error().code;
    const auto entry = answer.status ? answer.reply.body<wire::EntryBody>() : fail(code);
    if (entry && !entry->existed) {
      Result<void> moved = mend_way(*this, to, answer.ordinal, unless_down(caller));
      if (moved) moved = update_at(*this, answer.ordinal, body, to, name, unless_down(caller)).map([](const wire::EntryBody&) {});
      if (!moved) code = moved.error().code;
    }
    // Down, or not made yet: what it needs it gets with the record when it is asked for the directory next.
    if (code != 0 && code != wire::kDirAbsent && code != wire::kDirRemoved && code != EHOSTDOWN)
      spdlog::info("copy_not_moved brick={} dir={} error={}", answer.ordinal, dir->id().hex(), code);
  }
}

Result<void> Volume::Impl::park(uint16_t ordinal, const NodePtr& dir, std::string_view name, const Id& expected,
                                const Caller& caller) {
  spdlog::warn("parked brick={} dir={} name=\"{}\" why=\"no name leads to it\"", ordinal, dir->id().hex(), name);
  const wire::UnlinkBody body{{dir->id(), 0, UINT32_MAX, 0}, expected, 0, 0, {}};
  auto reply = call(ordinal, wire::Request(wire::Op::kPark, body, name), caller);
  if (!reply && reply.error().code != ENOENT) return fail(reply.error());
  return {};
}

Result<wire::DirRecord> Volume::Impl::fetch_record(const NodePtr& dir, const Caller& caller) {
  const wire::DirBody body{{dir->id(), 0, 0, 0}};
  const wire::DirRecord known = dir->record();
  if (known.backup == 0) return home_record(dir, caller);
  auto reply = call(known.home, wire::Request(wire::Op::kDirGet, body), unless_down(caller));
  if (!reply && reply.error().code == EHOSTDOWN) {
    reply = call(known.backup, wire::Request(wire::Op::kDirGet, body), unless_down(caller));
    if (!reply) return home_record(dir, caller);
  }
  return record_from(dir, reply);
}

Result<wire::DirRecord> Volume::Impl::home_record(const NodePtr& dir, const Caller& caller) {
  const wire::DirBody body{{dir->id(), 0, 0, 0}};
  return record_from(dir, call(dir->record().home, wire::Request(wire::Op::kDirGet, body), caller));
}

Result<NodePtr> Volume::Impl::directory(const Id& id, const Caller& caller) {
  if (NodePtr node = nodes.find(id); node && node->is_directory() && node->record().home != 0) return node;
  const wire::DirBody body{{id, 0, 0, 0}};
  const auto answers = ask(all_ordinals(), [&](uint16_t) { return wire::Request(wire::Op::kDirGet, body); }, caller);
  NodePtr node;
  Error why{ENOENT};
  for (const Answer& answer : answers) {
    if (!answer.status) {
      const int code = answer.status.error().code;
      if (code != wire::kDirAbsent && code != wire::kDirRemoved) why = answer.status.error();
      continue;
    }
    auto entry = answer.reply.body<wire::EntryBody>();
    if (!entry) return fail(entry.error());
    if (entry->dir.home == 0) continue;
    if (!node) node = nodes.get(id, wire::ObjectType::kDirectory);
    node->update_record(entry->dir);
    node->set_location({node->record().home, {}});
    if (entry->dir.role & wire::kRoleHome) return node;
  }
  if (!node) return fail(why);
  // Copies tell who it is while home is down. If home has answered, it is removed, and they have not heard of it.
  const auto is_removed_home = [&](const Answer& answer) {
    return answer.ordinal == node->record().home && !answer.status &&
           (answer.status.error().code == wire::kDirAbsent || answer.status.error().code == wire::kDirRemoved);
  };
  if (std::any_of(answers.begin(), answers.end(), is_removed_home)) return fail(ENOENT);
  return node;
}

}  // namespace voldfs::dht
