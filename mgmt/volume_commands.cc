#include <algorithm>
#include <unordered_set>

#include "mgmt/cluster_commands.h"
#include "mgmt/options.h"

namespace voldfs::mgmt {

namespace {

std::string text(const Json& command, const char* key) { return command.at(key).get<std::string>(); }

bool flag(const Json& command, const char* key) { return command.value(key, false); }

Explained<VolumePtr> volume_at(const ClusterState& state, const Json& command) {
  const std::string name = text(command, "volume");
  VolumePtr volume = state.volume(name);
  if (!volume) return explain("Volume " + name + " does not exist.");
  return volume;
}

// Whether one path is the other or lies in it. Both absolute and without "." or ".." (mgmt/brick_path.h).
bool nested(std::string_view a, std::string_view b) {
  const auto inside = [](std::string_view outer, std::string_view inner) {
    return inner.starts_with(outer) &&
           (inner.size() == outer.size() || outer.ends_with('/') || inner[outer.size()] == '/');
  };
  return inside(a, b) || inside(b, a);
}

// What the bricks of all volumes take of their peers: directories and ports. One walk over them for all bricks of a new volume.
class Taken {
 public:
  explicit Taken(const ClusterState& state) {
    for (const auto& [name, volume] : state.volumes) {
      for (const dht::BrickEntry& brick : volume->map.bricks) note(volume->owners.at(brick.id), brick, name);
    }
  }

  void note(const Id& peer, const dht::BrickEntry& brick, const std::string& volume) {
    paths_[peer].push_back({brick.path, volume});
    ports_[peer].insert(brick.port);
    at_[brick.host].insert(brick.port);
  }

  Explained<void> check_path(const Peer& peer, const std::string& path) const {
    const auto found = paths_.find(peer.id);
    if (found == paths_.end()) return {};
    for (const Place& other : found->second) {
      if (!nested(other.path, path)) continue;
      if (other.path == path)
        return explain("Brick " + peer.name + ":" + path + " is already part of volume " + other.volume + ".");
      return explain("Brick " + peer.name + ":" + path + " and brick " + peer.name + ":" + other.path +
                     " of volume " + other.volume + " lie in each other: choose a directory beside it.");
    }
    return {};
  }

  // The lowest free port of the peer: the same on every node, and kept for the brick's life.
  Explained<uint16_t> free_port(const Peer& peer) const {
    // Nodes on one machine (different peers, one address) share its ports.
    const auto own = ports_.find(peer.id);
    const auto there = at_.find(peer.address);
    const auto used = [&](uint16_t port) {
      return port == peer.api_port || port == peer.raft_port || (own != ports_.end() && own->second.contains(port)) ||
             (there != at_.end() && there->second.contains(port));
    };
    for (size_t i = 0; i < kPortsPerPeer && peer.brick_port_first + i <= 65535; ++i) {
      const auto port = static_cast<uint16_t>(peer.brick_port_first + i);
      if (!used(port)) return port;
    }
    return explain("Peer " + peer.name + " has no port left for another brick.");
  }

