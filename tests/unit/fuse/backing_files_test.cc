#include "fuse/backing_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>

namespace voldfs::fuse {
namespace {

// With a device that refuses, as the kernel does without the privilege.
class BackingFilesTest : public testing::Test {
 protected:
  static unique_fd file() { return unique_fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
  BackingFiles files_{file()};
  const dht::NodePtr node_ = std::make_shared<dht::Node>(Id::random(), wire::ObjectType::kFile);
};

TEST_F(BackingFilesTest, Refused_GoesThroughTheDaemon_AndIsNotTriedAgain) {
  EXPECT_TRUE(files_.wants(*node_));
  auto use = files_.open(node_, file());
  EXPECT_EQ(use.mode(), BackingFiles::Mode::kDaemon);
  EXPECT_EQ(use.backing_id(), 0);
  EXPECT_EQ(use.descriptor(), -1);
  EXPECT_FALSE(files_.is_on());
  EXPECT_FALSE(files_.wants(*std::make_shared<dht::Node>(Id::random(), wire::ObjectType::kFile)));
  EXPECT_EQ(files_.counters().refused, 1u);
}

TEST_F(BackingFilesTest, OpenWithoutDescriptor_DecidesForThoseBesideIt) {
  auto first = files_.open(node_, {});
  EXPECT_FALSE(files_.wants(*node_));
  auto second = files_.open(node_, file());
  EXPECT_EQ(second.mode(), BackingFiles::Mode::kDaemon);
  first.reset();
  EXPECT_FALSE(files_.wants(*node_));
  auto moved = std::move(second);
  second.reset();
  EXPECT_FALSE(files_.wants(*node_));
  moved.reset();
  EXPECT_TRUE(files_.wants(*node_));
  EXPECT_EQ(files_.counters().refused, 0u);
}

}  // namespace
}  // namespace voldfs::fuse
