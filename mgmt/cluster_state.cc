#include "mgmt/cluster_state.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

#include "mgmt/cluster_commands.h"

namespace voldfs::mgmt {

bool valid_name(std::string_view name) {
  if (name.empty() || name.size() > kNameMax || name == "all" || name == "help") return false;
  if (name.front() == '-' || name.front() == '.' || name.back() == '.') return false;
  return std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

Json ClusterState::apply(const Json& command) {
  const auto refused = [](std::string sentence) {
    return Json{{"ok", false}, {"error", std::move(sentence)}};
  };
  if (!command.is_object()) return refused("A command is a JSON object.");
  const auto id_text = command.find("id");
  const auto id = id_text != command.end() && id_text->is_string()
                      ? Id::parse(id_text->get_ref<const std::string&>())
                      : std::nullopt;
  if (!id || id->is_none()) return refused("A command carries an id (a UUID), so that it can be tried again.");
  if (const Json* before = result_of(*id)) return *before;

  Explained<Json> outcome = Commands::run(*this, command);
  Json result = outcome ? std::move(*outcome) : refused(std::move(outcome.error()));
  if (outcome) {
    result["ok"] = true;
    result["version"] = ++version;
  }
  remembered_.push_back({*id, std::make_shared<const Json>(result)});
  while (remembered_.size() > kRememberedMax) remembered_.pop_front();
  return result;
}

const Json* ClusterState::result_of(const Id& command) const {
  // Retries follow closely: from the newest back.
  const auto found = std::find_if(remembered_.rbegin(), remembered_.rend(),
                                  [&](const Remembered& entry) { return entry.command == command; });
  return found == remembered_.rend() ? nullptr : found->result.get();
}

const Peer* ClusterState::peer(const Id& id) const {
  const auto found = peers.find(id);
  return found == peers.end() ? nullptr : &found->second;
}

const Peer* ClusterState::peer_of_voter(uint64_t voter) const {
  for (const auto& [id, peer] : peers) {
    if (peer.voter == voter) return &peer;
  }
  return nullptr;
}

const Peer* ClusterState::peer_named(std::string_view text) const {
  for (const auto& [id, peer] : peers) {
    if (peer.name == text || peer.address == text || peer.id.uuid() == text) return &peer;
  }
  return nullptr;
}

VolumePtr ClusterState::volume(std::string_view name) const {
  const auto found = volumes.find(name);
  return found == volumes.end() ? nullptr : found->second;
}

Json peer_to_json(const Peer& peer) {
  return {{"id", peer.id.uuid()},
          {"name", peer.name},
          {"address", peer.address},
          {"api_port", peer.api_port},
          {"raft_port", peer.raft_port},
          {"brick_port_first", peer.brick_port_first},
          {"voter", peer.voter},
          {"role", peer.role == PeerRole::kVoter ? "voter" : "standby"},
          {"witness", peer.witness}};
}

static Id id_of(const Json& json, const char* key) {
  const auto id = Id::parse(json.at(key).get_ref<const std::string&>());
  if (!id) throw std::invalid_argument(std::string(key) + " is no UUID");
  return *id;
}

static uint16_t port_of(const Json& json, const char* key) {
  const auto port = json.at(key).get<int64_t>();
  if (port < 1 || port > 65535) throw std::invalid_argument(std::string(key) + " is no port");
  return static_cast<uint16_t>(port);
}

Explained<Peer> peer_from_json(const Json& json) try {
  Peer peer;
  peer.id = id_of(json, "id");
  peer.name = json.at("name").get<std::string>();
  peer.address = json.at("address").get<std::string>();
  peer.api_port = port_of(json, "api_port");
  peer.raft_port = port_of(json, "raft_port");
  peer.brick_port_first = port_of(json, "brick_port_first");
  peer.voter = json.at("voter").get<uint64_t>();
  peer.role = json.at("role").get<std::string>() == "standby" ? PeerRole::kStandby : PeerRole::kVoter;
  peer.witness = json.at("witness").get<bool>();
  if (!valid_name(peer.name)) return explain("\"" + peer.name + "\" is no name for a node.");
  // It gets into the maps of volumes, which take nothing else: a state with another one could not be read again.
  unsigned char parsed[sizeof(in6_addr)];
  if (::inet_pton(AF_INET, peer.address.c_str(), parsed) != 1 && ::inet_pton(AF_INET6, peer.address.c_str(), parsed) != 1)
    return explain("\"" + peer.address + "\" is no address literal, as 192.0.2.1 or 2001:db8::1.");
  if (peer.voter == 0) return explain("A peer has a voter number.");
  return peer;
} catch (const std::exception& error) {
  return explain(std::string("This describes no peer: ") + error.what());
}

static Json volume_to_json(const Volume& volume) {
  Json owners = Json::object();
  for (const auto& [brick, peer] : volume.owners) owners[brick.uuid()] = peer.uuid();
  Json ready = Json::array();
  for (const Id& brick : volume.ready) ready.push_back(brick.uuid());
  return {{"map", Json::parse(volume.map.to_json())},
          {"started", volume.map.started},
          {"secret", volume.secret},
          {"owners", std::move(owners)},
          {"ready", std::move(ready)},
          {"created", volume.created}};
}

static Explained<VolumePtr> volume_from_json(const Json& json) {
  auto volume = std::make_shared<Volume>();
  auto map = dht::VolumeMap::parse(json.at("map").dump());
  if (!map) return explain(map.error());
  volume->map = std::move(*map);
  volume->map.started = json.at("started").get<bool>();
  volume->secret = json.at("secret").get<std::string>();
  for (const auto& [brick, peer] : json.at("owners").items()) {
    const auto brick_id = Id::parse(brick);
    const auto peer_id = Id::parse(peer.get_ref<const std::string&>());
    if (!brick_id || !peer_id) return explain("A brick's owner is no UUID.");
    volume->owners[*brick_id] = *peer_id;
  }
  for (const Json& brick : json.at("ready")) {
    const auto id = Id::parse(brick.get_ref<const std::string&>());
    if (!id) return explain("A brick's id is no UUID.");
    volume->ready.insert(*id);
  }
  volume->created = json.at("created").get<int64_t>();
  return VolumePtr(std::move(volume));
}

Json ClusterState::head() const {
  Json json = {{"format", kStateFormat},
               {"cluster", cluster.uuid()},
               {"incarnation", incarnation.uuid()},
               {"parent_incarnation", parent_incarnation.uuid()},
               {"version", version},
               {"peers", Json::array()},
               {"volumes", nullptr},
               {"retired", retired},
               {"webhooks", webhooks}};
  for (const auto& [id, peer] : peers) json["peers"].push_back(peer_to_json(peer));
  return json;
}

namespace {

const std::string& text_of(const Volume& volume) {
  return volume.text.get([&] { return volume_to_json(volume).dump(); });
}

// Its keys are sorted, and inside a string a quote has a backslash before it: this is the secret, and nothing else is.
std::string without_secret(std::string text) {
  static constexpr char kKey[] = "\"secret\":\"";
  const size_t at = text.rfind(kKey);
  size_t end = at + sizeof kKey - 1;
  while (text[end] != '"') end += text[end] == '\\' ? 2 : 1;
  return text.erase(at, end + 2 - at);  // with the comma: a later key follows
}

// The document with its volumes' texts in the place of the null that stands for them.
std::string with_volumes(const Json& head, const std::string& volumes) {
  static constexpr char kPlace[] = "\"volumes\":null,\"webhooks\":[";
  std::string text = head.dump();
  return text.replace(text.rfind(kPlace) + 10, 4, "{" + volumes + "}");
}

}  // namespace

std::string ClusterState::snapshot() const {
  Json json = head();
  Json& results = json["remembered"] = Json::array();
  for (const Remembered& entry : remembered_) results.push_back({{"command", entry.command.uuid()}, {"result", *entry.result}});
  std::string texts;
  for (const auto& [name, volume] : volumes) texts += (texts.empty() ? "" : ",") + Json(name).dump() + ":" + text_of(*volume);
  return with_volumes(json, texts);
}

std::string ClusterState::public_text(const std::optional<std::string>& only) const {
  std::string texts;
  for (const auto& [name, volume] : volumes) {
    if (!only || *only == name) texts += (texts.empty() ? "" : ",") + Json(name).dump() + ":" + without_secret(text_of(*volume));
  }
  return with_volumes(head(), texts);
}

Json ClusterState::to_json() const { return Json::parse(snapshot()); }

Explained<ClusterState> ClusterState::from_json(const Json& json) try {
  const auto format = json.at("format").get<uint32_t>();
  if (format != kStateFormat) {
    return explain("The cluster state has format " + std::to_string(format) + ", and this program knows " +
                   std::to_string(kStateFormat) + ": use the version of voldfs that wrote it.");
  }
  ClusterState state;
  state.cluster = id_of(json, "cluster");
  state.incarnation = id_of(json, "incarnation");
  state.parent_incarnation = id_of(json, "parent_incarnation");
  state.version = json.at("version").get<uint64_t>();
  state.retired = json.at("retired").get<std::set<uint64_t>>();
  state.webhooks = json.value("webhooks", std::set<std::string>());
  for (const Json& entry : json.at("peers")) {
    auto peer = peer_from_json(entry);
    if (!peer) return explain(peer.error());
    state.peers[peer->id] = *peer;
  }
  for (const auto& [name, entry] : json.at("volumes").items()) {
    auto volume = volume_from_json(entry);
    if (!volume) return explain("Volume " + name + ": " + volume.error());
    state.volumes[name] = std::move(*volume);
  }
  for (const Json& entry : json.at("remembered")) {
    state.remembered_.push_back({id_of(entry, "command"), std::make_shared<const Json>(entry.at("result"))});
  }
  return state;
} catch (const std::exception& error) {
  return explain(std::string("This is no cluster state: ") + error.what());
}

Explained<ClusterState> ClusterState::restore(std::string_view snapshot) {
  const Json json = Json::parse(snapshot, nullptr, false);
  if (json.is_discarded()) return explain("The snapshot of the cluster state is no JSON.");
  return from_json(json);
}

}  // namespace voldfs::mgmt