 private:
  struct Place {
    std::string path, volume;
  };
  std::map<Id, std::vector<Place>> paths_;
  std::map<Id, std::unordered_set<uint16_t>> ports_;
  std::map<std::string, std::unordered_set<uint16_t>> at_;
};

Explained<void> add_brick(const ClusterState& state, Taken& taken, Volume& volume, const Json& json) {
  const auto id = Id::parse(text(json, "id"));
  const auto owner = Id::parse(text(json, "peer"));
  if (!id || id->is_none() || !owner) return explain("A brick has an id and a peer.");
  if (volume.map.brick(*id)) return explain("A brick id was given twice.");
  const Peer* peer = state.peer(*owner);
  if (!peer) return explain("Peer " + owner->uuid() + " is not in this cluster.");
  if (peer->witness) return explain("Peer " + peer->name + " is a witness and holds no bricks.");
  dht::BrickEntry brick;
  brick.id = *id;
  brick.ordinal = static_cast<uint16_t>(volume.map.bricks.size() + 1);
  brick.node = peer->name;
  brick.host = peer->address;
  brick.path = text(json, "path");
  brick.unix_socket = json.value("unix_socket", "");
  brick.weight = json.value("weight", 100u);
  if (brick.path.size() < 2 || brick.path[0] != '/' || brick.path.size() > 1024)
    return explain("A brick's path is absolute, as in HOST:/data/brick1.");
  if (auto free = taken.check_path(*peer, brick.path); !free) return free;
  const auto port = taken.free_port(*peer);
  if (!port) return explain(port.error());
  brick.port = *port;
  taken.note(*owner, brick, volume.map.name);
  volume.owners[brick.id] = *owner;
  volume.map.bricks.push_back(std::move(brick));
  return {};
}

// Replaces the volume by a changed copy whose map has a new version.
void publish(ClusterState& state, Volume volume) {
  ++volume.map.version;
  const std::string name = volume.map.name;
  state.volumes[name] = std::make_shared<const Volume>(std::move(volume));
}

}  // namespace

// {volume, volume_id, incarnation, secret, created, bricks: [{id, peer, path, unix_socket?, weight?}]}
Explained<Json> Commands::volume_create(ClusterState& state, const Json& command) {
  const std::string name = text(command, "volume");
  if (!valid_name(name))
    return explain("\"" + name + "\" is no name for a volume: up to " + std::to_string(kNameMax) +
                   " letters, digits, '-', '_' and '.', not beginning with '-' or '.'.");
  if (state.volume(name)) return explain("Volume " + name + " already exists.");
  if (state.volumes.size() >= kVolumesMax)
    return explain("A cluster has at most " + std::to_string(kVolumesMax) + " volumes.");
  Volume volume;
  const auto id = Id::parse(text(command, "volume_id"));
  if (!id || id->is_none()) return explain("A volume has an id.");
  for (const auto& [other_name, other] : state.volumes) {
    if (other->map.volume == *id) return explain("Volume " + other_name + " has this id already.");
  }
  volume.map.volume = *id;
  volume.map.name = name;
  volume.map.incarnation = state.incarnation;
  volume.map.parent_incarnation = state.parent_incarnation;
  volume.map.version = 1;
  volume.map.started = false;
  volume.secret = text(command, "secret");
  if (volume.secret.size() != 64) return explain("A volume's secret has 64 hexadecimal digits.");
  volume.created = command.at("created").get<int64_t>();
  const Json& bricks = command.at("bricks");
  if (!bricks.is_array() || bricks.empty() || bricks.size() > kBricksPerVolumeMax)
    return explain("A volume has 1 to " + std::to_string(kBricksPerVolumeMax) + " bricks.");
  std::vector<dht::Target> targets;
  Taken taken(state);
  for (const Json& brick : bricks) {
    if (auto added = add_brick(state, taken, volume, brick); !added) return explain(added.error());
    const dht::BrickEntry& entry = volume.map.bricks.back();
    targets.push_back({entry.ordinal, entry.id, entry.weight});
  }
  volume.map.layouts.emplace_back(1, dht::HashRule::kXxh3Rendezvous1, std::move(targets));
  volume.map.root_home = volume.map.bricks.front().ordinal;
  // A map that its own reader refuses never gets into the state.
  if (auto parsed = dht::VolumeMap::parse(volume.map.to_json()); !parsed) return explain(parsed.error());
  state.volumes[name] = std::make_shared<const Volume>(std::move(volume));
  return Json{{"volume", name}, {"volume_id", id->uuid()}};
}

// {volume, force?}
Explained<Json> Commands::volume_start(ClusterState& state, const Json& command) {
  const auto volume = volume_at(state, command);
  if (!volume) return explain(volume.error());
  if ((*volume)->map.started && !flag(command, "force"))
    return explain("Volume " + (*volume)->map.name + " is already started.");
  Volume changed = **volume;
  changed.map.started = true;
  publish(state, std::move(changed));
  return Json::object();
}

// {volume, force?}
Explained<Json> Commands::volume_stop(ClusterState& state, const Json& command) {
  const auto volume = volume_at(state, command);
  if (!volume) return explain(volume.error());
  if (!(*volume)->map.started && !flag(command, "force"))
    return explain("Volume " + (*volume)->map.name + " is not started.");
  Volume changed = **volume;
  changed.map.started = false;
  publish(state, std::move(changed));
  return Json::object();
}

// {volume, volume_id?}: with the id, a volume of that name which was made anew is left alone.
Explained<Json> Commands::volume_delete(ClusterState& state, const Json& command) {
  const auto volume = volume_at(state, command);
  if (!volume) return explain(volume.error());
  const std::string& name = (*volume)->map.name;
  if (command.contains("volume_id") && text(command, "volume_id") != (*volume)->map.volume.uuid())
    return explain("Volume " + name + " is another one now than the one that was to be deleted.");
  if ((*volume)->map.started)
    return explain("Volume " + name + " is started: stop it before deleting it (voldctl volume stop " + name + ").");
  state.volumes.erase(state.volumes.find(name));
  return Json::object();
}

// {volume, options: {KEY: VALUE}}: all of them or none.
Explained<Json> Commands::volume_set(ClusterState& state, const Json& command) {
  const auto volume = volume_at(state, command);
  if (!volume) return explain(volume.error());
  Volume changed = **volume;
  const Json& options = command.at("options");
  if (!options.is_object() || options.empty()) return explain("No option was given.");
  for (const auto& [key, value] : options.items()) {
    auto canonical = check_option(key, value.get<std::string>());
    if (!canonical) return explain(canonical.error());
    changed.map.options[key] = *canonical;
  }
  publish(state, std::move(changed));
  return Json::object();
}

// {volume, keys: [KEY]}: empty: all of them.
Explained<Json> Commands::volume_reset(ClusterState& state, const Json& command) {
  const auto volume = volume_at(state, command);
  if (!volume) return explain(volume.error());
  Volume changed = **volume;
  const Json& keys = command.at("keys");
  if (keys.empty()) changed.map.options.clear();
  for (const Json& key : keys) {
    const auto name = key.get<std::string>();
    if (!known_option(name)) return explain("There is no option " + name + ".");
    changed.map.options.erase(name);
  }
  publish(state, std::move(changed));
  return Json::object();
}

// {volume, to}: mounts keep on, for they know the volume by its id.
Explained<Json> Commands::volume_rename(ClusterState& state, const Json& command) {
  const auto volume = volume_at(state, command);
  if (!volume) return explain(volume.error());
  const std::string to = text(command, "to");
  const std::string from = (*volume)->map.name;
  if (!valid_name(to)) return explain("\"" + to + "\" is no name for a volume.");
  if (state.volume(to)) return explain("Volume " + to + " already exists.");
  Volume changed = **volume;
  changed.map.name = to;
  state.volumes.erase(state.volumes.find(from));
  publish(state, std::move(changed));
  return Json::object();
}

// {volume_id, brick}: its node has made the brick's directory; from now on a directory that is missing is an
// unmounted disk, and is never made again.
Explained<Json> Commands::brick_ready(ClusterState& state, const Json& command) {
  const auto id = Id::parse(text(command, "volume_id"));
  const auto brick = Id::parse(text(command, "brick"));
  for (auto& [name, volume] : state.volumes) {
    if (!id || volume->map.volume != *id) continue;
    if (!brick || !volume->map.brick(*brick)) return explain("Volume " + name + " has no such brick.");
    if (volume->ready.contains(*brick)) return Json{{"already", true}};
    auto changed = std::make_shared<Volume>(*volume);
    changed->ready.insert(*brick);
    volume = std::move(changed);
    return Json::object();
  }
  return explain("There is no such volume any more.");
}

}  // namespace voldfs::mgmt
