#include "mgmt/brick_questions.h"

namespace voldfs::mgmt {

std::vector<BrickContact> contacts_of(const ClusterState& state, const std::string& wanted, const std::set<Id>* peers) {
  std::vector<BrickContact> contacts;
  for (const auto& [name, volume] : state.volumes) {
    if ((!wanted.empty() && wanted != "all" && wanted != name) || !volume->map.started) continue;
    for (const dht::BrickEntry& brick : volume->map.bricks) {
      if (!peers || peers->contains(volume->owners.at(brick.id))) contacts.push_back({volume->map.volume, volume->secret, brick});
    }
  }
  return contacts;
}

Json ask_by_id(const std::vector<BrickContact>& bricks, uint32_t timeout_ms) {
  const auto answers = ask_bricks(bricks, timeout_ms);
  Json by_id = Json::object();
  for (size_t i = 0; i < bricks.size(); ++i) by_id[bricks[i].brick.id.uuid()] = answers[i];
  return by_id;
}

}  // namespace voldfs::mgmt
