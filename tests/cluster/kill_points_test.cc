#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "tests/lib/mount.h"
#include "tests/lib/step_points.h"

// Every operation of several steps, killed at each of them: the client, the brick that is asked, or both. What is seen then is the
// old tree or the new one, never anything else; and nothing is wrong on the bricks.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 60'000;

enum class Death { kClient, kBrickBefore, kBrickAfter, kBoth };

std::string to_string(Death death) {
  switch (death) {
    case Death::kClient: return "ClientDies";
    case Death::kBrickBefore: return "BrickDiesBefore";
    case Death::kBrickAfter: return "BrickDiesAfter";
    case Death::kBoth: return "BothDie";
  }
  return {};
}

using Point = std::tuple<size_t, Death>;

class KillPointsFaultSlow : public testing::TestWithParam<Point>, protected StepPoints {
 protected:
  KillPointsFaultSlow() : StepPoints({.bricks = 3, .grace_ms = 200, .down_timeout_ms = 60'000}) {}

  // The operation, with the death at its request number `at`. Bricks are killed by this thread, at a request of which the
  // victim's waits for the end.
  Outcome run_victim(TreeMount& victim, TreeMount&, const std::function<int()>& run, int at) override {
    const Death death = std::get<1>(GetParam());
    std::atomic<int> requests = 0;
    std::atomic<uint16_t> asked = 0;  // the brick that gets request number `at`
    std::atomic<int> op = 0;
    std::atomic<bool> killed = false;
    victim.volume->impl().before_request = [&](uint16_t ordinal, const wire::Request& request) -> Result<void> {
      const int number = requests++;
      if (number > at && (death == Death::kClient || death == Death::kBoth)) return fail(EIO);
      if (number != at) return {};
      if (death == Death::kBrickAfter)
        cluster_.brick(ordinal).faults().dial(static_cast<wire::Op>(request.header().op)).cut_after = 1;
      op = request.header().op;
      asked = ordinal;
      while (death == Death::kBrickBefore && !killed) std::this_thread::yield();
      return {};
    };
    int result = 0;
    std::atomic<bool> ended = false;
    std::thread thread([&] { result = run(), ended = true; });
    if (death == Death::kBrickBefore || death == Death::kBrickAfter) {
      EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return asked != 0 || ended; }));
      if (asked != 0 && death == Death::kBrickAfter) {
        auto& dial = cluster_.brick(asked).faults().dial(static_cast<wire::Op>(op.load()));
        EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return dial.cut_after == 0; }));
      }
      if (asked != 0) {
        cluster_.kill(asked);
        cluster_.restart(asked);
      }
      killed = true;
    }
    thread.join();
    if (death == Death::kBoth && asked != 0) {
      cluster_.kill(asked);
      cluster_.restart(asked);
    }
    victim.volume->impl().before_request = nullptr;
    return {result, requests};
  }

  void end_victim(TreeMount& victim, const Outcome&, const Tree&, const Tree&) override { die_after(*victim.volume, 0); }

  void check(TreeMount& witness, const Outcome& outcome, const Tree& before, const Tree& after) override {
    const Death death = std::get<1>(GetParam());
    const Tree found = witness.tree();
    const bool client_lives = death == Death::kBrickBefore || death == Death::kBrickAfter;
    if (client_lives) {
      EXPECT_EQ(outcome.result, 0);
    }
    if (client_lives || outcome.result == 0) {
      EXPECT_TRUE(matches(found, after)) << "not the new tree: " << text(found);
      return;
    }
    EXPECT_TRUE(is_old_or_new(found, before, after)) << "neither the old tree nor the new one: " << text(found);
  }
};

TEST_P(KillPointsFaultSlow, AtEachRequest_OldOrNew) { run_all(operations_of_steps()[std::get<0>(GetParam())]); }

INSTANTIATE_TEST_SUITE_P(
    Every, KillPointsFaultSlow,
    testing::Combine(testing::Range<size_t>(0, operations_of_steps().size()),
                     testing::Values(Death::kClient, Death::kBrickBefore, Death::kBrickAfter, Death::kBoth)),
    [](const testing::TestParamInfo<Point>& info) {
      return operations_of_steps()[std::get<0>(info.param)].title + "_" + to_string(std::get<1>(info.param));
    });

}  // namespace
}  // namespace voldfs::test
