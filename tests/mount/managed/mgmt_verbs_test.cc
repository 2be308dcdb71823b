#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "brick/base/unique_fd.h"
#include "dht/volume_map.h"
#include "mgmt/files.h"
#include "tests/lib/loopback.h"
#include "tests/lib/mgmt_nodes.h"

// The verbs of voldctl beyond the life of a volume: their words, their JSON, their exit status.

namespace voldfs {
namespace {

using namespace test;

class MgmtVerbsTest : public MgmtNodes {
 protected:
  static bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

  // voldctl without --mode=script, with nobody at the terminal.
  Output ask(const Node& node, std::vector<std::string> arguments) {
    const std::string base = top_ + "/ask." + std::to_string(++calls_);
    arguments.insert(arguments.begin(), {std::string(VOLDFS_BINARY_DIR) + "/voldctl", "--run-dir=" + node.dir + "/run", "--state-dir=" + node.state()});
    std::string line;
    for (const std::string& argument : arguments) line += "'" + argument + "' ";
    const int status = std::system((line + "</dev/null >" + base + ".out 2>" + base + ".err").c_str());
    return {WEXITSTATUS(status), slurp(base + ".out"), slurp(base + ".err"), {}};
  }

  Json json_of(const Node& node, std::vector<std::string> arguments, int code = 0) {
    arguments.push_back("--json");
    const Output output = ctl(node, arguments);
    EXPECT_EQ(output.code, code) << arguments[0] << output.err;
    return output.json();
  }

  // Every brick of "vol" is asked, and all say that they are up; the command's exit status is this. A busy machine may need another try.
  bool bricks_answer(const Node& node, int code) {
    const Output output = ctl(node, {"volume", "status", "vol", "--json"});
    if (output.code != code) return false;
    const Json bricks = output.json().at("bricks");
    return bricks.size() == nodes_.size() && std::all_of(bricks.begin(), bricks.end(), [](const Json& brick) {
      return brick.value("online", false) && brick.contains("pid") && brick.contains("since") && brick.contains("free_bytes");
    });
  }

  static std::set<std::string> keys(const Json& json) {
    std::set<std::string> all;
    for (const auto& [key, value] : json.items()) all.insert(key);
    return all;
  }

