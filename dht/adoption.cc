#include "dht/adoption.h"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "dht/dirent_view.h"
#include "dht/volume_remove.h"

namespace voldfs::dht {

namespace {

constexpr uint32_t kPageSize = 256u << 10;
constexpr int kScansMax = 4;  // of a directory that changes meanwhile

bool is_absent(const Error& error) {
  return error.code == ENOENT || error.code == wire::kDirAbsent;
}

struct Part {
  uint16_t ordinal = 0;
  wire::EntryBody body{};
};

// What all of the bricks have under the name, in the order of their ordinals.
Result<std::vector<Part>> ask_all(Volume::Impl& volume, const NodePtr& dir, std::string_view name,
                                  std::vector<uint16_t> ordinals, const Caller& caller) {
  const wire::NameBody body{{dir->id(), 0, 0, 0}};
  std::vector<Part> parts;
  for (const Answer& answer :
       volume.ask(std::move(ordinals), [&](uint16_t) { return wire::Request(wire::Op::kLookup, body, name); }, caller)) {
    if (!answer.status && is_absent(answer.status.error())) continue;
    if (!answer.status) return fail(answer.status.error().is_errno() ? answer.status.error() : Error(EIO));
    auto entry = answer.reply.body<wire::EntryBody>();
    if (!entry) return fail(entry.error());
    parts.push_back({answer.ordinal, *entry});
  }
  return parts;
}

bool is_directory(const Part& part) {
  return part.body.kind == wire::EntryKind::kObject && part.body.type == wire::ObjectType::kDirectory;
}

bool is_found(const Part& part) { return is_directory(part) && (part.body.dir.role & wire::kRoleFound); }

bool may_be_name(const Part& part, SearchFor what, const NodePtr& dir) {
  if (part.body.kind != wire::EntryKind::kObject || part.body.leaving) return false;  // a stub off its place leads nowhere
  if (!is_directory(part)) return what == SearchFor::kLost || part.body.object.id.is_adopted();
  if (is_found(part)) return true;
  // A directory's stub that was lost: its home knows where it belongs.
  return what == SearchFor::kLost && (part.body.dir.role & wire::kRoleHome) && part.body.dir.parent == dir->id();
}

// Somebody may have removed it since it was found, name and all. No stub of it may stay, whoever made that: it would lead to nothing.
Result<void> take_back_if_gone(Volume::Impl& volume, const NodePtr& dir, std::string_view name, uint16_t brick, const wire::ObjectRef& object,
                               const Caller& caller) {
  auto there = volume.call(brick, wire::Request(wire::Op::kGetattr, wire::ObjectBody{object, 0, 0}), caller);
  const auto entry = there ? there->body<wire::EntryBody>() : fail(there.error());
  if (entry && entry->attr.nlink > 0) return {};
  if (!entry && entry.error().code != wire::kStaleHandle) return fail(entry.error());
  auto gone = volume.call_name(
      dir, name, IfAbsent::kNoEntry,
      [&](const wire::DirRef& ref) { return wire::Request(wire::Op::kUnlink, wire::UnlinkBody{ref, object.id, kUnlinkStub, 0, {}}, name); },
      caller);
  const bool done = gone || gone.error().code == ENOENT || gone.error().code == wire::kOtherId || gone.error().code == wire::kLeaving;
  return done ? Result<void>{} : fail(gone.error());
}

Result<void> leave_stub(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Part& part,
                        const Caller& caller) {
  wire::Link link{};
  link.brick = volume.brick_id(part.ordinal);
  link.object = part.body.object.id;
  link.state = wire::LinkState::kCommitted;
  link.type = part.body.type;
  if (!is_directory(part)) link.handle = part.body.object.handle;
  auto made = volume.call_name(
      dir, name, IfAbsent::kMaterialize,
      [&](const wire::DirRef& ref) { return wire::Request(wire::Op::kStubMake, wire::StubBody{ref, link}, name); },
      caller);
  if (!made && (made.error().code == EEXIST || made.error().code == wire::kLeaving)) return {};  // another was faster: ask again
  if (!made) return fail(made.error());
  return is_directory(part) ? Result<void>{} : take_back_if_gone(volume, dir, name, part.ordinal, part.body.object, caller);
}

// --- A directory's parts ------------------------------------------------------------------------------------

struct Whole {
  wire::DirRecord record{};
  wire::Attr attr{};
  std::vector<std::byte> xattrs;
  uint16_t backup = 0;
};

wire::Request unite_request(const Whole& whole, uint8_t role, std::string_view name) {
  wire::MaterializeBody body{whole.record, whole.attr};
  body.record.role = role;
  body.record.subdirectories = 0;
  return wire::Request(wire::Op::kDirUnite, body, name, {}, whole.xattrs);
}

uint8_t role_of(const Whole& whole, uint16_t ordinal) {
  uint8_t role = 0;
  if (whole.record.home == ordinal) role |= wire::kRoleHome;
  if (whole.record.backup == ordinal) role |= wire::kRoleBackup;
  if (whole.record.set.has(ordinal)) role |= wire::kRoleMember;
  return role;
}

// The authority's part tells the attributes, or the first one where it has none.
Result<Whole> plan(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const std::vector<Part>& parts,
                   uint16_t home, const Caller& caller) {
  const auto map = volume.map();
  const Layout* layout = map->layout(dir->record().epoch);
  if (!layout) return fail(EIO);
  const std::vector<uint16_t> rank = layout->rank(dir->id(), name, volume.dir_copies());
  auto first = std::find_if(parts.begin(), parts.end(), [home](const Part& part) { return part.ordinal == home; });
  if (first == parts.end()) first = parts.begin();
  Whole whole;
  whole.attr = first->body.attr;
  whole.record.id = first->body.object.id;
  whole.record.parent = dir->id();
  whole.record.home = home;
  whole.record.backup = rank.size() > 1 ? rank[1] : uint16_t{0};
  whole.record.change = 2;  // above what each part says
  whole.record.home_generation = 1;
  whole.record.set.add(home);
  for (const Part& part : parts)
    if (part.body.dir.role & (wire::kRoleMember | wire::kRoleFound)) whole.record.set.add(part.ordinal);
  const wire::DirRef ref{whole.record.id, 0, 0, 0};
  auto exported = volume.call(first->ordinal, wire::Request(wire::Op::kDirExport, ref), caller);
  if (!exported) return fail(exported.error());
  whole.xattrs.assign(exported->data.begin(), exported->data.end());
  return whole;
}

Result<void> send_part(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Whole& whole, uint16_t ordinal,
                       uint8_t role, const Caller& caller) {
  const wire::Request request = unite_request(whole, role, name);
  const bool member = role & (wire::kRoleMember | wire::kRoleHome);
  if (member && !dir->record().set.has(ordinal))  // as in call_dir()
    if (auto made = volume.materialize(dir, ordinal, caller); !made) return made;
  auto done = volume.call(ordinal, request, caller);
  if (!done && done.error().code == wire::kDirAbsent) {
    if (auto made = member ? volume.materialize(dir, ordinal, caller) : volume.make_skeleton(dir, ordinal, caller); !made)
      return made;
    done = volume.call(ordinal, request, caller);
  }
  return done ? Result<void>{} : fail(done.error());
}

// A part that a brick found after the others had been brought together.
Result<void> join_whole(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Part& home,
                        const std::vector<Part>& parts, const Caller& caller) {
  NodePtr node = volume.nodes.get(home.body.object.id, wire::ObjectType::kDirectory);
  node->update_record(home.body.dir);
  for (const Part& part : parts) {
    if (!is_found(part)) continue;
    wire::SetGrowBody grow{};
    grow.id = node->id();
    grow.ordinal = part.ordinal;
    auto grown = volume.call(home.ordinal, wire::Request(wire::Op::kSetGrow, grow), caller);
    if (!grown) return fail(grown.error());
    auto body = grown->body<wire::EntryBody>();
    if (!body) return fail(body.error());
    node->update_record(body->dir);
    Whole whole{body->dir, body->attr, {grown->data.begin(), grown->data.end()}, body->dir.backup};
    if (auto sent = send_part(volume, dir, name, whole, part.ordinal, role_of(whole, part.ordinal), caller); !sent)
      return sent;
  }
  return {};
}

}  // namespace

Result<Searched> search(Volume::Impl& volume, const NodePtr& dir, std::string_view name, SearchFor what, const Caller& caller) {
  std::vector<uint16_t> others = volume.all_ordinals();
  std::erase(others, volume.hashed(dir, name));
  auto parts = ask_all(volume, dir, name, others, caller);
  if (!parts) return fail(parts.error());
  const auto first = std::find_if(parts->begin(), parts->end(), [&](const Part& part) { return may_be_name(part, what, dir); });
  // Parts lose their mark when home has its own: what home says from now on is true.
  if (first == parts->end())
    return std::any_of(parts->begin(), parts->end(), is_directory) ? Searched::kAskOnceMore : Searched::kNothing;
  if (what == SearchFor::kLost) spdlog::info("name_found brick={} dir={} name=\"{}\"", first->ordinal, dir->id().hex(), name);
  const Result<void> led = is_found(*first) ? unite(volume, dir, name, first->body.object.id, caller)
                                            : leave_stub(volume, dir, name, *first, caller);
  return led ? Result<Searched>(Searched::kLedTo) : fail(led.error());
}

// Home first, and marked as found, so that who comes next goes on with it; then the others; then the mark goes. A part that has lost
// its mark always has a home.
Result<void> unite(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Id& id, const Caller& caller) {
  const uint16_t home = volume.hashed(dir, name);
  if (home == 0) return fail(EIO);
  auto parts = ask_all(volume, dir, name, volume.all_ordinals(), caller);
  if (!parts) return fail(parts.error());
  std::erase_if(*parts, [&](const Part& part) { return !is_directory(part) || part.body.object.id != id; });
  for (const Part& part : *parts)
    if ((part.body.dir.role & wire::kRoleHome) && !is_found(part)) return join_whole(volume, dir, name, part, *parts, caller);
  if (parts->empty()) return {};  // it went meanwhile
  auto whole = plan(volume, dir, name, *parts, home, caller);
  if (!whole) return fail(whole.error());

  const auto at_home = static_cast<uint8_t>(role_of(*whole, home) | wire::kRoleFound);
  if (auto sent = send_part(volume, dir, name, *whole, home, at_home, caller); !sent) return sent;
  for (const uint16_t ordinal : volume.all_ordinals()) {
    const uint8_t role = role_of(*whole, ordinal);
    if (ordinal == home || role == 0) continue;
    if (auto sent = send_part(volume, dir, name, *whole, ordinal, role, caller); !sent) return sent;
  }
  return send_part(volume, dir, name, *whole, home, role_of(*whole, home), caller);
}

Result<void> unite_root(Volume::Impl& volume, uint16_t ordinal, const Caller& caller) {
  const wire::DirRef root{kRootId, 0, 0, 0};
  const uint16_t home = volume.root->record().home;
  auto told = volume.call(home, wire::Request(wire::Op::kDirExport, root), caller);
  for (int tries = 0; told && tries < kRetriesMax; ++tries) {
    auto body = told->body<wire::EntryBody>();
    if (!body) return fail(body.error());
    if (body->dir.epoch == 0) {
      Whole whole{body->dir, body->attr, {told->data.begin(), told->data.end()}, body->dir.backup};
      volume.root->update_record(body->dir);
      const wire::Request request = unite_request(whole, role_of(whole, ordinal), {});
      auto done = volume.call(ordinal, request, caller);
      return done ? Result<void>{} : fail(done.error());
    }
    const wire::DirBody epoch{{kRootId, body->dir.change, 0, 0}};
    auto opened = volume.call(home, wire::Request(wire::Op::kDirEpoch, epoch), caller);
    if (!opened && opened.error().code != wire::kDirBehind) return fail(opened.error());
    told = volume.call(home, wire::Request(wire::Op::kDirExport, root), caller);
  }
  return told ? fail(EBUSY) : fail(told.error());
}

namespace {

// One brick's names: each is asked for at its authority, which leads to it from then on.
Result<void> meet_names(Volume::Impl& volume, const NodePtr& dir, uint16_t ordinal, const Caller& caller) {
  uint64_t position = 0;
  for (;;) {
    const wire::ReaddirBody body{{dir->id(), 0, 0, 0}, position, kPageSize, 0};
    auto reply = volume.call(ordinal, wire::Request(wire::Op::kReaddir, body), caller);
    if (!reply && is_absent(reply.error())) return {};
    if (!reply) return fail(reply.error());
    auto page = reply->body<wire::ReaddirReply>();
    if (!page) return fail(page.error());
    auto entries = parse_dirents(reply->data, page->count);
    if (!entries) return fail(entries.error());
    for (const DirentView& entry : *entries) {
      const bool at_authority = volume.hashed(dir, entry.name) == ordinal;
      const bool settled = !entry.header.id.is_none() && entry.header.type != wire::ObjectType::kDirectory;
      if (at_authority && settled) continue;
      auto found = resolve(volume, dir, entry.name, caller);
      if (!found && found.error().code != ENOENT) return fail(found.error());
      const bool another = found && !entry.header.id.is_none() && found->object.id != entry.header.id;
      if (another && entry.header.id.is_adopted())
        spdlog::warn("name_twice dir={} name=\"{}\" brick={}: another brick has the name too, and its file is the one that is shown",
                     dir->id().hex(), entry.name, ordinal);
    }
    if (page->end) return {};
    position = page->position;
  }
}

}  // namespace

Result<void> finish_adoption(Volume::Impl& volume, const NodePtr& dir, const Caller& caller) {
  for (int scans = 0; scans < kScansMax; ++scans) {
    auto record = volume.fetch_record(dir, caller);
    if (!record) return fail(record.error());
    if (record->epoch != 0) return {};
    for (const uint16_t ordinal : volume.all_ordinals())
      if (auto met = meet_names(volume, dir, ordinal, caller); !met) return met;
    // The set has grown by what was met, or another brick has told of files: once more.
    const wire::DirBody done{{dir->id(), record->change, 1, 0}};
    auto told = volume.call(record->home, wire::Request(wire::Op::kDirEpoch, done), caller);
    if (told) {
      auto body = told->body<wire::EntryBody>();
      if (!body) return fail(body.error());
      dir->update_record(body->dir);
      if (const uint16_t backup = body->dir.backup; backup != 0) return volume.refresh(dir, backup, caller);
      return {};
    }
    if (told.error().code != wire::kDirBehind) return fail(told.error());
  }
  return fail(EAGAIN);
}

}  // namespace voldfs::dht
