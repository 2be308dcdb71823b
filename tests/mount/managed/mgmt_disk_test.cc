#include "tests/lib/mgmt_nodes.h"

// The disk under a node's state: full, failing, or without what was not flushed.

namespace voldfs {
namespace {

using namespace test;

class MgmtDiskFault : public MgmtNodes {
 protected:
  ~MgmtDiskFault() override {
    for (Node& node : nodes_) kill_node(node);
    for (const std::string& mounted : mounts_) static_cast<void>(shell("umount -l " + mounted));
  }

  // Node `n` gets a file system of its own for its state, before it is started.
  void give_tmpfs(size_t n, const std::string& size) {
    give(n, [size](const Node& node) { return "mount -t tmpfs -o size=" + size + " tmpfs " + node.state(); });
  }
  // An ext4 in a file: the file is what a disk has on it when the power goes. Nothing is written behind but what is flushed.
  void give_disk(size_t n) {
    give(n, [](const Node& node) {
      const std::string image = node.dir + "/disk.img";
      return "truncate -s 48M " + image + " && mkfs.ext4 -q -E lazy_itable_init=0 " + image + " && mount -o loop,commit=300 " + image + " " + node.state();
    });
  }

  static void fill(const Node& node) {
    std::ofstream file(node.state() + "/filler", std::ios::binary);
    const std::string block(65536, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  Output set(const Node& node, const std::string& value) { return ctl(node, {"volume", "set", "vol", "user.x", value}); }
  bool has(const Node& node, const std::string& value) { return ctl(node, {"volume", "get", "vol", "user.x"}).out.find(value) != std::string::npos; }

  std::vector<std::string> mounts_;

 private:
  void give(size_t n, std::function<std::string(const Node&)> line) {
    wrap_ = [this, n, line = std::move(line)](const Node& node) {
      if (nodes_.size() == n) {
        fs::create_directories(node.state());
        const Output made = shell(line(node));
        EXPECT_EQ(made.code, 0) << made;
        mounts_.push_back(node.state());
      }
      return std::vector<std::string>{};
    };
  }
};

TEST_F(MgmtDiskFault, Full_ChangesAreRefusedInWordsAndGoOnWhenThereIsRoom) {
  give_tmpfs(0, "16m");
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  fill(nodes_[0]);
  // What the log has set aside it still uses; then it refuses, and says why. It neither hangs nor ends.
  Output refused;
  std::vector<std::string> much = {"volume", "set", "vol"};
  for (int i = 0; i < 50; ++i) much.insert(much.end(), {"user." + std::to_string(i), std::string(4000, 'y')});
  ASSERT_TRUE(eventually([&] { return (refused = ctl(nodes_[0], much)).code == 1; }, 60s));
  EXPECT_NE(refused.err.find("is full"), std::string::npos) << refused;
  EXPECT_NE(refused.err.find("Nothing was changed"), std::string::npos) << refused;
  EXPECT_EQ(run(nodes_[0], {"volume", "list"}), "vol\n");
  EXPECT_NE(ctl(nodes_[0], {"doctor", "--conf-dir=" + nodes_[0].dir + "/etc"}).out.find("nearly full"), std::string::npos);
  fs::remove(nodes_[0].state() + "/filler");
  Output last;
  EXPECT_TRUE(eventually([&] { return (last = set(nodes_[0], "after")).code == 0; })) << last;
  EXPECT_TRUE(has(nodes_[0], "after"));
  EXPECT_FALSE(ended(nodes_[0]));
}

TEST_F(MgmtDiskFault, FullOnOneOfThree_TheOthersGoOnAndItCatchesUp) {
  give_tmpfs(2, "16m");
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  fill(nodes_[2]);
  Output last;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(eventually([&] { return (last = set(nodes_[0], std::to_string(i) + std::string(4000, 'z'))).code == 0; })) << i << last;
  }
  fs::remove(nodes_[2].state() + "/filler");
  EXPECT_TRUE(eventually([&] { return has(nodes_[2], "19z"); }));
  EXPECT_FALSE(ended(nodes_[2]));
}

// What was answered was flushed: it is in the image, whatever the kernel had not written yet.
TEST_F(MgmtDiskFault, PowerLost_WhatWasAnsweredIsThere) {
  give_disk(0);
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  create_volume("vol");
  Node& node = nodes_[0];
  for (int i = 0; i < 3; ++i) {
    const std::string value = "value" + std::to_string(i);
    run(node, {"volume", "set", "vol", "user.x", value});
    // A file that nobody flushed shows that the test loses such things.
    std::ofstream(node.state() + "/unflushed" + std::to_string(i)) << std::string(100'000, 'u');
    kill_node(node);
    const Output copied = shell("cp " + node.dir + "/disk.img " + node.dir + "/after.img && umount " + node.state() + " && mv " + node.dir + "/after.img " + node.dir + "/disk.img && mount -o loop,commit=300 " + node.dir + "/disk.img " + node.state());
    ASSERT_EQ(copied.code, 0) << copied;
    EXPECT_NE(slurp(node.state() + "/unflushed" + std::to_string(i)).size(), 100'000u);
    ASSERT_NO_FATAL_FAILURE(start_node(node));
    EXPECT_TRUE(eventually([&] { return has(node, value); }));
    EXPECT_FALSE(fs::exists(node.state() + "/log.lost"));
  }
}

// A power loss that takes flushed entries back too (a disk that lies): the second copy of the promises tells, and the node does
// not vote with what it forgot.
TEST_F(MgmtDiskFault, DiskLied_NodeDoesNotVoteWithWhatItForgot) {
  give_disk(2);
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  Node& node = nodes_[2];
  ASSERT_TRUE(eventually([&] { return all_see("vol\n"); }));
  ASSERT_EQ(shell("sync; cp " + node.dir + "/disk.img " + node.dir + "/old.img").code, 0);
  for (int i = 0; i < 5; ++i) run(nodes_[0], {"volume", "set", "vol", "user.x", "value" + std::to_string(i)});
  ASSERT_TRUE(eventually([&] { return has(node, "value4"); }));
  kill_node(node);
  const Output back = shell("umount " + node.state() + " && mv " + node.dir + "/old.img " + node.dir + "/disk.img && mount -o loop " + node.dir + "/disk.img " + node.state());
  ASSERT_EQ(back.code, 0) << back;
  ASSERT_NO_FATAL_FAILURE(start_node(node));
  EXPECT_TRUE(eventually([&] { return has(node, "value4"); }));
  EXPECT_NE(slurp(node.dir + "/daemon.log").find("knows less than this node has promised"), std::string::npos);
  EXPECT_TRUE(eventually([&] { return set(node, "after").code == 0; }));
}

// The disk of a loop device without room for it answers every write with EIO.
TEST_F(MgmtDiskFault, WritesFail_TheOthersGoOnAndItSaysSo) {
  ASSERT_EQ(shell("mkdir -p " + top_ + "/under && mount -t tmpfs -o size=24m tmpfs " + top_ + "/under").code, 0);
  mounts_.push_back(top_ + "/under");
  wrap_ = [this](const Node& node) {
    if (nodes_.size() == 2) {
      fs::create_directories(node.state());
      const std::string image = top_ + "/under/disk.img";
      const Output made = shell("truncate -s 512M " + image + " && mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=1,nodiscard " + image + " && mount -o loop,errors=continue " + image + " " + node.state());
      EXPECT_EQ(made.code, 0) << made;
      mounts_.insert(mounts_.begin(), node.state());
    }
    return std::vector<std::string>{};
  };
  ASSERT_NO_FATAL_FAILURE(add_nodes(3));
  join_all();
  create_volume("vol");
  ASSERT_TRUE(eventually([&] { return all_see("vol\n"); }));
  {  // from now on no block that was not written before can be
    std::ofstream file(top_ + "/under/filler", std::ios::binary);
    const std::string block(65536, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  Output last;
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(eventually([&] { return (last = set(nodes_[0], std::to_string(i) + std::string(4000, 'z'))).code == 0; })) << i << last;
  }
  fs::remove(top_ + "/under/filler");
  // It may have ended, or be about to: what did not reach the disk is found out when it is flushed.
  EXPECT_TRUE(eventually([&] {
    if (ended(nodes_[2])) start_node(nodes_[2]);
    return has(nodes_[2], "299z");
  }, 60s)) << slurp(nodes_[2].dir + "/daemon.log");
}

}  // namespace
}  // namespace voldfs
