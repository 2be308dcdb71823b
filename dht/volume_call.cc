#include <algorithm>
#include <cstring>
#include <deque>
#include <thread>
#include <utility>

#include "dht/volume_impl.h"

// How a request of the volume reaches bricks, and which of their refusals are resolved on the way.
namespace voldfs::dht {

Result<void> Volume::Impl::stamp(uint16_t ordinal, wire::Request& request) {
  if (auto go = before_request(ordinal, request); !go) return go;
  request.header().map_version = map()->version;
  return {};
}

Result<wire::Reply> Volume::Impl::call(uint16_t ordinal, wire::Request request, const Caller& caller,
                                       wire::Reply* refusal, std::span<std::byte> data_into) {
  client::BrickClient* brick = this->brick(ordinal);
  if (!brick) return fail(EIO);
  wire::Reply own_refusal;
  if (!refusal) refusal = &own_refusal;
  for (int tries = 0; tries < kRetriesMax; ++tries) {
    if (auto go = stamp(ordinal, request); !go) return fail(go.error());
    const Grants::Asking asking = grants.ask(ordinal);
    auto reply = brick->call(request, caller, refusal, data_into);
    wire::Reply& answer = reply ? *reply : *refusal;
    asking.note(answer);
    note_directories(answer);
    if (reply || reply.error().code != wire::kMapOld) return reply;
    if (auto newer = fetch_map(ordinal); !newer) return fail(newer.error());
  }
  return fail(EIO);
}

std::vector<Answer> Volume::Impl::ask(std::vector<uint16_t> ordinals, const MakeBrickRequest& make,
                                      const Caller& caller) {
  std::sort(ordinals.begin(), ordinals.end());
  ordinals.erase(std::unique(ordinals.begin(), ordinals.end()), ordinals.end());
  std::vector<Answer> answers(ordinals.size());
  std::vector<std::unique_ptr<client::PendingCall>> calls(ordinals.size());
  std::vector<Grants::Asking> askings(ordinals.size());
  for (size_t i = 0; i < ordinals.size(); ++i) {
    Answer& answer = answers[i];
    answer.ordinal = ordinals[i];
    client::BrickClient* brick = this->brick(ordinals[i]);
    wire::Request request = make(ordinals[i]);
    if (auto go = stamp(ordinals[i], request); !brick || !go) {
      answer.status = fail(brick ? go.error() : Error(EIO));
      continue;
    }
    askings[i] = grants.ask(ordinals[i]);
    calls[i] = std::make_unique<client::PendingCall>(*brick, std::move(request), caller);
    calls[i]->send();
  }
  for (size_t i = 0; i < ordinals.size(); ++i) {
    if (!calls[i]) continue;
    answers[i].status = calls[i]->wait();
    answers[i].reply = std::move(calls[i]->reply());
    askings[i].note(answers[i].reply);
    note_directories(answers[i].reply);
    calls[i].reset();  // its connection is somebody else's now
  }
  for (Answer& answer : answers) {  // one by one, and rare
    if (answer.status || answer.status.error().code != wire::kMapOld) continue;
    auto again = call(answer.ordinal, make(answer.ordinal), caller, &answer.reply);
    if (again) answer.reply = std::move(*again);
    answer.status = again ? Result<void>{} : fail(again.error());
  }
  return answers;
}

// What directories look like after a change that this client has made. A remembered answer does not tell: then all is asked again.
void Volume::Impl::note_directories(const wire::Reply& reply) {
  if (reply.header.flags & wire::kFlagReplayed) grants.dropped(reply.asked_brick);
  if (!(reply.header.flags & wire::kFlagDirectories)) return;
  const Grant grant = age_of(reply);
  wire::DirAfter after;
  for (auto rest = std::span<const std::byte>(reply.data); rest.size() >= sizeof after; rest = rest.subspan(sizeof after)) {
    std::memcpy(&after, rest.data(), sizeof after);
    const NodePtr node = nodes.find(after.id);
    if (!node || !node->is_directory()) continue;
    node->changes.fetch_add(1);
    if (after.attr.mode == 0) node->forget_attr(grant);
    else node->note_attr({grant, after.attr, after.subdirectories, after.times_change});
  }
}

Result<wire::Reply> Volume::Impl::call_dir(uint16_t ordinal, const NodePtr& dir, IfAbsent absent,
                                           const MakeDirRequest& make, const Caller& caller, wire::Reply* refusal) {
  int waits = 0;
  for (int tries = 0; tries < kRetriesMax;) {
    // A brick may hold a directory without being in its set (as backup, as a way to something below): the set comes first, or
    // nobody would ask this brick for the name.
    if (absent == IfAbsent::kMaterialize && !dir->record().set.has(ordinal)) {
      if (auto made = materialize(dir, ordinal, caller); !made) return fail(made.error());
      ++tries;
    }
    wire::DirRef ref = dir_ref(dir);
    // What only asks for a name does not depend on the copy's attributes: an older copy will do.
    if (absent == IfAbsent::kNoEntry) ref.change = 0;
    auto reply = call(ordinal, make(ref), caller, refusal);
    if (reply) return reply;
    switch (reply.error().code) {
      case wire::kDirAbsent: {
        if (absent == IfAbsent::kNoEntry || ordinal == dir->record().home) return fail(ENOENT);
        if (auto made = materialize(dir, ordinal, caller); !made) return fail(made.error());
        ++tries;
        break;
      }
      case wire::kDirBehind:
        if (auto done = refresh(dir, ordinal, caller); !done) return fail(done.error());
        ++tries;
        break;
      case wire::kDirRemoved:
        if (auto lives = revive(dir, ordinal, waits, caller); !lives) return fail(lives.error());
        break;
      case wire::kEpochOld:
        if (auto record = fetch_record(dir, caller); !record) return fail(record.error());
        return reply;
      default: return reply;
    }
  }
  return fail(EIO);
}

Result<wire::Reply> Volume::Impl::call_name(const NodePtr& dir, std::string_view name, IfAbsent absent,
                                            const MakeDirRequest& make, const Caller& caller, uint16_t* asked,
                                            wire::Reply* refusal) {
  for (int tries = 0; tries < kRetriesMax; ++tries) {
    const uint16_t ordinal = hashed(dir, name);
    if (ordinal == 0) {  // an epoch that this map does not know
      if (auto newer = fetch_map(dir->record().home); !newer) return fail(newer.error());
      continue;
    }
    if (asked) *asked = ordinal;
    auto reply = call_dir(ordinal, dir, absent, make, caller, refusal);
    if (reply || reply.error().code != wire::kEpochOld) return reply;
  }
  return fail(EIO);
}

Result<wire::Reply> Volume::Impl::call_object(const NodePtr& node, const MakeObjectRequest& make,
                                              const Caller& caller, wire::Reply* refusal,
                                              std::span<std::byte> data_into, uint16_t* asked) {
  wire::Reply own_refusal;
  if (!refusal) refusal = &own_refusal;
  for (int tries = 0; tries < kRetriesMax; ++tries) {
    const uint16_t ordinal = node->location().brick;
    if (asked) *asked = ordinal;
    auto reply = call(ordinal, make(object_ref(node)), caller, refusal, data_into);
    if (reply) return reply;
    switch (reply.error().code) {
      case wire::kStaleHandle:
      case wire::kDirAbsent:
      case wire::kStub:
        if (auto found = relocate(node, caller); !found) return fail(found.error());
        break;
      case wire::kMoved: {
        auto stub = refusal->body<wire::EntryBody>();
        const uint16_t there = stub ? ordinal_of(stub->link.brick) : uint16_t{0};
        if (there == 0) return fail(EIO);
        node->set_location({there, stub->link.handle});
        break;
      }
      case wire::kDirRemoved: return fail(ESTALE);
      case wire::kDirBehind:
        if (auto done = refresh(node, ordinal, caller); !done) return fail(done.error());
        break;
      default: return reply;
    }
  }
  return fail(ESTALE);
}

uint16_t Volume::Impl::hashed(const wire::DirRecord& dir, std::string_view name) const {
  const auto map = this->map();
  const Layout* layout = map->layout(dir.epoch);
  return layout ? layout->place(dir.id, name) : uint16_t{0};
}

uint16_t Volume::Impl::hashed(const NodePtr& dir, std::string_view name) const {
  return hashed(dir->record(), name);
}

wire::DirRef Volume::Impl::dir_ref(const NodePtr& dir) const {
  const wire::DirRecord record = dir->record();
  return {record.id, record.change, record.epoch, 0};
}

wire::ObjectRef Volume::Impl::object_ref(const NodePtr& node) const {
  wire::ObjectRef ref{};
  ref.id = node->id();
  if (!node->is_directory()) ref.handle = node->location().handle;
  return ref;
}

std::vector<uint16_t> Volume::Impl::set_of(const NodePtr& dir) const {
  const wire::DirRecord record = dir->record();
  std::vector<uint16_t> ordinals{record.home};
  for (uint32_t ordinal = 1; ordinal <= wire::kOrdinalMax; ++ordinal)
    if (record.set.has(ordinal) && ordinal != record.home) ordinals.push_back(static_cast<uint16_t>(ordinal));
  return ordinals;
}

Result<Entry> Volume::Impl::entry_from(const wire::EntryBody& body, const NodePtr& dir, std::string_view name,
                                       uint16_t ordinal, const Grant& grant) {
  if (body.kind != wire::EntryKind::kObject || body.object.id.is_none() || body.type == wire::ObjectType::kNone)
    return fail(EPROTO);
  Entry entry;
  entry.node = nodes.get(body.object.id, body.type);
  entry.attr = body.attr;
  entry.pinned = (body.attr.flags & wire::kAttrPinned) != 0;
  // A copy of a directory says nothing binding, and only its authority speaks of a name.
  const bool binding = body.type != wire::ObjectType::kDirectory || (body.dir.role & wire::kRoleHome);
  if (binding && !entry.pinned) entry.attr_grants.push_back(grant);
  if (entry.pinned) entry.owner_grant = grant;
  if (dir) entry.directory = dir->id();
  if (dir && grant.sequence != 0 && dir->record().epoch != 0 && grant.brick == hashed(dir, name)) entry.name_grant = grant;
  if (entry.node->is_directory()) {
    entry.node->update_record(body.dir);
    if (body.dir.role & wire::kRoleHome && grant.sequence != 0)
      entry.node->note_attr({grant, body.attr, body.dir.subdirectories, body.dir.times_change});
    entry.node->set_location({entry.node->record().home, {}});
  } else {
    entry.node->set_location({ordinal, body.object.handle});
    if (binding && !entry.pinned && (body.attr.flags & wire::kAttrNoXattrs)) entry.node->note_no_xattrs(grant);
  }
  if (dir && entry.node != root) entry.node->set_name(dir, name);
  return entry;
}

Result<void> Volume::Impl::relocate(const NodePtr& node, const Caller& caller) {
  if (node == root) return fail(EIO);
  const Node::Name name = node->name();
  if (!name.parent) return fail(ESTALE);
  auto found = lookup(name.parent, name.name, caller);
  if (!found) return fail(found.error().code == ENOENT ? ESTALE : found.error().code);
  if (found->node != node) return fail(ESTALE);
  return {};
}

}  // namespace voldfs::dht
