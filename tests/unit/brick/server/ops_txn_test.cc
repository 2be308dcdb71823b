#include "tests/unit/brick/server/names_fixture.h"

namespace voldfs::server {
namespace {

class OpsTxn : public NamesTest {
 protected:
  // A rename to "new" of an object that lies on another brick.
  wire::TxnRecord prepared(const Id& object, const Id& replaced = {}, wire::TxnKind kind = wire::TxnKind::kRename,
                           wire::ObjectType type = wire::ObjectType::kFile) {
    wire::TxnRecord record{};
    record.txn = Id::random(), record.client = Id::random();
    record.from = {kRootId, other_}, record.to = {kRootId, here()};
    record.object.brick = other_, record.object.object = object, record.object.type = type;
    record.replaced.object = replaced;
    if (!replaced.is_none()) record.replaced.brick = here(), record.replaced.type = wire::ObjectType::kFile;
    record.kind = kind, record.state = wire::TxnState::kPrepared;
    EXPECT_EQ(0, brick_.call_names(Op::kTxnPrepare, record, "old", "new").status);
    return record;
  }
  Id here() { return brick_.store().identity().brick; }
  Answer ask(Op op, const Id& txn) { return brick_.call(op, wire::TxnRef{txn, {}, {}}); }
  wire::TxnState state(const Id& txn) { return ask(Op::kTxnStatus, txn).body<wire::TxnRecord>().state; }
  wire::MarkBody mark(const Id& txn, const Id& expected) { return {ref(kRootId), txn, other_, expected}; }

