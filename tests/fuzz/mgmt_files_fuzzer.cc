// What voldmgmt reads of its own small files, which a disk may have damaged and an editor changed: node.json and its copy,
// voter.json, the secret, state.json. The first byte says which.

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "mgmt/cluster_state.h"
#include "mgmt/files.h"
#include "mgmt/identity.h"
#include "mgmt/secret.h"
#include "mgmt/voter_memory.h"

namespace {

using namespace voldfs;

void expect(bool holds) {
  if (!holds) std::abort();
}

// In memory; gone with the process.
class Directory {
 public:
  Directory() {
    char name[] = "/dev/shm/voldfs-fuzz.XXXXXX";
    expect(::mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string operator/(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

void put(const std::string& path, std::string_view content) { expect(mgmt::write_file(path, content, 0600).has_value()); }

// Either it is refused, or it is written as it was read, and read so again.
void take_identity(const Directory& directory) {
  const std::string path = directory / "node.json", copy = directory / "copy.json";
  const auto identity = mgmt::load_or_make_identity(path, copy, "name");
  if (!identity) return expect(!identity.error().empty());
  const auto again = mgmt::load_or_make_identity(path, copy, "other");
  expect(again && again->node == identity->node && again->name == identity->name && again->voter == identity->voter &&
         again->standing == identity->standing && again->contacts.size() == identity->contacts.size());
}

void take_promise(const Directory& directory) {
  mgmt::VoterMemory memory(directory / "voter.json");
  const auto promise = memory.load();
  if (!promise) return;
  expect(!mgmt::VoterMemory::forgotten(*promise, *promise));
  memory.save({});  // what is the same as before is not written
  memory.save(*promise);
  const auto again = memory.load();
  expect(again && *again == *promise);
}

void take_secret(const Directory& directory) {
  const auto secret = mgmt::load_or_make_secret(directory / "secret");
  expect(secret ? secret->size() == mgmt::kClusterSecretSize : !secret.error().empty());
}

void take_state(const Directory& directory) {
  const auto document = mgmt::read_document(directory / "state.json");
  if (!document) return;
  const auto state = mgmt::ClusterState::from_json(document->value("state", mgmt::Json()));
  if (state) expect(mgmt::ClusterState::restore(state->snapshot()).has_value());
}

void take(const Directory& directory, uint8_t which, std::string_view content) {
  switch (which) {
    case 'n':
      put(directory / "node.json", content);
      put(directory / "copy.json", "");
      return take_identity(directory);
    case 'c':  // the copy alone is whole
      put(directory / "node.json", "");
      put(directory / "copy.json", content);
      return take_identity(directory);
    case 'v': put(directory / "voter.json", content); return take_promise(directory);
    case 's': put(directory / "secret", content); return take_secret(directory);
    case 't': put(directory / "state.json", content); return take_state(directory);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Directory directory;
  if (size == 0) return 0;
  const std::string_view content(reinterpret_cast<const char*>(data) + 1, size - 1);
  take(directory, data[0], content);
  // Whoever changes such a file can make its checksum: without it, no input would get past that.
  const auto document = mgmt::Json::parse(content, nullptr, false);
  if (document.is_object()) take(directory, data[0], mgmt::document_text(document));
  return 0;
}
