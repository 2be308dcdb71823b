#include "dht/grants.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

namespace voldfs::dht {
namespace {

wire::Reply reply(const Grants::Asking& asking, uint64_t sequence, uint32_t grant_ms) {
  wire::Reply reply;
  reply.header.object_sequence = sequence;
  reply.header.grant_ms = grant_ms;
  asking.note(reply);
  return reply;
}

Grant grant(const Grants& grants, uint16_t brick, uint64_t sequence, uint32_t grant_ms = 20'000) {
  return grant_of(reply(grants.ask(brick), sequence, grant_ms));
}

double seconds(const Grants& grants, const Grant& given) {
  return Grants::Delivery(grants).seconds(kRootId, std::array{given});
}

TEST(Grants, Delivery_Untouched_LastsWhatIsLeft) {
  Grants grants;
  const Grant given = grant(grants, 1, 5);
  EXPECT_GT(seconds(grants, given), 15);
  EXPECT_LE(seconds(grants, given), 20);
}

TEST(Grants, Delivery_NoGrant_IsZero) {
  Grants grants;
  EXPECT_EQ(seconds(grants, grant(grants, 1, 5, 0)), 0);
  EXPECT_EQ(Grants::Delivery(grants).seconds(kRootId, {}), 0);
}

TEST(Grants, Delivery_OlderThanRecall_IsZero) {
  Grants grants;
  const Grant before = grant(grants, 1, 5);
  grants.recalled(1, kRootId, 6);
  const Grant after = grant(grants, 1, 6);
  EXPECT_EQ(seconds(grants, before), 0);
  EXPECT_GT(seconds(grants, after), 0);
}

TEST(Grants, Delivery_RecallOfAnotherBrick_DoesNotCount) {
  Grants grants;
  const Grant given = grant(grants, 1, 5);
  grants.recalled(2, kRootId, 60);
  EXPECT_GT(seconds(grants, given), 0);
}

TEST(Grants, Delivery_AskedBeforeBrickForgot_IsZero) {
  Grants grants;
  const Grants::Asking asking = grants.ask(1);
  grants.dropped(1);
  EXPECT_EQ(seconds(grants, grant_of(reply(asking, 5, 20'000))), 0);
  EXPECT_GT(seconds(grants, grant(grants, 1, 1)), 0);
}

TEST(Grants, Delivery_OneOfSeveralGone_IsZero) {
  Grants grants;
  const std::array both{grant(grants, 1, 5),
                        grant(grants, 2, 9)};
  EXPECT_GT(Grants::Delivery(grants).seconds(kRootId, both), 0);
  grants.recalled(2, kRootId, 10);
  EXPECT_EQ(Grants::Delivery(grants).seconds(kRootId, both), 0);
}

TEST(Grants, Recalled_WhileDelivering_WaitsForTheDelivery) {
  Grants grants;
  std::atomic<bool> recalled{false};
  std::thread recaller;
  {
    Grants::Delivery delivery(grants);
    recaller = std::thread([&] {
      grants.recalled(1, kRootId, 1);
      recalled = true;
    });
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    EXPECT_FALSE(recalled);
  }
  recaller.join();
  EXPECT_TRUE(recalled);
}

}  // namespace
}  // namespace voldfs::dht
