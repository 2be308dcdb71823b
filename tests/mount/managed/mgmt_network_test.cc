#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>

#include "mgmt/secret.h"
#include "tests/lib/https.h"
#include "tests/lib/mgmt_nodes.h"

// What crosses the network between nodes, to mounts and to monitors, as who listens there sees it.

namespace voldfs {
namespace {

using namespace test;

// Every packet of the sandbox's network, as tcpdump would have them.
class Listener {
 public:
  Listener() : socket_(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL))) {
    const int size = 64 << 20;
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    thread_ = std::thread([this] {
      std::vector<char> packet(128 << 10);
      for (;;) {
        pollfd ready{socket_.get(), POLLIN, 0};
        if (::poll(&ready, 1, 100) <= 0 || over_) {  // there is always somebody who says something
          if (over_) return;
          continue;
        }
        const ssize_t size = ::recv(socket_.get(), packet.data(), packet.size(), 0);
        if (size > 0) seen_.append(packet.data(), static_cast<size_t>(size));
      }
    });
  }
  ~Listener() {
    if (thread_.joinable()) seen();
  }
  // Ends it.
  const std::string& seen() {
    over_ = true;
    thread_.join();
    tpacket_stats stats{};
    socklen_t size = sizeof stats;
    EXPECT_EQ(::getsockopt(socket_.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &size), 0);
    EXPECT_EQ(stats.tp_drops, 0u) << "not all of it was seen";
    return seen_;
  }

 private:
  unique_fd socket_;
  std::atomic<bool> over_ = false;
  std::string seen_;
  std::thread thread_;
};

class MgmtNetwork : public MgmtNodes {};

TEST_F(MgmtNetwork, Listener_SeesNoSecretOfWhateverIsDone) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  // The third has a secret of its own, and joins with its token.
  kill_node(nodes_[2]);
  fs::remove_all(nodes_[2].dir + "/etc");
  fs::remove_all(nodes_[2].state());
  ASSERT_NO_FATAL_FAILURE(start_node(nodes_[2]));
  std::string token = run(nodes_[2], {"peer", "token"});
  token.pop_back();
  ASSERT_NE(token, std::string(64, 'a'));

  Listener listener;
  EXPECT_NE(run(nodes_[0], {"peer", "probe", nodes_[1].address + ":24107"}).find("success"), std::string::npos);
  // A log that came over the network as entries, and one that came as a whole.
  run(nodes_[0], {"volume", "create", "readable", spec(nodes_[0], "brick"), spec(nodes_[1], "brick"), "force"});
  EXPECT_NE(run(nodes_[0], {"peer", "probe", nodes_[2].address + ":24107", "--token=" + token}).find("success"), std::string::npos);
  run(nodes_[1], {"volume", "start", "readable"});
  run(nodes_[2], {"volume", "set", "readable", "user.word", "shibboleth"});
  run(nodes_[1], {"volume", "status", "readable", "clients"});
  run(nodes_[1], {"doctor", "--conf-dir=" + nodes_[1].dir + "/etc"});
  kill_node(nodes_[1]);
  fs::remove_all(nodes_[1].state());
  ASSERT_NO_FATAL_FAILURE(start_node(nodes_[1]));
  ASSERT_TRUE(eventually([&] { return all_see("readable\n"); }, 60s));
  const Json tokens = Json::parse(run(nodes_[0], {"--json", "peer", "token"}));
  HttpsClient monitor{tokens.at("authority")};
  EXPECT_EQ(monitor.status(nodes_[0].address, nodes_[0].api_port, "GET", "/v1/state", "Authorization: Bearer " + tokens.at("api_token").get<std::string>() + "\r\n"), 200);
  // A mount, over the network alone, that proves the volume's secret to the bricks.
  std::string secret = run(nodes_[0], {"volume", "secret", "readable"});
  secret.pop_back();
  const std::string map = top_ + "/map.json";
  std::string text = run(nodes_[0], {"volume", "map", "readable"});
  std::ofstream(map) << text;
  std::ofstream(map + ".secret") << secret << "\n";
  fs::permissions(map + ".secret", fs::perms::owner_read | fs::perms::owner_write);
  fs::create_directories(top_ + "/mnt");
  const Output mounted = shell(std::string(VOLDFS_BINARY_DIR) + "/mount.voldfs " + map + " " + top_ + "/mnt -o transport=tcp");
  ASSERT_EQ(mounted.code, 0) << mounted;
  std::ofstream(top_ + "/mnt/file") << "written";
  EXPECT_EQ(shell("umount " + top_ + "/mnt").code, 0);

  const std::string& seen = listener.seen();
  EXPECT_GT(seen.size(), 100'000u);
  // It does see what is not hidden.
  EXPECT_NE(seen.find("written"), std::string::npos);
  const std::string own(64, 'a');
  for (const std::string& each : {own, token, secret, tokens.at("api_token").get<std::string>()}) {
    EXPECT_EQ(seen.find(each), std::string::npos) << each;
    EXPECT_EQ(seen.find(*mgmt::from_hex(each)), std::string::npos) << each;
  }
  EXPECT_EQ(seen.find("cluster-init"), std::string::npos);
  EXPECT_EQ(seen.find("HTTP/1.1"), std::string::npos) << "some of it goes without TLS";
}

}  // namespace
}  // namespace voldfs
