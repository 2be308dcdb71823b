#include <sys/xattr.h>

#include <atomic>
#include <map>
#include <thread>

#include "tests/unit/brick/server/names_fixture.h"

namespace voldfs::server {
namespace {

class OpsName : public NamesTest {};

TEST_F(OpsName, Create_NewName_IsOpenAndIsFoundByItsId) {
  const Id id = Id::random();
  const auto answer = create("file", O_RDWR | O_EXCL, id);
  ASSERT_EQ(0, answer.status);
  const auto entry = answer.body<wire::EntryBody>();
  EXPECT_EQ(id, entry.object.id);
  EXPECT_NE(0u, entry.open);
  EXPECT_NE(0u, entry.object.handle.size);
  EXPECT_EQ(0, entry.existed);
  EXPECT_EQ(uint32_t(S_IFREG | 0644), entry.attr.mode);
  ASSERT_EQ(1u, answer.notes.size());
  EXPECT_EQ(id, answer.notes[0].object);
  EXPECT_EQ(id, id_at("file"));
  EXPECT_TRUE(exists("file"));
}

TEST_F(OpsName, Create_NameThatIsThere_OpensItUnlessExclusive) {
  const Id id = created("file");
  EXPECT_EQ(EEXIST, create("file", O_RDWR | O_EXCL).status);
  const auto answer = create("file");
  ASSERT_EQ(0, answer.status);
  EXPECT_EQ(1, answer.body<wire::EntryBody>().existed);
  EXPECT_EQ(id, answer.body<wire::EntryBody>().object.id);
  EXPECT_TRUE(answer.notes.empty());
  made("dir");
  EXPECT_EQ(EISDIR, create("dir").status);
}

TEST_F(OpsName, Create_CallersOwnerUmaskAndSetgidDirectory_AsOnAnyFileSystem) {
  const Id dir = made("shared");
  ASSERT_EQ(0, ::chown((brick_ / "shared").c_str(), 0, 77));
  ASSERT_EQ(0, ::chmod((brick_ / "shared").c_str(), 02777));
  const wire::CreateBody body{ref(dir), Id::random(), 0666, O_RDWR};
  const auto answer = brick_.call(Op::kCreate, body, "file", "", {.uid = 5, .gid = 6, .umask = 027});
  ASSERT_EQ(0, answer.status);
  const auto attr = answer.body<wire::EntryBody>().attr;
  EXPECT_EQ(5u, attr.uid);
  EXPECT_EQ(77u, attr.gid);
  EXPECT_EQ(uint32_t(S_IFREG | 0640), attr.mode);
}

TEST_F(OpsName, OwnDirectory_IsNowhereToBeSeen) {
  EXPECT_EQ(ENOENT, lookup(".voldfs").status);
  EXPECT_EQ(EPERM, create(".voldfs").status);
  EXPECT_EQ(EPERM, mkdir(".voldfs").status);
  EXPECT_EQ(ENOENT, unlink(".voldfs").status);
  created("file");
  EXPECT_EQ(EPERM, rename("file", ".voldfs").status);
  EXPECT_EQ(ENOENT, rename(".voldfs", "mine").status);
  const Id dir = made("dir");
  EXPECT_EQ(0, create(".voldfs", O_RDWR, Id::random(), dir).status);  // elsewhere it is a name like any
}

TEST_F(OpsName, NamesFromTheWire_AreChecked) {
  for (const std::string& name : {std::string(".."), std::string("."), std::string("a/b"), std::string(), std::string("a\0b", 3)}) {
    EXPECT_EQ(EINVAL, create(name).status) << name;
    EXPECT_EQ(EINVAL, lookup(name).status) << name;
  }
  EXPECT_EQ(ENAMETOOLONG, create(std::string(256, 'x')).status);
  EXPECT_EQ(0, create(std::string(255, 'x')).status);
}

TEST_F(OpsName, Lookup_FileThatWasPutByHand_GetsAnId) {
  ASSERT_EQ(0, ::mknod((brick_ / "by-hand").c_str(), S_IFREG | 0600, 0));
  const Id id = id_at("by-hand");
  EXPECT_FALSE(id.is_none());
  EXPECT_EQ(id, id_at("by-hand"));
}

TEST_F(OpsName, Lookup_DirectoryThatWasPutByHand_IsAdoptedAsEpoch0) {
  ASSERT_EQ(0, ::mkdir((brick_ / "by-hand").c_str(), 0755));
  const auto entry = lookup("by-hand").body<wire::EntryBody>();
  EXPECT_EQ(0u, entry.dir.epoch);
  EXPECT_EQ(wire::kRoleHome | wire::kRoleMember | wire::kRoleFound, entry.dir.role);
  EXPECT_EQ(kRootId, entry.dir.parent);
  brick_.restart();
  EXPECT_EQ(entry.object.id, id_at("by-hand"));
  EXPECT_FALSE(created("below", entry.object.id).is_none());
}

TEST_F(OpsName, Unlink_OpenFile_LivesOnUntilItIsClosed) {
  const auto entry = create("file").body<wire::EntryBody>();
  const auto gone = unlink("file");
  ASSERT_EQ(0, gone.status);
  EXPECT_EQ(0u, gone.body<wire::EntryBody>().attr.nlink);
  EXPECT_EQ(ENOENT, lookup("file").status);
  EXPECT_TRUE(exists(".voldfs/open/" + entry.object.id.hex()));
  EXPECT_EQ(0, brick_.call(Op::kRelease, wire::OpenRef{entry.open, 0, 0}).status);
  EXPECT_FALSE(exists(".voldfs/open/" + entry.object.id.hex()));
}

TEST_F(OpsName, Unlink_WhatIsNotExpected_StaysAndIsTold) {
  const Id id = created("file");
  const auto answer = unlink("file", 0, Id::random());
  EXPECT_EQ(wire::kOtherId, answer.status);
  EXPECT_EQ(id, answer.body<wire::EntryBody>().object.id);
  EXPECT_EQ(id, id_at("file"));
  made("dir");
  EXPECT_EQ(EISDIR, unlink("dir").status);
}

TEST_F(OpsName, Link_SecondName_IsTheSameFileUntilTheLastGoes) {
  const auto entry = create("one").body<wire::EntryBody>();
  const auto linked = brick_.call(Op::kLink, wire::LinkBody{ref(kRootId), entry.object, 0, 0, {}}, "two");
  ASSERT_EQ(0, linked.status);
  EXPECT_EQ(2u, linked.body<wire::EntryBody>().attr.nlink);
  EXPECT_EQ(EEXIST, brick_.call(Op::kLink, wire::LinkBody{ref(kRootId), entry.object, 0, 0, {}}, "two").status);
  EXPECT_EQ(1u, unlink("one").body<wire::EntryBody>().attr.nlink);
  EXPECT_EQ(entry.object.id, id_at("two"));
  // rename(2): two names of one file stay as they are.
  EXPECT_EQ(0, brick_.call(Op::kLink, wire::LinkBody{ref(kRootId), entry.object, 0, 0, {}}, "one").status);
  EXPECT_EQ(0, rename("one", "two").status);
  EXPECT_TRUE(exists("one") && exists("two"));
}

TEST_F(OpsName, Tmpfile_GetsItsNameByLink) {
  const auto answer = brick_.call(Op::kTmpfile, wire::CreateBody{ref(kRootId), Id::random(), 0600, O_RDWR});
  ASSERT_EQ(0, answer.status);
  const auto entry = answer.body<wire::EntryBody>();
  EXPECT_EQ(0u, entry.attr.nlink);
  EXPECT_TRUE(exists(".voldfs/open/" + entry.object.id.hex()));
  EXPECT_EQ(0, brick_.call(Op::kLink, wire::LinkBody{ref(kRootId), entry.object, 0, 0, {}}, "named").status);
  EXPECT_FALSE(exists(".voldfs/open/" + entry.object.id.hex()));
  EXPECT_EQ(entry.object.id, id_at("named"));
}

TEST_F(OpsName, Rename_OverAnOpenFile_KeepsItForThoseWhoHaveIt) {
  const auto old = create("target").body<wire::EntryBody>();
  const Id id = created("source");
  const auto answer = rename("source", "target");
  ASSERT_EQ(0, answer.status);
  EXPECT_EQ(id, answer.body<wire::RenameReply>().moved.object.id);
  EXPECT_EQ(old.object.id, answer.body<wire::RenameReply>().replaced.object.id);
  EXPECT_EQ(0u, answer.body<wire::RenameReply>().replaced.attr.nlink);
  EXPECT_EQ(ENOENT, lookup("source").status);
  EXPECT_EQ(id, id_at("target"));
  const auto attr = brick_.call(Op::kGetattr, wire::ObjectBody{old.object, old.open, 0});
  ASSERT_EQ(0, attr.status);
  EXPECT_EQ(0u, attr.body<wire::EntryBody>().attr.nlink);
}

TEST_F(OpsName, Rename_RefusesAsRename2Does) {
  const Id file = created("file"), other = created("other");
  const Id dir = made("dir"), full = made("full");
  created("child", full);
  EXPECT_EQ(EEXIST, rename("file", "other", RENAME_NOREPLACE).status);
  EXPECT_EQ(ENOENT, rename("file", "none", RENAME_EXCHANGE).status);
  EXPECT_EQ(ENOENT, rename("none", "file").status);
  EXPECT_EQ(EISDIR, rename("file", "dir").status);
  EXPECT_EQ(ENOTDIR, rename("dir", "file").status);
  EXPECT_EQ(ENOTEMPTY, rename("dir", "full").status);
  EXPECT_EQ(EINVAL, rename("file", "other", RENAME_NOREPLACE | RENAME_EXCHANGE).status);
  EXPECT_EQ(EINVAL, rename("dir", "below", 0, kRootId, dir, dir).status);
  EXPECT_EQ(0, rename("file", "other", RENAME_EXCHANGE).status);
  EXPECT_EQ(file, id_at("other"));
  EXPECT_EQ(other, id_at("file"));
}

TEST_F(OpsName, Rename_DirectoryToAnotherParent_ChangesRecordAndCounts) {
  const Id one = made("one"), two = made("two"), moved = made("moved", one);
  ASSERT_EQ(1u, subdirectories(one));
  const auto before = lookup("moved", one).body<wire::EntryBody>().dir;
  EXPECT_EQ(wire::kOtherId, rename("moved", "there", 0, one, two).status);  // only by who knows what it is
  ASSERT_EQ(0, rename("moved", "there", 0, one, two, moved).status);
  const auto after = lookup("there", two).body<wire::EntryBody>().dir;
  EXPECT_EQ(two, after.parent);
  EXPECT_GT(after.change, before.change);
  EXPECT_EQ(0u, subdirectories(one));
  EXPECT_EQ(1u, subdirectories(two));
}

TEST_F(OpsName, Rename_OverAnEmptyDirectory_LeavesItsTombstone) {
  const Id moved = made("moved"), target = made("target");
  ASSERT_EQ(2u, subdirectories(kRootId));
  ASSERT_EQ(0, rename("moved", "target").status);
  EXPECT_EQ(moved, id_at("target"));
  EXPECT_EQ(1u, subdirectories(kRootId));
  EXPECT_EQ(wire::kDirRemoved, create("late", O_RDWR, Id::random(), target).status);
}

TEST_F(OpsName, Create_ByTwoThreadsAtOnce_OneMakesIt) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> made{0}, refused{0};
    const std::string name = "race" + std::to_string(round);
    TestBrick* brick = &brick_;
    auto run = [&](const Id& id) {
      const wire::CreateBody body{ref(kRootId), id, 0644, O_RDWR | O_EXCL};
      const int status = brick->call_alone(Op::kCreate, body, name);
      (status == 0 ? made : refused) += status == 0 || status == EEXIST;
    };
    std::thread one(run, Id::random()), two(run, Id::random());
    one.join(), two.join();
    EXPECT_EQ(1, made);
    EXPECT_EQ(1, refused);
  }
}

