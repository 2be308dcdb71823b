#include "dht/held_locks.h"

#include <gmock/gmock.h>

namespace voldfs::dht {
namespace {

const Id kFile = Id::from_bytes("0123456789abcdef");

wire::LockBody lock(uint64_t owner, wire::LockType type, uint64_t start, uint64_t end) {
  wire::LockBody body{};
  body.object.id = kFile;
  body.owner.owner = owner;
  body.kind = wire::LockKind::kPosix;
  body.type = type;
  body.start = start, body.end = end;
  return body;
}

TEST(HeldLocks, UnlockInTheMiddle_BothEnds_Stay) {
  HeldLocks held;
  int via = 0;
  held.apply(lock(1, wire::LockType::kWrite, 0, 99), &via);
  held.apply(lock(1, wire::LockType::kUnlock, 40, 59), &via);
  EXPECT_EQ(held.size(), 2u);
  EXPECT_TRUE(held.covers(lock(1, wire::LockType::kWrite, 0, 39)));
  EXPECT_TRUE(held.covers(lock(1, wire::LockType::kWrite, 60, 99)));
  EXPECT_FALSE(held.covers(lock(1, wire::LockType::kWrite, 39, 40)));
}

TEST(HeldLocks, OtherType_ReplacesTheRange) {
  HeldLocks held;
  held.apply(lock(1, wire::LockType::kWrite, 0, 99), nullptr);
  held.apply(lock(1, wire::LockType::kRead, 0, 99), nullptr);
  EXPECT_EQ(held.size(), 1u);
  EXPECT_FALSE(held.covers(lock(1, wire::LockType::kWrite, 0, 99)));
}

TEST(HeldLocks, Drop_OneOwner_LeavesTheOther) {
  HeldLocks held;
  held.apply(lock(1, wire::LockType::kRead, 0, 99), nullptr);
  held.apply(lock(2, wire::LockType::kRead, 0, 99), nullptr);
  EXPECT_TRUE(held.drop(lock(1, wire::LockType::kUnlock, 0, 0)));
  EXPECT_FALSE(held.drop(lock(1, wire::LockType::kUnlock, 0, 0)));
  EXPECT_TRUE(held.covers(lock(2, wire::LockType::kRead, 5, 6)));
}

TEST(HeldLocks, GiveUp_Unlock_IsGoneAtOnce) {
  HeldLocks held;
  held.apply(lock(1, wire::LockType::kWrite, 0, 99), nullptr);
  EXPECT_TRUE(held.give_up(lock(1, wire::LockType::kUnlock, 50, 99)).empty());
  EXPECT_TRUE(held.covers(lock(1, wire::LockType::kWrite, 0, 49)));
  EXPECT_FALSE(held.covers(lock(1, wire::LockType::kWrite, 49, 50)));
}

TEST(HeldLocks, GiveUp_WriteToRead_IsReadUntilRefused) {
  HeldLocks held;
  int via = 0;
  held.apply(lock(1, wire::LockType::kWrite, 0, 49), &via);
  const auto before = held.give_up(lock(1, wire::LockType::kRead, 40, 99));
  EXPECT_TRUE(held.covers(lock(1, wire::LockType::kRead, 40, 49)));
  EXPECT_TRUE(held.covers(lock(1, wire::LockType::kWrite, 0, 39)));
  EXPECT_FALSE(held.covers(lock(1, wire::LockType::kRead, 50, 99)));  // not granted yet
  EXPECT_EQ(held.taken_via(kFile, &via).size(), 2u);
  held.restore(before);
  EXPECT_TRUE(held.covers(lock(1, wire::LockType::kWrite, 40, 49)));
}

TEST(HeldLocks, GiveUp_StrongerOrMore_KeepsWhatThereIs) {
  HeldLocks held;
  held.apply(lock(1, wire::LockType::kRead, 0, 49), nullptr);
  EXPECT_TRUE(held.give_up(lock(1, wire::LockType::kWrite, 0, 99)).empty());
  EXPECT_TRUE(held.covers(lock(1, wire::LockType::kRead, 0, 49)));
}

TEST(HeldLocks, GiveUp_FlockConversion_OldLockIsGone) {
  HeldLocks held;
  auto shared = lock(1, wire::LockType::kRead, 0, 99), alone = lock(1, wire::LockType::kWrite, 0, 99);
  shared.kind = alone.kind = wire::LockKind::kFlock;
  held.apply(shared, nullptr);
  EXPECT_TRUE(held.give_up(alone).empty());
  EXPECT_EQ(held.size(), 0u);
}

TEST(HeldLocks, TakenVia_NamesTheOpen) {
  HeldLocks held;
  int one = 0, two = 0;
  held.apply(lock(1, wire::LockType::kRead, 0, 9), &one);
  held.apply(lock(1, wire::LockType::kRead, 20, 29), &two);
  ASSERT_EQ(held.taken_via(kFile, &two).size(), 1u);
  EXPECT_EQ(held.taken_via(kFile, &two)[0].start, 20u);
}

}  // namespace
}  // namespace voldfs::dht
