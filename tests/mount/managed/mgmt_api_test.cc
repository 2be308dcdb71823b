#include <algorithm>
#include <fstream>

#include "mgmt/api.h"
#include "mgmt/secret.h"
#include "tests/lib/https.h"
#include "tests/lib/json_schema.h"
#include "tests/lib/mgmt_nodes.h"

// The HTTP API: held against its OpenAPI document, and against those who may not ask.

namespace voldfs {
namespace {

using namespace test;

class MgmtApiTest : public MgmtNodes {
 protected:
  MgmtApiTest() : document_(Json::parse(slurp(std::string(VOLDFS_SOURCE_DIR) + "/mgmt/openapi.json"))) {}

  mgmt::HttpTarget socket(const Node& node) const { return {node.dir + "/run/voldmgmt.socket", "", 0, nullptr}; }
  mgmt::HttpReply call(const Node& node, const std::string& method, const std::string& path, const Json& body = nullptr) const {
    const auto reply = mgmt::http_call(socket(node), method, path, body.is_null() ? "" : body.dump(), 20'000);
    EXPECT_TRUE(reply) << path << ": " << reply.error();
    return reply ? *reply : mgmt::HttpReply{0, "", ""};
  }

  // The answer against its schema in the document.
  void expect_described(const std::string& method, const std::string& described, const mgmt::HttpReply& reply) const {
    std::string lower = method;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return static_cast<char>(std::tolower(c)); });
    const Json& responses = document_.at("paths").at(described).at(lower).at("responses");
    const std::string status = std::to_string(reply.status);
    ASSERT_TRUE(responses.contains(status)) << method << " " << described << " answered " << status << ", which is not described: " << reply.body;
    const Json content = responses.at(status).value("content", Json::object());
    const std::string type = reply.type.substr(0, reply.type.find(';'));
    ASSERT_TRUE(content.contains(type)) << described << ": " << reply.type;
    if (type != "application/json") return;
    const Json body = Json::parse(reply.body, nullptr, false);
    EXPECT_EQ(check_schema(body, content.at(type).at("schema"), document_), "") << method << " " << described << "\n" << reply.body;
  }

  const Json document_;
};

TEST_F(MgmtApiTest, OpenApi_DescribesEveryPathAndMethodAndNoOther) {
  std::set<std::string> served, described;
  for (const mgmt::Api::Route& route : mgmt::Api::routes()) {
    if (std::string(route.path).starts_with("/v1/local/")) continue;
    served.insert(std::string(route.method) + " " + route.path);
  }
  for (const auto& [path, methods] : document_.at("paths").items()) {
    for (const auto& [method, what] : methods.items()) {
      if (method == "parameters") continue;
      std::string upper = method;
      std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
      described.insert(upper + " " + path);
      EXPECT_FALSE(what.value("summary", "").empty()) << path;
    }
  }
  EXPECT_EQ(served, described);
  // Who may ask is as described: no `security` but the token's means that it is open over TCP.
  for (const mgmt::Api::Route& route : mgmt::Api::routes()) {
    if (route.access == mgmt::Api::Access::kNodes) continue;
    const Json& what = document_.at("paths").at(route.path).at(std::string(route.method) == "GET" ? "get" : "post");
    EXPECT_EQ(route.access == mgmt::Api::Access::kSocket, what.contains("security")) << route.path;
    if (std::string(route.method) == "POST") {
      EXPECT_EQ(route.access, mgmt::Api::Access::kSocket) << route.path << " changes something and is open to the network";
    }
  }
}

TEST_F(MgmtApiTest, Answers_AreAsDescribed) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  create_volume("vol");
  run(nodes_[0], {"volume", "start", "vol"});
  run(nodes_[0], {"volume", "set", "vol", "user.x", "y"});
  ASSERT_TRUE(eventually([&] { return call(nodes_[0], "GET", "/v1/clients").body.find("\"online\":false") == std::string::npos; }));
  std::set<std::string> asked;
  const auto check = [&](const std::string& method, const std::string& described, const std::string& path, const Json& body = nullptr) {
    asked.insert(method + " " + described);
    expect_described(method, described, call(nodes_[0], method, path, body));
  };
  for (const char* path : {"/healthz", "/metrics", "/v1/openapi.json", "/v1/state", "/v1/status", "/v1/peers", "/v1/volumes", "/v1/volume-names", "/v1/options", "/v1/events", "/v1/clients", "/v1/doctor", "/v1/token", "/v1/backup"})
    check("GET", path, path);
  for (const char* path : {"/v1/state", "/v1/status"}) {
    for (const char* volume : {"vol", "nothing", ""}) {
      const std::string asked_for = std::string(path) + "?volume=" + volume;
      check("GET", path, asked_for);
      EXPECT_EQ(Json::parse(call(nodes_[0], "GET", asked_for).body).at("state").at("volumes").size(), std::string(volume) == "vol" ? 1u : 0u);
    }
  }
  EXPECT_EQ(call(nodes_[0], "GET", "/v1/state").body.find("secret"), std::string::npos);
  check("GET", "/v1/volumes/{name}", "/v1/volumes/vol");
  check("GET", "/v1/volumes/{name}", "/v1/volumes/nothing");
  check("GET", "/v1/volumes/{name}/map", "/v1/volumes/vol/map");
  check("GET", "/v1/volumes/{name}/map", "/v1/volumes/nothing/map");
  const auto command = [](const std::string& op, Json fields) {
    fields["op"] = op;
    fields["id"] = Id::random().uuid();
    return fields;
  };
  check("POST", "/v1/commands", "/v1/commands", command("volume-set", {{"volume", "vol"}, {"options", {{"user.x", "z"}}}}));
  check("POST", "/v1/commands", "/v1/commands", command("volume-set", {{"volume", "vol"}, {"options", {{"no-such", "z"}}}}));
  check("POST", "/v1/commands", "/v1/commands", command("cluster-replace", {{"state", Json::object()}}));  // nodes' own
  check("POST", "/v1/commands", "/v1/commands", Json::array());
  check("POST", "/v1/peers/probe", "/v1/peers/probe", {{"address", nodes_[1].address}, {"port", nodes_[1].api_port}});
  check("POST", "/v1/peers/probe", "/v1/peers/probe", {{"address", nodes_[1].address}, {"port", 1}});
  check("POST", "/v1/peers/recover", "/v1/peers/recover", {{"lost", {nodes_[1].address}}});  // refused: it is there
  check("POST", "/v1/logs/rotate", "/v1/logs/rotate", {{"volume", "vol"}});
  check("POST", "/v1/logs/rotate", "/v1/logs/rotate", {{"volume", "nothing"}});
  const Json backup = Json::parse(call(nodes_[0], "GET", "/v1/backup").body);
  check("POST", "/v1/restore", "/v1/restore", {{"backup", backup}});
  check("POST", "/v1/restore", "/v1/restore", {{"backup", {{"kind", "nothing"}}}});
  // Every one was asked.
  for (const mgmt::Api::Route& route : mgmt::Api::routes()) {
    if (route.access != mgmt::Api::Access::kNodes) {
      EXPECT_TRUE(asked.contains(std::string(route.method) + " " + route.path)) << route.path;
    }
  }
  EXPECT_EQ(call(nodes_[0], "GET", "/v1/nothing").status, 404);
  EXPECT_EQ(call(nodes_[0], "POST", "/v1/state", Json::object()).status, 405);
  EXPECT_EQ(call(nodes_[0], "GET", "/v1/volumes/a/b").status, 404);
  EXPECT_EQ(call(nodes_[0], "GET", "/v1/events?after=x").status, 400);
  // A schema that says otherwise is noticed.
  EXPECT_NE(check_schema({{"ok", 1}}, document_.at("components").at("schemas").at("Outcome"), document_), "");
}

