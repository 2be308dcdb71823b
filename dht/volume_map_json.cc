#include <arpa/inet.h>
#include <openssl/sha.h>
#include <sys/un.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "brick/wire/types.h"
#include "dht/volume_map.h"

// The document of a volume map (dht/README.md, "The volume map"): what is read is checked until it can be used
// without a further check.
namespace voldfs::dht {
namespace {

using nlohmann::json;

constexpr uint64_t kFormat = 1;
constexpr size_t kDocumentMax = wire::kDataMax;    // it travels in one payload
constexpr int kDepthMax = 16;                      // of what is nested in it, with room for what newer ones may have
constexpr size_t kVolumeNameMax = 64;
constexpr size_t kLayoutsMax = 4096;
constexpr size_t kUnixSocketMax = sizeof(sockaddr_un::sun_path) - 1;
constexpr const char* kStates[] = {"active", "leaving", "gone"};  // by BrickState

// What is wrong with a document; caught where parse() ends.
struct Flaw {
  std::string sentence;
};

std::string quoted(std::string_view text) { return '"' + std::string(text) + '"'; }

// The members of one object of the document; `where` names it for people.
class Members {
 public:
  Members(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) throw Flaw{where_ + " is not an object."};
  }

  [[noreturn]] void refuse(std::string_view key, std::string_view what) const {
    throw Flaw{where_ + ": " + quoted(key) + ' ' + std::string(what) + '.'};
  }
  const json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) refuse(key, "is missing");
    return *found;
  }
  const json& array(const char* key, size_t count_max) const {
    const json& value = at(key);
    if (!value.is_array()) refuse(key, "is not an array");
    if (value.size() > count_max) refuse(key, "has more than " + std::to_string(count_max) + " entries");
    return value;
  }
  std::string text(const char* key) const {
    const json& value = at(key);
    if (!value.is_string()) refuse(key, "is not a string");
    const auto& string = value.get_ref<const std::string&>();
    if (string.find('\0') != std::string::npos) refuse(key, "contains a zero byte");
    return string;
  }
  uint64_t number(const char* key, uint64_t min, uint64_t max) const {
    const json& value = at(key);
    if (!value.is_number_unsigned() || value.get<uint64_t>() < min || value.get<uint64_t>() > max) {
      refuse(key, "is not a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    }
    return value.get<uint64_t>();
  }
  bool flag(const char* key, bool otherwise) const {
    const auto found = object_.find(key);
    if (found == object_.end()) return otherwise;
    if (!found->is_boolean()) refuse(key, "is neither true nor false");
    return found->get<bool>();
  }
  Id id(const char* key) const {
    const auto found = Id::parse(text(key));
    if (!found) refuse(key, "is not a UUID");
    return *found;
  }
  Id id_not_none(const char* key) const {
    const Id found = id(key);
    if (found.is_none()) refuse(key, "is all zero");
    return found;
  }

 private:
  const json& object_;
  const std::string where_;
};

bool is_volume_name(std::string_view name) {
  constexpr std::string_view kAlphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  return !name.empty() && name.size() <= kVolumeNameMax && kAlphanumeric.find(name[0]) != std::string_view::npos &&
         name.find_first_not_of(std::string(kAlphanumeric) + "._-") == std::string_view::npos;
}

bool is_address_literal(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 || inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

BrickState state_of(const Members& brick) {
  const std::string state = brick.text("state");
  const auto found = std::find(std::begin(kStates), std::end(kStates), state);
  if (found == std::end(kStates)) brick.refuse("state", "is none of active, leaving, gone");
  return static_cast<BrickState>(found - std::begin(kStates));
}

BrickEntry parse_brick(const json& object, size_t index) {
  const Members members(object, "brick " + std::to_string(index + 1) + " of the map");
  BrickEntry brick;
  brick.id = members.id_not_none("id");
  brick.ordinal = static_cast<uint16_t>(members.number("ordinal", 1, wire::kOrdinalMax));
  brick.node = members.text("node");
  brick.host = members.text("host");
  if (!is_address_literal(brick.host)) members.refuse("host", "is not an IPv4 or IPv6 address");
  brick.port = static_cast<uint16_t>(members.number("port", 1, UINT16_MAX));
  brick.unix_socket = members.text("unix");
  if (!brick.unix_socket.empty() && brick.unix_socket[0] != '/') members.refuse("unix", "is not an absolute path");
  if (brick.unix_socket.size() > kUnixSocketMax) {
    members.refuse("unix", "is longer than the " + std::to_string(kUnixSocketMax) + " bytes of a socket's path");
  }
  brick.path = members.text("path");
  if (brick.path.empty() || brick.path[0] != '/') members.refuse("path", "is not an absolute path");
  brick.weight = static_cast<uint32_t>(members.number("weight", 0, UINT32_MAX));
  brick.state = state_of(members);
  return brick;
}

// No two bricks claim the same ordinal, id, port, socket or directory.
void check_bricks(const std::vector<BrickEntry>& bricks) {
  if (bricks.empty()) throw Flaw{"The map has no bricks."};
  std::set<Id> ids;
  std::set<std::string> taken;
  const auto take = [&](const BrickEntry& brick, const std::string& what) {
    if (taken.insert(what + ' ' + brick.host).second) return;
    throw Flaw{"Two bricks of the map have the " + what + " on " + brick.host + '.'};
  };
  for (size_t i = 0; i < bricks.size(); ++i) {
    const BrickEntry& brick = bricks[i];
    if (i > 0 && brick.ordinal <= bricks[i - 1].ordinal) throw Flaw{"The map's bricks are not in the order of their ordinals."};
    if (!ids.insert(brick.id).second) throw Flaw{"Two bricks of the map have the id " + brick.id.uuid() + '.'};
    if (brick.state == BrickState::kGone) continue;
    take(brick, "port " + std::to_string(brick.port));
    take(brick, "path " + brick.path);
    if (!brick.unix_socket.empty()) take(brick, "socket " + brick.unix_socket);
  }
}

Layout parse_layout(const json& object, size_t index, const VolumeMap& map) {
  const std::string where = "layout " + std::to_string(index + 1) + " of the map";
  const Members members(object, where);
  const auto epoch = static_cast<uint32_t>(members.number("epoch", 1, UINT32_MAX));
  const uint64_t rule = members.number("rule", 1, UINT32_MAX);
  if (rule != static_cast<uint64_t>(HashRule::kXxh3Rendezvous1)) {
    throw Flaw{where + " uses the hash rule " + std::to_string(rule) +
               ", which this program does not know. Update it on this machine."};
  }
  std::vector<Target> targets;
  std::set<uint16_t> ordinals;
  bool has_weight = false;
  for (const json& entry : members.array("targets", wire::kOrdinalMax)) {
    const Members target(entry, "a target of " + where);
    const auto ordinal = static_cast<uint16_t>(target.number("ordinal", 1, wire::kOrdinalMax));
    const auto weight = static_cast<uint32_t>(target.number("weight", 0, UINT32_MAX));
    const BrickEntry* brick = map.brick(ordinal);
    if (brick == nullptr) target.refuse("ordinal", "is of no brick of the map");
    if (!ordinals.insert(ordinal).second) target.refuse("ordinal", "stands there twice");
    targets.push_back({ordinal, brick->id, weight});
    has_weight = has_weight || weight > 0;
  }
  if (!has_weight) throw Flaw{where + " has no target that names could be placed on."};
  return Layout(epoch, HashRule::kXxh3Rendezvous1, std::move(targets));
}

void parse_layouts(const Members& document, VolumeMap& map) {
  for (const json& entry : document.array("layouts", kLayoutsMax)) {
    map.layouts.push_back(parse_layout(entry, map.layouts.size(), map));
    const size_t count = map.layouts.size();
    if (count > 1 && map.layouts[count - 1].epoch() <= map.layouts[count - 2].epoch()) {
      throw Flaw{"The map's layouts are not in the order of their epochs."};
    }
  }
  if (map.layouts.empty() || map.layouts.front().epoch() != 1) throw Flaw{"The map has no layout of epoch 1."};
}

std::map<std::string, std::string> parse_options(const json& object) {
  const Members members(object, "\"options\" of the map");
  std::map<std::string, std::string> options;
  for (const auto& [key, value] : object.items()) options[key] = members.text(key.c_str());
  return options;
}

// SHA-256 over the document without its checksum, in nlohmann's shortest form: keys in order, no spaces.
std::string checksum_of(json document) {
  document.erase("checksum");
  const std::string text = document.dump(-1, ' ', false, json::error_handler_t::replace);
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const uint8_t*>(text.data()), text.size(), digest.data());
  return Id::from_bytes(digest.data()).hex() + Id::from_bytes(digest.data() + 16).hex();
}

VolumeMap parse_document(const json& json_document) {
  const Members document(json_document, "The map");
  const uint64_t format = document.number("format", 1, UINT64_MAX);
  if (format != kFormat) {
    throw Flaw{"The map has format " + std::to_string(format) + ", and this program knows format " +
               std::to_string(kFormat) + ". Update it on this machine."};
  }
  if (document.text("checksum") != checksum_of(json_document)) {
    throw Flaw{"The map's checksum does not match: it is damaged or was edited. Get a whole copy, for example "
               ".voldfs/map.json of a brick."};
  }
  VolumeMap map;
  const Members volume(document.at("volume"), "\"volume\" of the map");
  map.volume = volume.id_not_none("id");
  map.name = volume.text("name");
  if (!is_volume_name(map.name)) {
    volume.refuse("name", "is not 1 to " + std::to_string(kVolumeNameMax) +
                              " letters, digits, '.', '_' and '-' that begin with a letter or digit");
  }
  map.incarnation = document.id_not_none("incarnation");
  map.parent_incarnation = document.id("parent_incarnation");
  map.version = document.number("version", 1, UINT64_MAX);
  for (const json& entry : document.array("bricks", wire::kOrdinalMax)) {
    map.bricks.push_back(parse_brick(entry, map.bricks.size()));
  }
  check_bricks(map.bricks);
  parse_layouts(document, map);
  map.root_home = static_cast<uint16_t>(document.number("root_home", 1, wire::kOrdinalMax));
  const BrickEntry* root_home = map.brick(map.root_home);
  if (root_home == nullptr || root_home->state == BrickState::kGone) {
    document.refuse("root_home", "is of no brick that the volume has");
  }
  map.options = parse_options(document.at("options"));
  map.started = document.flag("started", true);
  return map;
}

json brick_to_json(const BrickEntry& brick) {
  return {{"id", brick.id.uuid()},     {"ordinal", brick.ordinal}, {"node", brick.node},
          {"host", brick.host},        {"port", brick.port},       {"unix", brick.unix_socket},
          {"path", brick.path},        {"weight", brick.weight},   {"state", kStates[static_cast<size_t>(brick.state)]}};
}

json layout_to_json(const Layout& layout) {
  json targets = json::array();
  for (const Target& target : layout.targets()) {
    targets.push_back({{"ordinal", target.ordinal}, {"weight", target.weight}});
  }
  return {{"epoch", layout.epoch()}, {"rule", static_cast<uint32_t>(layout.rule())}, {"targets", std::move(targets)}};
}

}  // namespace

