#include "fuse/interrupts.h"

#include <gtest/gtest.h>

namespace voldfs::fuse {
namespace {

TEST(InterruptsTest, RequestAtWork_ItsFlagIsSet) {
  Interrupts interrupts;
  std::atomic<bool> flag = false, other = false;
  interrupts.begin(4, flag), interrupts.begin(6, other);
  EXPECT_EQ(interrupts.interrupt(4), 0u);
  EXPECT_TRUE(flag);
  EXPECT_FALSE(other);
}

TEST(InterruptsTest, ComesBeforeItsRequest_IsNotLost) {
  Interrupts interrupts;
  EXPECT_EQ(interrupts.interrupt(4), 0u);
  std::atomic<bool> other = false, flag = false;
  interrupts.begin(2, other), interrupts.begin(4, flag);
  EXPECT_FALSE(other);
  EXPECT_TRUE(flag);
  EXPECT_FALSE(interrupts.park(4, 7, 1));
}

TEST(InterruptsTest, Parked_ItsTicketIsTold_UntilItIsAnswered) {
  Interrupts interrupts;
  std::atomic<bool> flag = false;
  interrupts.begin(4, flag);
  EXPECT_TRUE(interrupts.park(4, 7, 1));
  EXPECT_EQ(interrupts.interrupt(4), 7u);
  EXPECT_FALSE(flag);
  interrupts.end(4);
  EXPECT_EQ(interrupts.interrupt(4), 0u);
}

}  // namespace
}  // namespace voldfs::fuse
