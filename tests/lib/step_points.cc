#include "tests/lib/step_points.h"

#include <gtest/gtest.h>

#include <atomic>

#include "dht/housework.h"
#include "dht/settle.h"

namespace voldfs::test {

namespace {
constexpr int kRequestsMax = 60;  // more than any operation here needs
}

// True: the operation needed no more requests.
bool StepPoints::run_once(const Steps& operation, int at) {
  SCOPED_TRACE("request " + std::to_string(at));
  TreeMount witness(cluster_);
  witness.volume->impl().settle_after_ms = 0;
  const StepNames names(cluster_, witness.root);
  const Tree after = operation.prepare(cluster_, witness, names);
  const Tree before = witness.tree();
  Outcome outcome;
  {
    TreeMount victim(cluster_);
    outcome = run_victim(victim, witness, [&] { return operation.run(victim, names); }, at);
    end_victim(victim, outcome, before, after);
  }
  check(witness, outcome, before, after);
  EXPECT_EQ(code(dht::settle_all(witness.volume->impl(), kRoot)), 0);
  check(witness, outcome, before, after);
  cluster_.fail_operation(1, wire::Op::kCreate, 0);
  if (!testing::Test::HasFailure()) witness.remove_all();
  return outcome.requests <= at;
}

void StepPoints::run_all(const Steps& operation) {
  for (int at = 0; !run_once(operation, at) && !testing::Test::HasFailure(); ++at)
    ASSERT_LT(at, kRequestsMax) << "the operation never ended";
  park_orphans();
  EXPECT_EQ(cluster_.check(), "");
}

// What maintenance does beside each brick.
void StepPoints::park_orphans() {
  const std::atomic<bool> stop = false;
  const auto volume = cluster_.mount();
  for (uint16_t ordinal = 1; ordinal <= cluster_.count(); ++ordinal) {
    dht::Housework housework(volume->impl(), ordinal, stop);
    auto orphans = housework.find_orphans();
    ASSERT_EQ(code(orphans), 0);
    EXPECT_EQ(code(housework.park_orphans(*orphans)), 0);
  }
}

}  // namespace voldfs::test
