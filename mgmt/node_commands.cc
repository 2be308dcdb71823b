#include <spdlog/spdlog.h>

#include <algorithm>
#include <future>
#include <thread>

#include "brick/base/clock.h"
#include "mgmt/fault_point.h"
#include "mgmt/node.h"
#include "mgmt/secret.h"

// Commands of the cluster, and the ones that change who it is made of.

namespace voldfs::mgmt {

namespace {

constexpr auto kCommitTimeout = std::chrono::seconds(10);
constexpr auto kSeenTimeout = std::chrono::seconds(1);
constexpr auto kShownTimeout = std::chrono::seconds(10);  // above what a log that begins anew may lag, Node::caught_up()
constexpr int kForwardTimeoutMs = 12'000;
constexpr int kElectionPatience = 4;     // election times that a change waits for a leader to be chosen
constexpr int kProbeTimeoutMs = 3000;
constexpr int kJoinTimeoutMs = 15'000;
constexpr int kAwaitPeersMs = 4'000;

Json refusal(std::string sentence) { return {{"ok", false}, {"error", std::move(sentence)}}; }

}  // namespace

Json Node::commit_here(Json command) {
  const auto running = log();
  if (!running) return refusal("The node is changing its part in the cluster. Try again in a moment.");
  auto done = std::make_shared<std::promise<Outcome>>();
  auto future = done->get_future();
  fault_point("commit.begin");
  running->propose(command.dump(), [done](Outcome outcome) { done->set_value(outcome); });
  const Outcome outcome = future.wait_for(kCommitTimeout) == std::future_status::ready ? future.get() : Outcome::kUnknown;
  fault_point("commit.answered");
  const auto id = Id::parse(command.value("id", ""));
  if (outcome == Outcome::kCommitted && id) {
    // Applied, but not shown yet while the log is still being read again.
    Json result;
    std::unique_lock lock(mutex_);
    const bool shown = wake_.wait_for(lock, kShownTimeout, [&] {
      const Json* found = state_->result_of(*id);
      if (found) result = *found;
      return found != nullptr;
    });
    if (shown) return result;
  }
  if (outcome == Outcome::kNoSpace)
    return refusal("Nothing was changed: on " + identity().name + ", which leads the cluster, the file system of " + options_.state_dir +
                   " is full. Make room there, or stop voldmgmt on it so that another node leads.");
  Json result = outcome == Outcome::kNotLeading
                    ? refusal("This node does not lead the cluster.")
                    : refusal("The cluster lost its leader while it took the change: the change has happened, or not, on all nodes alike. "
                              "Try it again: the same command is never done twice.");
  result[outcome == Outcome::kNotLeading ? "not_leading" : "in_doubt"] = true;
  return result;
}

Json Node::commit(Json command) {
  const int64_t patience_until = boottime_ms() + kElectionPatience * int64_t{options_.election_ms};
  std::vector<std::string> missing;
  bool looked = false;
  for (;;) {
    const ConsensusStatus status = log_status();
    const auto known = state();
    if (status.leading) {
      Json result = commit_here(command);
      if (!result.value("not_leading", false)) return result;
    } else if (const Peer* leader = status.leader ? known->peer_of_voter(status.leader) : nullptr) {
      fault_point("forward.begin");
      auto result = call_peer(*leader, "POST", "/v1/local/commit", command, kForwardTimeoutMs);
      fault_point("forward.answered");
      if (result && !result->value("not_leading", false)) {
        // Who asks this node what it has just done here is to see it.
        const uint64_t version = result->value("version", uint64_t{0});
        std::unique_lock lock(mutex_);
        wake_.wait_for(lock, kSeenTimeout, [&] { return state_->version >= version; });
        return *result;
      }
    } else {
      // Nobody leads: an election is under way, or there is no majority, which is said at once.
      if (!std::exchange(looked, true)) missing = unreachable_peers();
      size_t voters = 0, lost = 0;
      for (const auto& [id, peer] : known->peers) {
        const bool votes = peer.role == PeerRole::kVoter && !known->retired.contains(peer.voter);
        voters += votes;
        lost += votes && std::find(missing.begin(), missing.end(), peer.name) != missing.end();
      }
      if (voters > 0 && (voters - lost) * 2 <= voters) break;
    }
    if (boottime_ms() > patience_until) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (missing.empty()) missing = unreachable_peers();
  std::string names;
  for (const std::string& name : missing) names += (names.empty() ? "" : ", ") + name;
  Json result = refusal("Nothing was changed: a change needs a majority of the voters, and " +
                        (names.empty() ? "they have not agreed on a leader yet. Try again in a moment."
                                       : "these peers do not answer: " + names + ". Start voldmgmt there; if they are lost for good: voldctl peer recover."));
  result["missing"] = missing;
  return result;
}

namespace {

// A voice to the node that is probed. `tls` is made of its own secret, for it may not have the cluster's yet: so it proves to be the node
// whose token was given, before it is told anything, and this one that it was given the token.
Explained<Json> ask_probed(const Node::Probe& probe, const std::shared_ptr<const Tls>& tls, const Json& body) {
  auto verdict = Tls::Other::Verdict::kUnknown;
  const auto reply = http_call({"", probe.address, probe.port, tls, &verdict}, "POST", "/v1/local/probe", body.dump(), kProbeTimeoutMs);
  if (verdict == Tls::Other::Verdict::kForeign && !probe.token.empty())
    return explain("This is not the token of the node at " + probe.address + ":" + std::to_string(probe.port) + ": `voldctl peer token` prints it there. (Or somebody else answers in its place.)");
  if (verdict == Tls::Other::Verdict::kForeign)
    return explain("The node at " + probe.address + ":" + std::to_string(probe.port) + " does not know this cluster's secret: run `voldctl peer token` there, and " +
                   "`voldctl peer probe " + probe.address + " --token=TOKEN` here, or copy /etc/voldfs/secret to it.");
  if (!reply) return explain(reply.error());
  const Json json = Json::parse(reply->body, nullptr, false);
  if (!json.is_object()) return explain("The node at " + probe.address + " did not answer as a voldmgmt does.");
  if (json.contains("error")) return explain(json.value("error", ""));
  return json;
}

}  // namespace

// What a probe is to commit, tried first, so that the node is not torn from its own cluster for nothing.
Explained<Json> Node::plan_probe(const Probe& probe, Peer& peer) const {
  const auto known = state();
  Json command;
  if (probe.replace.empty()) {
    command = new_command("peer-add", {{"peer", peer_to_json(peer)}});
  } else {
    const Peer* old = known->peer_named(probe.replace);
    if (!old) return explain("There is no peer " + probe.replace + " that could be replaced.");
    if (old->id == identity().node) return explain("Peer " + probe.replace + " is this node itself.");
    if (!known->retired.contains(old->voter) && call_peer(*old, "GET", "/v1/local/ping", nullptr, kProbeTimeoutMs))
      return explain("Peer " + probe.replace + " answers, so it is not lost. Stop it for good before another takes its place.");
    const Peer there = peer;
    peer = *old;
    peer.address = there.address;
    peer.api_port = there.api_port;
    peer.raft_port = there.raft_port;
    peer.voter = there.voter;
    command = new_command("peer-takeover", {{"peer", peer_to_json(peer)}});
  }
  ClusterState trial = *known;
  if (const Json tried = trial.apply(command); !tried.value("ok", false)) return explain(tried.value("error", ""));
  return command;
}

// Probe, of this side: ask the node who it is, hand it the cluster's secret and its place, then commit. A node that was
// handed a place that was never committed waits, and takes another.
Explained<Json> Node::probe(const Probe& probe) {
  const Identity me = identity();
  const std::string secret = this->secret();
  auto tls = credentials().tls;
  if (!probe.token.empty()) {
    auto given = from_hex(probe.token);
    if (!given || given->size() != kClusterSecretSize) return explain("The token has 64 hexadecimal digits: `voldctl peer token` prints it on the node that is to join.");
    tls = tls_of(*given);
  }
  auto there = ask_probed(probe, tls, {{"step", "who"}, {"cluster", me.cluster.uuid()}});
  if (!there) return explain(there.error());
  auto peer = peer_from_json(there->value("peer", Json()));
  if (!peer) return explain(peer.error());
  peer->address = probe.address;
  peer->api_port = probe.port;
  peer->witness = probe.witness;
  if (peer->id == me.node) return explain("This is the node itself.");
  const auto known = state();
  if (const Peer* old = known->peer(peer->id); old && old->voter == peer->voter)
    return Json{{"ok", true}, {"already", true}, {"peer", peer_to_json(*old)}};
  Json contacts = Json::array();
  for (const auto& [id, other] : known->peers) {
    if (!known->retired.contains(other.voter)) contacts.push_back(peer_to_json(other));
  }
  if (contacts.empty()) return explain("This node's own cluster is not ready yet. Try again in a moment.");
  // One that was a member once, and is none any more, begins anew; its old vote is refused.
  const Peer* member = known->peer(peer->id);
  const bool anew = !member || known->retired.contains(member->voter);
  peer->voter = random_voter();  // for the plan; it says itself which one it takes
  auto command = plan_probe(probe, *peer);
  if (!command) return explain(command.error());
  auto joined = ask_probed(probe, tls, {{"step", "join"}, {"anew", anew}, {"cluster", me.cluster.uuid()}, {"incarnation", me.incarnation.uuid()},
                                        {"secret", to_hex(secret)}, {"contacts", std::move(contacts)}, {"peer", peer_to_json(*peer)}});
  if (!joined) return explain(joined.error());
  fault_point("probe.joined");
  peer->voter = joined->at("voter").get<uint64_t>();
  (*command)["peer"] = peer_to_json(*peer);
  Json result = commit(*command);
  if (!result.value("ok", false)) return explain(result.value("error", ""));
  // A member that is not up to date, or has no vote yet, does not count when another is lost; say so only if it takes long.
  const auto now = state();
  const Peer* added = now->peer(peer->id);
  const bool to_vote = added && added->role == PeerRole::kVoter;
  const int64_t deadline = boottime_ms() + kJoinTimeoutMs;
  bool caught_up = false;
  while (!caught_up && boottime_ms() < deadline) {
    Peer named = *peer;
    const auto ping = call_peer(named, "GET", "/v1/local/ping", nullptr, kProbeTimeoutMs);
    caught_up = ping && ping->value("version", uint64_t{0}) >= result.value("version", uint64_t{0}) && (!to_vote || ping->value("votes", false));
    if (!caught_up) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  result["peer"] = peer_to_json(*peer);
  result["caught_up"] = caught_up;
  return result;
}

// Probe, of the other side.
Explained<Json> Node::answer_probe(const Json& body) {
  const auto cluster = Id::parse(body.at("cluster").get<std::string>());
  if (!cluster) return explain("The probe names no cluster.");
  const std::lock_guard change(change_log_);
  Identity me = identity();
  const auto known = state();
  const bool member = me.cluster == *cluster && me.standing == Identity::Standing::kMember && !body.value("anew", false);
  const bool left = !known->cluster.is_none() && !known->peer(me.node);  // it was detached, and knows
  if (!member && !left && me.cluster != *cluster) {
    const bool waiting = me.standing == Identity::Standing::kJoining && known->peers.empty();
    if (!waiting && (known->peers.size() > 1 || !known->volumes.empty()))
      return explain("The node " + me.name + " is part of another cluster, with " + std::to_string(known->peers.size()) + " peers and " +
                     std::to_string(known->volumes.size()) + " volumes: detach it there first, or delete its volumes.");
  }
  if (body.at("step") == "who" || member) return Json{{"peer", peer_to_json(self(me))}, {"voter", me.voter}};

  const auto secret = from_hex(body.at("secret").get<std::string>());
  const auto incarnation = Id::parse(body.at("incarnation").get<std::string>());
  if (!secret || secret->size() != kClusterSecretSize || !incarnation) return explain("The probe carries no secret.");
  const auto place = peer_from_json(body.at("peer"));
  if (!place) return explain(place.error());
  me.node = place->id;  // its own, or that of the peer whose place it takes
  me.name = place->name;
  me.cluster = *cluster;
  me.incarnation = *incarnation;
  me.voter = random_voter();
  me.standing = Identity::Standing::kJoining;
  me.contacts.clear();
  me.contact_api_ports.clear();
  for (const Json& entry : body.at("contacts")) {
    const auto peer = peer_from_json(entry);
    if (!peer) return explain(peer.error());
    me.contacts[peer->voter] = {peer->address, peer->raft_port};
    me.contact_api_ports[peer->voter] = peer->api_port;
  }
  fault_point("join.begin");
  static_cast<void>(close_log());
  if (auto aside = set_log_aside("former"); !aside) return explain(aside.error());
  fault_point("join.aside");
  if (auto saved = save(me); !saved) return explain(saved.error());
  fault_point("join.saved");
  if (auto saved = save_secret(*secret); !saved) return explain(saved.error());
  {
    const std::lock_guard lock(mutex_);
    identity_ = me;
    take_secret(*secret);
    state_ = std::make_shared<const ClusterState>();
  }
  if (auto opened_log = open_log(); !opened_log) return explain(opened_log.error());
  spdlog::info("joining cluster={} voter={}", me.cluster.uuid(), me.voter);
  return Json{{"peer", peer_to_json(self(me))}, {"voter", me.voter}};
}

std::vector<std::string> Node::await_peers(uint64_t version, const Peer* moving) const {
  const Identity me = identity();
  const auto known = state();
  std::map<std::string, Peer> behind;
  for (const auto& [id, peer] : known->peers) {
    if (id != me.node && !known->retired.contains(peer.voter)) behind[peer.name] = moving && moving->id == id ? *moving : peer;
  }
  const int64_t deadline = boottime_ms() + kAwaitPeersMs;
  for (;;) {
    std::erase_if(behind, [&](const auto& entry) {
      const auto ping = call_peer(entry.second, "GET", "/v1/local/ping", nullptr, kAwaitPeersMs / 4);
      return ping && ping->value("version", uint64_t{0}) >= version;
    });
    if (behind.empty() || boottime_ms() > deadline) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  std::vector<std::string> names;
  for (const auto& [name, peer] : behind) names.push_back(name);
  return names;
}

Explained<Json> Node::renew_peer(const Json& request) {
  const auto id = Id::parse(request.at("peer").get<std::string>());
  const auto known = state();
  const Peer* peer = id ? known->peer(*id) : nullptr;
  if (!peer) return explain("This node is not a peer of the cluster any more.");
  const auto voter = request.at("voter").get<uint64_t>();
  if (peer->voter == voter) return Json{{"ok", true}};
  const ConsensusStatus status = log_status();
  if (status.leader == 0 || status.leader == peer->voter) {
    // Of two voters, the one that has its memory holds every committed entry: each was acknowledged by both.
    const uint64_t mine = identity().voter;
    size_t voters = 0;
    bool only_us = true;
    for (const Member& member : status.members) {
      if (member.role != MemberRole::kVoter) continue;
      ++voters;
      only_us = only_us && (member.voter == mine || member.voter == peer->voter);
    }
    if (voters == 2 && only_us) {
      spdlog::warn("goes on alone lost={} reason=\"the other of two voters lost its memory\"", peer->name);
      const std::lock_guard change(change_log_);
      static_cast<void>(close_log());
      if (auto opened = open_log(true); !opened) return explain(opened.error());
    }
  }
  return commit(new_command("peer-renew", {{"peer", id->uuid()}, {"voter", voter}}));
}

// Of a peer, when this node is to go on with its own log: it is lost, or it comes along and knows no more than this node does.
Explained<void> Node::check_left(const Peer& peer, bool lost) const {
  const auto ping = call_peer(peer, "GET", "/v1/local/ping", nullptr, kProbeTimeoutMs);
  if (lost) {
    if (ping) return explain("Peer " + peer.name + " answers, so it is not lost. Recovering without it would split the cluster in two.");
    return {};
  }
  if (peer.role != PeerRole::kVoter) return {};
  if (!ping)
    return explain("Peer " + peer.name + " is a voter too, does not answer (" + ping.error() + ") and was not named as lost: start voldmgmt there, or name it as well if it is lost for good.");
  const ConsensusStatus mine = log_status();
  const Json theirs = ping->value("log", Json::object());
  if (std::pair(theirs.value("last_term", uint64_t{0}), theirs.value("last_index", uint64_t{0})) > std::pair(mine.last_term, mine.last_index))
    return explain("Peer " + peer.name + ", which is not lost, knows more than this node: run this there, so that nothing is undone that need not be.");
  return {};
}

Explained<Json> Node::recover(const std::vector<std::string>& lost) {
  const auto known = state();
  Json ids = Json::array();
  std::set<Id> gone;
  for (const std::string& name : lost) {
    const Peer* peer = known->peer_named(name);
    if (!peer) return explain("There is no peer " + name + ".");
    if (peer->id == identity().node) return explain("Run this on a node that is not lost.");
    ids.push_back(peer->id.uuid());
    gone.insert(peer->id);
  }
  if (log_status().leader != 0)
    return explain("The cluster has a majority: nothing needs to be recovered. To remove a peer: voldctl peer detach.");
  for (const auto& [id, peer] : known->peers) {
    if (id == identity().node || known->retired.contains(peer.voter)) continue;
    if (auto left = check_left(peer, gone.contains(id)); !left) return explain(left.error());
  }
  {
    const std::lock_guard change(change_log_);
    static_cast<void>(close_log());
    if (auto opened = open_log(true); !opened) return explain(opened.error());
  }
  const int64_t deadline = boottime_ms() + 20 * int64_t{options_.election_ms};
  while (!leading() && boottime_ms() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  // With everything that was in this node's log, then without the lost: a new incarnation of the maps, so that a lost
  // peer that comes back after all is recognized.
  return commit_here(new_command("cluster-replace", {{"lost", std::move(ids)}, {"incarnation", Id::random().uuid()}}));
}

}  // namespace voldfs::mgmt
