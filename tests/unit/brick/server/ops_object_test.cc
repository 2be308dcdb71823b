#include "brick/server/ops_object.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "brick/store/directories.h"
#include "tests/unit/brick/server/test_brick.h"

namespace voldfs::server {
namespace {

using wire::Op;

class OpsObjectTest : public testing::Test {
 protected:
  struct stat stat_of(const std::string& name) {
    struct stat attr{};
    EXPECT_EQ(0, ::lstat((brick_ / name).c_str(), &attr));
    return attr;
  }
  TestBrick::Answer setattr(const wire::ObjectRef& ref, uint32_t valid, const wire::Attr& attr,
                            const TestBrick::Caller& caller = {}) {
    wire::SetattrBody body{};
    body.object = ref, body.valid = valid, body.attr = attr;
    return brick_.call(Op::kSetattr, body, {}, {}, caller);
  }
  TestBrick::Answer open(const wire::ObjectRef& ref, uint32_t flags, const TestBrick::Caller& caller = {},
                         uint32_t wanted = 0) {
    wire::OpenBody body{};
    body.object = ref, body.flags = flags, body.open = wanted;
    return brick_.call(Op::kOpen, body, {}, {}, caller);
  }

  TestBrick brick_;
};

TEST_F(OpsObjectTest, Getattr_OfEachType_TellsWhatStatTells) {
  store::RootScope root;
  brick_.make_file("file", "content", 0640);
  ASSERT_EQ(0, ::mkfifo((brick_ / "fifo").c_str(), 0600));
  ASSERT_EQ(0, ::symlink("target", (brick_ / "link").c_str()));
  ASSERT_EQ(0, ::mknod((brick_ / "device").c_str(), S_IFCHR | 0600, makedev(7, 9)));
  for (const char* name : {"file", "fifo", "link", "device"}) {
    wire::ObjectBody body{};
    body.object = brick_.refer(name);
    const auto answer = brick_.call(Op::kGetattr, body);
    ASSERT_EQ(0, answer.status) << name;
    const auto entry = answer.body<wire::EntryBody>();
    const struct stat native = stat_of(name);
    EXPECT_EQ(native.st_mode, entry.attr.mode) << name;
    EXPECT_EQ(native.st_size, static_cast<off_t>(entry.attr.size)) << name;
    EXPECT_EQ(native.st_nlink, entry.attr.nlink) << name;
    EXPECT_EQ(native.st_mtim.tv_nsec, static_cast<long>(entry.attr.mtime_ns)) << name;
    EXPECT_NE(0, entry.attr.btime) << name;
    EXPECT_EQ(body.object.id, entry.object.id) << name;
  }
}

TEST_F(OpsObjectTest, Getattr_OfTheRoot_HasItsRecord) {
  wire::ObjectBody body{};
  body.object.id = kRootId;
  const auto answer = brick_.call(Op::kGetattr, body);
  ASSERT_EQ(0, answer.status);
  const auto entry = answer.body<wire::EntryBody>();
  EXPECT_EQ(wire::ObjectType::kDirectory, entry.type);
  EXPECT_TRUE(entry.dir.role & wire::kRoleHome);
}

TEST_F(OpsObjectTest, GetattrMany_WithSomeAbsent_TellsThoseByModeZero) {
  const wire::ObjectRef here = brick_.make_file("here"), gone = brick_.make_file("gone");
  ASSERT_EQ(0, ::unlink((brick_ / "gone").c_str()));
  const wire::ObjectRef refs[] = {gone, here};
  wire::RequestView view;
  const std::string_view data(reinterpret_cast<const char*>(refs), sizeof refs);
  const auto answer = brick_.call(Op::kGetattrMany, std::array<char, 0>{}, {}, data);
  ASSERT_EQ(0, answer.status);
  const std::string entries = answer.text();
  ASSERT_EQ(2 * sizeof(wire::EntryBody), entries.size());
  wire::EntryBody first, second;
  std::memcpy(&first, entries.data(), sizeof first);
  std::memcpy(&second, entries.data() + sizeof first, sizeof second);
  EXPECT_EQ(0u, first.attr.mode);
  EXPECT_EQ(here.id, second.object.id);
  EXPECT_EQ(0644u, second.attr.mode & 07777);
}

TEST_F(OpsObjectTest, Setattr_EachField_IsWhatWasAsked) {
  const wire::ObjectRef ref = brick_.make_file("file", "content");
  wire::Attr attr{};
  attr.mode = 02751, attr.uid = 1000, attr.gid = 1001, attr.size = 3;
  attr.atime = 1'000'000, attr.atime_ns = 1, attr.mtime = -5, attr.mtime_ns = 999'999'999;
  const auto answer = setattr(ref, wire::kSetMode | wire::kSetUid | wire::kSetGid | wire::kSetSize | wire::kSetAtime |
                                       wire::kSetMtime, attr);
  ASSERT_EQ(0, answer.status);
  const auto told = answer.body<wire::EntryBody>().attr;
  const struct stat native = stat_of("file");
  EXPECT_EQ(02751u, native.st_mode & 07777);
  EXPECT_EQ(1000u, native.st_uid);
  EXPECT_EQ(1001u, native.st_gid);
  EXPECT_EQ(3, native.st_size);
  EXPECT_EQ(1'000'000, native.st_atim.tv_sec);
  EXPECT_EQ(-5, native.st_mtim.tv_sec);
  EXPECT_EQ(999'999'999, native.st_mtim.tv_nsec);
  EXPECT_EQ(native.st_mode, told.mode);
  EXPECT_EQ(-5, told.mtime);
}

TEST_F(OpsObjectTest, Setattr_OfASymlinkAndAFifo_ChangesThemAlone) {
  ASSERT_EQ(0, ::symlink("fifo", (brick_ / "link").c_str()));
  ASSERT_EQ(0, ::mkfifo((brick_ / "fifo").c_str(), 0600));
  wire::Attr attr{};
  attr.uid = 1234, attr.mtime = 77, attr.mode = 0640;
  ASSERT_EQ(0, setattr(brick_.refer("link"), wire::kSetUid | wire::kSetMtime, attr).status);
  EXPECT_EQ(1234u, stat_of("link").st_uid);
  EXPECT_EQ(77, stat_of("link").st_mtim.tv_sec);
  EXPECT_EQ(0u, stat_of("fifo").st_uid);
  ASSERT_EQ(0, setattr(brick_.refer("fifo"), wire::kSetMode, attr).status);
  EXPECT_EQ(0640u, stat_of("fifo").st_mode & 07777);
  EXPECT_EQ(EOPNOTSUPP, setattr(brick_.refer("link"), wire::kSetMode, attr).status);
  EXPECT_EQ(EINVAL, setattr(brick_.refer("fifo"), wire::kSetSize, attr).status);
}

TEST_F(OpsObjectTest, Setattr_WithHostileValues_IsRefused) {
  const wire::ObjectRef ref = brick_.make_file("file");
  wire::Attr attr{};
  EXPECT_EQ(EINVAL, setattr(ref, 1u << 31, attr).status);
  attr.mtime_ns = UTIME_NOW;
  EXPECT_EQ(EINVAL, setattr(ref, wire::kSetMtime, attr).status);
  attr.size = UINT64_MAX;
  EXPECT_EQ(EINVAL, setattr(ref, wire::kSetSize, attr).status);
  attr.size = 0;
  wire::ObjectRef root{};
  root.id = kRootId;
  EXPECT_EQ(EISDIR, setattr(root, wire::kSetSize, attr).status);
  attr.mode = S_IFDIR | 0600;
  EXPECT_EQ(0, setattr(ref, wire::kSetMode, attr).status);
  EXPECT_EQ(S_IFREG | 0600u, stat_of("file").st_mode);
}

TEST_F(OpsObjectTest, SetSize_ByAnOtherUser_TakesSuidAway) {
  const wire::ObjectRef ref = brick_.make_file("file", "content", 04755);
  wire::Attr attr{};
  ASSERT_EQ(0, setattr(ref, wire::kSetSize, attr).status);
  EXPECT_EQ(04755u, stat_of("file").st_mode & 07777) << "root's truncation leaves it";
  ASSERT_EQ(0, setattr(ref, wire::kSetSize | wire::kKillPrivileges, attr).status);
  EXPECT_EQ(0755u, stat_of("file").st_mode & 07777) << "asked for by the client's kernel";
  ASSERT_EQ(0, ::chmod((brick_ / "file").c_str(), 04755));
  ASSERT_EQ(0, setattr(ref, wire::kSetSize, attr, {1000, 1000}).status);
  EXPECT_EQ(0755u, stat_of("file").st_mode & 07777);
}

TEST_F(OpsObjectTest, Setattr_OfADirectory_CountsAtHomeAndIsSetAtMembers) {
  wire::SetattrBody body{};
  body.object.id = kRootId, body.valid = wire::kSetMode, body.attr.mode = 0711;
  const uint64_t before = brick_.store().directories().find(kRootId).value()->record().change;
  const auto answer = brick_.call(Op::kSetattr, body);
  ASSERT_EQ(0, answer.status);
  EXPECT_EQ(before + 1, answer.body<wire::EntryBody>().dir.change);
  body.change = before + 2, body.attr.mode = 0722;
  EXPECT_EQ(before + 2, brick_.call(Op::kSetattr, body).body<wire::EntryBody>().dir.change);
  body.change = before + 10;
  EXPECT_EQ(wire::kDirBehind, brick_.call(Op::kSetattr, body).status) << "it has missed the ones before";
  body.change = before + 1, body.attr.mode = 0733;
  const auto late = brick_.call(Op::kSetattr, body);
  EXPECT_EQ(0, late.status);
  EXPECT_EQ(0722u, late.body<wire::EntryBody>().attr.mode & 07777) << "an older change does not undo a newer one";
}

TEST_F(OpsObjectTest, Chmod_WithAnAcl_ChangesItsMask) {
  const wire::ObjectRef ref = brick_.make_file("file", "", 0640);
  // user::rw-, user:1000:rwx, group::r--, mask::rwx, other::---: struct posix_acl_xattr_entry.
  struct Entry {
    uint16_t tag, perm;
    uint32_t id;
  };
  struct {
    uint32_t version = 2;
    Entry entries[5] = {{1, 6, ~0u}, {2, 7, 1000}, {4, 4, ~0u}, {0x10, 7, ~0u}, {0x20, 0, ~0u}};
  } acl;
  wire::XattrBody body{};
  body.object = ref;
  const std::string_view value(reinterpret_cast<const char*>(&acl), sizeof acl);
  const auto set = brick_.call(Op::kSetxattr, body, "system.posix_acl_access", value);
  ASSERT_EQ(0, set.status);
  EXPECT_EQ(0670u, set.body<wire::EntryBody>().attr.mode & 07777) << "the mask shows as the group's permissions";
  wire::Attr attr{};
  attr.mode = 0600;
  ASSERT_EQ(0, setattr(ref, wire::kSetMode, attr).status);
  body.size_max = 1000;
  const auto got = brick_.call(Op::kGetxattr, body, "system.posix_acl_access").text();
  ASSERT_EQ(sizeof acl, got.size());
  EXPECT_EQ(0, got[4 + 3 * 8 + 2]) << "the mask follows chmod";
}

TEST_F(OpsObjectTest, Readlink_TellsTheTarget_AndNothingOfOthers) {
  const std::string target(4000, 't');
  ASSERT_EQ(0, ::symlink(target.c_str(), (brick_ / "link").c_str()));
  wire::ObjectBody body{};
  body.object = brick_.refer("link");
  EXPECT_EQ(target, brick_.call(Op::kReadlink, body).text());
  body.object = brick_.make_file("file");
  EXPECT_EQ(EINVAL, brick_.call(Op::kReadlink, body).status);
}

TEST_F(OpsObjectTest, Open_OfWhatIsNoFile_IsRefused) {
  ASSERT_EQ(0, ::mkfifo((brick_ / "fifo").c_str(), 0600));
  ASSERT_EQ(0, ::symlink("x", (brick_ / "link").c_str()));
  EXPECT_EQ(ENXIO, open(brick_.refer("fifo"), O_RDONLY).status);
  EXPECT_EQ(ELOOP, open(brick_.refer("link"), O_RDONLY).status);
  EXPECT_EQ(EISDIR, open({kRootId, {}}, O_RDONLY).status);
  EXPECT_EQ(0u, brick_.store().open_files().count());
}

TEST_F(OpsObjectTest, Open_WithTruncate_EmptiesAndTakesSuidAway) {
  const wire::ObjectRef ref = brick_.make_file("file", "content", 04755);
  const auto answer = open(ref, O_WRONLY | O_TRUNC, {1000, 1000});
  ASSERT_EQ(0, answer.status);
  const auto entry = answer.body<wire::EntryBody>();
  EXPECT_NE(0u, entry.open);
  EXPECT_EQ(0u, entry.attr.size);
  EXPECT_EQ(0755u, stat_of("file").st_mode & 07777);
}

TEST_F(OpsObjectTest, Open_OfAnAppendOnlyFile_NeedsOAppend) {
  const wire::ObjectRef ref = brick_.make_file("file", "one");
  wire::SetattrBody body{};
  body.object = ref, body.attr_flags = FS_APPEND_FL;
  wire::ObjectBody get{};
  get.object = ref;
  body.attr_flags |= static_cast<uint32_t>(brick_.call(Op::kFlagsGet, get).body<wire::OffsetReply>().offset);
  ASSERT_EQ(0, brick_.call(Op::kFlagsSet, body).status);
  EXPECT_EQ(EPERM, open(ref, O_RDWR).status);
  EXPECT_EQ(0, open(ref, O_RDWR | O_APPEND).status);
  body.attr_flags &= ~static_cast<uint32_t>(FS_APPEND_FL);
  EXPECT_EQ(0, brick_.call(Op::kFlagsSet, body).status);
}

TEST_F(OpsObjectTest, FlagsSet_OfHowTheFileIsStored_IsRefused) {
  wire::SetattrBody body{};
  body.object = brick_.make_file("file");
  body.attr_flags = FS_JOURNAL_DATA_FL | FS_EXTENT_FL;
  EXPECT_EQ(EOPNOTSUPP, brick_.call(Op::kFlagsSet, body).status);
}

TEST_F(OpsObjectTest, Release_SentAgain_Succeeds) {
  wire::OpenRef ref{};
  ref.open = open(brick_.make_file("file"), O_RDONLY).body<wire::EntryBody>().open;
  EXPECT_EQ(0, brick_.call(Op::kRelease, ref).status);
  EXPECT_EQ(wire::kOpenUnknown, brick_.call(Op::kRelease, ref).status);
  TestBrick::Caller again;
  again.flags = wire::kFlagResend;
  EXPECT_EQ(0, brick_.call(Op::kRelease, ref, {}, {}, again).status);
}

TEST_F(OpsObjectTest, OpenUnlinked_AcrossARestart_IsReclaimedAndHasNoLinks) {
  const wire::ObjectRef ref = brick_.make_file("file", "content");
  const uint32_t number = open(ref, O_RDWR).body<wire::EntryBody>().open;
  ASSERT_TRUE(brick_.store().open_files().keep(brick_.store().root(), "file", ref.id).has_value());
  brick_.restart();
  TestBrick::Caller reclaim;
  reclaim.flags = wire::kFlagReclaim;
  const auto answer = open(ref, O_RDWR, reclaim, number);
  ASSERT_EQ(0, answer.status);
  EXPECT_EQ(number, answer.body<wire::EntryBody>().open);
  EXPECT_EQ(0u, answer.body<wire::EntryBody>().attr.nlink);
  brick_.store().end_grace();
  wire::IoBody io{};
  io.open = number, io.size = 100;
  EXPECT_EQ("content", brick_.call(Op::kRead, io).text());
  wire::ObjectBody by_id{};
  by_id.object.id = ref.id;
  EXPECT_EQ(0, brick_.call(Op::kGetattr, by_id).status);
  wire::OpenRef release{};
  release.open = number;
  ASSERT_EQ(0, brick_.call(Op::kRelease, release).status);
  by_id.object = ref;
  EXPECT_EQ(wire::kStaleHandle, brick_.call(Op::kGetattr, by_id).status);
}

TEST_F(OpsObjectTest, Statfs_IsTheFileSystems) {
  const auto answer = brick_.call(Op::kStatfs, std::array<char, 0>{});
  ASSERT_EQ(0, answer.status);
  const auto reply = answer.body<wire::StatfsReply>();
  EXPECT_GT(reply.blocks, reply.blocks_free);
  EXPECT_EQ(255u, reply.name_max);
  EXPECT_FALSE(reply.file_system.is_none());
}

}  // namespace
}  // namespace voldfs::server
