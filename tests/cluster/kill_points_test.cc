#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "dht/housework.h"
#include "dht/settle.h"
#include "tests/lib/mount.h"
#include "tests/lib/steps.h"

// Every operation of several steps, killed at each of them: the client, the brick that is asked, or both. What is seen then is the
// old tree or the new one, never anything else; and nothing is wrong on the bricks.
namespace voldfs::test {
namespace {

constexpr int kRequestsMax = 60;  // more than any operation here needs
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

class KillPointsFaultSlow : public testing::TestWithParam<Point> {
 protected:
  // One run, with the death at this request. True: the operation needed no more requests.
  bool run_once(int at) {
    SCOPED_TRACE("request " + std::to_string(at));
    const Steps operation = operations_of_steps()[std::get<0>(GetParam())];
    TreeMount witness(cluster_);
    witness.volume->impl().settle_after_ms = 0;
    const StepNames names(cluster_, witness.root);
    const Tree after = operation.prepare(cluster_, witness, names);
    const Tree before = witness.tree();
    Outcome outcome;
    {
      TreeMount victim(cluster_);
      outcome = run_victim(victim, [&] { return operation.run(victim, names); }, at);
      die_after(*victim.volume, 0);
    }
    check(witness, outcome, before, after);
    EXPECT_EQ(code(dht::settle_all(witness.volume->impl(), kRoot)), 0);
    check(witness, outcome, before, after);
    cluster_.fail_operation(1, wire::Op::kCreate, 0);
    if (!HasFailure()) witness.remove_all();
    return outcome.requests <= at;
  }

  // What maintenance does beside each brick.
  void park_orphans() {
    const std::atomic<bool> stop = false;
    const auto volume = cluster_.mount();
    for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
      dht::Housework housework(volume->impl(), ordinal, stop);
      auto orphans = housework.find_orphans();
      ASSERT_EQ(code(orphans), 0);
      EXPECT_EQ(code(housework.park_orphans(*orphans)), 0);
    }
  }

  Cluster cluster_{Cluster::Options{.bricks = 3, .grace_ms = 200, .down_timeout_ms = 60'000}};

 private:
  struct Outcome {
    int result = 0;
    int requests = 0;
  };

  // The operation, with the death at its request number `at`. Bricks are killed by this thread, at a request of which the
  // victim's waits for the end.
  Outcome run_victim(TreeMount& victim, const std::function<int()>& run, int at) {
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

  void check(TreeMount& witness, const Outcome& outcome, const Tree& before, const Tree& after) {
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

TEST_P(KillPointsFaultSlow, AtEachRequest_OldOrNew) {
  for (int at = 0; !run_once(at) && !HasFailure(); ++at) ASSERT_LT(at, kRequestsMax) << "the operation never ended";
  park_orphans();
  EXPECT_EQ(cluster_.check(), "");
}

INSTANTIATE_TEST_SUITE_P(
    Every, KillPointsFaultSlow,
    testing::Combine(testing::Range<size_t>(0, operations_of_steps().size()),
                     testing::Values(Death::kClient, Death::kBrickBefore, Death::kBrickAfter, Death::kBoth)),
    [](const testing::TestParamInfo<Point>& info) {
      return operations_of_steps()[std::get<0>(info.param)].title + "_" + to_string(std::get<1>(info.param));
    });

}  // namespace
}  // namespace voldfs::test
