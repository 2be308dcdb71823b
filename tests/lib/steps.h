#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/lib/cluster.h"

// Operations of several steps on a small tree, for tests that break them off at each step.
namespace voldfs::test {

inline const dht::Caller kRoot{};

int code(const auto& result) { return result ? 0 : result.error().code; }

// Path to id; none: whatever id it may have.
using Tree = std::map<std::string, Id>;

bool matches(const Tree& found, const Tree& expected);
std::string text(const Tree& tree);

// A mount and its whole tree. Failures are gtest's, not fatal. One thread.
class TreeMount {
 public:
  explicit TreeMount(Cluster& cluster) : volume(cluster.mount()), root(volume->root()) {}

  Id file(const dht::NodePtr& dir, const std::string& name);
  dht::NodePtr directory(const dht::NodePtr& dir, const std::string& name);
  int rename(const std::string& from, const std::string& to, uint32_t flags = 0);
  Tree tree();  // whatever is listed can be looked up, and is listed once
  void remove_all();

  std::unique_ptr<dht::Volume> volume;
  dht::NodePtr root;

 private:
  std::vector<std::string> names(const dht::NodePtr& dir);
  void collect(const dht::NodePtr& dir, const std::string& prefix, Tree& found);
  void remove_below(const dht::NodePtr& dir);
};

struct StepNames {
  explicit StepNames(Cluster& cluster, const dht::NodePtr& root);
  std::string a, a2, b, c;  // a and a2: of brick 1; b: of 2; c: of 3
};

struct Steps {
  std::string title;
  // Makes the old tree; the result is the new one.
  std::function<Tree(Cluster&, TreeMount&, const StepNames&)> prepare;
  std::function<int(TreeMount&, const StepNames&)> run;
};

// On three bricks.
std::vector<Steps> operations_of_steps();

// Whether it is the old tree, the new one, or, of a new one that has several files made, one with some of them.
bool is_old_or_new(const Tree& found, const Tree& before, const Tree& after);

}  // namespace voldfs::test