  // The findings of the doctor that have this word.
  std::string findings(const Node& node, const std::string& word) {
    const Json report = ctl(node, {"doctor", "--json", "--conf-dir=" + node.dir + "/etc"}).json();
    std::string found;
    for (const Json& each : report.value("findings", Json::array())) {
      const std::string what = each.at("what");
      if (has(what, word)) found += each.at("area").get<std::string>() + ": " + what + " -> " + each.at("mend").get<std::string>() + "\n";
    }
    return found;
  }
};

TEST_F(MgmtVerbsTest, Json_EveryRead_KeepsItsShape) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  const Node& node = nodes_[0];
  using Keys = std::set<std::string>;
  const Keys about = {"complete", "quorum", "age_ms", "from_files"};
  const Json list = json_of(node, {"volume", "list"});
  EXPECT_EQ(keys(list), (Keys{"about", "volumes"}));
  EXPECT_EQ(list.at("volumes"), Json::array({"vol"}));
  EXPECT_EQ(keys(list.at("about")), about);
  const Json info = json_of(node, {"volume", "info"});
  EXPECT_EQ(keys(info), (Keys{"about", "volumes"}));
  EXPECT_EQ(keys(info.at("volumes").at("vol")), (Keys{"created", "map", "owners", "ready", "started"}));
  const Json status = json_of(node, {"volume", "status"});
  EXPECT_EQ(keys(status), (Keys{"about", "bricks", "tasks", "volumes"}));
  EXPECT_EQ(keys(status.at("about")), (Keys{"complete", "quorum", "age_ms", "from_files", "missing"}));
  EXPECT_EQ(keys(json_of(node, {"volume", "get", "vol", "all"})), (Keys{"about", "options"}));
  const Json help = json_of(node, {"volume", "set", "help"});
  ASSERT_FALSE(help.at("options").empty());
  EXPECT_EQ(keys(help.at("options")[0]), (Keys{"key", "default", "range", "meaning"}));
  for (const char* noun : {"peer", "pool"}) {
    const Json peers = json_of(node, {noun, std::string(noun) == "peer" ? "status" : "list"});
    EXPECT_EQ(keys(peers), (Keys{"about", "peers", "status"}));
    EXPECT_EQ(keys(peers.at("peers")[0]), (Keys{"id", "name", "address", "api_port", "raft_port", "brick_port_first", "voter", "role", "witness"}));
  }
  EXPECT_EQ(keys(json_of(node, {"get-state"})), (Keys{"about", "state", "status"}));
  EXPECT_EQ(keys(json_of(node, {"webhook", "list"})), (Keys{"about", "webhooks"}));
  EXPECT_EQ(keys(json_of(node, {"doctor"})), (Keys{"errors", "findings", "nodes", "unexamined", "warnings"}));
  EXPECT_EQ(keys(json_of(node, {"peer", "token"})), (Keys{"api_token", "authority", "token"}));
  EXPECT_EQ(keys(json_of(node, {"backup", top_ + "/b"})), (Keys{"file", "peers", "version", "volumes"}));
  EXPECT_EQ(keys(json_of(node, {"volume", "start", "nothing"}, 1)), (Keys{"error"}));
  EXPECT_EQ(ctl(node, {"no-such-noun"}).code, 2);
}

TEST_F(MgmtVerbsTest, Wrong_VerbOrNoDaemon_IsASentence) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  const Node& node = nodes_[0];
  const Output heal = ctl(node, {"volume", "heal", "vol"});
  EXPECT_EQ(heal.code, 2);
  EXPECT_TRUE(has(heal.err, "There is no `volume heal`; there are: create, ")) << heal;
  EXPECT_TRUE(has(ctl(node, {"volumes"}).err, "There is no \"volumes\"; there are: "));
  EXPECT_TRUE(has(ctl(node, {"peer"}).err, "Say what to do with `peer`: probe, "));
  kill_node(nodes_[0]);
  for (const std::vector<std::string>& verb : {std::vector<std::string>{"peer", "token"}, {"peer", "probe", "127.0.0.9"}, {"peer", "recover", "127.0.0.9"}, {"events"}, {"volume", "log", "rotate", "vol"}}) {
    const Output output = ctl(node, verb);
    EXPECT_EQ(output.code, 1) << verb[0];
    EXPECT_TRUE(has(output.err, "voldmgmt does not run on this node. Start it: systemctl start voldmgmt.")) << output;
  }
  EXPECT_TRUE(has(ctl(node, {"doctor", "--conf-dir=" + node.dir + "/etc"}).out, "clocks      not examined")) << "nobody looked";
}

TEST_F(MgmtVerbsTest, Destruction_NobodyToAsk_ChangesNothing) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  run(nodes_[0], {"backup", top_ + "/backup"});
  for (const std::vector<std::string>& verb : {std::vector<std::string>{"volume", "delete", "vol"}, {"volume", "stop", "vol"}, {"restore", top_ + "/backup"}, {"peer", "recover", "x"}}) {
    const Output output = ask(nodes_[0], verb);
    EXPECT_EQ(output.code, 1) << verb[0];
    EXPECT_TRUE(has(output.err, "nothing was changed")) << output.err;
  }
  EXPECT_EQ(run(nodes_[0], {"volume", "list"}), "vol\n");
}

TEST_F(MgmtVerbsTest, Bricks_CannotBeChangedYet_IsAClearRefusal) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  for (const char* verb : {"add-brick", "remove-brick", "replace-brick", "rebalance"}) {
    const Output output = ctl(nodes_[0], {"volume", verb, "vol", "x:/y"});
    EXPECT_EQ(output.code, 1);
    EXPECT_TRUE(has(output.err, "nothing was changed") && has(output.err, verb)) << output.err;
  }
}

TEST_F(MgmtVerbsTest, Rename_VolumeAndPeer_AreKnownByTheirNewNames) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  const Json before = json_of(nodes_[0], {"volume", "map", "vol"});
  run(nodes_[0], {"volume", "rename", "vol", "data"});
  const Json after = json_of(nodes_[0], {"volume", "map", "data"});
  EXPECT_EQ(before.at("volume").at("id"), after.at("volume").at("id"));
  EXPECT_TRUE(eventually([&] { return fs::exists(nodes_[0].state() + "/maps/data.json") && !fs::exists(nodes_[0].state() + "/maps/vol.json"); }));
  run(nodes_[0], {"peer", "rename", nodes_[0].address, "one"});
  EXPECT_TRUE(has(run(nodes_[0], {"volume", "info"}), "Brick1: one:" + nodes_[0].brick("vol-brick")));
  EXPECT_EQ(ctl(nodes_[0], {"volume", "rename", "data", ".x"}).code, 1);
}

