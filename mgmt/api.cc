#include "mgmt/api.h"

#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include <future>

#include "brick/base/clock.h"
#include "mgmt/brick_link.h"
#include "mgmt/brick_path.h"
#include "mgmt/brick_questions.h"
#include "mgmt/fault_point.h"
#include "mgmt/metrics.h"
#include "mgmt/options.h"
#include "mgmt/secret.h"

namespace voldfs::mgmt {

namespace {

constexpr int kChangesMax = 4;        // at once on this node; each may need threads of other nodes to go on
// A status takes a second at most, and uses it: a brick of a busy machine is not down.
constexpr int kStatusMs = 850, kPeerTimeoutMs = 800;
constexpr uint32_t kBrickTimeoutMs = 650;
constexpr auto kPeerSilent = std::chrono::milliseconds(250);  // after which a peer's bricks are asked themselves
constexpr int kValidateTimeoutMs = 3000;
constexpr int kMetricsTimeoutMs = 500;
constexpr size_t kSocketPathMax = 108;  // sun_path, unix(7)

// Commands that a user may give. Those of the state machine that nodes give each other are not among them.
const std::set<std::string, std::less<>> kUserCommands = {
    "volume-create", "volume-start", "volume-stop", "volume-delete", "volume-set", "volume-reset", "volume-rename",
    "peer-remove",   "peer-set-address", "peer-set-role", "webhook-add", "webhook-remove"};

Json refusal(std::string sentence) { return {{"ok", false}, {"error", std::move(sentence)}}; }

}  // namespace

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
  fault_point("change.begin");
  if (op == "peer-set-address") return set_address(command);
  if (op != "volume-create") return node_.commit(command);
  const auto planned = plan_create(command);
  fault_point("create.planned");
  return planned ? node_.commit(*planned) : refusal(planned.error());
}

