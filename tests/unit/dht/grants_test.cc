#include "dht/grants.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

namespace voldfs::dht {
namespace {

wire::ReplyHeader header(uint64_t sequence, uint32_t grant_ms) {
  wire::ReplyHeader header{};
  header.object_sequence = sequence;
  header.grant_ms = grant_ms;
  return header;
}

double seconds(const Grants& grants, const Grant& grant) {
  return Grants::Delivery(grants).seconds(std::array{grant});
}

TEST(Grants, Delivery_Untouched_LastsWhatIsLeft) {
  Grants grants;
  const Grant grant = Grants::from(header(5, 20'000), grants.ask(1), 1, kRootId);
  EXPECT_GT(seconds(grants, grant), 15);
  EXPECT_LE(seconds(grants, grant), 20);
}

TEST(Grants, Delivery_NoGrant_IsZero) {
  Grants grants;
  EXPECT_EQ(seconds(grants, Grants::from(header(5, 0), grants.ask(1), 1, kRootId)), 0);
  EXPECT_EQ(Grants::Delivery(grants).seconds({}), 0);
}

TEST(Grants, Delivery_OlderThanRecall_IsZero) {
  Grants grants;
  const Grant before = Grants::from(header(5, 20'000), grants.ask(1), 1, kRootId);
  grants.recalled(1, kRootId, 6);
  const Grant after = Grants::from(header(6, 20'000), grants.ask(1), 1, kRootId);
  EXPECT_EQ(seconds(grants, before), 0);
  EXPECT_GT(seconds(grants, after), 0);
}

TEST(Grants, Delivery_RecallOfAnotherBrick_DoesNotCount) {
  Grants grants;
  const Grant grant = Grants::from(header(5, 20'000), grants.ask(1), 1, kRootId);
  grants.recalled(2, kRootId, 60);
  EXPECT_GT(seconds(grants, grant), 0);
}

TEST(Grants, Delivery_AskedBeforeBrickForgot_IsZero) {
  Grants grants;
  const Asked asked = grants.ask(1);
  grants.dropped(1);
  EXPECT_EQ(seconds(grants, Grants::from(header(5, 20'000), asked, 1, kRootId)), 0);
  EXPECT_GT(seconds(grants, Grants::from(header(1, 20'000), grants.ask(1), 1, kRootId)), 0);
}

TEST(Grants, Delivery_OneOfSeveralGone_IsZero) {
  Grants grants;
  const std::array both{Grants::from(header(5, 20'000), grants.ask(1), 1, kRootId),
                        Grants::from(header(9, 20'000), grants.ask(2), 2, kRootId)};
  EXPECT_GT(Grants::Delivery(grants).seconds(both), 0);
  grants.recalled(2, kRootId, 10);
  EXPECT_EQ(Grants::Delivery(grants).seconds(both), 0);
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