TEST_F(MgmtVerbsTest, Witness_HoldsNoBricksAndVotes) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  run(nodes_[0], {"peer", "probe", nodes_[1].address + ":" + std::to_string(nodes_[1].api_port)});
  run(nodes_[0], {"peer", "probe", nodes_[2].address + ":" + std::to_string(nodes_[2].api_port), "--witness"});
  EXPECT_TRUE(has(run(nodes_[0], {"peer", "status"}), "Witness"));
  const Output create = ctl(nodes_[0], {"volume", "create", "vol", spec(nodes_[2], "b"), "force"});
  EXPECT_EQ(create.code, 1);
  EXPECT_TRUE(has(create.err, "is a witness")) << create.err;
  // The log takes it in within moments; then one of the two others may be lost.
  ASSERT_TRUE(eventually([&] { return ctl(nodes_[2], {"volume", "list"}).code == 0; }));
  kill_node(nodes_[1]);
  EXPECT_TRUE(eventually([&] { return ctl(nodes_[0], {"volume", "create", "vol", spec(nodes_[0], "b"), "force"}).code == 0; }));
}

TEST_F(MgmtVerbsTest, Backup_RestoredInPlace_BringsVolumesBackInANewIncarnation) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  create_volume("vol");
  run(nodes_[0], {"volume", "set", "vol", "user.owner", "me"});
  const Json before = json_of(nodes_[0], {"volume", "map", "vol"});
  run(nodes_[1], {"backup", top_ + "/backup"});
  EXPECT_EQ(fs::status(top_ + "/backup").permissions() & fs::perms(0777), fs::perms(0600));
  run(nodes_[0], {"volume", "delete", "vol"});
  run(nodes_[0], {"volume", "create", "later", spec(nodes_[0], "later"), "force"});
  run(nodes_[1], {"restore", top_ + "/backup"});
  EXPECT_TRUE(eventually([&] { return all_see("vol\n"); }));
  const Json after = json_of(nodes_[1], {"volume", "map", "vol"});
  EXPECT_NE(after.at("incarnation"), before.at("incarnation"));
  EXPECT_EQ(after.at("parent_incarnation"), before.at("incarnation"));
  EXPECT_EQ(after.at("options"), before.at("options"));
  // Again, from a backup that is a former incarnation by now: the maps in use are the parents.
  run(nodes_[0], {"restore", top_ + "/backup"});
  const Json again = json_of(nodes_[0], {"volume", "map", "vol"});
  EXPECT_EQ(again.at("parent_incarnation"), after.at("incarnation"));
  EXPECT_GT(again.at("version"), after.at("version"));

  std::ofstream(top_ + "/backup", std::ios::app) << " ";
  EXPECT_EQ(ctl(nodes_[0], {"restore", top_ + "/backup"}).code, 0) << "space behind the document does no harm";
  std::string damaged = slurp(top_ + "/backup");
  damaged[damaged.find("\"version\"") + 2] = 'X';
  std::ofstream(top_ + "/backup") << damaged;
  const Output refused = ctl(nodes_[0], {"restore", top_ + "/backup"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_TRUE(has(refused.err, "damaged")) << refused.err;
}

TEST_F(MgmtVerbsTest, Backup_AllNodesLost_ClusterBeginsAnewAndOthersTakeTheirPlaces) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  create_volume("vol");
  run(nodes_[0], {"backup", top_ + "/backup"});
  const Json before = json_of(nodes_[0], {"volume", "map", "vol"});
  const std::string second = nodes_[1].address;
  for (Node& node : nodes_) {
    kill_node(node);
    fs::remove_all(node.state());
    fs::remove_all(node.dir + "/etc");
    fs::create_directories(node.dir + "/etc");
    std::ofstream(node.dir + "/etc/secret") << std::string(64, 'c') << "\n";
    fs::permissions(node.dir + "/etc/secret", fs::perms::owner_read | fs::perms::owner_write);
    ASSERT_NO_FATAL_FAILURE(start_node(node));
  }
  const Output unnamed = ctl(nodes_[0], {"restore", top_ + "/backup", "--as=nobody"});
  EXPECT_EQ(unnamed.code, 1);
  EXPECT_TRUE(has(unnamed.err, second)) << unnamed.err;
  run(nodes_[0], {"restore", top_ + "/backup"});
  EXPECT_EQ(run(nodes_[0], {"volume", "list"}), "vol\n");
  EXPECT_EQ(json_of(nodes_[0], {"volume", "map", "vol"}).at("parent_incarnation"), before.at("incarnation"));
  run(nodes_[0], {"peer", "probe", second + ":" + std::to_string(nodes_[1].api_port), "--replace=" + second});
  EXPECT_TRUE(eventually([&] { return all_see("vol\n"); }));
  // Its bricks are its own again.
  run(nodes_[1], {"volume", "start", "vol"});
  EXPECT_TRUE(eventually([&] { return brick_pid(nodes_[0].brick("vol-brick")) && brick_pid(nodes_[1].brick("vol-brick")); }));
  EXPECT_EQ(run(nodes_[0], {"volume", "set", "vol", "user.x", "y"}), "volume set: vol: success\n");
}

