#include <cstdint>
#include <cstdlib>
#include <string>

#include "mgmt/brick_path.h"
#include "mgmt/cluster_state.h"

// What a stranger's backup, a damaged snapshot or a command of an unknown version may hold. The first byte says what the rest is:
// a snapshot (s), a command to a new cluster (n), a command to one that has a peer and a volume (c), a brick (b).
// Nothing may be thrown or hang; a state that was taken is written as it was read, and two replicas answer alike.

namespace {

using voldfs::mgmt::ClusterState;
using voldfs::mgmt::Json;

void expect(bool holds) {
  if (!holds) std::abort();
}

ClusterState made() {
  ClusterState state;
  const Json peer = {{"id", "00000000-0000-0000-0000-000000000001"}, {"name", "a"}, {"address", "127.0.0.2"}, {"api_port", 1}, {"raft_port", 2},
                     {"brick_port_first", 24200}, {"voter", 7}, {"role", "voter"}, {"witness", false}};
  expect(state.apply({{"id", "00000000-0000-0000-0000-0000000000f1"}, {"op", "cluster-init"}, {"cluster", "00000000-0000-0000-0000-000000000002"},
                      {"incarnation", "00000000-0000-0000-0000-000000000003"}, {"peer", peer}}).at("ok").get<bool>());
  expect(state.apply({{"id", "00000000-0000-0000-0000-0000000000f2"}, {"op", "volume-create"}, {"volume", "v"}, {"volume_id", "00000000-0000-0000-0000-000000000004"},
                      {"secret", std::string(64, 'a')}, {"created", 1},
                      {"bricks", {{{"id", "00000000-0000-0000-0000-000000000005"}, {"peer", "00000000-0000-0000-0000-000000000001"}, {"path", "/b"}}}}}).at("ok").get<bool>());
  return state;
}

void command(ClusterState state, std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  ClusterState replica = state;
  const std::string before = state.snapshot();
  const Json result = state.apply(json);
  expect(result == replica.apply(json));
  expect(state.snapshot() == replica.snapshot());
  if (result.at("ok").get<bool>()) {
    const auto restored = ClusterState::restore(state.snapshot());  // what was taken can be read again
    expect(restored && *restored == state);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 's':
      if (const auto state = ClusterState::restore(rest)) {
        const auto again = ClusterState::restore(state->snapshot());
        expect(again && *again == *state);
        // What readers are told is what is there, without secrets.
        const Json shown = Json::parse(state->public_text(), nullptr, false), whole = state->to_json();
        expect(shown.is_object() && shown.at("volumes").size() == whole.at("volumes").size());
        for (const auto& [name, volume] : shown.at("volumes").items()) expect(!volume.contains("secret") && volume.at("started") == whole.at("volumes").at(name).at("started"));
      }
      break;
    case 'n': command(ClusterState(), rest); break;
    case 'c': command(made(), rest); break;
    case 'b':
      if (const auto brick = voldfs::mgmt::parse_brick(rest)) expect(brick->path.size() > 1 && brick->path[0] == '/' && !brick->host.empty());
      break;
  }
  return 0;
}
