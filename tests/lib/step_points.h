#pragma once

#include <functional>

#include "tests/lib/steps.h"

namespace voldfs::test {

// Breaks an operation of several steps off at each of its requests, and looks through another mount at what there is then: before and
// after others have settled what was left. Failures are gtest's. One thread.
class StepPoints {
 protected:
  struct Outcome {
    int result = 0;
    int requests = 0;
  };

  explicit StepPoints(const Cluster::Options& options) : cluster_(options) {}
  virtual ~StepPoints() = default;

  // Runs the operation again and again, until it needs no more requests than it was left. Then nothing is wrong on the bricks.
  void run_all(const Steps& operation);

  // The operation, with its end at request number `at`.
  virtual Outcome run_victim(TreeMount& victim, TreeMount& witness, const std::function<int()>& run, int at) = 0;
  // The victim's mount goes next.
  virtual void end_victim(TreeMount& victim, const Outcome& outcome, const Tree& before, const Tree& after) = 0;
  virtual void check(TreeMount& mount, const Outcome& outcome, const Tree& before, const Tree& after) = 0;

  Cluster cluster_;

 private:
  bool run_once(const Steps& operation, int at);
  void park_orphans();
};

}  // namespace voldfs::test
