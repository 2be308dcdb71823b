#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <chrono>
#include <cstring>
#include <future>

#include "brick/base/clock.h"
#include "mgmt/api.h"
#include "mgmt/brick_questions.h"
#include "mgmt/examine.h"

// Answers that need the other nodes, or the bricks themselves: events, clients, doctor, logs.

namespace voldfs::mgmt {

namespace {

constexpr int kPeerTimeoutMs = 700;
constexpr int kDoctorTimeoutMs = 5000;  // it looks at disks
constexpr uint32_t kAskBricksMs = 800;
constexpr int64_t kClockWarningMs = 1000, kClockErrorMs = 10'000;

int64_t wall_clock_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string query_of(const HttpRequest& request, const char* key) {
  const auto found = request.query.find(key);
  return found == request.query.end() ? "" : found->second;
}

// Asks every other peer at once. {name: answer}; null: it does not answer.
template <class Call>
std::map<std::string, Json> ask_peers(const ClusterState& state, const Id& me, Call call) {
  std::vector<std::pair<std::string, std::future<Explained<Json>>>> asked;
  for (const auto& [id, peer] : state.peers) {
    if (id != me) asked.emplace_back(peer.name, std::async(std::launch::async, [&call, peer = peer] { return call(peer); }));
  }
  std::map<std::string, Json> answers;
  for (auto& [name, future] : asked) {
    auto answer = future.get();
    answers[name] = answer ? std::move(*answer) : Json();
  }
  return answers;
}

}  // namespace

Json Api::events(const HttpRequest& request) const {
  const std::string after = query_of(request, "after"), wait = query_of(request, "wait_ms");
  return events_.after(query_of(request, "stream"), after.empty() ? 0 : std::stoull(after), wait.empty() ? 0 : std::stoi(wait));
}

Json Api::clients(const std::string& volume) const {
  const auto state = node_.state();
  return {{"known", known()}, {"bricks", ask_by_id(contacts_of(*state, volume), kAskBricksMs)}};
}

Json Api::local_doctor() const {
  const auto state = node_.state();
  const std::string snapshot = state->snapshot();
  ExamineOptions options;
  options.state_dir = node_.options().state_dir;
  options.conf_dir = node_.options().conf_dir;
  options.node = node_.identity().node;
  options.address = node_.options().address;
  options.troubles = reconciler_.troubles();
  return {{"name", node_.identity().name},
          {"version", version_},
          {"state_version", state->version},
          // As a text: a number of 64 bits is more than some readers take.
          {"state_hash", std::to_string(XXH3_64bits(snapshot.data(), snapshot.size()))},
          {"clock_ms", wall_clock_ms()},
          {"findings", examine_node(*state, options)}};
}

// Every node looks at itself; what only shows between nodes is found here.
Json Api::doctor() const {
  const auto state = node_.state();
  Json nodes = Json::object(), findings = Json::array();
  nodes[node_.identity().name] = local_doctor();
  auto answers = ask_peers(*state, node_.identity().node, [this](const Peer& peer) -> Explained<Json> {
    const int64_t asked = wall_clock_ms(), begun = boottime_ms();
    auto answer = node_.call_peer(peer, "GET", "/v1/local/doctor", nullptr, kDoctorTimeoutMs);
    // Its clock, against the middle of the time that the answer took.
    if (answer) (*answer)["skew_ms"] = answer->value("clock_ms", int64_t{0}) - asked - (boottime_ms() - begun) / 2;
    return answer;
  });
  for (const auto& [id, peer] : state->peers) {
    const auto answer = answers.find(peer.name);
    if (answer == answers.end()) continue;
    if (answer->second.is_null()) {
      const bool lost = state->retired.contains(peer.voter);
      findings.push_back(finding("error", "peers", "Peer " + peer.name + " (" + peer.address + ":" + std::to_string(peer.api_port) + ") does not answer" + (lost ? "; it was given up as lost." : "."),
                                 lost ? "To put another machine in its place: voldctl peer probe ADDRESS --replace=" + peer.name : "Start voldmgmt there (systemctl start voldmgmt), and look whether its ports " + std::to_string(peer.api_port) + " and " + std::to_string(peer.raft_port) + " are let through."));
      continue;
    }
    nodes[peer.name] = answer->second;
    const int64_t skew = answer->second.value("skew_ms", int64_t{0}), size = skew < 0 ? -skew : skew;
    if (size >= kClockWarningMs)
      findings.push_back(finding(size >= kClockErrorMs ? "error" : "warning", "clocks", "The clock of " + peer.name + " is " + std::to_string(size / 1000) + "." + std::to_string(size % 1000 / 100) + " s " + (skew < 0 ? "behind" : "ahead of") + " this node's.",
                                 "Times of files come out wrong. Run a time service on all nodes (chrony, systemd-timesyncd)."));
    if (answer->second.value("version", "") != version_)
      findings.push_back(finding("warning", "versions", "Peer " + peer.name + " runs voldfs " + answer->second.value("version", "?") + ", and this node " + version_ + ".", "Bring all nodes to the same version, one after another."));
    if (answer->second.value("state_version", uint64_t{0}) == state->version && answer->second.value("state_hash", "") != nodes[node_.identity().name].value("state_hash", ""))
      findings.push_back(finding("error", "state", "Peer " + peer.name + " has another state than this node, though of the same version.", "This must not happen. Keep both nodes' state directories for whoever looks into it; then stop voldmgmt on one, move its log directory away, and start it: it takes the state from the others."));
  }
  if (!node_.knowledge().led)
    findings.push_back(finding("error", "state", "This node has no contact with a majority of the cluster: nothing can be changed, and what it knows may be old.", "Bring back the peers that do not answer; if they are lost for good: voldctl peer recover."));
  for (auto& [name, node] : nodes.items()) {
    for (Json& each : node["findings"]) {
      each["node"] = name;
      findings.push_back(std::move(each));
    }
    node.erase("findings");
  }
  for (Json& each : findings) each.emplace("node", node_.identity().name);
  return {{"known", known()}, {"nodes", std::move(nodes)}, {"findings", std::move(findings)}};
}

// {volume, brick?}: every node that holds one of the bricks rotates its logs.
Json Api::rotate_logs(const Json& request) const {
  const auto state = node_.state();
  const std::string name = request.at("volume");
  const VolumePtr volume = state->volume(name);
  if (!volume) return {{"ok", false}, {"error", "Volume " + name + " does not exist."}};
  Json bricks = Json::array();
  for (const dht::BrickEntry& brick : volume->map.bricks) {
    const std::string wanted = request.value("brick", "");
    if (wanted.empty() || wanted == brick.node + ":" + brick.path || wanted == brick.host + ":" + brick.path) bricks.push_back(brick.id.uuid());
  }
  if (bricks.empty()) return {{"ok", false}, {"error", "Volume " + name + " has no brick " + request.value("brick", "") + "."}};
  const Json message = {{"bricks", bricks}};
  Json rotated = local_rotate(message)["rotated"], missing = Json::array(), failed = Json::array();
  const auto answers = ask_peers(*state, node_.identity().node, [&](const Peer& peer) {
    return node_.call_peer(peer, "POST", "/v1/local/rotate", message, kPeerTimeoutMs);
  });
  for (const auto& [peer, answer] : answers) {
    if (answer.is_null()) missing.push_back(peer);
    else rotated.update(answer.value("rotated", Json::object()));
  }
  for (const auto& [brick, where] : rotated.items()) {
    if (where.is_object()) failed.push_back(where.value("error", ""));
  }
  return {{"ok", failed.empty() && missing.empty()}, {"rotated", std::move(rotated)}, {"missing", std::move(missing)}, {"failed", std::move(failed)}};
}

Json Api::local_rotate(const Json& request) const {
  Json rotated = Json::object();
  const Id me = node_.identity().node;
  for (const auto& [name, volume] : node_.state()->volumes) {
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (volume->owners.at(brick.id) != me) continue;
      for (const Json& wanted : request.at("bricks")) {
        if (wanted != brick.id.uuid()) continue;
        const auto where = reconciler_.rotate_log(brick.id, brick.path);
        rotated[brick.id.uuid()] = where ? Json(*where) : Json{{"error", node_.identity().name + ": " + where.error()}};
      }
    }
  }
  return {{"rotated", std::move(rotated)}};
}

}  // namespace voldfs::mgmt
