#include "brick/store/map_document.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "brick/wire/types.h"

namespace voldfs::store {
namespace {

using nlohmann::json;

Id id_at(const json& object, const char* key) {
  auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  auto id = Id::parse(found->get<std::string>());
  if (!id) throw std::invalid_argument(std::string("\"") + key + "\" is not an id");
  return *id;
}

MapDocument::Brick brick_of(const json& entry) {
  MapDocument::Brick brick;
  brick.id = id_at(entry, "id");
  const auto ordinal = entry.at("ordinal").get<uint32_t>();
  if (ordinal == 0 || ordinal > wire::kOrdinalMax) throw std::invalid_argument("an ordinal is not within 1 to 1023");
  brick.ordinal = static_cast<uint16_t>(ordinal);
  brick.path = entry.value("path", "");
  return brick;
}

MapDocument document_of(const json& root) {
  MapDocument map;
  const json& volume = root.at("volume");
  map.volume = id_at(volume, "id");
  map.name = volume.value("name", "");
  map.incarnation = id_at(root, "incarnation");
  map.parent_incarnation = id_at(root, "parent_incarnation");
  map.version = root.at("version").get<uint64_t>();
  map.root_home = root.at("root_home").get<uint16_t>();
  for (const json& entry : root.at("bricks")) map.bricks.push_back(brick_of(entry));
  std::sort(map.bricks.begin(), map.bricks.end(), [](const auto& a, const auto& b) { return a.ordinal < b.ordinal; });
  if (auto layouts = root.find("layouts"); layouts != root.end()) {
    for (const json& layout : *layouts) map.epoch = std::max(map.epoch, layout.value("epoch", uint32_t{1}));
  }
  if (auto options = root.find("options"); options != root.end()) {
    for (const auto& [key, value] : options->items()) map.options[key] = value.get<std::string>();
  }
  if (map.volume.is_none()) throw std::invalid_argument("there is no volume id");
  return map;
}

}  // namespace

Explained<MapDocument> MapDocument::parse(std::string_view text) {
  try {
    MapDocument map = document_of(json::parse(text));
    map.text = text;
    return map;
  } catch (const std::exception& error) {
    return explain(std::string("The volume map cannot be understood: ") + error.what());
  }
}

const MapDocument::Brick* MapDocument::brick(const Id& id) const {
  auto found = std::find_if(bricks.begin(), bricks.end(), [&](const Brick& brick) { return brick.id == id; });
  return found == bricks.end() ? nullptr : &*found;
}

const MapDocument::Brick* MapDocument::brick_at(const std::string& path) const {
  auto found = std::find_if(bricks.begin(), bricks.end(), [&](const Brick& brick) { return brick.path == path; });
  return found == bricks.end() ? nullptr : &*found;
}

MapChange compare(const MapDocument& have, const MapDocument& found) {
  if (found.volume != have.volume) return MapChange::kOtherVolume;
  if (found.incarnation == have.incarnation) {
    if (found.version == have.version) return MapChange::kSame;
    return found.version > have.version ? MapChange::kNewer : MapChange::kRefused;
  }
  const bool descends = !have.incarnation.is_none() && found.parent_incarnation == have.incarnation;
  return descends ? MapChange::kNewer : MapChange::kRefused;
}

}  // namespace voldfs::store