TEST_F(OpsName, Readdir_PagesWhileNamesComeAndGo_ShowsEachThatStaysOnce) {
  constexpr int kFiles = 500;
  for (int i = 0; i < kFiles; ++i) created("stays" + std::to_string(i));
  for (int i = 0; i < kFiles; ++i) created("goes" + std::to_string(i));
  materialize("skeleton", Id::random(), wire::kRoleSkeleton);
  std::map<std::string, int> seen;
  uint64_t position = 0;
  for (int page = 0;; ++page) {
    const auto answer = brick_.call(Op::kReaddir, wire::ReaddirBody{ref(kRootId), position, 4096, 1});
    ASSERT_EQ(0, answer.status);
    const auto reply = answer.body<wire::ReaddirReply>();
    const std::string data = answer.text();
    size_t at = 0;
    for (uint32_t i = 0; i < reply.count; ++i) {
      wire::DirentHeader header;
      ASSERT_LE(at + sizeof header, data.size());
      std::memcpy(&header, data.data() + at, sizeof header);
      const size_t extra = header.with_attr ? sizeof(wire::Attr) + sizeof(wire::Handle) : 0;
      const std::string name = data.substr(at + sizeof header + extra, header.name_size);
      EXPECT_LT(header.position, uint64_t{1} << 53);
      EXPECT_EQ(0, header.size % 8);
      EXPECT_EQ(1, header.with_attr) << name;
      ++seen[name];
      at += header.size;
    }
    EXPECT_EQ(data.size(), at);
    if (reply.end) break;
    EXPECT_GT(reply.position, position);
    position = reply.position;
    unlink("goes" + std::to_string(page));
    created("comes" + std::to_string(page));
  }
  EXPECT_EQ(0, seen.count(".voldfs") + seen.count(".") + seen.count("..") + seen.count("skeleton"));
  for (int i = 0; i < kFiles; ++i) EXPECT_EQ(1, seen["stays" + std::to_string(i)]) << i;
  for (const auto& [name, times] : seen) EXPECT_EQ(1, times) << name;
}

TEST_F(OpsName, Symlink_KeepsItsTargetAndItsId) {
  const Id id = Id::random();
  const auto answer = brick_.call_names(Op::kSymlink, wire::MakeBody{ref(kRootId), id, S_IFLNK | 0777, 0, 0}, "link", "to/where");
  ASSERT_EQ(0, answer.status);
  EXPECT_EQ(wire::ObjectType::kSymlink, answer.body<wire::EntryBody>().type);
  EXPECT_EQ("to/where", std::filesystem::read_symlink(brick_ / "link"));
  EXPECT_EQ(0, brick_.call(Op::kMknod, wire::MakeBody{ref(kRootId), Id::random(), S_IFIFO | 0600, 0, 0}, "fifo").status);
  const auto device = brick_.call(Op::kMknod, wire::MakeBody{ref(kRootId), Id::random(), S_IFCHR | 0600, 0, (5ull << 32) | 7}, "device");
  ASSERT_EQ(0, device.status);
  EXPECT_EQ((5ull << 32) | 7, device.body<wire::EntryBody>().attr.rdev);
}

}  // namespace
}  // namespace voldfs::server
