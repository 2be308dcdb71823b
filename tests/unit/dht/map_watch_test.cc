#include "dht/map_watch.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <vector>

namespace voldfs::dht {
namespace {

class MapWatchTest : public testing::Test {
 protected:
  // Waits until the fetch has been called so often.
  void await(size_t count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(asked_more_.wait_for(lock, std::chrono::seconds(20), [&] { return asked_.size() >= count; }));
  }
  MapWatch::Fetch fetch() {
    return [this](uint16_t ordinal) {
      const std::lock_guard lock(mutex_);
      asked_.push_back(ordinal);
      asked_more_.notify_all();
      return ordinal != down_;
    };
  }

  std::mutex mutex_;
  std::condition_variable asked_more_;
  std::vector<uint16_t> asked_;
  uint16_t down_ = 0;
};

TEST_F(MapWatchTest, Behind_IsFetchedOnce) {
  MapWatch watch(fetch());
  watch.behind(3);
  await(1);
  watch.stop();
  EXPECT_EQ(asked_, std::vector<uint16_t>{3});
}

TEST_F(MapWatchTest, BrickThatIsDown_IsAskedAgainUntilAnotherTells) {
  down_ = 1;
  MapWatch watch(fetch());
  watch.behind(1);
  await(2);
  EXPECT_EQ(asked_[1], 1);
  watch.behind(2);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const auto last = [&] {
    const std::lock_guard lock(mutex_);
    return asked_.back();
  };
  while (last() != 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(last(), 2);
}

TEST_F(MapWatchTest, Stop_EndsTheWaitForAnotherTry) {
  down_ = 1;
  MapWatch watch(fetch());
  watch.behind(1);
  await(1);
  watch.stop();  // and returns
}

}  // namespace
}  // namespace voldfs::dht