TEST_F(MgmtApiTest, BodyNestedWithoutEnd_IsRefused) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  const std::string deep = R"({"id":"2f0fe421-495b-4f55-94da-a7f0579a4659","op":"volume-set","volume":"vol","options":)" +
                           std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}";
  const auto reply = mgmt::http_call(socket(nodes_[0]), "POST", "/v1/commands", deep, 20'000);
  ASSERT_TRUE(reply) << reply.error();
  EXPECT_EQ(reply->status, 400);
  EXPECT_EQ(run(nodes_[0], {"volume", "list"}), "No volumes present in cluster\n");
}

TEST_F(MgmtApiTest, Tcp_OnlyReadsAndOnlyWithTheToken) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  const Node& node = nodes_[0];
  const Json tokens = Json::parse(call(node, "GET", "/v1/token").body);
  const std::string bearer = "Authorization: Bearer " + tokens.at("api_token").get<std::string>() + "\r\n";
  ASSERT_TRUE(eventually([&] { return slurp(node.dir + "/etc/authority.pem") == tokens.at("authority"); }));
  HttpsClient client{tokens.at("authority")};
  for (const mgmt::Api::Route& route : mgmt::Api::routes()) {
    std::string path = route.path;
    if (const size_t name = path.find("{name}"); name != std::string::npos) path.replace(name, 6, "x");
    SCOPED_TRACE(std::string(route.method) + " " + path);
    EXPECT_EQ(client.status(node.address, node.api_port, route.method, path, ""), 401);
    EXPECT_EQ(client.status(node.address, node.api_port, route.method, path, "Authorization: Bearer " + std::string(64, 'a') + "\r\n"), 401);
    const int with_token = client.status(node.address, node.api_port, route.method, path, bearer);
    if (route.access != mgmt::Api::Access::kRead) EXPECT_EQ(with_token, 403);
    else EXPECT_TRUE(with_token == 200 || with_token == 404) << with_token;
  }
}

TEST_F(MgmtApiTest, Reads_AHundredAtOnce_DoNotHoldUpAChange) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  create_volume("vol");
  std::atomic<bool> over = false;
  std::atomic<int> answered = 0, failed = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 100; ++i) {
    readers.emplace_back([&, i] {
      while (!over) {
        const auto reply = mgmt::http_call(socket(nodes_[static_cast<size_t>(i) % 2]), "GET", "/v1/status", "", 30'000);
        ++(reply && reply->status == 200 ? answered : failed);
      }
    });
  }
  // A read takes no lock that a change waits for: changes go on, however long each answer takes on a loaded machine.
  ASSERT_TRUE(eventually([&] { return answered > 100; }, 60s));
  for (int i = 0; i < 10; ++i) {
    const int before = answered;
    const Json done = Json::parse(call(nodes_[0], "POST", "/v1/commands", {{"id", Id::random().uuid()}, {"op", "volume-set"}, {"volume", "vol"}, {"options", {{"user.n", std::to_string(i)}}}}).body);
    EXPECT_TRUE(done.value("ok", false)) << done;
    // Not after hundreds of reads that came first: it waits for a free thread of the server, and for nothing else.
    EXPECT_LT(answered - before, 400);
  }
  over = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(failed, 0);
}

}  // namespace
}  // namespace voldfs
