#include "brick/server/lock_table.h"

#include <gtest/gtest.h>

#include "brick/wire/status.h"

namespace voldfs::server {
namespace {

using wire::LockBody;
using wire::LockKind;
using wire::LockType;

constexpr uint64_t kEnd = INT64_MAX;
const Id kFile = Id::random(), kOther = Id::random(), kClient = Id::random();

class LockTableTest : public testing::Test {
 protected:
  static LockBody body(uint64_t owner, LockType type, uint64_t start = 0, uint64_t end = kEnd,
                       LockKind kind = LockKind::kPosix, const Id& file = kFile) {
    LockBody lock{};
    lock.object.id = file;
    lock.owner = {kClient, owner};
    lock.start = start, lock.end = end, lock.type = type, lock.kind = kind;
    lock.pid = static_cast<uint32_t>(owner);
    return lock;
  }
  int set(const LockBody& lock, bool wait = false) {
    LockBody conflict;
    const auto result = table_.lock(1, lock, wait, &conflict);
    return result ? 0 : result.error().code;
  }
  int wait(LockBody lock) {
    lock.ticket = ++ticket_;
    return set(lock, true);
  }

  struct Ended {
    uint64_t owner;
    int error;
  };
  std::vector<Ended> ended_;
  uint64_t ticket_ = 0;
  LockTable table_{[this](uint64_t, const LockBody& lock, int error) { ended_.push_back({lock.owner.owner, error}); }};
};

TEST_F(LockTableTest, Write_OverAnothersRead_IsRefusedAndNamesIt) {
  ASSERT_EQ(0, set(body(1, LockType::kRead, 10, 19)));
  EXPECT_EQ(0, set(body(2, LockType::kRead, 0, 99)));
  EXPECT_EQ(EAGAIN, set(body(2, LockType::kWrite, 15, 15)));
  const LockBody holder = table_.test(body(3, LockType::kWrite, 15, 30));
  EXPECT_EQ(LockType::kRead, holder.type);
  EXPECT_EQ(1u, holder.pid);
  EXPECT_EQ(LockType::kUnlock, table_.test(body(3, LockType::kRead)).type);
}

TEST_F(LockTableTest, Unlock_InTheMiddle_LeavesBothEnds) {
  ASSERT_EQ(0, set(body(1, LockType::kWrite, 0, 99)));
  ASSERT_EQ(0, set(body(1, LockType::kUnlock, 40, 59)));
  EXPECT_EQ(2u, table_.count());
  EXPECT_EQ(0, set(body(2, LockType::kWrite, 40, 59)));
  EXPECT_EQ(EAGAIN, set(body(2, LockType::kWrite, 39, 39)));
  EXPECT_EQ(EAGAIN, set(body(2, LockType::kWrite, 60, 60)));
}

TEST_F(LockTableTest, Neighbours_OfOneType_BecomeOne) {
  ASSERT_EQ(0, set(body(1, LockType::kRead, 0, 9)));
  ASSERT_EQ(0, set(body(1, LockType::kRead, 20, 29)));
  ASSERT_EQ(0, set(body(1, LockType::kRead, 10, 19)));
  EXPECT_EQ(1u, table_.count());
  ASSERT_EQ(0, set(body(1, LockType::kWrite, 5, 24)));  // changes the middle: read, write, read
  EXPECT_EQ(3u, table_.count());
}

TEST_F(LockTableTest, Waiters_AreServedInOrder) {
  ASSERT_EQ(0, set(body(1, LockType::kWrite)));
  EXPECT_EQ(wire::kQueued, wait(body(2, LockType::kWrite)));
  EXPECT_EQ(wire::kQueued, wait(body(3, LockType::kWrite)));
  ASSERT_EQ(0, set(body(1, LockType::kUnlock)));
  ASSERT_EQ(1u, ended_.size());
  EXPECT_EQ(2u, ended_[0].owner);
  ASSERT_EQ(0, set(body(2, LockType::kUnlock)));
  ASSERT_EQ(2u, ended_.size());
  EXPECT_EQ(3u, ended_[1].owner);
}

TEST_F(LockTableTest, Wait_ThatClosesACycle_IsEDEADLK) {
  ASSERT_EQ(0, set(body(1, LockType::kWrite)));
  ASSERT_EQ(0, set(body(2, LockType::kWrite, 0, kEnd, LockKind::kPosix, kOther)));
  ASSERT_EQ(wire::kQueued, wait(body(1, LockType::kWrite, 0, kEnd, LockKind::kPosix, kOther)));
  EXPECT_EQ(EDEADLK, wait(body(2, LockType::kWrite)));
  EXPECT_EQ(0, set(body(2, LockType::kUnlock, 0, kEnd, LockKind::kPosix, kOther)));
  ASSERT_EQ(1u, ended_.size());
  EXPECT_EQ(0, ended_[0].error);
}

TEST_F(LockTableTest, Grant_ThatClosesACycle_EndsTheOtherWaitEDEADLK) {
  ASSERT_EQ(0, set(body(1, LockType::kWrite)));
  ASSERT_EQ(0, set(body(3, LockType::kWrite, 0, 0, LockKind::kPosix, kOther)));
  ASSERT_EQ(wire::kQueued, wait(body(2, LockType::kWrite)));                                  // 2 waits for 1
  ASSERT_EQ(wire::kQueued, wait(body(3, LockType::kWrite)));                                  // 3 waits for 1
  ASSERT_EQ(wire::kQueued, wait(body(2, LockType::kWrite, 0, 0, LockKind::kPosix, kOther)));  // 2 waits for 3 too
  ASSERT_EQ(0, set(body(1, LockType::kUnlock)));  // 2 holds now; 3 waits for 2, which waits for 3
  ASSERT_EQ(2u, ended_.size());
  EXPECT_EQ(2u, ended_[0].owner);
  EXPECT_EQ(0, ended_[0].error);
  EXPECT_EQ(3u, ended_[1].owner);
  EXPECT_EQ(EDEADLK, ended_[1].error);
}

TEST_F(LockTableTest, Flock_IsApartFromRecordLocks) {
  ASSERT_EQ(0, set(body(1, LockType::kWrite)));
  EXPECT_EQ(0, set(body(2, LockType::kWrite, 0, kEnd, LockKind::kFlock)));
  EXPECT_EQ(EAGAIN, set(body(3, LockType::kRead, 0, kEnd, LockKind::kFlock)));
  EXPECT_EQ(EAGAIN, set(body(1, LockType::kRead, 0, kEnd, LockKind::kOpenFile)));
}

TEST_F(LockTableTest, FlockConversion_Refused_LosesTheOldLock) {
  ASSERT_EQ(0, set(body(1, LockType::kRead, 0, kEnd, LockKind::kFlock)));
  ASSERT_EQ(0, set(body(2, LockType::kRead, 0, kEnd, LockKind::kFlock)));
  EXPECT_EQ(EAGAIN, set(body(1, LockType::kWrite, 0, kEnd, LockKind::kFlock)));
  EXPECT_EQ(0, set(body(2, LockType::kWrite, 0, kEnd, LockKind::kFlock)));
}

TEST_F(LockTableTest, Cancel_EndsTheWaitOnce) {
  ASSERT_EQ(0, set(body(1, LockType::kWrite)));
  LockBody waiter = body(2, LockType::kWrite);
  waiter.ticket = 7;
  ASSERT_EQ(wire::kQueued, set(waiter, true));
  EXPECT_EQ(wire::kQueued, set(waiter, true));  // sent again
  EXPECT_TRUE(table_.cancel(1, waiter));
  EXPECT_EQ(ENOENT, table_.cancel(1, waiter).error().code);
  ASSERT_EQ(0, set(body(1, LockType::kUnlock)));
  EXPECT_TRUE(ended_.empty());
  EXPECT_EQ(0u, table_.count());
}

TEST_F(LockTableTest, DropSession_FreesItsLocksAndWaits) {
  ASSERT_EQ(0, set(body(1, LockType::kWrite)));
  ASSERT_EQ(wire::kQueued, wait(body(2, LockType::kWrite)));
  LockBody conflict;
  LockBody other = body(9, LockType::kRead);
  other.ticket = 99;
  ASSERT_EQ(wire::kQueued, table_.lock(2, other, true, &conflict).error().code);
  table_.drop_session(1);
  ASSERT_EQ(1u, ended_.size());  // session 2's wait alone
  EXPECT_EQ(9u, ended_.back().owner);
  EXPECT_EQ(1u, table_.count());
}

}  // namespace
}  // namespace voldfs::server
