#include "mgmt/cluster_commands.h"

#include <algorithm>

namespace voldfs::mgmt {

namespace {

// Every command that a log may carry. A name, once in a log, keeps its meaning.
const std::map<std::string, Explained<Json> (*)(ClusterState&, const Json&), std::less<>> kCommands = {
    {"cluster-init", Commands::cluster_init},
    {"cluster-replace", Commands::cluster_replace},
    {"peer-add", Commands::peer_add},
    {"peer-remove", Commands::peer_remove},
    {"peer-set-address", Commands::peer_set_address},
    {"peer-set-role", Commands::peer_set_role},
    {"peer-renew", Commands::peer_renew},
    {"peer-takeover", Commands::peer_takeover},
    {"voter-replace", Commands::voter_replace},
    {"webhook-add", Commands::webhook_add},
    {"webhook-remove", Commands::webhook_remove},
    {"volume-create", Commands::volume_create},
    {"volume-start", Commands::volume_start},
    {"volume-stop", Commands::volume_stop},
    {"volume-delete", Commands::volume_delete},
    {"volume-set", Commands::volume_set},
    {"volume-reset", Commands::volume_reset},
    {"volume-rename", Commands::volume_rename},
    {"brick-ready", Commands::brick_ready},
};

std::string text(const Json& command, const char* key) { return command.at(key).get<std::string>(); }

Explained<Id> id_at(const Json& command, const char* key) {
  const auto id = Id::parse(text(command, key));
  if (!id || id->is_none()) return explain(std::string(key) + " is no UUID.");
  return *id;
}

Explained<Peer*> peer_at(ClusterState& state, const Json& command) {
  const auto id = id_at(command, "peer");
  if (!id) return explain(id.error());
  const auto found = state.peers.find(*id);
  if (found == state.peers.end()) return explain("Peer " + id->uuid() + " is not in this cluster.");
  return &found->second;
}

// A peer that may not be added as it is, beside those that are there.
Explained<void> check_unique(const ClusterState& state, const Peer& peer) {
  for (const auto& [id, other] : state.peers) {
    if (id == peer.id) continue;
    if (other.name == peer.name) return explain("Another peer has the name " + peer.name + " already.");
    if (other.address == peer.address && (other.api_port == peer.api_port || other.raft_port == peer.raft_port))
      return explain("Peer " + other.name + " has the address " + peer.address + " already.");
    if (other.voter == peer.voter) return explain("Peer " + other.name + " has this voter number already.");
  }
  return {};
}

size_t voters(const ClusterState& state) {
  return static_cast<size_t>(std::count_if(state.peers.begin(), state.peers.end(), [](const auto& entry) {
    return entry.second.role == PeerRole::kVoter;
  }));
}

// The addresses in the maps of the volumes that have a brick on the peer follow it.
void readdress(ClusterState& state, const Peer& peer) {
  for (auto& [name, volume] : state.volumes) {
    std::shared_ptr<Volume> changed;
    for (size_t i = 0; i < volume->map.bricks.size(); ++i) {
      const dht::BrickEntry& brick = volume->map.bricks[i];
      const auto owner = volume->owners.find(brick.id);
      if (owner == volume->owners.end() || owner->second != peer.id) continue;
      if (brick.host == peer.address && brick.node == peer.name) continue;
      if (!changed) changed = std::make_shared<Volume>(*volume);
      changed->map.bricks[i].host = peer.address;
      changed->map.bricks[i].node = peer.name;
    }
    if (!changed) continue;
    ++changed->map.version;
    volume = std::move(changed);
  }
}

}  // namespace

Explained<Json> Commands::run(ClusterState& state, const Json& command) try {
  const std::string op = text(command, "op");
  const auto found = kCommands.find(op);
  if (found == kCommands.end()) return explain("There is no command \"" + op + "\".");
  if (state.cluster.is_none() && op != "cluster-init" && op != "cluster-replace")
    return explain("The cluster has not been set up yet.");
  return found->second(state, command);
} catch (const std::exception& error) {
  return explain(std::string("The command is malformed: ") + error.what());
}

// {cluster, incarnation, peer}: the first command of a new cluster, by its only node.
Explained<Json> Commands::cluster_init(ClusterState& state, const Json& command) {
  if (!state.cluster.is_none()) return explain("The cluster is set up already.");
  const auto cluster = id_at(command, "cluster");
  const auto incarnation = id_at(command, "incarnation");
  if (!cluster || !incarnation) return explain("A cluster has an id and an incarnation.");
  auto peer = peer_from_json(command.at("peer"));
  if (!peer) return explain(peer.error());
  state.cluster = *cluster;
  state.incarnation = *incarnation;
  state.peers[peer->id] = *peer;
  return Json::object();
}

namespace {

// `replaced` takes the place of `state` and is to be told from it: every map becomes a descendant of the one that is in use,
// or of its own former self where the volume was gone.
void begin_incarnation(const ClusterState& state, ClusterState& replaced, const Id& incarnation) {
  std::map<Id, VolumePtr> in_use;
  for (const auto& [name, volume] : state.volumes) in_use[volume->map.volume] = volume;
  replaced.parent_incarnation = state.cluster.is_none() ? replaced.incarnation : state.incarnation;
  replaced.incarnation = incarnation;
  for (auto& [name, volume] : replaced.volumes) {
    auto changed = std::make_shared<Volume>(*volume);
    const auto used = in_use.find(volume->map.volume);
    const dht::VolumeMap& before = used == in_use.end() ? volume->map : used->second->map;
    changed->map.parent_incarnation = before.incarnation;
    changed->map.incarnation = incarnation;
    changed->map.version = std::max(before.version, volume->map.version) + 1;
    volume = std::move(changed);
  }
}

}  // namespace

// {state?, peers?, lost?, incarnation?, blank?}: the whole state anew, as a recovered or restored cluster has it: `state` (else the
// one that is there), in which `peers` are as given and the votes of those `lost` are refused for ever. With a new
// incarnation, every map becomes a descendant of what it was. With `blank`, only at the beginning of a log.
Explained<Json> Commands::cluster_replace(ClusterState& state, const Json& command) {
  if (!command.contains("state") && !command.contains("incarnation")) return explain("Nothing is to be replaced.");
  if (command.value("blank", false) && !state.cluster.is_none()) return explain("The log is not a new one: it has a cluster already.");
  auto replaced = command.contains("state") ? ClusterState::from_json(command.at("state")) : Explained<ClusterState>(state);
  if (!replaced) return explain(replaced.error());
  if (!state.cluster.is_none() && replaced->cluster != state.cluster)
    return explain("This is the state of another cluster (" + replaced->cluster.uuid() + ").");
  // What was refused once is refused for ever.
  replaced->retired.insert(state.retired.begin(), state.retired.end());
  for (const Json& entry : command.value("peers", Json::array())) {
    auto peer = peer_from_json(entry);
    if (!peer) return explain(peer.error());
    const auto old = replaced->peers.find(peer->id);
    if (old != replaced->peers.end() && old->second.voter != peer->voter)
      replaced->retired.insert(old->second.voter);
    replaced->peers[peer->id] = *peer;
  }
  for (const Json& lost : command.value("lost", Json::array())) {
    const auto id = Id::parse(lost.get<std::string>());
    const auto found = id ? replaced->peers.find(*id) : replaced->peers.end();
    if (found == replaced->peers.end()) return explain("A lost peer that is not in this cluster was named.");
    replaced->retired.insert(found->second.voter);
    // Its bricks stay in the maps: the node is the way back to their files.
    found->second.role = PeerRole::kStandby;
  }
  if (command.contains("incarnation")) {
    const auto incarnation = id_at(command, "incarnation");
    if (!incarnation) return explain(incarnation.error());
    begin_incarnation(state, *replaced, *incarnation);
  }
  if (!state.cluster.is_none()) {
    // Retries of commands of this log are answered as they were; its version goes on, for readers compare it.
    replaced->remembered_ = state.remembered_;
    replaced->version = std::max(replaced->version, state.version);
  }
  state = std::move(*replaced);
  return Json::object();
}

// {peer}: adds it, as a voter while there are fewer than kVotersMax.
Explained<Json> Commands::peer_add(ClusterState& state, const Json& command) {
  auto peer = peer_from_json(command.at("peer"));
  if (!peer) return explain(peer.error());
  if (state.retired.contains(peer->voter))
    return explain("The node " + peer->name + " has lost its memory of past votes and needs a new voter number.");
  if (const Peer* there = state.peer(peer->id); there && *there == *peer) return Json::object();
  if (state.peers.contains(peer->id)) return explain("The node " + peer->name + " is in this cluster already.");
  if (state.peers.size() >= kPeersMax)
    return explain("A cluster has at most " + std::to_string(kPeersMax) + " peers.");
  if (auto unique = check_unique(state, *peer); !unique) return explain(unique.error());
  peer->role = voters(state) < kVotersMax ? PeerRole::kVoter : PeerRole::kStandby;
  state.peers[peer->id] = *peer;
  return Json{{"peer", peer->id.uuid()}};
}

// {peer, id}: refused while it holds bricks. A peer that is not there is gone already.
Explained<Json> Commands::peer_remove(ClusterState& state, const Json& command) {
  const auto id = id_at(command, "peer");
  if (!id) return explain(id.error());
  const auto found = state.peers.find(*id);
  if (found == state.peers.end()) return Json{{"already", true}};
  const Peer& peer = found->second;
  if (state.peers.size() == 1) return explain("The last peer of a cluster cannot be detached from it.");
  for (const auto& [name, volume] : state.volumes) {
    for (const auto& [brick, owner] : volume->owners) {
      if (owner == *id)
        return explain("Peer " + peer.name + " holds a brick of volume " + name +
                       ": delete the volume, or move the brick away first.");
    }
  }
  if (peer.role == PeerRole::kVoter && voters(state) == 1)
    return explain("Peer " + peer.name + " is the last voter: make another peer a voter first.");
  state.retired.insert(peer.voter);
  state.peers.erase(found);
  // A stand-by takes the place of a lost voter; the lowest id, so that all nodes choose the same.
  for (auto& [other, entry] : state.peers) {
    if (voters(state) >= kVotersMax) break;
    if (entry.role == PeerRole::kStandby && !state.retired.contains(entry.voter)) entry.role = PeerRole::kVoter;
  }
  return Json::object();
}

// {peer, address?, name?, api_port?, raft_port?}
Explained<Json> Commands::peer_set_address(ClusterState& state, const Json& command) {
  const auto found = peer_at(state, command);
  if (!found) return explain(found.error());
  Json json = peer_to_json(**found);
  for (const char* key : {"address", "name", "api_port", "raft_port"}) {
    if (command.contains(key)) json[key] = command.at(key);
  }
  auto changed = peer_from_json(json);
  if (!changed) return explain(changed.error());
  if (auto unique = check_unique(state, *changed); !unique) return explain(unique.error());
  **found = *changed;
  readdress(state, *changed);
  return Json::object();
}

// {peer, role: voter | standby}
Explained<Json> Commands::peer_set_role(ClusterState& state, const Json& command) {
  const auto found = peer_at(state, command);
  if (!found) return explain(found.error());
  const std::string role = text(command, "role");
  if (role != "voter" && role != "standby") return explain("A peer is a voter or a standby.");
  size_t others = 0;
  for (const auto& [id, peer] : state.peers) others += &peer != *found && peer.role == PeerRole::kVoter;
  if (role == "standby" && others == 0) return explain("The last voter must stay one.");
  if (role == "voter" && others >= kVotersMax)
    return explain("There are at most " + std::to_string(kVotersMax) + " voters.");
  (*found)->role = role == "voter" ? PeerRole::kVoter : PeerRole::kStandby;
  return Json::object();
}

// {peer, voter}: the node lost its memory of past votes: its old voter number is refused for ever.
Explained<Json> Commands::peer_renew(ClusterState& state, const Json& command) {
  const auto found = peer_at(state, command);
  if (!found) return explain(found.error());
  const auto voter = command.at("voter").get<uint64_t>();
  if ((*found)->voter == voter) return Json{{"already", true}};
  if (voter == 0 || state.retired.contains(voter) || state.peer_of_voter(voter))
    return explain("This voter number was used before.");
  state.retired.insert((*found)->voter);
  (*found)->voter = voter;
  if (voters(state) < kVotersMax) (*found)->role = PeerRole::kVoter;
  return Json::object();
}

// {peer}: another machine in the place of a peer of this id, which is lost: with its bricks, and with a voter number of its own.
Explained<Json> Commands::peer_takeover(ClusterState& state, const Json& command) {
  auto peer = peer_from_json(command.at("peer"));
  if (!peer) return explain(peer.error());
  const auto found = state.peers.find(peer->id);
  if (found == state.peers.end()) return explain("Peer " + peer->name + " is not in this cluster.");
  if (found->second.voter == peer->voter) return Json{{"already", true}};
  if (state.retired.contains(peer->voter) || state.peer_of_voter(peer->voter)) return explain("This voter number was used before.");
  if (auto unique = check_unique(state, *peer); !unique) return explain(unique.error());
  state.retired.insert(found->second.voter);
  peer->role = PeerRole::kStandby;
  found->second = *peer;
  if (voters(state) < kVotersMax) found->second.role = PeerRole::kVoter;
  readdress(state, *peer);
  return Json{{"peer", peer->id.uuid()}};
}

// {lost, standby}: a voter that is lost changes places with a stand-by, in one step.
Explained<Json> Commands::voter_replace(ClusterState& state, const Json& command) {
  const auto lost = id_at(command, "lost"), standby = id_at(command, "standby");
  if (!lost || !standby) return explain("Two peers are to change places.");
  const auto out = state.peers.find(*lost), in = state.peers.find(*standby);
  if (out == state.peers.end() || in == state.peers.end()) return explain("One of the two is not in this cluster.");
  if (out->second.role != PeerRole::kVoter) return explain("Peer " + out->second.name + " is no voter.");
  if (in->second.role != PeerRole::kStandby || state.retired.contains(in->second.voter))
    return explain("Peer " + in->second.name + " is no stand-by.");
  out->second.role = PeerRole::kStandby;
  in->second.role = PeerRole::kVoter;
  return Json::object();
}

// {url}
Explained<Json> Commands::webhook_add(ClusterState& state, const Json& command) {
  const std::string url = text(command, "url");
  if (!(url.starts_with("http://") || url.starts_with("https://")) || url.size() > kWebhookUrlMax ||
      std::any_of(url.begin(), url.end(), [](unsigned char c) { return c <= ' ' || c >= 0x7f; }))
    return explain("A webhook is a URL, as in http://monitor.example:8080/voldfs.");
  if (state.webhooks.size() >= kWebhooksMax && !state.webhooks.contains(url))
    return explain("A cluster has at most " + std::to_string(kWebhooksMax) + " webhooks.");
  state.webhooks.insert(url);
  return Json::object();
}

// {url}
Explained<Json> Commands::webhook_remove(ClusterState& state, const Json& command) {
  const std::string url = text(command, "url");
  if (state.webhooks.erase(url) == 0) return explain("There is no webhook " + url + ".");
  return Json::object();
}

}  // namespace voldfs::mgmt