Explained<VolumeMap> VolumeMap::parse(std::string_view text) {
  if (text.size() > kDocumentMax) {
    return explain("The map is larger than " + std::to_string(kDocumentMax) + " bytes.");
  }
  // What is nested without end would be copied and written by recursion without end.
  bool too_deep = false;
  const auto is_shallow = [&](int depth, json::parse_event_t, const json&) { return !(too_deep |= depth > kDepthMax); };
  const json document = json::parse(text, is_shallow, /*allow_exceptions=*/false);
  if (too_deep || document.is_discarded()) return explain("The map is not JSON: it is cut off, damaged, or something else.");
  try {
    return parse_document(document);
  } catch (const Flaw& flaw) {
    return explain(flaw.sentence);
  }
}

std::string VolumeMap::to_json() const {
  json document = {{"format", kFormat},
                   {"volume", {{"id", volume.uuid()}, {"name", name}}},
                   {"incarnation", incarnation.uuid()},
                   {"parent_incarnation", parent_incarnation.uuid()},
                   {"version", version},
                   {"bricks", json::array()},
                   {"layouts", json::array()},
                   {"root_home", root_home},
                   {"options", json::object()}};
  for (const BrickEntry& brick : bricks) document["bricks"].push_back(brick_to_json(brick));
  for (const Layout& layout : layouts) document["layouts"].push_back(layout_to_json(layout));
  for (const auto& [key, value] : options) document["options"][key] = value;
  if (!started) document["started"] = false;
  document["checksum"] = checksum_of(document);
  return document.dump(2, ' ', false, json::error_handler_t::replace) + '\n';
}

}  // namespace voldfs::dht
