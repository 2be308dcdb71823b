#include "mgmt/api.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <future>

#include "mgmt/brick_path.h"
#include "mgmt/options.h"
#include "mgmt/secret.h"

namespace voldfs::mgmt {

namespace {

constexpr int kChangesMax = 4;        // at once on this node; each may need threads of other nodes to go on
constexpr int kPeerTimeoutMs = 700;
constexpr int kValidateTimeoutMs = 3000;
constexpr size_t kSocketPathMax = 108;  // sun_path, unix(7)

// Commands that a user may give. Those of the state machine that nodes give each other are not among them.
const std::set<std::string, std::less<>> kUserCommands = {
    "volume-create", "volume-start", "volume-stop", "volume-delete", "volume-set", "volume-reset", "volume-rename",
    "peer-remove",   "peer-set-address", "peer-set-role"};

HttpReply reply(const Json& json, int status = 200) { return {status, json.dump() + "\n", "application/json"}; }
HttpReply error_reply(int status, std::string sentence) { return reply({{"error", std::move(sentence)}}, status); }
HttpReply outcome(const Explained<Json>& result) { return result ? reply(*result) : error_reply(409, result.error()); }

Json refusal(std::string sentence) { return {{"ok", false}, {"error", std::move(sentence)}}; }

}  // namespace

Json public_state(const ClusterState& state) {
  Json json = state.to_json();
  json.erase("remembered");
  for (auto& [name, volume] : json["volumes"].items()) volume.erase("secret");
  return json;
}

HttpReply Api::handle(const HttpRequest& request) try {
  return request.method == "GET" ? get(request) : request.method == "POST" ? post(request) : error_reply(405, "Only GET and POST.");
} catch (const std::exception& error) {
  return error_reply(400, std::string("The request is malformed: ") + error.what());
}

Json Api::known() const {
  const Knowledge knowledge = node_.knowledge();
  const Identity me = node_.identity();
  return {{"node", me.node.uuid()}, {"name", me.name}, {"quorum", knowledge.led}, {"age_ms", knowledge.age_ms}};
}

HttpReply Api::get(const HttpRequest& request) {
  const std::string& path = request.path;
  const auto state = node_.state();
  if (path == "/healthz") return {200, "ok\n", "text/plain"};
  if (path == "/metrics") return {200, metrics(), "text/plain; version=0.0.4"};
  if (path == "/v1/state") return reply({{"known", known()}, {"state", public_state(*state)}});
  if (path == "/v1/status") return reply({{"known", known()}, {"state", public_state(*state)}, {"status", status()}});
  if (path == "/v1/peers") return reply({{"known", known()}, {"peers", public_state(*state)["peers"]}});
  if (path == "/v1/volumes") return reply({{"known", known()}, {"volumes", public_state(*state)["volumes"]}});
  if (path.starts_with("/v1/volumes/")) return volume(path.substr(12));
  if (path == "/v1/options") {
    Json options = Json::array();
    for (const OptionInfo& option : option_table())
      options.push_back({{"key", option.key}, {"default", option.default_value}, {"range", range_of(option)}, {"meaning", option.meaning}});
    return reply({{"options", std::move(options)}});
  }
  if (path == "/v1/token" && request.local)
    return reply({{"token", to_hex(node_.credentials().key)}, {"api_token", node_.credentials().token}});
  if (path == "/v1/local/ping") return reply({{"node", known()}, {"version", state->version}, {"leading", node_.leading()}});
  if (path == "/v1/local/bricks") return reply({{"bricks", local_bricks()}});
  return error_reply(404, "There is nothing at " + path + ".");
}

HttpReply Api::volume(const std::string& rest) {
  const size_t slash = rest.find('/');
  const auto found = node_.state()->volume(rest.substr(0, slash));
  if (!found) return error_reply(404, "Volume " + rest.substr(0, slash) + " does not exist.");
  if (slash == std::string::npos) return reply({{"known", known()}, {"volume", public_state(*node_.state())["volumes"][rest]}});
  if (rest.substr(slash) == "/map") return {200, found->map.to_json(), "application/json"};
  return error_reply(404, "A volume has a map, and nothing else here.");
}

HttpReply Api::post(const HttpRequest& request) {
  const std::string& path = request.path;
  const Json body = Json::parse(request.body, nullptr, false);
  if (body.is_discarded()) return error_reply(400, "The request's body is no JSON.");
  if (path == "/v1/commands") return reply(change(body));
  if (path == "/v1/peers/probe") return outcome(node_.probe(body.at("address"), body.at("port"), body.value("token", "")));
  if (path == "/v1/peers/recover") return outcome(node_.recover(body.at("lost").get<std::vector<std::string>>()));
  // Between nodes alone.
  if (!request.signed_) return error_reply(404, "There is nothing at " + path + ".");
  if (path == "/v1/local/commit") return reply(node_.commit_here(body));
  if (path == "/v1/local/probe") return outcome(node_.answer_probe(body));
  if (path == "/v1/local/renew") return outcome(node_.renew_peer(body));
  if (path == "/v1/local/validate") {
    const auto checked = check_brick_path(body.at("path"), body.value("force", false));
    return reply(checked ? Json{{"ok", true}, {"run_dir", node_.options().run_dir}} : refusal(checked.error()));
  }
  return error_reply(404, "There is nothing at " + path + ".");
}

Json Api::change(const Json& command) {
  const std::string op = command.at("op");
  if (!kUserCommands.contains(op)) return refusal("There is no command \"" + op + "\".");
  struct Slot {
    std::atomic<int>& count;
    const bool free = ++count <= kChangesMax;
    ~Slot() { --count; }
  } slot{changes_};
  if (!slot.free) return refusal("Too many changes at once on this node. Nothing was changed; try again in a moment.");
  // A retry of what has been done already is not planned anew: the brick would be in its own way.
  const auto id = Id::parse(command.at("id").get<std::string>());
  if (const auto state = node_.state(); id) {
    if (const Json* before = state->result_of(*id)) return *before;
  }
  if (op != "volume-create") return node_.commit(command);
  const auto planned = plan_create(command);
  return planned ? node_.commit(*planned) : refusal(planned.error());
}

Explained<Json> Api::plan_create(const Json& command) const {
  const auto state = node_.state();
  const bool force = command.value("force", false);
  Json planned = {{"id", command.at("id")}, {"op", "volume-create"}, {"volume", command.at("volume")},
                  {"volume_id", Id::random().uuid()}, {"secret", to_hex(random_bytes(32))},
                  {"created", static_cast<int64_t>(::time(nullptr))}, {"bricks", Json::array()}};
  std::vector<std::future<Explained<Json>>> checks;
  for (const Json& text : command.at("bricks")) {
    const auto spec = parse_brick(text.get<std::string>());
    if (!spec) return explain(spec.error());
    const Peer* peer = state->peer_named(spec->host);
    if (!peer) return explain("Host " + spec->host + " is not a peer of this cluster: voldctl peer probe " + spec->host + ".");
    const Id brick = Id::random();
    planned["bricks"].push_back({{"id", brick.uuid()}, {"peer", peer->id.uuid()}, {"path", spec->path}});
    checks.push_back(std::async(std::launch::async, [this, peer = *peer, path = spec->path, force]() -> Explained<Json> {
      const auto answer = node_.call_peer(peer, "POST", "/v1/local/validate", {{"path", path}, {"force", force}}, kValidateTimeoutMs);
      if (!answer) return explain("Peer " + peer.name + ", which is to hold " + path + ", does not answer. Nothing was changed.");
      if (!answer->value("ok", false)) return explain("On " + peer.name + ": " + answer->value("error", "refused."));
      return *answer;
    }));
  }
  std::string refused;
  for (size_t i = 0; i < checks.size(); ++i) {
    const auto answer = checks[i].get();
    if (!answer) refused += (refused.empty() ? "" : "\n") + answer.error();
    if (!answer) continue;
    // For mounts on the brick's own host.
    const std::string socket = answer->value("run_dir", "/run/voldfs") + "/" + planned["bricks"][i]["id"].get<std::string>() + ".socket";
    if (socket.size() < kSocketPathMax) planned["bricks"][i]["unix_socket"] = socket;
  }
  if (!refused.empty()) return explain(refused);
  // Refused before anything is written, when that can be known; the log's own check decides.
  ClusterState trial = *state;
  if (const Json tried = trial.apply(planned); !tried.value("ok", false)) return explain(tried.value("error", ""));
  return planned;
}

Json Api::local_bricks() const {
  const Id me = node_.identity().node;
  const auto troubles = reconciler_.troubles();
  Json bricks = Json::object();
  for (const auto& [name, volume] : node_.state()->volumes) {
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (volume->owners.at(brick.id) != me) continue;
      Json entry = {{"online", false}};
      if (const auto pid = brick_server(brick.path)) {
        entry["online"] = true;
        entry["pid"] = *pid;
        struct stat st{};
        if (::stat(("/proc/" + std::to_string(*pid)).c_str(), &st) == 0) entry["since"] = static_cast<int64_t>(st.st_ctim.tv_sec);
      }
      struct statvfs space{};
      if (::statvfs(brick.path.c_str(), &space) == 0) {
        entry["total_bytes"] = uint64_t{space.f_blocks} * space.f_frsize;
        entry["free_bytes"] = uint64_t{space.f_bavail} * space.f_frsize;
        entry["total_inodes"] = uint64_t{space.f_files};
        entry["free_inodes"] = uint64_t{space.f_favail};
      }
      const auto trouble = troubles.find(brick.id);
      if (trouble != troubles.end()) entry["trouble"] = trouble->second;
      bricks[brick.id.uuid()] = std::move(entry);
    }
  }
  return bricks;
}