TEST_F(MgmtVerbsTest, Events_FollowedOnOneNode_TellOfAll) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  const std::string lines = top_ + "/events";
  const pid_t follower = spawn({std::string(VOLDFS_BINARY_DIR) + "/voldctl", "--run-dir=" + nodes_[0].dir + "/run", "--json", "events", "--follow"}, lines, top_ + "/events.err");
  create_volume("vol");
  run(nodes_[1], {"volume", "start", "vol"});
  ASSERT_TRUE(eventually([&] { return brick_pid(nodes_[1].brick("vol-brick")) != 0; }));
  const auto told = [&](const std::string& type, const std::string& node) {
    std::ifstream in(lines);
    for (std::string line; std::getline(in, line);) {
      const Json event = Json::parse(line, nullptr, false);
      if (event.is_object() && event.at("type") == type && event.at("node") == node) return true;
    }
    return false;
  };
  const auto tells = [&](const std::string& type, const std::string& node) { return eventually([&] { return told(type, node); }); };
  EXPECT_TRUE(tells("volume.created", nodes_[0].address));
  EXPECT_TRUE(tells("volume.started", nodes_[0].address));
  // Killed when it has been up long enough to have been seen.
  pid_t brick = 0;
  auto since = std::chrono::steady_clock::now();
  ASSERT_TRUE(eventually([&] {
    const pid_t now = brick_pid(nodes_[1].brick("vol-brick"));
    if (std::exchange(brick, now) != now) since = std::chrono::steady_clock::now();
    if (now && std::chrono::steady_clock::now() - since > 2500ms) ::kill(now, SIGKILL);
    return told("brick.down", nodes_[1].address);
  }));
  EXPECT_TRUE(tells("brick.up", nodes_[1].address));
  EXPECT_FALSE(has(slurp(lines), "secret"));
  ::kill(follower, SIGINT);
  ::waitpid(follower, nullptr, 0);
  // Without following: what happened, at once.
  EXPECT_TRUE(has(run(nodes_[0], {"events"}), "volume.created"));
}

TEST_F(MgmtVerbsTest, Webhook_IsPostedEveryEventOnce) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  const Loopback listener = bind_loopback();
  ASSERT_EQ(::listen(listener.socket.get(), 16), 0);
  std::vector<std::string> posts;
  std::thread server([&] {
    const timeval limit{40, 0};
    ::setsockopt(listener.socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (posts.size() < 2) {
      const unique_fd client(::accept(listener.socket.get(), nullptr, nullptr));
      if (!client) return;
      std::string request;
      char buffer[4096];
      while (!has(request, "}}") && !has(request, "\"}")) {
        const ssize_t n = ::recv(client.get(), buffer, sizeof buffer, 0);
        if (n <= 0) break;
        request.append(buffer, static_cast<size_t>(n));
      }
      const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
      ::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
      posts.push_back(request);
    }
  });
  const std::string url = "http://127.0.0.1:" + std::to_string(listener.port) + "/hook";
  EXPECT_EQ(ctl(nodes_[1], {"webhook", "add", "ftp://x"}).code, 1);
  run(nodes_[1], {"webhook", "add", url});
  EXPECT_EQ(run(nodes_[0], {"webhook", "list"}), url + "\n");
  create_volume("vol");
  run(nodes_[0], {"volume", "set", "vol", "user.x", "y"});
  server.join();
  ASSERT_EQ(posts.size(), 2u);
  EXPECT_TRUE(has(posts[0], "volume.created") && has(posts[0], "POST /hook")) << posts[0];
  EXPECT_TRUE(has(posts[1], "volume.options-set")) << posts[1];  // and not the first again, from another node
  run(nodes_[0], {"webhook", "remove", url});
  EXPECT_EQ(ctl(nodes_[0], {"webhook", "remove", url}).code, 1);
}

