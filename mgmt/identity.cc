#include "mgmt/identity.h"

#include <spdlog/spdlog.h>

#include <cstring>

#include "mgmt/files.h"
#include "mgmt/secret.h"

namespace voldfs::mgmt {

using nlohmann::json;

uint64_t random_voter() {
  uint64_t number = 0;
  while (number == 0) {
    const std::string bytes = random_bytes(8);
    std::memcpy(&number, bytes.data(), 8);
    number >>= 11;
  }
  return number;
}

Identity Identity::make(std::string name) {
  Identity identity;
  identity.node = Id::random();
  identity.name = std::move(name);
  identity.cluster = Id::random();
  identity.incarnation = Id::random();
  identity.voter = random_voter();
  return identity;
}

static json to_json(const Identity& identity) {
  static constexpr const char* standings[] = {"new", "joining", "member"};
  json contacts = json::array();
  for (const auto& [voter, endpoint] : identity.contacts) {
    const auto api = identity.contact_api_ports.find(voter);
    contacts.push_back({{"voter", voter}, {"address", endpoint.address}, {"raft_port", endpoint.port},
                        {"api_port", api == identity.contact_api_ports.end() ? 0 : api->second}});
  }
  return {{"node", identity.node.uuid()},       {"name", identity.name},
          {"cluster", identity.cluster.uuid()}, {"incarnation", identity.incarnation.uuid()},
          {"voter", identity.voter},            {"standing", standings[static_cast<int>(identity.standing)]},
          {"contacts", std::move(contacts)}};
}

static Result<Identity> parse(const json& document) try {
  Identity identity;
  const auto id = [&](const char* key) { return Id::parse(document.at(key).get<std::string>()).value(); };
  identity.node = id("node");
  identity.name = document.at("name").get<std::string>();
  identity.cluster = id("cluster");
  identity.incarnation = id("incarnation");
  identity.voter = document.at("voter").get<uint64_t>();
  const std::string standing = document.at("standing").get<std::string>();
  identity.standing = standing == "new"       ? Identity::Standing::kNew
                      : standing == "joining" ? Identity::Standing::kJoining
                                              : Identity::Standing::kMember;
  for (const json& contact : document.at("contacts")) {
    const auto voter = contact.at("voter").get<uint64_t>();
    identity.contacts[voter] = {contact.at("address").get<std::string>(), contact.at("raft_port").get<uint16_t>()};
    identity.contact_api_ports[voter] = contact.at("api_port").get<uint16_t>();
  }
  return identity;
} catch (const std::exception&) {
  return fail(EBADMSG);
}

static Result<Identity> load(const std::string& path) {
  const auto document = read_document(path);
  return document ? parse(*document) : Result<Identity>(fail(document.error()));
}

Explained<Identity> load_or_make_identity(const std::string& path, const std::string& copy, const std::string& name) {
  const auto first = load(path);
  if (first) return *first;
  if (const auto second = load(copy)) {
    spdlog::warn("identity taken from its copy path={} copy={}", path, copy);
    if (auto saved = save_identity(*second, path, copy); !saved) return explain(saved.error());
    return *second;
  }
  if (first.error().code != ENOENT)
    return explain("The identity of this node in " + path + " is damaged, and so is its copy in " + copy +
                   ". Remove both files to make this a new node, and take it into the cluster again with `voldctl peer probe`.");
  Identity made = Identity::make(name);
  if (auto saved = save_identity(made, path, copy); !saved) return explain(saved.error());
  return made;
}

Explained<void> save_identity(const Identity& identity, const std::string& path, const std::string& copy) {
  const std::string text = document_text(to_json(identity));
  if (auto saved = ensure_file(path, text, 0600); !saved) return explain(saved.error());
  if (auto saved = ensure_file(copy, text, 0600); !saved) return explain(saved.error());
  return {};
}

}  // namespace voldfs::mgmt
