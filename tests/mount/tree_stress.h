#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

namespace voldfs::test {

// Random operations on a tree, each carried out on a local directory and on a volume, through one or several
// mounts by turns: they must answer the same, and leave the same tree. One thread.
class TreeStress {
 public:
  struct Options {
    std::string local;
    std::vector<std::string> mounts;  // the same directory of the volume, a mount each; empty, as `local`
    uint64_t seed = 0;
    std::chrono::milliseconds time{1000};
    uint64_t operations_max = UINT64_MAX;
    size_t names = 6;              // of a directory
    uint64_t compare_every = 200;  // operations
    uint32_t other_user = 0;       // operations are this user's at times; 0: all are root's
    bool others_read = false;      // what is in the mounts, meanwhile: times of access are theirs
  };

  explicit TreeStress(const Options& options) : options_(options), random_(options.seed) {}

  // Empty: all was the same. Otherwise what was not, and the last operations.
  std::string run();
  uint64_t operations() const { return operations_; }

 private:
  struct Operation {
    int kind = 0;
    std::string a, b;     // paths in the tree
    uint64_t number = 0;  // mode, size, flags
  };

  Operation make();
  std::string name();
  std::string path();
  std::string carry_out(const Operation& operation, const std::string& root);
  std::string in_child(const Operation& operation, const std::string& root);
  std::string describe(const Operation& operation) const;
  void compare_trees();

  const Options options_;
  std::mt19937_64 random_;
  std::deque<std::string> log_;
  std::string failure_;
  uint64_t operations_ = 0;
};

// All that can be seen of a tree, a line an entry, in the order of names.
std::string tree_of(const std::string& root);

}  // namespace voldfs::test