// The node is moved next: whoever has not heard of it by then does not find it any more, and with two nodes nobody could tell.
// The peer itself is asked where it still is.
Json Api::set_address(const Json& command) {
  const auto before = node_.state();
  Json result = node_.commit(command);
  if (!result.value("ok", false)) return result;
  const auto id = Id::parse(command.value("peer", ""));
  const Peer* moving = id ? before->peer(*id) : nullptr;
  result["behind"] = node_.await_peers(result.value("version", uint64_t{0}), moving);
  return result;
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

// Each brick of this node is asked itself; what is known of one that does not answer is told all the same.
Json Api::local_bricks(const Only& only) const {
  const Id me = node_.identity().node;
  const auto troubles = reconciler_.troubles();
  const HeldLocks locks = HeldLocks::look();
  std::vector<BrickContact> served;
  Json bricks = Json::object();
  const auto state = node_.state();
  for (const auto& [name, volume] : state->volumes) {
    if (only && *only != name) continue;
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (volume->owners.at(brick.id) != me) continue;
      Json entry = {{"online", false}};
      if (const auto pid = locks.brick_server(brick.path)) {
        entry["pid"] = *pid;
        served.push_back({volume->map.volume, volume->secret, brick});
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
  const auto answers = ask_bricks(served, kBrickTimeoutMs);
  for (size_t i = 0; i < served.size(); ++i) {
    Json& entry = bricks[served[i].brick.id.uuid()];
    entry.update(answers[i]);
    if (!entry.value("online", false) && !entry.contains("trouble"))
      entry["trouble"] = "Process " + std::to_string(entry.value("pid", 0)) + " serves the brick " + served[i].brick.path + " and has not answered in time: it is starting, or the machine is busy, or it hangs.";
  }
  return bricks;
}

// A peer and its bricks. Of one that is silent the bricks may be alive all the same: they are asked themselves, without waiting for
// the peer to be given up.
Api::PeerStatus Api::peer_status(const ClusterState& state, const Peer& peer, const Only& only) const {
  const int64_t until = boottime_ms() + kStatusMs;
  auto called = std::async(std::launch::async, [&] {
    return node_.call_peer(peer, "GET", "/v1/local/bricks" + (only ? "?volume=" + *only : ""), nullptr, kPeerTimeoutMs);
  });
  std::optional<Explained<Json>> answer;
  if (called.wait_for(kPeerSilent) == std::future_status::ready) answer = called.get();
  Json bricks = Json::object();
  if ((!answer || !*answer) && !(only && only->empty())) {
    const std::set<Id> self{peer.id};
    bricks = ask_by_id(contacts_of(state, only.value_or("all"), &self), static_cast<uint32_t>(std::max<int64_t>(until - boottime_ms(), 1)));
  }
  if (!answer) answer = called.get();
  if (!*answer) return {false, std::move(bricks)};
  const Json its_own = (*answer)->value("bricks", Json::object());
  for (const auto& [id, told] : its_own.items()) {
    const bool online = bricks.contains(id) && bricks[id].value("online", false);
    if (!online || told.value("online", false)) bricks[id] = told;
  }
  return {true, std::move(bricks)};
}

// Every peer is asked at once; one that does not answer is named.
Json Api::status(const Only& only) const {
  const auto state = node_.state();
  const Identity me = node_.identity();
  std::vector<std::pair<const Peer*, std::future<PeerStatus>>> answers;
  for (const auto& [id, peer] : state->peers) {
    if (id != me.node) answers.emplace_back(&peer, std::async(std::launch::async, [&, peer = &peer] { return peer_status(*state, *peer, only); }));
  }
  Json bricks = local_bricks(only), peers = Json::object(), missing = Json::array();
  peers[me.node.uuid()] = {{"connected", true}};
  for (auto& [peer, future] : answers) {
    PeerStatus answer = future.get();
    peers[peer->id.uuid()] = {{"connected", answer.connected}};
    if (!answer.connected) missing.push_back(peer->name);
    bricks.update(answer.bricks);
  }
  return {{"bricks", std::move(bricks)}, {"peers", std::move(peers)}, {"missing", std::move(missing)}};
}

std::string Api::metrics() const {
  const auto state = node_.state();
  const ConsensusStatus log = node_.log_status();
  const Json bricks = local_bricks(std::nullopt);
  size_t online = 0;
  for (const auto& [id, brick] : bricks.items()) online += brick.value("online", false);
  std::string text;
  const auto gauge = [&](const char* name, const char* help, auto value) {
    text += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " gauge\n" + name + " " + std::to_string(value) + "\n";
  };
  gauge("voldfs_mgmt_quorum", "Whether a majority of the cluster is in contact.", log.leader != 0);
  gauge("voldfs_mgmt_leading", "Whether this node leads the cluster.", log.leading);
  gauge("voldfs_mgmt_log_last_index", "Last entry of the log.", log.last_index);
  gauge("voldfs_mgmt_log_applied_index", "Last entry applied to the state.", log.applied);
  gauge("voldfs_mgmt_snapshots", "Snapshots of the state that this daemon has made.", log.snapshots);
  gauge("voldfs_mgmt_snapshot_seconds", "How long the last of them took, from the state to the disk.", static_cast<double>(log.snapshot_us) / 1e6);
  gauge("voldfs_mgmt_state_version", "Version of the cluster state.", state->version);
  gauge("voldfs_mgmt_peers", "Peers in the cluster.", state->peers.size());
  gauge("voldfs_mgmt_volumes", "Volumes in the cluster.", state->volumes.size());
  gauge("voldfs_mgmt_bricks", "Bricks of this node.", bricks.size());
  gauge("voldfs_mgmt_bricks_online", "Bricks of this node that are being served.", online);
  std::vector<std::string> texts = local_metrics(kMetricsTimeoutMs);
  texts.insert(texts.begin(), text);
  return merge_expositions(texts);
}

}  // namespace voldfs::mgmt
