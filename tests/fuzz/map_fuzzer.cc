// A volume map from a stranger, a damaged disk or an editor: what is accepted can be written, read again and used.

#include <openssl/sha.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "brick/store/map_document.h"
#include "dht/volume_map.h"

namespace {

using namespace voldfs;

// Whoever makes a bad map can make its checksum: without it, no input would get past that.
std::string with_checksum(const std::string& text) {
  using nlohmann::json;
  int deepest = 0;
  json document = json::parse(text, [&](int depth, json::parse_event_t, const json&) { return (deepest = std::max(deepest, depth)) < 100; }, false);
  if (deepest >= 100 || !document.is_object()) return text;
  document.erase("checksum");
  const std::string plain = document.dump(-1, ' ', false, json::error_handler_t::replace);
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(plain.data()), plain.size(), digest);
  document["checksum"] = Id::from_bytes(digest).hex() + Id::from_bytes(digest + 16).hex();
  return document.dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)dht::VolumeMap::parse({reinterpret_cast<const char*>(data), size});
  const std::string text = with_checksum({reinterpret_cast<const char*>(data), size});
  const auto document = store::MapDocument::parse(text);
  if (document) (void)store::compare(*document, *document);
  const auto map = dht::VolumeMap::parse(text);
  if (!map) return 0;
  const std::string json = map->to_json();
  const auto again = dht::VolumeMap::parse(json);
  if (!again || again->to_json() != json) __builtin_trap();
  if (!store::MapDocument::parse(json)) __builtin_trap();  // a client must not hand on what a brick refuses
  for (const dht::Layout& layout : map->layouts) {
    const uint16_t first = layout.place(kRootId, "name");
    if (first == 0) continue;
    bool known = false;
    for (const auto& brick : map->bricks) known |= brick.ordinal == first;
    if (!known) __builtin_trap();
  }
  return 0;
}
