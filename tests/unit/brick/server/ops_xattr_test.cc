#include "brick/server/ops_xattr.h"

#include <sys/xattr.h>

#include <algorithm>

#include "tests/unit/brick/server/test_brick.h"

namespace voldfs::server {
namespace {

using wire::Op;

class OpsXattrTest : public testing::Test {
 protected:
  TestBrick::Answer call(Op op, const std::string& name, std::string_view value = {}, uint32_t flags = 0,
                         uint32_t size_max = 0, const TestBrick::Caller& caller = {}) {
    wire::XattrBody body{};
    body.object = ref_, body.flags = flags, body.size_max = size_max;
    return brick_.call(op, body, name, value, caller);
  }
  std::string list(const TestBrick::Caller& caller = {}) {
    std::string names = call(Op::kListxattr, {}, {}, 0, 65536, caller).text();
    std::replace(names.begin(), names.end(), '\0', ' ');
    return names;
  }

  TestBrick brick_;
  wire::ObjectRef ref_ = brick_.make_file("file");
};

TEST_F(OpsXattrTest, SetGetListRemove_DoWhatTheySay) {
  ASSERT_EQ(0, call(Op::kSetxattr, "user.a", "value").status);
  EXPECT_EQ("value", call(Op::kGetxattr, "user.a", {}, 0, 100).text());
  EXPECT_EQ(5u, call(Op::kGetxattr, "user.a").body<wire::OffsetReply>().offset);
  EXPECT_EQ(ERANGE, call(Op::kGetxattr, "user.a", {}, 0, 4).status);
  EXPECT_EQ("user.a ", list());
  EXPECT_EQ(7u, call(Op::kListxattr, {}).body<wire::OffsetReply>().offset);
  EXPECT_EQ(ERANGE, call(Op::kListxattr, {}, {}, 0, 6).status);
  ASSERT_EQ(0, call(Op::kRemovexattr, "user.a").status);
  EXPECT_EQ(ENODATA, call(Op::kRemovexattr, "user.a").status);
  EXPECT_EQ(ENODATA, call(Op::kGetxattr, "user.a", {}, 0, 100).status);
}

TEST_F(OpsXattrTest, Set_WithCreateAndReplace_HeedsThem) {
  EXPECT_EQ(ENODATA, call(Op::kSetxattr, "user.a", "1", XATTR_REPLACE).status);
  const auto created = call(Op::kSetxattr, "user.a", "1", XATTR_CREATE);
  EXPECT_EQ(0, created.status);
  EXPECT_EQ(EEXIST, call(Op::kSetxattr, "user.a", "1", XATTR_CREATE).status);
  EXPECT_EQ(EINVAL, call(Op::kSetxattr, "user.a", "1", 4).status);
}

TEST_F(OpsXattrTest, VoldfssOwn_AreHiddenAndRefused) {
  for (const char* name : {"trusted.voldfs.id", "trusted.voldfs.link", "trusted.voldfs.whatever"}) {
    EXPECT_EQ(ENODATA, call(Op::kGetxattr, name, {}, 0, 100).status);
    EXPECT_EQ(EPERM, call(Op::kSetxattr, name, "0123456789abcdef").status);
    EXPECT_EQ(EPERM, call(Op::kRemovexattr, name).status);
  }
  EXPECT_EQ("", list());
}

TEST_F(OpsXattrTest, Trusted_AreListedToRootAlone) {
  ASSERT_EQ(0, call(Op::kSetxattr, "trusted.mine", "1").status);
  EXPECT_EQ("trusted.mine ", list());
  EXPECT_EQ("", list({1000, 1000}));
}

TEST_F(OpsXattrTest, HostileNames_AreRefused) {
  EXPECT_EQ(EINVAL, call(Op::kGetxattr, "").status);
  EXPECT_EQ(EINVAL, call(Op::kSetxattr, std::string("user.a\0b", 8)).status);
  EXPECT_EQ(ERANGE, call(Op::kSetxattr, "user." + std::string(300, 'x')).status);
  EXPECT_EQ(EOPNOTSUPP, call(Op::kSetxattr, "nonsense").status);
}

TEST_F(OpsXattrTest, Set_OnADirectory_IsCountedAtHome) {
  ref_ = {kRootId, {}};
  const auto set = call(Op::kSetxattr, "user.a", "1");
  ASSERT_EQ(0, set.status);
  const uint64_t change = set.body<wire::EntryBody>().dir.change;
  EXPECT_EQ(change + 1, call(Op::kRemovexattr, "user.a").body<wire::EntryBody>().dir.change);
  EXPECT_EQ("", list());
}

TEST_F(OpsXattrTest, SetAcl_ByACallerOutsideTheGroup_ClearsSetgid) {
  ref_ = brick_.make_file("shared", "", 02775);
  struct Entry {
    uint16_t tag, perm;
    uint32_t id;
  };
  struct {
    uint32_t version = 2;
    Entry entries[3] = {{1, 7, ~0u}, {4, 7, ~0u}, {0x20, 5, ~0u}};
  } acl;
  const std::string_view value(reinterpret_cast<const char*>(&acl), sizeof acl);
  EXPECT_EQ(02775u, call(Op::kSetxattr, "system.posix_acl_access", value).body<wire::EntryBody>().attr.mode & 07777);
  EXPECT_EQ(0775u,
            call(Op::kSetxattr, "system.posix_acl_access", value, 0x100).body<wire::EntryBody>().attr.mode & 07777);
}

}  // namespace
}  // namespace voldfs::server