  const Id other_ = Id::random();
};

TEST_F(OpsTxn, Commit_PutsThePreparedStubInPlace) {
  const Id object = Id::random();
  const auto record = prepared(object);
  EXPECT_EQ(ENOENT, lookup("new").status);
  EXPECT_EQ(wire::TxnState::kPrepared, state(record.txn));
  const auto committed = ask(Op::kTxnCommit, record.txn);
  ASSERT_EQ(0, committed.status);
  EXPECT_EQ("old", committed.reply.name);
  EXPECT_EQ("new", committed.reply.name2);
  const auto entry = lookup("new").body<wire::EntryBody>();
  EXPECT_EQ(wire::EntryKind::kStub, entry.kind);
  EXPECT_EQ(object, entry.link.object);
  EXPECT_EQ(wire::LinkState::kPending, entry.link.state);
  EXPECT_EQ(0, ask(Op::kTxnCommit, record.txn).status);  // said again
  EXPECT_EQ(wire::kTxnDecided, ask(Op::kTxnAbort, record.txn).status);
  brick_.restart();
  EXPECT_EQ(wire::TxnState::kCommitted, state(record.txn));
  EXPECT_EQ(0, ask(Op::kTxnFinish, record.txn).status);
  EXPECT_EQ(0, ask(Op::kTxnFinish, record.txn).status);
  EXPECT_EQ(wire::LinkState::kCommitted, lookup("new").body<wire::EntryBody>().link.state);
  EXPECT_EQ(wire::kTxnUnknown, ask(Op::kTxnStatus, record.txn).status);
}

TEST_F(OpsTxn, Abort_WinsOverACommitThatComesLate) {
  const auto record = prepared(Id::random());
  EXPECT_EQ(EBUSY, ask(Op::kTxnFinish, record.txn).status);
  EXPECT_EQ(0, ask(Op::kTxnAbort, record.txn).status);
  EXPECT_EQ(0, ask(Op::kTxnAbort, record.txn).status);
  EXPECT_EQ(wire::kTxnDecided, ask(Op::kTxnCommit, record.txn).status);
  EXPECT_EQ(ENOENT, lookup("new").status);
  EXPECT_EQ(0, ask(Op::kTxnFinish, record.txn).status);
  EXPECT_EQ(wire::kTxnUnknown, ask(Op::kTxnCommit, record.txn).status);
}

TEST_F(OpsTxn, Commit_WhenTheNameLeadsElsewhereThanPrepared_IsRefused) {
  const auto record = prepared(Id::random());
  const Id intruder = created("new");
  const auto answer = ask(Op::kTxnCommit, record.txn);
  EXPECT_EQ(wire::kOtherId, answer.status);
  EXPECT_EQ(intruder, answer.body<wire::EntryBody>().object.id);
  EXPECT_EQ(wire::TxnState::kPrepared, state(record.txn));
}

TEST_F(OpsTxn, Commit_OverAnOpenFile_KeepsIt) {
  const auto old = create("new").body<wire::EntryBody>();
  const auto record = prepared(Id::random(), old.object.id);
  ASSERT_EQ(0, ask(Op::kTxnCommit, record.txn).status);
  EXPECT_TRUE(exists(".voldfs/open/" + old.object.id.hex()));
  EXPECT_EQ(wire::EntryKind::kStub, lookup("new").body<wire::EntryBody>().kind);
}

TEST_F(OpsTxn, Commit_OverADirectory_NeedsItEmpty) {
  const Id target = made("new");
  created("file", target);
  wire::TxnRecord record{};
  record.txn = Id::random(), record.to = {kRootId, here()}, record.from = {kRootId, other_};
  record.object.brick = other_, record.object.object = Id::random(), record.object.type = wire::ObjectType::kDirectory;
  record.replaced.object = target, record.replaced.brick = here(), record.replaced.type = wire::ObjectType::kDirectory;
  record.kind = wire::TxnKind::kRename, record.state = wire::TxnState::kPrepared;
  ASSERT_EQ(0, brick_.call_names(Op::kTxnPrepare, record, "old", "new").status);
  EXPECT_EQ(ENOTEMPTY, ask(Op::kTxnCommit, record.txn).status);
  unlink("file", 0, {}, target);
  ASSERT_EQ(0, ask(Op::kTxnCommit, record.txn).status);
  EXPECT_EQ(record.object.object, lookup("new").body<wire::EntryBody>().link.object);
  EXPECT_EQ(wire::kDirRemoved, create("late", O_RDWR, Id::random(), target).status);
  EXPECT_EQ(1u, subdirectories(kRootId));
}

TEST_F(OpsTxn, Mark_IsToldUntilTheNameLeaves) {
  const Id object = created("old"), txn = Id::random();
  EXPECT_EQ(wire::kOtherId, brick_.call(Op::kTxnMark, mark(txn, Id::random()), "old").status);
  ASSERT_EQ(0, brick_.call(Op::kTxnMark, mark(txn, object), "old").status);
  ASSERT_EQ(0, brick_.call(Op::kTxnMark, mark(txn, object), "old").status);
  EXPECT_EQ(wire::kLeaving, brick_.call(Op::kTxnMark, mark(Id::random(), object), "old").status);
  const auto entry = lookup("old").body<wire::EntryBody>();
  EXPECT_EQ(1, entry.leaving);
  EXPECT_EQ(txn, entry.link.txn);
  EXPECT_EQ(other_, entry.link.brick);
  EXPECT_EQ(wire::kLeaving, unlink("old").status);
  EXPECT_EQ(wire::kLeaving, rename("old", "x").status);
  EXPECT_EQ(0, brick_.call(Op::kTxnUnmark, mark(txn, object), "old").status);
  EXPECT_EQ(0, lookup("old").body<wire::EntryBody>().leaving);
}

TEST_F(OpsTxn, Leave_ObjectGoesToParkedAndIsSettledUnderItsNewName) {
  const Id object = created("old"), txn = Id::random(), dir = Id::random();
  const auto handle = lookup("old").body<wire::EntryBody>().object;
  ASSERT_EQ(0, materialize("dir", dir, wire::kRoleMember).status);
  ASSERT_EQ(0, brick_.call(Op::kTxnMark, mark(txn, object), "old").status);
  ASSERT_EQ(0, brick_.call(Op::kTxnLeave, mark(txn, object), "old").status);
  ASSERT_EQ(0, brick_.call(Op::kTxnLeave, mark(txn, object), "old").status);
  EXPECT_EQ(ENOENT, lookup("old").status);
  EXPECT_EQ(0, brick_.call(Op::kGetattr, wire::ObjectBody{handle, 0, 0}).status);  // found by its handle all the while
  age("dir");
  const auto before = mtime("dir");
  const wire::SettleBody body{handle, kRootId, dir, {}, txn};
  ASSERT_EQ(0, brick_.call_names(Op::kSettle, body, "old", "new").status);
  ASSERT_EQ(0, brick_.call_names(Op::kSettle, body, "old", "new").status);
  EXPECT_TRUE(exists("dir/new"));
  EXPECT_EQ(before.tv_sec, mtime("dir").tv_sec);
  EXPECT_EQ(0, lookup("new", dir).body<wire::EntryBody>().leaving);
}

TEST_F(OpsTxn, Settle_BeforeLeave_TakesTheNameAlong) {
  const Id object = created("old"), txn = Id::random();
  const auto handle = lookup("old").body<wire::EntryBody>().object;
  ASSERT_EQ(0, brick_.call(Op::kTxnMark, mark(txn, object), "old").status);
  ASSERT_EQ(0, brick_.call_names(Op::kSettle, wire::SettleBody{handle, kRootId, kRootId, {}, txn}, "old", "new").status);
  EXPECT_EQ(ENOENT, lookup("old").status);
  EXPECT_EQ(object, id_at("new"));
  created("old");  // somebody else's by now
  ASSERT_EQ(0, brick_.call(Op::kTxnLeave, mark(txn, object), "old").status);
  EXPECT_EQ(0, lookup("old").status);
}

TEST_F(OpsTxn, Settle_OverTheStubThatLedToIt_AndOverNothingElse) {
  const Id object = created("old");
  const auto handle = lookup("old").body<wire::EntryBody>().object;
  const auto record = prepared(object);
  ASSERT_EQ(0, ask(Op::kTxnCommit, record.txn).status);
  created("other");
  EXPECT_EQ(wire::kOtherId, brick_.call_names(Op::kSettle, wire::SettleBody{handle, kRootId, kRootId, {}, {}}, "old", "other").status);
  ASSERT_EQ(0, brick_.call_names(Op::kSettle, wire::SettleBody{handle, kRootId, kRootId, {}, {}}, "old", "new").status);
  EXPECT_EQ(wire::EntryKind::kObject, lookup("new").body<wire::EntryBody>().kind);
  EXPECT_EQ(0, ask(Op::kTxnFinish, record.txn).status);
}

TEST_F(OpsTxn, Commit_OfAnExchange_ParksTheObjectThatLivesOn) {
  const Id here_object = created("new"), there_object = Id::random();
  const auto handle = lookup("new").body<wire::EntryBody>().object;
  const auto record = prepared(there_object, here_object, wire::TxnKind::kExchange);
  ASSERT_EQ(0, ask(Op::kTxnCommit, record.txn).status);
  EXPECT_EQ(there_object, lookup("new").body<wire::EntryBody>().link.object);
  ASSERT_EQ(0, brick_.call_names(Op::kSettle, wire::SettleBody{handle, kRootId, kRootId, {}, {}}, "new", "old").status);
  EXPECT_EQ(here_object, id_at("old"));
}

TEST_F(OpsTxn, List_TellsOfAll) {
  prepared(Id::random());
  const auto answer = brick_.call(Op::kTxnList, wire::TxnRef{});
  ASSERT_EQ(0, answer.status);
  EXPECT_EQ((sizeof(wire::TxnRecord) + 8 + 6 + 7) / 8 * 8, answer.reply.data.size());
}

TEST_F(OpsTxn, VolumeLock_IsOneTransactionsAtATime) {
  const Id one = Id::random(), two = Id::random();
  EXPECT_EQ(0, brick_.call(Op::kVolumeLock, wire::VolumeLockBody{1, 0, one}).status);
  EXPECT_EQ(0, brick_.call(Op::kVolumeLock, wire::VolumeLockBody{1, 0, one}).status);
  EXPECT_EQ(EAGAIN, brick_.call(Op::kVolumeLock, wire::VolumeLockBody{1, 0, two}).status);
  EXPECT_EQ(0, brick_.call(Op::kVolumeLock, wire::VolumeLockBody{0, 0, one}).status);
  EXPECT_EQ(0, brick_.call(Op::kVolumeLock, wire::VolumeLockBody{1, 0, two}).status);
}

}  // namespace
}  // namespace voldfs::server
