#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>

#include "tests/lib/managed.h"

// tools/quickstart, with the programs of this build.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Quickstart : public testing::Test {
 protected:
  Output quickstart(const std::string& arguments) {
    return shell(std::string(VOLDFS_SOURCE_DIR) + "/tools/quickstart --root=" + root_.string() + " " + arguments);
  }
  std::string pids() { return shell("cat " + root_.string() + "/node*/voldmgmt.pid " + root_.string() + "/brick*/.voldfs/lock").out; }

  const fs::path root_ = fs::path(std::getenv("VOLDFS_TEST_SANDBOX")) / "q";
  const std::string build_ = "--build=" + fs::path(VOLDFS_BINARY_DIR).parent_path().string();
};

TEST_F(Quickstart, TwoNodes_UpTwiceAndDown) {
  const Output up = quickstart(build_);
  ASSERT_EQ(up.code, 0) << up;
  EXPECT_THAT(up.out, HasSubstr("127.0.0.3:" + root_.string() + "/brick2"));
  EXPECT_EQ(shell("findmnt -no SOURCE,FSTYPE " + root_.string() + "/mnt").out, "127.0.0.2:/vol fuse.voldfs\n");
  EXPECT_EQ(shell("ls " + root_.string() + "/mnt/hello | wc -l").out, "8\n");
  EXPECT_EQ(shell("cat " + root_.string() + "/brick*/hello/file1.txt").out, "This is file 1.\n");
  EXPECT_EQ(shell(". " + root_.string() + "/env; voldctl pool list | grep -c Connected").out, "2\n");

  const std::string before = pids();
  const Output again = quickstart("");
  EXPECT_EQ(again.code, 0) << again;
  EXPECT_THAT(again.out, testing::Not(HasSubstr("==> Starting")));
  EXPECT_EQ(pids(), before);

  // All of it ends, and a new start finds what was there.
  EXPECT_EQ(shell("kill -9 $(cat " + root_.string() + "/node*/voldmgmt.pid)").code, 0);
  EXPECT_EQ(quickstart("").code, 0);

  const Output down = quickstart("--down");
  EXPECT_EQ(down.code, 0) << down;
  EXPECT_FALSE(fs::exists(root_));
  EXPECT_FALSE(fs::exists("/sbin/mount.voldfs"));
  EXPECT_EQ(shell("pgrep -c vold").out, "0\n");
}

TEST_F(Quickstart, ThreeNodes_MakeThree) {
  const Output up = quickstart("--nodes=3 " + build_);
  ASSERT_EQ(up.code, 0) << up;
  // A peer that takes longer than a second to answer, on a busy machine, is shown as one that does not.
  const auto three = [&](const std::string& line) { return wait_until(30'000, [&] { return shell(". " + root_.string() + "/env; " + line).out == "3\n"; }); };
  EXPECT_TRUE(three("voldctl pool list | grep -c Connected"));
  EXPECT_TRUE(three("voldctl volume status vol | grep -c ' Y '"));
  EXPECT_NE(quickstart("--nodes=2").code, 0);  // it is there, with three
  EXPECT_EQ(quickstart("--down").code, 0);
}

}  // namespace
}  // namespace voldfs::test
