#include "dht/delivered_pages.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace voldfs::dht {
namespace {

const Id kDir = Id::from_bytes("0123456789abcdef"), kOther = Id::from_bytes("fedcba9876543210");

TEST(DeliveredPages, NothingUnderWay_NobodyWaits) {
  DeliveredPages pages;
  EXPECT_FALSE(pages.wait(kDir));
  DeliveredPages::Page page;
  page.begin(pages, kDir);
  page.end();
  EXPECT_FALSE(pages.wait(kDir));
}

TEST(DeliveredPages, OfAnotherDirectory_IsNotWaitedFor) {
  DeliveredPages pages;
  DeliveredPages::Page page;
  page.begin(pages, kOther);
  EXPECT_FALSE(pages.wait(kDir));
}

TEST(DeliveredPages, UnderWay_IsWaitedForUntilItEnds) {
  DeliveredPages pages;
  DeliveredPages::Page page;
  page.begin(pages, kDir);
  std::atomic<bool> ended = false;
  std::promise<void> begun;
  auto waiter = std::async(std::launch::async, [&] {
    begun.set_value();
    const bool waited = pages.wait(kDir);
    // Too early only if the machine has slept through the time that a page is waited for.
    return !waited || ended.load();
  });
  begun.get_future().wait();
  ended = true;
  page.end();
  EXPECT_TRUE(waiter.get());
}

TEST(DeliveredPages, NeverEnds_IsWaitedForNoLongerThanItTakes) {
  DeliveredPages pages;
  DeliveredPages::Page page;
  page.begin(pages, kDir);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(pages.wait(kDir));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, DeliveredPages::kLinkedWithin - std::chrono::milliseconds(1));
  EXPECT_FALSE(pages.wait(kDir));  // it is old by now
}

TEST(DeliveredPages, NextPageOfTheDescriptor_EndsTheOneBefore) {
  DeliveredPages pages;
  DeliveredPages::Page page;
  page.begin(pages, kDir);
  page.begin(pages, kOther);
  EXPECT_FALSE(pages.wait(kDir));
}

TEST(DeliveredPages, DeliveredLater_IsNotWaitedFor) {
  DeliveredPages pages;
  DeliveredPages::Page first, second;
  first.begin(pages, kDir);
  std::promise<void> begun;
  auto waiter = std::async(std::launch::async, [&] {
    begun.set_value();
    pages.wait(kDir);
  });
  begun.get_future().wait();
  // Whether the wait has begun by now or not, it ends with the pages that it has seen: one by one descriptor ends, another takes its place.
  for (int i = 0; waiter.wait_for(std::chrono::seconds(0)) != std::future_status::ready; ++i) (i % 2 ? first : second).begin(pages, kDir);
  waiter.get();
}

}  // namespace
}  // namespace voldfs::dht
