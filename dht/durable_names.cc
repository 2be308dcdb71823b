#include "dht/durable_names.h"

#include <map>
#include <vector>

namespace voldfs::dht {

namespace {

// Directories to sync, one a brick: an fsync brings along everything that the brick's file system has done before.
using Places = std::map<uint16_t, Id>;

struct Pending {
  NodePtr node;
  uint64_t change = 0;
};

uint64_t change_of(const NodePtr& node) { return node->is_directory() ? node->record().change : 0; }

wire::Request sync_request(const Id& dir) {
  wire::IoBody body{};
  body.object.id = dir;
  return wire::Request(wire::Op::kFsync, body);
}

// A brick in whose set the directory is and that has not made it yet has nothing to sync.
bool is_done(const Result<void>& status) {
  return status || status.error().code == wire::kDirAbsent || status.error().code == wire::kDirRemoved;
}

// Home's word of a directory while home is down is its backup's.
Result<void> sync_instead(Volume::Impl& volume, const Places& places, uint16_t ordinal, const Caller& caller) {
  const Id dir = places.at(ordinal);
  const NodePtr node = volume.nodes.find(dir);
  const uint16_t backup = node && node->is_directory() ? node->record().backup : uint16_t{0};
  auto reply = backup != 0 && backup != ordinal ? volume.call(backup, sync_request(dir), caller)
                                                : volume.call(ordinal, sync_request(dir), caller);
  const Result<void> status = reply ? Result<void>{} : fail(reply.error());
  return is_done(status) ? Result<void>{} : status;
}

}  // namespace

Result<void> make_name_durable(Volume::Impl& volume, const NodePtr& node, const Caller& caller) {
  Places places;
  std::vector<Pending> pending;
  const uint16_t own = node->location().brick;
  NodePtr at = node;
  for (size_t depth = 0; depth < kAncestorsMax; ++depth) {
    const uint64_t change = change_of(at);
    if (at->is_name_durable(change)) break;
    pending.push_back({at, change});
    if (at->is_directory() && at != node) places.try_emplace(at->record().home, at->id());
    const Node::Name name = at->name();
    if (at == volume.root || !name.parent) break;
    if (const uint16_t authority = volume.hashed(name.parent, name.name); authority != 0)
      places.try_emplace(authority, name.parent->id());
    at = name.parent;
  }
  places.erase(own);  // whose own fsync was before this
  if (!places.empty()) {
    Caller quick = caller;
    quick.only_if_up = true;
    std::vector<uint16_t> ordinals;
    for (const auto& [ordinal, dir] : places) ordinals.push_back(ordinal);
    for (const Answer& answer : volume.ask(ordinals, [&](uint16_t ordinal) { return sync_request(places.at(ordinal)); }, quick)) {
      if (is_done(answer.status)) continue;
      if (answer.status.error().code != EHOSTDOWN) return answer.status;
      if (auto synced = sync_instead(volume, places, answer.ordinal, caller); !synced) return synced;
    }
  }
  for (const Pending& each : pending) each.node->set_name_durable(each.change);
  return {};
}

}  // namespace voldfs::dht