TEST_F(MgmtVerbsTest, Doctor_NamesWhatIsWrong) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  create_volume("vol");
  run(nodes_[0], {"volume", "start", "vol"});
  ASSERT_TRUE(eventually([&] { return json_of(nodes_[0], {"doctor"}, ctl(nodes_[0], {"doctor"}).code).at("errors") == 0; })) << ctl(nodes_[0], {"doctor"}).out;
  ASSERT_TRUE(eventually([&] { return json_of(nodes_[0], {"volume", "info"}).at("volumes").at("vol").at("ready").size() == 2; }));
  // Of the node itself, and of the other.
  fs::permissions(nodes_[1].dir + "/etc/secret", fs::perms(0644));
  EXPECT_TRUE(has(findings(nodes_[0], "can be read by others"), "chmod 600"));
  fs::permissions(nodes_[1].dir + "/etc/secret", fs::perms(0600));
  fs::create_directories(nodes_[0].state() + "/log.lost");
  EXPECT_TRUE(has(findings(nodes_[0], "was set aside"), "rm -r"));
  // A brick whose disk is not there.
  const std::string brick = nodes_[1].brick("vol-brick");
  ::kill(mgmt::brick_server(brick).value_or(0), SIGKILL);
  fs::rename(brick, brick + ".away");
  EXPECT_TRUE(eventually([&] { return has(findings(nodes_[0], "directory is missing"), "Mount its disk"); }));
  fs::create_directories(brick);
  EXPECT_TRUE(eventually([&] { return has(findings(nodes_[0], "the directory is no brick"), "right disk"); }));
  fs::remove_all(brick);
  fs::rename(brick + ".away", brick);
  ASSERT_TRUE(eventually([&] { return mgmt::brick_server(brick).has_value(); }));
  // Another cluster's sibling of the map.
  auto map = dht::VolumeMap::parse(run(nodes_[0], {"volume", "map", "vol"}));
  ASSERT_TRUE(map) << map.error();
  map->incarnation = map->parent_incarnation = Id::random();
  const auto server = mgmt::brick_server(brick);
  ASSERT_TRUE(server.has_value()) << "no server of " << brick;
  ::kill(*server, SIGSTOP);
  const std::string at = brick + "/.voldfs/map.json", kept = slurp(at);
  std::ofstream(at) << map->to_json();
  EXPECT_TRUE(has(findings(nodes_[0], "know nothing of each other"), "right one")) << ctl(nodes_[0], {"doctor"}).out;
  std::ofstream(at) << kept;
  ::kill(mgmt::brick_server(brick).value_or(0), SIGCONT);
  // A node that does not answer; and with no daemon at all.
  kill_node(nodes_[1]);
  EXPECT_TRUE(eventually([&] {
    const Output output = ctl(nodes_[0], {"doctor"});
    return output.code == 1 && has(output.out, "Peer " + nodes_[1].address) && has(output.out, "does not answer") && has(output.out, "majority");
  }));
  kill_node(nodes_[0]);
  EXPECT_TRUE(has(findings(nodes_[0], "voldmgmt does not run"), "systemctl start"));
}

TEST_F(MgmtVerbsTest, Status_ClientsDetailTasks_ComeFromTheBricks) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  create_volume("vol");
  run(nodes_[0], {"volume", "start", "vol"});
  ASSERT_TRUE(eventually([&] { return bricks_answer(nodes_[0], 0); }));
  EXPECT_TRUE(has(run(nodes_[1], {"volume", "status", "vol", "clients"}), "Clients connected : 0"));
  EXPECT_TRUE(has(run(nodes_[1], {"volume", "status", "vol", "detail"}), "Disk Space Free"));
  EXPECT_TRUE(has(run(nodes_[1], {"volume", "status", "vol", "tasks"}), "no active volume tasks"));
  EXPECT_EQ(ctl(nodes_[1], {"volume", "status", "vol", "nonsense"}).code, 1);
  // The other node's daemon hangs or is dead, then this one's, then both are dead; the bricks are not, and say so.
  ::kill(nodes_[1].pid, SIGSTOP);
  EXPECT_TRUE(eventually([&] { return bricks_answer(nodes_[0], 3); }));
  kill_node(nodes_[1]);
  EXPECT_TRUE(eventually([&] { return bricks_answer(nodes_[0], 3); }));
  ::kill(nodes_[0].pid, SIGSTOP);
  EXPECT_TRUE(eventually([&] { return bricks_answer(nodes_[0], 3); }));
  EXPECT_TRUE(has(ctl(nodes_[0], {"volume", "status"}).err, "voldmgmt on this node does not answer"));
  EXPECT_TRUE(has(ctl(nodes_[0], {"volume", "stop", "vol"}).err, "Nothing was changed: voldmgmt on this node does not answer"));
  kill_node(nodes_[0]);
  EXPECT_TRUE(eventually([&] { return bricks_answer(nodes_[0], 3); }));
  EXPECT_TRUE(has(ctl(nodes_[0], {"volume", "status"}).err, "voldmgmt does not run on this node"));
}

