#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "dht/settle.h"
#include "tests/lib/mount.h"
#include "tests/lib/step_points.h"

// Every operation of several steps, while at each of them the client's connection is lost, or its session ends: because it was
// stopped, or cut off, for longer than a lease. A connection that is lost changes no result. Of a session that has ended some answers
// are lost for good: then the operation may end with EIO, and has happened or not; but no other error is true, and nothing gets lost.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 60'000;

enum class Loss {
  kConnectionBefore,  // the request does not arrive
  kConnectionAfter,   // it is carried out, and the answer does not arrive
  kSessionBefore,     // all sessions of the client end before the request
  kSessionAfter,      // and when it has been carried out
  kLateBefore,        // the same, and others have settled what the client had begun before it goes on
  kLateAfter,
};

std::string to_string(Loss loss) {
  switch (loss) {
    case Loss::kConnectionBefore: return "ConnectionLostBefore";
    case Loss::kConnectionAfter: return "ConnectionLostAfter";
    case Loss::kSessionBefore: return "SessionEndsBefore";
    case Loss::kSessionAfter: return "SessionEndsAfter";
    case Loss::kLateBefore: return "OthersSettleBefore";
    case Loss::kLateAfter: return "OthersSettleAfter";
  }
  return {};
}

using Point = std::tuple<size_t, Loss>;

class LossPointsFault : public testing::TestWithParam<Point>, protected StepPoints {
 protected:
  LossPointsFault() : StepPoints({.bricks = 3, .down_timeout_ms = 60'000}) {}
  void run_all() { StepPoints::run_all(operations_of_steps()[std::get<0>(GetParam())]); }

 private:
  static bool is_late(Loss loss) { return loss == Loss::kLateBefore || loss == Loss::kLateAfter; }
  static bool is_before(Loss loss) { return loss == Loss::kSessionBefore || loss == Loss::kLateBefore; }
  static bool is_of_connection(Loss loss) { return loss == Loss::kConnectionBefore || loss == Loss::kConnectionAfter; }

  void lose_sessions(TreeMount& victim, TreeMount& witness) {
    for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal)
      cluster_.brick(ordinal).end_sessions(victim.volume->impl().client_options->client);
    if (is_late(std::get<1>(GetParam()))) {
      EXPECT_EQ(code(dht::settle_all(witness.volume->impl(), kRoot)), 0);
    }
  }

  // The operation, with the loss at its request number `at`.
  Outcome run_victim(TreeMount& victim, TreeMount& witness, const std::function<int()>& run, int at) override {
    const Loss loss = std::get<1>(GetParam());
    int requests = 0;                 // the operation's thread's
    std::atomic<uint16_t> asked = 0;  // the brick that gets request number `at`
    std::atomic<bool> ended = false, goes_on = false;
    std::thread thread;
    int result = 0;
    const auto lose = [&](uint16_t ordinal, const wire::Request& request) {
      wire::Request copy = request;
      server::Faults& faults = cluster_.brick(ordinal).faults();
      server::Faults::Dial& dial = faults.dial(static_cast<wire::Op>(copy.header().op));
      faults.held = 0, faults.release = false;
      if (loss == Loss::kConnectionBefore) dial.cut_before = 1;
      else if (loss == Loss::kConnectionAfter) dial.cut_after = 1;
      else if (!is_before(loss)) dial.hold_after = 1;
      asked = ordinal;
      while (is_before(loss) && !goes_on) std::this_thread::yield();
    };
    thread = std::thread([&] {
      const auto own = std::this_thread::get_id();
      victim.volume->impl().before_request = [&, own](uint16_t ordinal, const wire::Request& request) -> Result<void> {
        if (std::this_thread::get_id() == own && requests++ == at) lose(ordinal, request);
        return {};
      };
      result = run();
      ended = true;
    });
    if (!is_of_connection(loss)) {
      const auto is_there = [&] { return asked != 0 && (is_before(loss) || cluster_.brick(asked).faults().held != 0); };
      EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return ended || is_there(); }));
      if (asked != 0) {
        lose_sessions(victim, witness);
        goes_on = true;
        cluster_.brick(asked).faults().release = true;
      }
    }
    thread.join();
    victim.volume->impl().before_request = nullptr;
    return {result, requests};
  }

  void end_victim(TreeMount& victim, const Outcome& outcome, const Tree& before, const Tree& after) override {
    check(victim, outcome, before, after);
  }

  void check(TreeMount& mount, const Outcome& outcome, const Tree& before, const Tree& after) override {
    const Tree found = mount.tree();
    if (is_of_connection(std::get<1>(GetParam()))) {
      EXPECT_EQ(outcome.result, 0);
    }
    const bool is_unknown = outcome.result == EIO || outcome.result == wire::kUnsettled;
    EXPECT_TRUE(outcome.result == 0 || is_unknown) << outcome.result;
    if (outcome.result == 0) {
      EXPECT_TRUE(matches(found, after)) << "not the new tree: " << text(found);
    } else {
      EXPECT_TRUE(is_old_or_new(found, before, after)) << "neither the old tree nor the new one: " << text(found);
    }
  }
};

class LossPointsFaultSlow : public LossPointsFault {};

TEST_P(LossPointsFault, AtEachRequest_NoFalseResult) { run_all(); }
TEST_P(LossPointsFaultSlow, AtEachRequest_NoFalseResult) { run_all(); }

// An open leaves nothing behind that a second one could find.
TEST(SessionLossFault, Open_IsAskedForAgain_UnlessItTruncates) {
  Cluster cluster(Cluster::Options{.bricks = 1});
  TreeMount mount(cluster);
  mount.file(mount.root, "file");
  for (const auto& [flags, expected] : {std::pair<uint32_t, int>{O_RDWR, 0}, {O_RDWR | O_TRUNC, EIO}}) {
    auto found = mount.volume->lookup(mount.root, "file", kRoot);
    ASSERT_EQ(code(found), 0);
    server::Faults& faults = cluster.brick(1).faults();
    faults.held = 0, faults.release = false;
    faults.dial(wire::Op::kOpen).hold_after = 1;
    int result = -1;
    std::thread opener([&] {
      auto opened = mount.volume->open(found->node, flags, kRoot);
      result = code(opened);
      if (opened) mount.volume->release(*opened, kRoot);
    });
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return faults.held != 0; }));
    cluster.brick(1).end_sessions(mount.volume->impl().client_options->client);
    faults.release = true;
    opener.join();
    EXPECT_TRUE(result == expected || (expected != 0 && result == wire::kUnsettled)) << result << ", flags " << flags;
  }
}

std::string title(const testing::TestParamInfo<Point>& info) {
  return operations_of_steps()[std::get<0>(info.param)].title + "_" + to_string(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Every, LossPointsFault,
                         testing::Combine(testing::Range<size_t>(0, operations_of_steps().size()),
                                          testing::Values(Loss::kConnectionAfter, Loss::kSessionAfter, Loss::kLateAfter)),
                         title);
INSTANTIATE_TEST_SUITE_P(Every, LossPointsFaultSlow,
                         testing::Combine(testing::Range<size_t>(0, operations_of_steps().size()),
                                          testing::Values(Loss::kConnectionBefore, Loss::kSessionBefore, Loss::kLateBefore)),
                         title);

}  // namespace
}  // namespace voldfs::test
