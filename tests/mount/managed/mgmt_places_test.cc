#include <algorithm>
#include <cctype>
#include <cstring>
#include <sstream>

#include "dht/volume_map.h"
#include "mgmt/http.h"
#include "tests/lib/mgmt_nodes.h"

// Nodes whose address changes, whose clock jumps, and whose bricks systemd runs.

namespace voldfs {
namespace {

using namespace test;

class MgmtPlacesFault : public MgmtNodes {
 protected:
  Output set(const Node& node, const std::string& value) { return ctl(node, {"volume", "set", "vol", "user.x", value}); }
  bool has(const Node& node, const std::string& value) { return ctl(node, {"volume", "get", "vol", "user.x"}).out.find(value) != std::string::npos; }
};

TEST_F(MgmtPlacesFault, SetAddress_OfEachOfTwo_ClusterGoesOn) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  join_all();
  create_volume("vol");
  for (size_t i : {1, 0}) {
    SCOPED_TRACE(i);
    Node& node = nodes_[i];
    const std::string before = node.address, now = "127.0.1." + std::to_string(i + 2);
    // When it says so, both know, and the node may be moved.
    const Output agreed = ctl(nodes_[0], {"peer", "set-address", before, now});
    ASSERT_EQ(agreed.code, 0) << agreed;
    ASSERT_EQ(agreed.err, "") << agreed;
    kill_node(node);
    node.address = now;
    ASSERT_NO_FATAL_FAILURE(start_node(node));
    Output last;
    EXPECT_TRUE(eventually([&] { return (last = set(nodes_[1 - i], "to" + now)).code == 0; })) << last;
    EXPECT_TRUE(eventually([&] { return has(node, "to" + now); }));
    for (const Node& each : nodes_) {
      const auto map = dht::VolumeMap::parse(run(each, {"volume", "map", "vol"}));
      ASSERT_TRUE(map);
      EXPECT_EQ(map->bricks[i].host, now);
    }
  }
  // Bricks are served where the map says.
  run(nodes_[0], {"volume", "start", "vol"});
  EXPECT_TRUE(eventually([&] { return ctl(nodes_[1], {"volume", "status", "vol"}).out.find(" N ") == std::string::npos; }));
  for (const Node& node : nodes_) {
    const Output listens = shell("ss -ltnH src " + node.address + ":24200");
    EXPECT_NE(listens.out.find("LISTEN"), std::string::npos) << listens;
  }
}

TEST_F(MgmtPlacesFault, ClockJumps_NobodyLosesTheLeadAndDoctorSaysSo) {
  const fs::path shim = fs::read_symlink("/proc/self/exe").parent_path() / "libjumping_clock.so";
  ASSERT_TRUE(fs::exists(shim)) << shim;
  // Built with the address sanitizer, a program otherwise insists on coming before what is preloaded.
  const char* sanitizer = ::getenv("ASAN_OPTIONS");
  const std::string asan_options = (sanitizer ? std::string(sanitizer) + ":" : "") + "verify_asan_link_order=0";
  wrap_ = [&](const Node& node) {
    return std::vector<std::string>{"/usr/bin/env", "ASAN_OPTIONS=" + asan_options, "LD_PRELOAD=" + shim.string(), "VOLDFS_TEST_CLOCK=" + node.dir + "/clock"};
  };
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  const auto leader = [&] {
    for (const Node& node : nodes_) {
      const auto metrics = mgmt::http_call({node.dir + "/run/voldmgmt.socket", "", 0, nullptr}, "GET", "/metrics", "", 20'000);
      if (metrics && metrics->body.find("voldfs_mgmt_leading 1") != std::string::npos) return node.address;
    }
    return std::string();
  };
  const std::string before = leader();
  ASSERT_NE(before, "");
  // The leader's, too: to the year 2100, and to 1970.
  for (const char* jump : {"2400000000", "-1700000000", "0"}) {
    for (const Node& node : nodes_) {
      std::ofstream(node.dir + "/clock.new") << jump;
      fs::rename(node.dir + "/clock.new", node.dir + "/clock");
      EXPECT_EQ(set(node, jump).code, 0);
      if (std::string(jump) != "0" && node.address == nodes_[0].address) {
        const Output doctor = ctl(nodes_[1], {"doctor", "--conf-dir=" + nodes_[1].dir + "/etc"});
        EXPECT_NE(doctor.out.find("The clock of " + node.address), std::string::npos) << doctor;
      }
    }
    EXPECT_EQ(leader(), before);
  }
  for (const Node& node : nodes_) EXPECT_TRUE(eventually([&] { return has(node, "0"); }));
}

// With what the unit leaves it, and no more.
TEST_F(MgmtPlacesFault, Systemd_CapabilitiesOfTheUnit_AreEnough) {
  std::string left = "-all";
  std::istringstream unit(slurp(std::string(VOLDFS_SOURCE_DIR) + "/tools/systemd/voldmgmt.service.in"));
  for (std::string line; std::getline(unit, line);) {
    if (!line.starts_with("CapabilityBoundingSet=")) continue;
    std::istringstream names(line.substr(line.find('=') + 1));
    for (std::string name; names >> name;) left += ",+" + name.substr(std::strlen("CAP_"));
  }
  std::ranges::transform(left, left.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  ASSERT_EQ(left, "-all,+dac_override,+dac_read_search");
  const std::string bin = top_ + "/bin", others = top_ + "/others";
  fs::create_directories(bin);
  std::ofstream(bin + "/systemctl") << "#!/bin/bash\necho \"$*\" >>" << top_ << "/asked\n";
  fs::permissions(bin + "/systemctl", fs::perms::all);
  fs::create_directories(others);
  ASSERT_EQ(::chown(others.c_str(), 12345, 12345), 0);
  ASSERT_EQ(::chmod(others.c_str(), 0700), 0);
  add_flag("--brick_manager=systemd");
  wrap_ = [&](const Node&) {
    return std::vector<std::string>{"/usr/bin/setpriv", "--bounding-set=" + left, "--no-new-privs", "/usr/bin/env", "PATH=" + bin + ":/usr/bin:/bin:/usr/sbin:/sbin"};
  };
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  const Node& node = nodes_[0];
  EXPECT_NE(slurp("/proc/" + std::to_string(node.pid) + "/status").find("CapEff:\t0000000000000006"), std::string::npos);
  run(node, {"volume", "create", "vol", node.address + ":" + others + "/brick", "force"});
  const pid_t starting = spawn({std::string(VOLDFS_BINARY_DIR) + "/voldctl", "--mode=script", "--run-dir=" + node.dir + "/run", "--state-dir=" + node.state(), "volume", "start", "vol"}, "/dev/null", "/dev/null");
  EXPECT_TRUE(eventually([&] { return slurp(top_ + "/asked").starts_with("enable --now --no-block voldbrick@"); })) << slurp(node.dir + "/daemon.log");
  ::kill(starting, SIGKILL);  // nobody serves the brick, and it waits for that
  ::waitpid(starting, nullptr, 0);
  EXPECT_TRUE(fs::is_directory(others + "/brick"));
  EXPECT_EQ(std::distance(fs::directory_iterator(node.dir + "/etc/bricks"), fs::directory_iterator()), 2);  // its flags, and the note of its directory
  const Output doctor = ctl(node, {"doctor", "--conf-dir=" + node.dir + "/etc"});
  EXPECT_NE(doctor.out.find("nobody serves it"), std::string::npos) << doctor;
  EXPECT_EQ(doctor.out.find("Permission denied"), std::string::npos) << doctor;
  EXPECT_EQ(slurp(node.dir + "/daemon.log").find("[error]"), std::string::npos) << slurp(node.dir + "/daemon.log");
}

// systemctl is a stand-in that notes what it was asked, and does what the unit says.
TEST_F(MgmtPlacesFault, Systemd_UnitIsEnabledAndDisabled) {
  const std::string bin = top_ + "/bin";
  fs::create_directories(bin);
  std::ofstream(bin + "/systemctl") << "#!/bin/bash\necho \"$*\" >>" << top_ << "/asked\n"
                                    << "unit=${@: -1}; id=${unit#voldbrick@}; id=${id%.service}\n"
                                    << "case $1 in\n"
                                    << "enable) setsid " << VOLDFS_BINARY_DIR << "/voldbrick --flagfile=" << top_ << "/2/etc/bricks/$id.conf </dev/null >/dev/null 2>&1 & ;;\n"
                                    << "disable) kill $(cat " << top_ << "/2/vol-brick/.voldfs/lock) ;;\nesac\n";
  fs::permissions(bin + "/systemctl", fs::perms::all);
  add_flag("--brick_manager=systemd");
  wrap_ = [&](const Node&) { return std::vector<std::string>{"/usr/bin/env", "PATH=" + bin + ":/usr/bin:/bin:/usr/sbin:/sbin"}; };
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  run(nodes_[0], {"volume", "start", "vol"});
  const auto map = dht::VolumeMap::parse(run(nodes_[0], {"volume", "map", "vol"}));
  ASSERT_TRUE(map);
  const std::string unit = "voldbrick@" + map->bricks[0].id.uuid() + ".service";
  EXPECT_EQ(slurp(top_ + "/asked"), "enable --now --no-block " + unit + "\n");
  // It logs to the journal, and its unit reads the flags from where they are.
  const std::string conf = slurp(nodes_[0].dir + "/etc/bricks/" + map->bricks[0].id.uuid() + ".conf");
  EXPECT_EQ(conf.find("--log_file"), std::string::npos) << conf;
  EXPECT_NE(slurp(std::string(VOLDFS_SOURCE_DIR) + "/tools/systemd/voldbrick@.service.in").find("--flagfile=/etc/voldfs/bricks/%i.conf"), std::string::npos);
  // A daemon that comes back starts nothing.
  kill_node(nodes_[0]);
  ASSERT_NO_FATAL_FAILURE(start_node(nodes_[0]));
  run(nodes_[0], {"volume", "set", "vol", "user.x", "1"});
  run(nodes_[0], {"volume", "stop", "vol"});
  EXPECT_EQ(slurp(top_ + "/asked"), "enable --now --no-block " + unit + "\ndisable --now --no-block " + unit + "\n");
}

}  // namespace
}  // namespace voldfs
