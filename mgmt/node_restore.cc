#include <spdlog/spdlog.h>

#include "brick/base/clock.h"
#include "mgmt/node.h"

// Backups of the cluster's state, and going back to one.

namespace voldfs::mgmt {

namespace {

constexpr char kKind[] = "voldfs cluster backup";
constexpr int64_t kBeginTimeoutMs = 15'000;
constexpr int kCatchUpMs = 700;

// Nobody but `keep` has a vote any more: the others lost their log, or are to forget it.
void retire_others(ClusterState& state, const std::set<Id>& keep) {
  for (auto& [id, peer] : state.peers) {
    if (keep.contains(id)) continue;
    state.retired.insert(peer.voter);
    peer.role = PeerRole::kStandby;
  }
}

}  // namespace

Json Node::backup() {
  const ConsensusStatus status = log_status();
  auto known = state();
  const Peer* leader = status.leader && !status.leading ? known->peer_of_voter(status.leader) : nullptr;
  if (leader) {
    const auto ping = call_peer(*leader, "GET", "/v1/local/ping", nullptr, kCatchUpMs);
    const uint64_t version = ping ? ping->value("version", uint64_t{0}) : 0;
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, std::chrono::milliseconds(kCatchUpMs), [&] { return state_->version >= version; });
    known = state_;
  }
  return {{"kind", kKind}, {"made", static_cast<int64_t>(::time(nullptr))}, {"node", identity().name}, {"state", known->to_json()}};
}

Explained<Json> Node::restore_backup(const Json& document, const std::string& as) {
  if (!document.is_object() || document.value("kind", "") != kKind) return explain("This is no backup made by `voldctl backup`.");
  auto backup = ClusterState::from_json(document.at("state"));
  if (!backup) return explain(backup.error());
  const auto known = state();
  if (backup->cluster == known->cluster) return restore_here(*backup);
  if (known->peers.size() > 1 || !known->volumes.empty())
    return explain("The backup is of the cluster " + backup->cluster.uuid() + ", and this node is part of " + known->cluster.uuid() + ", with " +
                   std::to_string(known->peers.size()) + " peers and " + std::to_string(known->volumes.size()) + " volumes. Restore it on a node of its own cluster, or on a new one.");
  return restore_anew(std::move(*backup), as);
}

// The volumes, options and webhooks of the backup; the peers as they are now, beside those that only the backup knows and
// that hold bricks: as lost ones, whose place another node can take.
Explained<Json> Node::restore_here(const ClusterState& backup) {
  const auto known = state();
  std::set<Id> needed, there;
  for (const auto& [name, volume] : backup.volumes) {
    for (const auto& [brick, owner] : volume->owners) needed.insert(owner);
  }
  ClusterState wanted = backup;
  wanted.peers.clear();
  wanted.retired.insert(known->retired.begin(), known->retired.end());
  for (const auto& [id, peer] : known->peers) there.insert(id);
  for (const auto& [id, peer] : backup.peers) {
    if (needed.contains(id)) wanted.peers[id] = peer;
  }
  for (const auto& [id, peer] : known->peers) wanted.peers[id] = peer;
  retire_others(wanted, there);
  Json result = commit(new_command("cluster-replace", {{"state", wanted.to_json()}, {"incarnation", Id::random().uuid()}}));
  if (!result.value("ok", false)) return explain(result.value("error", ""));
  return result;
}

// This node begins the cluster anew, with a log of its own in which the backup is the first entry.
Explained<Json> Node::restore_anew(ClusterState backup, const std::string& as) {
  Identity me = identity();
  const Peer* self_then = as.empty() ? backup.peer(me.node) : backup.peer_named(as);
  if (!self_then && as.empty()) self_then = backup.peer_named(me.name);
  if (!self_then) {
    std::string names;
    for (const auto& [id, peer] : backup.peers) names += (names.empty() ? "" : ", ") + peer.name;
    return explain("The backup has no peer " + (as.empty() ? me.name : as) + ". Say with --as which one this node is to be: " + names + ".");
  }
  const std::lock_guard change(change_log_);
  me.node = self_then->id;
  me.name = self_then->name;
  me.cluster = backup.cluster;
  me.incarnation = Id::random();
  me.voter = random_voter();
  me.standing = Identity::Standing::kNew;
  me.contacts.clear();
  me.contact_api_ports.clear();
  retire_others(backup, {me.node});
  static_cast<void>(close_log());
  if (auto aside = set_log_aside("former"); !aside) return explain(aside.error());
  if (auto saved = save(me); !saved) return explain(saved.error());
  {
    const std::lock_guard lock(mutex_);
    identity_ = me;
    state_ = std::make_shared<const ClusterState>(backup);
  }
  if (auto opened = open_log(); !opened) return explain(opened.error());
  spdlog::warn("cluster begun anew from a backup cluster={} node={} version={}", me.cluster.uuid(), me.name, backup.version);
  const int64_t deadline = boottime_ms() + kBeginTimeoutMs;
  // Until this node shows it, not only until it is in the log: the next command is to see the new voters.
  const auto shown = [&] { return state_->incarnation != backup.incarnation; };
  bool done = false;
  while (!done && boottime_ms() < deadline) {
    std::unique_lock lock(mutex_);
    done = wake_.wait_for(lock, std::chrono::milliseconds(50), shown);
  }
  if (!done) return explain("The log has been begun anew, and the backup is not in it yet: look at `voldctl volume list` in a moment.");
  return Json{{"ok", true}, {"node", me.name}};
}

}  // namespace voldfs::mgmt
