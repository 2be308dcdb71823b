#include "fuse/mount_options.h"

#include <gmock/gmock.h>
#include <sys/mount.h>

namespace voldfs::fuse {
namespace {

using testing::HasSubstr;

std::string refused(std::string_view text) {
  MountOptions options;
  const auto parsed = parse_mount_options(text, false, options);
  return parsed ? "" : parsed.error();
}

TEST(MountOptions, AllKinds_AreTaken) {
  MountOptions options;
  const auto parsed = parse_mount_options(
      "ro,nosuid,_netdev,x-systemd.automount,attribute-timeout=2.5,on-brick-down=error,brick-timeout=30,log-level=DEBUG,"
      "subdir-mount=a/b,backup-volfile-servers=h1:h2,passthrough=off,transport=tcp",
      false, options);
  ASSERT_TRUE(parsed) << parsed.error();
  EXPECT_EQ(options.mount_flags, static_cast<unsigned long>(MS_RDONLY | MS_NOSUID));
  EXPECT_EQ(options.behaviour.attribute_timeout_s, 2.5);
  EXPECT_EQ(options.on_brick_down, client::OnBrickDown::kError);
  EXPECT_EQ(options.brick_timeout_s, 30u);
  EXPECT_EQ(options.log_level, "debug");
  EXPECT_EQ(options.subdirectory, "a/b");
  EXPECT_FALSE(options.behaviour.passthrough);
  EXPECT_FALSE(options.unix_sockets);
  EXPECT_THAT(options.servers, testing::ElementsAre("h1", "h2"));
}

TEST(MountOptions, LastOneOfTwo_Counts) {
  MountOptions options;
  ASSERT_TRUE(parse_mount_options("ro,rw,noallow_other", false, options));
  EXPECT_EQ(options.mount_flags, 0u);
  EXPECT_FALSE(options.allow_other);
}

TEST(MountOptions, Unknown_IsRefusedWithTheNearest) {
  EXPECT_THAT(refused("atribute-timeout=1"), HasSubstr("did you mean \"attribute-timeout=\""));
  EXPECT_THAT(refused("zzzzzzzzzzzz"), testing::Not(HasSubstr("did you mean")));
}

TEST(MountOptions, WrongValues_AreRefused) {
  EXPECT_THAT(refused("attribute-timeout=-1"), HasSubstr("wants seconds"));
  EXPECT_THAT(refused("connections=0"), HasSubstr("wants a number"));
  EXPECT_THAT(refused("on-brick-down=maybe"), HasSubstr("wait or error"));
  EXPECT_THAT(refused("passthrough=perhaps"), HasSubstr("wants on or off"));
  EXPECT_THAT(refused("transport=rdma"), HasSubstr("wants auto or tcp"));
  EXPECT_THAT(refused("ro=1"), HasSubstr("takes no value"));
  EXPECT_THAT(refused("log-file"), HasSubstr("wants a value"));
}

TEST(MountOptions, Sloppy_PassesOver) {
  MountOptions options;
  EXPECT_TRUE(parse_mount_options("whatever=1,ro", true, options));
  EXPECT_EQ(options.mount_flags, static_cast<unsigned long>(MS_RDONLY));
}

}  // namespace
}  // namespace voldfs::fuse
