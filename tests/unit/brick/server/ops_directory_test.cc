#include "tests/unit/brick/server/names_fixture.h"

namespace voldfs::server {
namespace {

class OpsDirectory : public NamesTest {
 protected:
  static constexpr uint8_t kMember = wire::kRoleMember;
};

bool operator==(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

TEST_F(OpsDirectory, Mkdir_AtHome_IsCountedAndFoundAfterARestart) {
  const Id id = made("dir");
  EXPECT_EQ(1u, subdirectories(kRootId));
  brick_.restart();
  EXPECT_EQ(1u, subdirectories(kRootId));
  created("file", id);
  EXPECT_TRUE(exists("dir/file"));
  EXPECT_EQ(EEXIST, mkdir("dir").status);
}

TEST_F(OpsDirectory, Mkdir_BackupsCopy_IsNotCountedAndLeavesTheParentsTime) {
  age(".");
  const auto before = mtime(".");
  ASSERT_EQ(0, mkdir("dir", Id::random(), kRootId, wire::kRoleBackup).status);
  EXPECT_EQ(0u, subdirectories(kRootId));
  EXPECT_TRUE(before == mtime("."));
  EXPECT_EQ(wire::kRoleBackup, lookup("dir").body<wire::EntryBody>().dir.role);
}

TEST_F(OpsDirectory, Rmdir_Whole_LeavesATombstone) {
  const Id id = made("dir");
  created("file", id);
  EXPECT_EQ(ENOTEMPTY, rmdir("dir", id).status);
  EXPECT_EQ(0, unlink("file", 0, {}, id).status);
  EXPECT_EQ(0, rmdir("dir", id).status);
  EXPECT_EQ(0u, subdirectories(kRootId));
  EXPECT_EQ(wire::kDirRemoved, create("late", O_RDWR, Id::random(), id).status);
  EXPECT_EQ(wire::kDirRemoved, materialize("dir", id, kMember).status);
  EXPECT_EQ(wire::kDirRemoved, mkdir("dir", id).status);
  brick_.restart();
  EXPECT_EQ(wire::kDirRemoved, materialize("dir", id, kMember).status);
}

TEST_F(OpsDirectory, Rmdir_WithSkeletonsAndCopies_IsEmpty) {
  const Id dir = made("dir"), skeleton = Id::random(), member = Id::random();
  ASSERT_EQ(0, materialize("skeleton", skeleton, wire::kRoleSkeleton, dir).status);
  ASSERT_EQ(0, materialize("member", member, kMember, dir).status);
  created("kept", member);
  ASSERT_EQ(0, rmdir("dir", dir).status);
  EXPECT_FALSE(exists("dir"));
  EXPECT_EQ(0, lookup("kept", member).status);  // parked, and found by its id
  EXPECT_TRUE(exists(".voldfs/parked/" + member.hex() + "/kept"));
}

TEST_F(OpsDirectory, Rmdir_SetOfSeveral_GoesInPhases) {
  const Id dir = made("dir"), txn = Id::random();
  ASSERT_EQ(0, brick_.call(Op::kSetGrow, wire::SetGrowBody{dir, 2, 0, 0, 0}).status);
  const auto begun = rmdir("dir", {}, wire::RemovePhase::kWhole, txn);
  EXPECT_EQ(0, begun.status);
  EXPECT_EQ(dir, begun.body<wire::EntryBody>().object.id);
  EXPECT_EQ(wire::DirState::kRemoving, begun.body<wire::EntryBody>().dir.state);
  EXPECT_TRUE(begun.body<wire::EntryBody>().dir.set.has(2));
  EXPECT_TRUE(exists("dir"));
  EXPECT_EQ(wire::kDirRemoved, create("late", O_RDWR, Id::random(), dir).status);
  EXPECT_EQ(wire::kDirRemoved, brick_.call(Op::kSetGrow, wire::SetGrowBody{dir, 3, 0, 0, 0}).status);
  EXPECT_EQ(0, rmdir("dir", dir, wire::RemovePhase::kCancel, txn).status);
  created("file", dir);
  EXPECT_EQ(ENOTEMPTY, rmdir("dir", dir, wire::RemovePhase::kBegin, txn).status);
  unlink("file", 0, {}, dir);
  EXPECT_EQ(0, rmdir("dir", dir, wire::RemovePhase::kBegin, txn).status);
  EXPECT_EQ(wire::kTxnDecided, rmdir("dir", dir, wire::RemovePhase::kCommit, Id::random()).status);
  EXPECT_EQ(0, rmdir("dir", dir, wire::RemovePhase::kCommit, txn).status);
  EXPECT_EQ(0, rmdir("dir", dir, wire::RemovePhase::kCommit, txn).status);  // said again
  EXPECT_FALSE(exists("dir"));
  EXPECT_EQ(0u, subdirectories(kRootId));
}

TEST_F(OpsDirectory, Rmdir_Member_RefusesWhatIsNotEmptyAndCanBeTakenBack) {
  const Id dir = Id::random(), never = Id::random();
  ASSERT_EQ(0, materialize("dir", dir, kMember).status);
  created("file", dir);
  EXPECT_EQ(ENOTEMPTY, rmdir("", dir, wire::RemovePhase::kMember).status);
  unlink("file", 0, {}, dir);
  age(".");
  const auto before = mtime(".");
  EXPECT_EQ(0, rmdir("", dir, wire::RemovePhase::kMember).status);
  EXPECT_TRUE(before == mtime("."));
  EXPECT_EQ(0, rmdir("", never, wire::RemovePhase::kMember).status);  // never was here: a tombstone all the same
  EXPECT_EQ(wire::kDirRemoved, materialize("never", never, kMember).status);
  EXPECT_EQ(0, rmdir("", dir, wire::RemovePhase::kCancel).status);
  EXPECT_EQ(0, materialize("dir", dir, kMember).status);
}

TEST_F(OpsDirectory, Materialize_TakesAttributesOverAndLeavesTheParentsTime) {
  const Id dir = Id::random();
  age(".");
  const auto before = mtime(".");
  const auto answer = materialize("dir", dir, kMember);
  ASSERT_EQ(0, answer.status);
  EXPECT_TRUE(before == mtime("."));
  const auto entry = answer.body<wire::EntryBody>();
  EXPECT_EQ(uint32_t(S_IFDIR | 0711), entry.attr.mode);
  EXPECT_EQ(12u, entry.attr.uid);
  EXPECT_EQ(34u, entry.attr.gid);
  EXPECT_EQ(0, materialize("dir", dir, kMember).status);  // said again
  EXPECT_EQ(0u, subdirectories(kRootId));
}

TEST_F(OpsDirectory, Materialize_WithoutItsParent_IsRefused) {
  EXPECT_EQ(wire::kDirAbsent, materialize("dir", Id::random(), kMember, Id::random()).status);
}

TEST_F(OpsDirectory, Materialize_WherePathsConflict_ParksWhatIsMereCopy) {
  const Id old_copy = Id::random(), new_copy = Id::random(), beside_file = Id::random();
  ASSERT_EQ(0, materialize("dir", old_copy, kMember).status);
  ASSERT_EQ(0, materialize("dir", new_copy, kMember).status);
  EXPECT_TRUE(exists(".voldfs/parked/" + old_copy.hex()));
  EXPECT_EQ(0, create("a", O_RDWR, Id::random(), old_copy).status);
  EXPECT_EQ(0, create("b", O_RDWR, Id::random(), new_copy).status);
  EXPECT_TRUE(exists("dir/b"));
  const Id file = created("file");
  ASSERT_EQ(0, materialize("file", beside_file, kMember).status);
  EXPECT_EQ(file, id_at("file"));
  EXPECT_EQ(0, create("c", O_RDWR, Id::random(), beside_file).status);
  // A name that this brick is the authority of takes its place from a copy.
  created("dir");
  EXPECT_TRUE(exists(".voldfs/parked/" + new_copy.hex()));
}

TEST_F(OpsDirectory, Refs_OfOldRecordsAndEpochs_AreRefused) {
  const Id dir = Id::random();
  ASSERT_EQ(0, materialize("dir", dir, kMember).status);
  const auto behind = brick_.call(Op::kLookup, wire::NameBody{{dir, 9, 1, 0}}, "x");
  EXPECT_EQ(wire::kDirBehind, behind.status);
  EXPECT_EQ(1u, behind.body<wire::DirBody>().dir.change);
  wire::MaterializeBody body{record(dir, kRootId, kMember), {}};
  body.record.change = 9, body.record.epoch = 2, body.attr.mode = S_IFDIR | 0700;
  EXPECT_EQ(0, brick_.call(Op::kDirRefresh, body, "dir").status);
  EXPECT_EQ(ENOENT, brick_.call(Op::kLookup, wire::NameBody{{dir, 9, 2, 0}}, "x").status);
  const auto old = brick_.call(Op::kLookup, wire::NameBody{{dir, 9, 1, 0}}, "x");
  EXPECT_EQ(wire::kEpochOld, old.status);
  EXPECT_EQ(2u, old.body<wire::DirBody>().dir.epoch);
}

TEST_F(OpsDirectory, DirUpdate_MovesACopyToItsNewPath) {
  const Id dir = Id::random(), to = made("to");
  ASSERT_EQ(0, materialize("dir", dir, kMember).status);
  created("file", dir);
  age("to");
  const auto before = mtime("to");
  EXPECT_EQ(0, brick_.call(Op::kDirUpdate, wire::DirUpdateBody{dir, to, Id::random(), 5}, "new").status);
  EXPECT_TRUE(exists("to/new/file"));
  EXPECT_TRUE(before == mtime("to"));
  EXPECT_EQ(0, brick_.call(Op::kDirUpdate, wire::DirUpdateBody{dir, to, Id::random(), 5}, "new").status);
}

TEST_F(OpsDirectory, SetGrow_CountsOnceAndExports) {
  const Id dir = made("dir");
  const auto first = brick_.call(Op::kSetGrow, wire::SetGrowBody{dir, 7, 0, 0, 0});
  ASSERT_EQ(0, first.status);
  EXPECT_EQ("dir", first.reply.name);
  EXPECT_TRUE(first.body<wire::EntryBody>().dir.set.has(7));
  EXPECT_EQ(2u, first.body<wire::EntryBody>().dir.change);
  EXPECT_EQ(2u, brick_.call(Op::kSetGrow, wire::SetGrowBody{dir, 7, 0, 0, 0}).body<wire::EntryBody>().dir.change);
  const Id member = Id::random();
  materialize("member", member, kMember);
  EXPECT_EQ(wire::kDirAbsent, brick_.call(Op::kSetGrow, wire::SetGrowBody{member, 7, 0, 0, 0}).status);
}

}  // namespace
}  // namespace voldfs::server