TEST_F(MgmtVerbsTest, Status_BrickHangs_IsNeitherUpNorDown) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  run(nodes_[0], {"volume", "start", "vol"});
  ASSERT_TRUE(eventually([&] { return bricks_answer(nodes_[0], 0); }));
  const pid_t brick = mgmt::brick_server(nodes_[0].brick("vol-brick")).value();
  ::kill(brick, SIGSTOP);
  const Output hung = ctl(nodes_[0], {"volume", "status"});
  EXPECT_EQ(hung.code, 0) << hung;
  EXPECT_TRUE(has(hung.out, "?       " + std::to_string(brick)) && has(hung.out, "has not answered in time")) << hung;
  ::kill(brick, SIGCONT);
  EXPECT_TRUE(eventually([&] { return has(ctl(nodes_[0], {"volume", "status"}).out, "Y       " + std::to_string(brick)); }));
}

TEST_F(MgmtVerbsTest, LogRotate_BricksGoOnInANewFile) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  run(nodes_[0], {"volume", "start", "vol"});
  const std::string brick = nodes_[0].brick("vol-brick");
  ASSERT_TRUE(eventually([&] { return has(run(nodes_[0], {"volume", "status"}), " Y "); }));
  const auto server = mgmt::brick_server(brick);
  const auto logs = [&] {
    std::vector<std::string> files;
    for (const auto& file : fs::directory_iterator(nodes_[0].dir + "/log")) files.push_back(file.path().filename());
    return files;
  };
  ASSERT_EQ(logs().size(), 1u);
  const std::string log = nodes_[0].dir + "/log/" + logs()[0];
  ASSERT_TRUE(has(slurp(log), "brick_serves"));
  run(nodes_[0], {"volume", "log", "rotate", "vol"});
  EXPECT_TRUE(eventually([&] { return fs::exists(log); }));
  EXPECT_EQ(logs().size(), 2u);
  EXPECT_FALSE(has(slurp(log), "brick_serves"));
  EXPECT_EQ(mgmt::brick_server(brick), server);  // the same process
  run(nodes_[0], {"volume", "stop", "vol"});
  EXPECT_TRUE(eventually([&] { return has(slurp(log), "brick_stopped"); }));
  EXPECT_EQ(ctl(nodes_[0], {"volume", "log", "rotate", "vol", "x:/nothing"}).code, 1);
}

TEST_F(MgmtVerbsTest, Standby_TakesThePlaceOfALostVoter) {
  add_flag("--voter_lost_s=1");
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  run(nodes_[0], {"peer", "set-role", nodes_[2].address, "standby"});
  ASSERT_TRUE(eventually([&] { return has(ctl(nodes_[0], {"peer", "status"}).out, "stand-by"); }));
  // With two voters of which one is lost nothing can be changed: a third one is needed to have a majority.
  run(nodes_[0], {"peer", "set-role", nodes_[2].address, "voter"});
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  run(nodes_[0], {"peer", "probe", nodes_[3].address + ":" + std::to_string(nodes_[3].api_port)});
  run(nodes_[0], {"peer", "set-role", nodes_[3].address, "standby"});
  const auto role = [&](const Node& node) -> std::string {
    for (const Json& peer : ctl(nodes_[0], {"pool", "list", "--json"}).json().value("peers", Json::array())) {
      if (peer.at("address") == node.address) return peer.at("role");
    }
    return "";
  };
  ASSERT_EQ(role(nodes_[3]), "standby");
  kill_node(nodes_[2]);
  EXPECT_TRUE(eventually([&] { return role(nodes_[3]) == "voter" && role(nodes_[2]) == "standby"; }));
  // And the majority is one without it.
  kill_node(nodes_[1]);
  EXPECT_TRUE(eventually([&] { return ctl(nodes_[0], {"webhook", "add", "http://127.0.0.1:1/"}).code == 0; }));
}

}  // namespace
}  // namespace voldfs