// Every peer is asked at once; one that does not answer is named, and its bricks are not known.
Json Api::status() const {
  const auto state = node_.state();
  const Identity me = node_.identity();
  std::vector<std::pair<Peer, std::future<Explained<Json>>>> answers;
  for (const auto& [id, peer] : state->peers) {
    if (id == me.node) continue;
    answers.emplace_back(peer, std::async(std::launch::async, [this, peer = peer] {
      return node_.call_peer(peer, "GET", "/v1/local/bricks", nullptr, kPeerTimeoutMs);
    }));
  }
  Json bricks = local_bricks(), peers = Json::object(), missing = Json::array();
  peers[me.node.uuid()] = {{"connected", true}};
  for (auto& [peer, future] : answers) {
    const auto answer = future.get();
    peers[peer.id.uuid()] = {{"connected", answer.has_value()}};
    if (answer) bricks.update(answer->value("bricks", Json::object()));
    else missing.push_back(peer.name);
  }
  return {{"bricks", std::move(bricks)}, {"peers", std::move(peers)}, {"missing", std::move(missing)}};
}

std::string Api::metrics() const {
  const auto state = node_.state();
  const ConsensusStatus log = node_.log_status();
  const Json bricks = local_bricks();
  size_t online = 0;
  for (const auto& [id, brick] : bricks.items()) online += brick.value("online", false);
  std::string text;
  const auto gauge = [&](const char* name, const char* help, uint64_t value) {
    text += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " gauge\n" + name + " " + std::to_string(value) + "\n";
  };
  gauge("voldfs_mgmt_quorum", "Whether a majority of the cluster is in contact.", log.leader != 0);
  gauge("voldfs_mgmt_leading", "Whether this node leads the cluster.", log.leading);
  gauge("voldfs_mgmt_log_last_index", "Last entry of the log.", log.last_index);
  gauge("voldfs_mgmt_log_applied_index", "Last entry applied to the state.", log.applied);
  gauge("voldfs_mgmt_state_version", "Version of the cluster state.", state->version);
  gauge("voldfs_mgmt_peers", "Peers in the cluster.", state->peers.size());
  gauge("voldfs_mgmt_volumes", "Volumes in the cluster.", state->volumes.size());
  gauge("voldfs_mgmt_bricks", "Bricks of this node.", bricks.size());
  gauge("voldfs_mgmt_bricks_online", "Bricks of this node that are being served.", online);
  return text;
}

}  // namespace voldfs::mgmt
