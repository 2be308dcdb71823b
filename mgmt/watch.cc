#include "mgmt/watch.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "brick/base/clock.h"

namespace voldfs::mgmt {

namespace {

constexpr auto kPeriod = std::chrono::seconds(1);
constexpr int64_t kPatienceMs = 5000;     // with a brick that is to come up
constexpr int64_t kPeersPeriodMs = 3000;  // peers are asked over the network

}  // namespace

Watch::Watch(Node& node, Reconciler& reconciler, Events& events) : node_(node), reconciler_(reconciler), events_(events) {
  thread_ = std::thread([this] { run(); });
}

Watch::~Watch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Watch::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, kPeriod, [&] { return stopping_; });
      if (stopping_) return;
    }
    const auto state = node_.state();
    if (state->cluster.is_none()) continue;
    look_at_bricks(*state);
    look_at_majority();
    if (!node_.leading()) {
      silent_.clear();
    } else if (boottime_ms() >= peers_next_ms_) {
      look_at_peers(*state);
      replace_lost_voter(*state);
      peers_next_ms_ = boottime_ms() + std::min<int64_t>(kPeersPeriodMs, node_.options().voter_lost_ms / 2);
    }
  }
}

void Watch::look_at_bricks(const ClusterState& state) {
  const Id me = node_.identity().node;
  const auto troubles = reconciler_.troubles();
  const HeldLocks locks = HeldLocks::look();
  std::map<Id, Brick> now;
  for (const auto& [name, volume] : state.volumes) {
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (volume->owners.at(brick.id) != me) continue;
      const auto known = bricks_.find(brick.id);
      if (known == bricks_.end() && !volume->map.started) continue;  // nobody waits for it
      Brick seen = known == bricks_.end() ? Brick{boottime_ms(), false, false} : known->second;
      const bool was = std::exchange(seen.served, locks.brick_server(brick.path).has_value());
      const bool never_came = !seen.served && volume->map.started && boottime_ms() - seen.first_look_ms > kPatienceMs;
      Json data = {{"brick", brick.id.uuid()}, {"volume", name}, {"path", brick.path}};
      if (seen.served && std::exchange(seen.told, false)) {
        events_.seen("brick.up", data);
      } else if (!seen.told && ((was && !seen.served) || never_came)) {
        seen.told = true;
        data["expected"] = !volume->map.started;
        if (const auto trouble = troubles.find(brick.id); trouble != troubles.end()) data["reason"] = trouble->second;
        events_.seen("brick.down", std::move(data));
      }
      if (seen.served || volume->map.started) now[brick.id] = seen;
    }
  }
  bricks_ = std::move(now);
}

void Watch::look_at_majority() {
  const bool led = node_.knowledge().led;
  const int before = std::exchange(majority_, led);
  if (before == led || (before == -1 && led)) return;
  events_.seen(led ? "quorum.regained" : "quorum.lost", Json::object());
}

void Watch::look_at_peers(const ClusterState& state) {
  const auto missing = node_.unreachable_peers();
  const int64_t now = boottime_ms();
  for (const auto& [id, peer] : state.peers) {
    const bool silent = std::find(missing.begin(), missing.end(), peer.name) != missing.end();
    if (silent && silent_.try_emplace(id, Silence{now, peer.name}).second) events_.seen("peer.silent", {{"peer", peer.name}});
    if (!silent && silent_.erase(id)) events_.seen("peer.answers", {{"peer", peer.name}});
  }
  std::erase_if(silent_, [&](const auto& entry) { return !state.peers.contains(entry.first); });
}

void Watch::replace_lost_voter(const ClusterState& state) {
  const int64_t long_ago = boottime_ms() - node_.options().voter_lost_ms;
  const Peer* lost = nullptr;
  const Peer* standby = nullptr;
  for (const auto& [id, peer] : state.peers) {
    if (state.retired.contains(peer.voter)) continue;
    const auto silence = silent_.find(id);
    if (peer.role == PeerRole::kVoter && silence != silent_.end() && silence->second.since_ms <= long_ago && !lost) lost = &peer;
    if (peer.role == PeerRole::kStandby && silence == silent_.end() && !standby) standby = &peer;
  }
  if (!lost || !standby) return;
  spdlog::warn("voter replaced lost={} standby={} reason=\"it has been silent for {} s\"", lost->name, standby->name, node_.options().voter_lost_ms / 1000);
  const Json done = node_.commit_here(new_command("voter-replace", {{"lost", lost->id.uuid()}, {"standby", standby->id.uuid()}}));
  if (!done.value("ok", false)) spdlog::warn("voter not replaced reason=\"{}\"", done.value("error", ""));
}

}  // namespace voldfs::mgmt
